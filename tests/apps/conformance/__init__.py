"""Which application do the official clients meet in the acceptance tests? This package: see `app`."""
