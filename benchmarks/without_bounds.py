"""The command `reactivedb`, from which bounds are taken out that an application cannot raise.

Some hold before an application is known, and are read from the defaults when a module is imported. So they
are changed before anything else is. `LIFTED_VARIABLE` holds them, as a JSON object: fields of `Limits`, or
constants of its module.
"""

from __future__ import annotations

import json
import os

from reactivedb import limits

LIFTED_VARIABLE = "REACTIVEDB_BENCHMARK_LIFTED"


def main() -> None:
    for name, value in json.loads(os.environ[LIFTED_VARIABLE]).items():
        # Frozen for everybody else.
        object.__setattr__(limits.DEFAULT_LIMITS if name.islower() else limits, name, value)
    from reactivedb.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
