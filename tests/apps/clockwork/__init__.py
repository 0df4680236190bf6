"""Which application runs by the clock? This package: see `app`."""
