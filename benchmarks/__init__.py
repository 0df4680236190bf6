"""How fast is reactivedb on this machine, and how far from what the machine can do?

`python -m benchmarks` answers in under a minute, `python -m benchmarks --full` with more rounds; names of
questions (`commit_rate`, `round_trip`, ...) narrow it down. Each figure stands beside a probe of the
machine's own limit, taken in the same run and in turns with it, and only the ratio of the two is held to a
floor: it says the same on a fast machine and on a slow one. The exit code is 1 if a floor is missed.
"""
