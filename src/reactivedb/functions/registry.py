"""Which functions does an application have, and under which paths?

Built once from the modules an `App` names. A path has one canonical spelling (camelCase); the Python
spelling of each of its parts leads to the same entry. Nothing outside of this table can be called.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from types import ModuleType
from typing import Any, Final, cast

from typing_extensions import is_protocol, is_typeddict

from ..errors import FunctionNotFoundError, RequestError, SchemaError, ValidationError
from ..protocol import canonical_path, normalize_path
from ..schema import ArgsValidator, Validator, returns_validator
from .context import ActionCtx, MutationCtx, QueryCtx
from .http_router import HttpRouter
from .registration import Kind, RegisteredFunction
from .system import SYSTEM_PREFIX
from .system_functions import SYSTEM_FUNCTIONS

_CONTEXTS: Final = {Kind.QUERY: QueryCtx, Kind.MUTATION: MutationCtx, Kind.ACTION: ActionCtx}


@dataclass(frozen=True, slots=True)
class FunctionDefinition:
    """One function under its canonical path, with its validators."""

    path: str
    kind: Kind
    internal: bool
    reference: RegisteredFunction[..., Any]
    args: ArgsValidator
    returns: Validator


class Registry:
    """All functions of one application."""

    def __init__(self, modules: Iterable[ModuleType], *, root: str, http: HttpRouter | None = None) -> None:
        self.http = http
        self._by_path: dict[str, FunctionDefinition] = {}
        self._by_reference: dict[int, FunctionDefinition] = {}
        self._spellings: dict[str, FunctionDefinition] = {}
        for module in modules:
            self._add_module(module, relative_name(module.__name__, root))
        for definition in _system_definitions():
            self._add(definition, definition.path)

    def _add_module(self, module: ModuleType, name: str) -> None:
        # A copy: pydantic adds the classes it makes of generic annotations to the module.
        for attribute, value in list(vars(module).items()):
            if not isinstance(value, RegisteredFunction):
                continue
            reference = cast("RegisteredFunction[..., Any]", value)
            if reference.handler.__module__ != module.__name__:
                continue  # imported from another module, where it has its path
            self.add(canonical_path(name, attribute), f"{name.replace('.', '/')}:{attribute}", reference)

    def add(self, path: str, spelling: str, reference: RegisteredFunction[..., Any]) -> None:
        """Raises: SchemaError, for two functions of one path or a signature without a validator."""
        taken = self._by_path.get(path)
        if taken is not None:
            raise SchemaError(
                f"`{taken.reference.__name__}` and `{reference.__name__}` are both `{path}` on the wire"
                " - rename one",
                code="DuplicateFunction",
                path=path,
            )
        self._add(_define(path, reference), spelling)

    def _add(self, definition: FunctionDefinition, spelling: str) -> None:
        self._by_path[definition.path] = definition
        for known_as in _spellings_of(definition.path, spelling):
            # Two functions cannot share one: it would be the same path on the wire.
            self._spellings[known_as] = definition
        self._by_reference.setdefault(id(definition.reference), definition)

    def __iter__(self) -> Iterator[FunctionDefinition]:
        """The application's own functions."""
        return (known for known in self._by_path.values() if not known.path.startswith(SYSTEM_PREFIX))

    def of(self, reference: RegisteredFunction[..., Any], kind: Kind | None = None) -> FunctionDefinition:
        """The entry of a function object.

        Raises:
            SchemaError: `UnknownFunction` if no module of the application holds it; `WrongKind`.
        """
        if not isinstance(reference, RegisteredFunction):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SchemaError(
                f"expected a function made with `@rdb.query` and the like, got `{reference!r}`",
                code="NotAFunction",
            )
        definition = self._by_reference.get(id(reference))
        if definition is None:
            raise SchemaError(
                f"{reference!r} is not part of this application - pass its module to `App`",
                code="UnknownFunction",
            )
        if kind is not None and definition.kind is not kind:
            raise wrong_kind(definition, kind)
        return definition

    def find_reference(self, reference: RegisteredFunction[..., Any]) -> FunctionDefinition | None:
        """The entry of a function object, or None if it is another version's."""
        return self._by_reference.get(id(reference))

    def canonical(self, spelling: str, kind: Kind) -> str | None:
        """The path of the function of that kind that answers to a normalized spelling."""
        known = self._spellings.get(spelling)
        return known.path if known is not None and known.kind is kind else None

    def find(self, path: str, kind: Kind | None, *, internal: bool) -> FunctionDefinition:
        """The entry of a path; an internal one only for those who may see it.

        Raises:
            FunctionNotFoundError: in the same words for a missing and an internal function.
            ValidationError: `InvalidFunctionPath` or `WrongKind`.
        """
        if path.startswith(SYSTEM_PREFIX) and not internal:
            raise RequestError("You do not have permission to perform this operation", code="Forbidden")
        definition = self._spellings.get(normalize_path(path))
        if definition is None or (definition.internal and not internal):
            what = "function" if internal else "public function"
            raise FunctionNotFoundError(
                f"Could not find {what} for '{path}'. Is its module passed to `App`, and is the name right?",
                path=path,
            )
        if kind is not None and definition.kind is not kind:
            raise wrong_kind(definition, kind)
        return definition


