"""Which branch of a union does this value belong to?

The type of the value decides where it can; objects are told apart by a field that holds a different literal
in each branch; only what is left over is tried in the order declared. Errors name the branches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from reactivedb.errors import LimitExceededError, ValidationError
from reactivedb.schema.mismatch import Path, mismatch, missing_field, render_path, shown
from reactivedb.schema.objects import ObjectValidator, Presence
from reactivedb.schema.validators import (
    ALL_WIRE_TYPES,
    FoundId,
    LiteralValidator,
    Loader,
    NumberValidator,
    Validator,
    wire_type,
)
from reactivedb.values import Value


def union_of(members: Iterable[Validator]) -> Validator:
    """The union of what remains when nested unions are flattened and duplicates dropped."""
    flat: list[Validator] = []
    for member in members:
        for part in member.members if isinstance(member, UnionValidator) else (member,):
            if not any(_is_same(part, known) for known in flat):
                flat.append(part)
    # JavaScript has one number type: what is sent for `int | float` cannot say which of them it is.
    if NumberValidator() in flat:
        flat = [part for part in flat if part != NumberValidator(integral=True)]
    return flat[0] if len(flat) == 1 else UnionValidator(tuple(flat))


def _is_same(part: Validator, known: Validator) -> bool:
    """Python holds `Literal[1]` and `Literal[True]` for equal, the wire does not."""
    if isinstance(part, LiteralValidator) and isinstance(known, LiteralValidator):
        return part == known and type(part.value) is type(known.value)
    return part == known


def literals_of(validator: Validator) -> tuple[LiteralValidator, ...]:
    """The literals that the validator consists of; empty if it takes anything else too."""
    if isinstance(validator, LiteralValidator):
        return (validator,)
    if isinstance(validator, UnionValidator):
        literals = tuple(m for m in validator.members if isinstance(m, LiteralValidator))
        return literals if len(literals) == len(validator.members) else ()
    return ()


@dataclass(frozen=True)
class _Discriminator:
    """A field that tells the branches of a union of objects apart."""

    wire: str
    name: str
    branches: dict[Any, ObjectValidator]  # by the literal in stored form
    python_branches: dict[Any, ObjectValidator]  # by what stands for it in Python

    @property
    def expected(self) -> str:
        return " | ".join(shown(value).strip("`") for value in self.branches)


@dataclass(frozen=True)
class UnionValidator(Validator):
    members: tuple[Validator, ...]

    @cached_property
    def shareable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(member.shareable for member in self.members)

    @cached_property
    def fills(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(member.fills for member in self.members)

    @cached_property
    def has_ids(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(member.has_ids for member in self.members)

    @cached_property
    def wire_types(self) -> frozenset[type]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return frozenset[type]().union(*(member.wire_types for member in self.members))

    @cached_property
    def _by_wire_type(self) -> dict[type, tuple[Validator, ...]]:
        return {
            kind: tuple(member for member in self.members if kind in member.wire_types)
            for kind in ALL_WIRE_TYPES
        }

    @cached_property
    def _by_python_type(self) -> dict[type, tuple[Validator, ...]]:
        """Filled as types are met."""
        return {}

    @cached_property
    def _literals(self) -> dict[tuple[type, Any], LiteralValidator]:
        return {(type(m.value), m.value): m for m in self.members if isinstance(m, LiteralValidator)}

    @cached_property
    def _discriminator(self) -> _Discriminator | None:
        objects = [member for member in self.members if isinstance(member, ObjectValidator)]
        if len(objects) < 2 or len(objects) != len(self._by_wire_type[dict]):
            return None
        for field in objects[0].fields:
            branches: dict[Any, ObjectValidator] = {}
            python_branches: dict[Any, ObjectValidator] = {}
            literal_count = 0
            for branch in objects:
                same = branch.by_wire_name.get(field.wire)
                # A default will do: the branch that is told apart by it has to be given all the same.
                if same is None or same.presence not in (Presence.REQUIRED, Presence.DEFAULT):
                    break
                literals = literals_of(same.validator)
                if not literals:
                    break
                literal_count += len(literals)
                branches.update((literal.value, branch) for literal in literals)
                # Either will do: a member of an enum, or the value that it stands for.
                python_branches.update((literal.value, branch) for literal in literals)
                python_branches.update((literal.python, branch) for literal in literals)
            else:
                if literal_count == len(branches):
                    return _Discriminator(field.wire, field.name, branches, python_branches)
        return None

    def parse(self, value: Value, path: Path = "") -> Any:
        kind = wire_type(value)
        if self._literals and kind not in (list, dict):
            if type(value) is int:
                value = float(value)
            literal = self._literals.get((kind, value))
            if literal is not None:
                return literal.python
        candidates = self._by_wire_type.get(kind, ())
        # A literal among others is not all that is expected.
        if len(candidates) == 1 and not isinstance(candidates[0], LiteralValidator):
            return candidates[0].parse(value, path)
        if kind is dict and (by := self._discriminator) is not None:
            branch, text = self._branch(cast("dict[str, Value]", value), by.wire, by.branches, path)
            return _in_branch(text, lambda: branch.parse(value, path))
        return self._first(candidates, value, path, lambda member: member.parse(value, path))

    def dump(self, value: Any, path: Path = "", *, splice: bool = False) -> Value:
        candidates = self._takers(cast("type[Any]", type(value)))
        if len(candidates) == 1 and not isinstance(candidates[0], LiteralValidator):
            return candidates[0].dump(value, path, splice=splice)
        if isinstance(value, dict) and (by := self._discriminator) is not None:
            named = cast("dict[str, Any]", value)
            branch, text = self._branch(named, by.name, by.python_branches, path)
            return _in_branch(text, lambda: branch.dump(named, path, splice=splice))
        return self._first(
            candidates or self.members,
            value,
            path,
            lambda member: member.dump(value, path, splice=splice),
        )

    def takes(self, python_type: type) -> bool:
        return any(member.takes(python_type) for member in self.members)

    def _takers(self, python_type: type) -> tuple[Validator, ...]:
        takers = self._by_python_type.get(python_type)
        if takers is None:
            takers = tuple(member for member in self.members if member.takes(python_type))
            exact = tuple(m for m in takers if getattr(m, "python_class", None) is python_type)
            takers = self._by_python_type[python_type] = exact or takers
        return takers

    def _branch(
        self, fields: Mapping[str, Any], name: str, branches: Mapping[Any, ObjectValidator], path: Path
    ) -> tuple[ObjectValidator, str]:
        by = self._discriminator
        assert by is not None
        if name not in fields:
            raise missing_field(by.expected, (path, by.wire))
        given: Any = fields[name]
        try:
            branch = branches.get(given)
        except TypeError:  # It cannot be hashed, and every literal can.
            branch = None
        if branch is None:
            raise mismatch(by.expected, given, (path, by.wire), reason="union")
        return branch, f"{by.wire}: {shown(given).strip('`')}"

    def _first(
        self,
        candidates: tuple[Validator, ...],
        value: Any,
        path: Path,
        attempt: Callable[[Validator], Any],
    ) -> Any:
        """What the first branch makes of it that takes it."""
        failures: list[tuple[Validator, ValidationError]] = []
        for member in candidates:
            try:
                return attempt(member)
            except LimitExceededError:
                raise  # It is of this branch, and only too much of it.
            except ValidationError as error:
                failures.append((member, error))
        where = render_path(path)
        deeper = [(m, e) for m, e in failures if e.path != where]
        way_out = "; ".join(f"branch `{_name_of(m)}`: {e.message}" for m, e in deeper)
        raise mismatch(self, value, path, reason="union", way_out=way_out)

    @cached_property
    def load(self) -> Loader | None:
        if all(member.load is None for member in self.members):
            return None
        loaders: dict[type, Loader | None] = {}
        for kind, candidates in self._by_wire_type.items():
            if len(candidates) == 1:
                loaders[kind] = candidates[0].load
            elif all(member.load is None for member in candidates):
                loaders[kind] = None
            else:
                loaders[kind] = self.parse

        def load(value: Any) -> Any:
            loader = loaders[wire_type(value)]
            return value if loader is None else loader(value)

        return load

    def fill(self, value: Value) -> Value:
        branch = self._branch_of(value) if self.fills else None
        return value if branch is None else branch.fill(value)

    def find_ids(self, value: Value, path: Path = "") -> Iterator[FoundId]:
        if self.has_ids:
            branch = self._branch_of(value)
            if branch is not None:
                yield from branch.find_ids(value, path)

    def _branch_of(self, value: Value) -> Validator | None:
        """The branch that a stored value belongs to."""
        for member in self._by_wire_type.get(wire_type(value), ()):
            try:
                member.parse(member.fill(value))
            except ValidationError:
                continue  # It belongs to another branch.
            return member
        return None

    def export(self) -> dict[str, Any]:
        return {"type": "union", "value": [member.export() for member in self.members]}

    def __str__(self) -> str:
        return f"v.union({', '.join(str(member) for member in self.members)})"


def _name_of(branch: Validator) -> str:
    return (branch.label if isinstance(branch, ObjectValidator) else "") or str(branch)


def _in_branch(text: str, attempt: Callable[[], Any]) -> Any:
    try:
        return attempt()
    except LimitExceededError:
        raise
    except ValidationError as error:
        raise ValidationError(
            f"{error.message} (branch `{text}`)", code=error.code, **(error.fields | {"branch": text})
        ) from error
