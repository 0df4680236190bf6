"""Results and arguments of any size, for looking at the memory of a server."""
