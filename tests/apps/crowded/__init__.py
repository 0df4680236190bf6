"""Which application is soon asked for too much? This package: see `app`."""
