"""Is everything public in `__all__`, and is the server's stack imported only when it is asked for?"""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import reactivedb

SERVER_STACK = ("starlette", "uvicorn", "typer", "rich", "watchfiles", "websockets", "openai", "httpx")


def test_all_is_exactly_the_public_names() -> None:
    homes = reactivedb._HOME_OF  # pyright: ignore[reportPrivateUsage]
    assert sorted(homes) == sorted(reactivedb.__all__)
    present = {
        name
        for name, value in vars(reactivedb).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert present - {"annotations", "TYPE_CHECKING", "Any"} <= set(homes)


def test_every_public_name_can_be_had() -> None:
    assert [name for name in reactivedb.__all__ if getattr(reactivedb, name, None) is None] == []


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(reactivedb, "no_such_name")


@pytest.mark.slow
def test_importing_the_library_imports_no_server_stack() -> None:
    program = (
        "import sys, reactivedb\n"
        f"print([name for name in {SERVER_STACK!r} if name in sys.modules])\n"
        "reactivedb.asgi\n"
        "print('starlette' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stdout.split("\n")[:2] == ["[]", "True"], done.stdout + done.stderr
