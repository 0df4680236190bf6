"""Can a filter be asked again after its run, and answer as it did then?

A commit is kept from waking a query if the query's filter holds neither for the old document nor for the
new one. That is only sound for a predicate that still answers as it did while the query ran. A plain
function whose captured values can never change does: it is copied with those values, because a loop may
give the captured variable another one (`for name in names: ... .filter(lambda m: m.author == name)`). Any
other predicate is not asked again, and every write to its range counts.
"""

from __future__ import annotations

import dis
from collections.abc import Callable
from functools import lru_cache
from types import CellType, CodeType, FunctionType
from typing import Any

from .ownership import cannot_change


def repeatable(predicates: tuple[Callable[[Any], bool], ...]) -> tuple[Callable[[Any], bool], ...] | None:
    """The predicates as they are now, to be asked at any later time; None if one of them cannot be."""
    frozen: list[Callable[[Any], bool]] = []
    for predicate in predicates:
        copy = _frozen(predicate)
        if copy is None:
            return None
        frozen.append(copy)
    return tuple(frozen)


def still_as(
    predicates: tuple[Callable[[Any], bool], ...], frozen: tuple[Callable[[Any], bool], ...]
) -> bool:
    """Do the predicates still capture what they did when `repeatable` copied them?"""
    for predicate, copy in zip(predicates, frozen, strict=True):
        assert isinstance(predicate, FunctionType)
        assert isinstance(copy, FunctionType)
        pairs = zip(predicate.__closure__ or (), copy.__closure__ or (), strict=True)
        if any(cell.cell_contents is not kept.cell_contents for cell, kept in pairs):
            return False
    return True


def _frozen(predicate: Callable[[Any], bool]) -> Callable[[Any], bool] | None:
    if type(predicate) is not FunctionType or _writes_outside(predicate.__code__):
        return None
    defaults = (*(predicate.__defaults__ or ()), *(predicate.__kwdefaults__ or {}).values())
    if not all(map(cannot_change, defaults)):
        return None
    if not predicate.__closure__:
        return predicate
    values: list[Any] = []
    for cell in predicate.__closure__:
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            return None
        if not cannot_change(value):
            return None
        values.append(value)
    copy = FunctionType(
        predicate.__code__,
        predicate.__globals__,
        predicate.__name__,
        predicate.__defaults__,
        tuple(map(CellType, values)),
    )
    copy.__kwdefaults__ = predicate.__kwdefaults__
    return copy


@lru_cache(maxsize=4096)
def _writes_outside(code: CodeType) -> bool:
    """Does the function keep something for its next call, by `nonlocal` or `global`?"""
    outside = {"STORE_GLOBAL", "DELETE_GLOBAL"}
    return any(
        step.opname in outside or (step.opname == "STORE_DEREF" and step.argval in code.co_freevars)
        for step in dis.get_instructions(code)
    ) or any(isinstance(inner, CodeType) and _writes_outside(inner) for inner in code.co_consts)
