"""Which application gives slow clients little time? This package: see `app`."""
