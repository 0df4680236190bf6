"""Does every module import only its own package and rows below?

The rows are those of design section 2. What is imported for type checkers alone counts as well: a name that
is known is a name that is depended on.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import reactivedb

ROOT = Path(reactivedb.__file__).parent
ROWS = (
    {"limits", "clock", "text", "user_code"},
    {"errors"},
    {"log"},
    {"values"},
    {"schema", "storage", "protocol"},
    {"engine", "client"},
    {"functions"},
    {"subscriptions", "auth"},
    {"sign_in"},
    {"app"},
    {"sync", "codegen"},
    {"server"},
    {"cli", "testing"},
)
ROW_OF = {name: number for number, row in enumerate(ROWS) for name in row}
# The face above all, and the command that starts the program.
FACES = {"__init__", "__main__"}


def modules() -> Iterator[tuple[str, Path]]:
    """Each module's dotted name below `reactivedb`, with its file."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts not in (("__init__",), ("__main__",)):
            yield ".".join(parts), path


def imports_of(name: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name below `reactivedb`) of everything a module imports from this library."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "reactivedb":
                    yield node.lineno, alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                module = [*base, *(node.module.split(".") if node.module else [])]
            elif node.module and node.module.split(".")[0] == "reactivedb":
                module = node.module.split(".")[1:]
            else:
                continue
            for alias in node.names:
                yield node.lineno, ".".join([*module, alias.name])


def breaches(name: str, source: str) -> list[str]:
    own = name.split(".", maxsplit=1)[0]
    found: list[str] = []
    for line, imported in imports_of(name, source):
        target = imported.split(".")[0]
        if target not in ROW_OF:
            found.append(f"{name}:{line} imports the face of the library (`{imported}`)")
        elif target != own and ROW_OF[target] >= ROW_OF[own]:
            found.append(f"{name}:{line} imports `{target}`, which is not below `{own}`")
    return found


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value)[-60:])
def test_a_module_imports_only_its_own_package_and_rows_below(name: str, path: Path) -> None:
    assert name.split(".", maxsplit=1)[0] in ROW_OF, f"`{name}` stands in no row of the design"
    assert breaches(name, path.read_text()) == []


def test_an_import_of_a_neighbour_or_of_the_face_is_found() -> None:
    assert breaches("engine.query", "from ..functions import Runner")
    assert breaches("storage.memory", "from reactivedb.schema import Index")
    assert breaches("app.live", "import reactivedb")
    assert breaches("app.live", "from .. import App")
    assert breaches("schema.table", "from ..storage.contract import Commit")
    assert not breaches(
        "engine.query", "from ..schema import Index\nfrom .interval import Interval\nimport os"
    )
