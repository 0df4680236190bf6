"""Do the official, unmodified clients see plain Convex behaviour? Tests bear the numbers of its checklist."""
