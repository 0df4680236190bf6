"""The application that is attacked, with bounds that the benchmark chooses."""
