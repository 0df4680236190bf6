"""Does every regular expression of the product read its text in linear time?

They are looked up in the source, with the methods that they are used by, so a new one is tested without a
word here. The texts are those that make expressions go back: long runs of what could be shared out in many
ways, and an end that fits nothing. A quadratic one takes minutes for one of them: the timeout is the judge.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import reactivedb
from reactivedb.cli.report import Report
from reactivedb.functions import HttpRouter
from reactivedb.protocol import normalize_path
from reactivedb.server.byte_range import requested_range
from reactivedb.sync import ClientKind

ROOT = Path(reactivedb.__file__).parent
METHODS = {"match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
LENGTH = 300_000
RUNS = ("eyJ", " ", "/", "_", "a", "9", ".", "-", ":", "eyJaaaaa.", "/http", " at 0x", ":1234567", "a ", "A:")
BEGINNINGS = ("", "bytes=", "bytes=1-", "/http", "max-age=", "eyJaaaaa.", "a", "1.", " at 0x", "npm-1.")


def expressions() -> Iterator[tuple[str, re.Pattern[Any], str]]:
    """Where it stands, the expression and the method that it is used by."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        named: set[str] = set()
        module = ".".join(["reactivedb", *path.relative_to(ROOT).with_suffix("").parts])
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            if node.attr not in METHODS:
                continue
            found = getattr(import_module(module), node.value.id, None)
            if isinstance(found, re.Pattern):
                named.add(node.value.id)
                yield f"{module}.{node.value.id}.{node.attr}", found, node.attr
        if "re.compile" in ast.unparse(tree):
            for name, value in vars(import_module(module)).items():
                if isinstance(value, re.Pattern) and name not in named:
                    # Used through a table, by which texts are redacted.
                    yield f"{module}.{name}.sub", value, "sub"
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="re"), attr=method),
                    args=[ast.Constant(value=str() | bytes() as text), *_],
                ) if method in METHODS:
                    yield f"{module}:{node.lineno}.{method}", re.compile(text), method
                case _:
                    pass


FOUND = {name: (expression, method) for name, expression, method in expressions()}


@pytest.mark.slow
def test_the_expressions_are_found() -> None:
    assert "reactivedb.cli.report._STEERING.sub" in FOUND
    assert "reactivedb.server.byte_range._ONE_RANGE.fullmatch" in FOUND
    compiled = sum(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    assert len({name.rpartition(".")[0] for name in FOUND}) >= compiled


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FOUND)
def test_an_expression_reads_its_text_in_linear_time(name: str) -> None:
    expression, method = FOUND[name]
    for beginning in BEGINNINGS:
        for run in RUNS:
            text: Any = beginning + run * (LENGTH // len(run)) + "\n!\x00"
            if isinstance(expression.pattern, bytes):
                text = text.encode()
            use: Any = getattr(expression, method)
            if method == "sub":
                use("" if isinstance(text, str) else b"", text)
            else:
                use(text)


@pytest.mark.timeout(60)
def test_what_reads_texts_of_callers_without_an_expression_is_linear_too() -> None:
    text = "/a" * 2_000_000
    router = HttpRouter()

    @router.get(prefix="/a/a/")
    async def found(ctx: Any, request: Any) -> Any: ...

    route = router.find("GET", text)
    assert route is not None
    assert route.handler is found
    assert router.find("GET", text.replace("a", "b")) is None
    assert requested_range("bytes=" + " " * 4_000_000 + "x", 10) is None
    assert ClientKind.from_request("9" * 4_000_000, None) is ClientKind.WHOLE
    with pytest.raises(reactivedb.ValidationError):
        normalize_path(text)
    assert len(Report(secrets=("a|0123456789",)).redacted("a|012345678" * 400_000)) < 40_000


def test_the_longest_of_several_prefixes_answers_and_an_exact_path_before_all() -> None:
    router = HttpRouter()
    handlers: dict[str, Any] = {}
    for prefix in ("/", "/a/", "/a/b/", "/ab/"):

        @router.get(prefix=prefix)
        async def found(ctx: Any, request: Any) -> Any: ...

        handlers[prefix] = found

    @router.get("/a/b/c")
    async def exact(ctx: Any, request: Any) -> Any: ...

    expected = {
        "/": "/",
        "/x": "/",
        "/a": "/",
        "/a/": "/a/",
        "/a/b": "/a/",
        "/a/b/": "/a/b/",
        "/ab/c/d": "/ab/",
    }
    for path, prefix in expected.items():
        route = router.find("HEAD", path)
        assert route is not None
        assert route.handler is handlers[prefix]
    route = router.find("GET", "/a/b/c")
    assert route is not None
    assert route.handler is exact
    assert router.find("POST", "/a/") is None