def _spellings_of(path: str, spelling: str) -> Iterator[str]:
    """Each folder, the module and the name, in camelCase or as Python has it, each for itself."""
    parts = [path.replace(":", "/").split("/"), spelling.replace(":", "/").split("/")]
    for *module, name in product(*map(set, zip(*parts, strict=True))):
        yield f"{'/'.join(module)}:{name}"


def _define(path: str, reference: RegisteredFunction[..., Any]) -> FunctionDefinition:
    _check_context(reference)
    args = ArgsValidator.from_signature(reference.handler)
    returns = returns_validator(reference.handler)
    return FunctionDefinition(path, reference.kind, reference.internal, reference, args, returns)


def _check_context(reference: RegisteredFunction[..., Any]) -> None:
    """Raises: SchemaError, `WrongContext`, if the first parameter is annotated with what it cannot get.

    A decorated function gets what its decorator hands on, which no annotation tells.
    """
    handler = reference.handler
    if hasattr(handler, "__wrapped__"):
        return
    parameter = next(iter(inspect.signature(handler).parameters.values()))
    annotation: Any = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, handler.__globals__)
        except Exception:  # it may be imported for type checkers only
            return
    given = _CONTEXTS[reference.kind]
    if annotation in (parameter.empty, Any) or not isinstance(annotation, type):
        return
    cls = cast("type[Any]", annotation)
    if is_protocol(cls):
        return
    if is_typeddict(cls) or not issubclass(given, cls):
        raise SchemaError(
            f"the first parameter of the {reference.kind.value} `{handler.__qualname__}` is its context, "
            f"expected `ctx: rdb.{given.__name__}`, "
            f"got `{parameter.name}: {cls.__name__}` - write it so",
            code="WrongContext",
        )


@cache
def _system_definitions() -> tuple[FunctionDefinition, ...]:
    """The product's own functions, which are the same in every application of this process."""
    return tuple(_define(path, reference) for path, reference in SYSTEM_FUNCTIONS.items())


def wrong_kind(definition: FunctionDefinition, kind: Kind) -> ValidationError:
    article = "an" if definition.kind is Kind.ACTION else "a"
    return ValidationError(
        f"`{definition.path}` is {article} {definition.kind.value}, got a call as {kind.value} - "
        f"call it as {definition.kind.value}",
        code="WrongKind",
        path="",
    )


def relative_name(module: str, root: str) -> str:
    """A module's dotted name below the application's package."""
    return module.removeprefix(f"{root}.") if root else module
