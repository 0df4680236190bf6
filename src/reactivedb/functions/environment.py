"""What is `ctx.env["NAME"]`?

A variable that was set for the deployment (a row of `_environment_variables`, read like any document and so
reactive); else, if the application declares it, the process's own of that name as it was when the database
was opened. What is not declared is taken from the stored set only, so that nothing of the process's
environment is shown by a slip. The two addresses come from the deployment and cannot be set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ..errors import LimitExceededError, ReactiveDBError, RequestError, SchemaError, ValidationError
from ..schema import Validator, validator_for
from .deployment import URL_NAMES
from .query import range_of
from .system import VARIABLES

if TYPE_CHECKING:
    from ..engine import Engine, StoredDocument, Transaction
    from ..limits import Limits
    from .runner import Runner

T = TypeVar("T")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Environment:
    """`ctx.env`."""

    def __init__(self, runner: Runner, stored: Callable[[str], str | None]) -> None:
        self._runner = runner
        self._stored = stored

    def __getitem__(self, name: str) -> str:
        """Raises: ReactiveDBError `EnvironmentVariableMissing`, `InvalidEnvironmentVariable`."""
        value = self.get(name)
        if value is None:
            raise ReactiveDBError(
                f"the environment variable `{name}` is not set - set it for the deployment, or declare it in "
                "`App(env=...)` and set it for the process",
                code="EnvironmentVariableMissing",
                name=name,
            )
        return value

    def get(self, name: str, default: T = None) -> str | T:
        """The variable's text, or the default.

        Raises:
            ReactiveDBError: `InvalidEnvironmentVariable`, what it is set to does not fit its declaration.
        """
        if name in URL_NAMES:
            return self._runner.deployment.find_url(name) or default
        validator = self._runner.env.get(name)
        value = self._stored(name)
        if value is None and validator is not None:
            value = self._runner.deployment.process.get(name)
        if value is None:
            return default
        if validator is not None and not _fits(validator, value):
            # Its value may be a secret, and is kept out of every message.
            raise ReactiveDBError(
                f"the environment variable `{name}` is set to something else than `{validator}` - "
                "set it anew",
                code="InvalidEnvironmentVariable",
                name=name,
            )
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None


def declared_environment(env: Mapping[str, Any] | None) -> dict[str, Validator]:
    """The validators of the variables that an application declares.

    Raises:
        SchemaError: `InvalidEnvironmentVariable`, for a name that is none or a type that is not text.
    """
    validators: dict[str, Validator] = {}
    for name, annotation in (env or {}).items():
        validator = annotation if isinstance(annotation, Validator) else validator_for(annotation)
        if not _NAME.fullmatch(name) or name in URL_NAMES or str not in validator.wire_types:
            raise SchemaError(
                f"`App(env=...)` names variables of letters, digits and `_` whose values are text, got "
                f"`{name}` of `{validator}` - use `str` or a `Literal`, and convert it where it is read",
                code="InvalidEnvironmentVariable",
                name=name,
            )
        validators[name] = validator
    return validators


def _fits(validator: Validator, value: str) -> bool:
    try:
        validator.parse(value)
    except ValidationError:
        return False
    return True


def find_variable(engine: Engine, transaction: Transaction, name: str) -> StoredDocument | None:
    """The row of a variable that was set; the read is recorded."""
    table = engine.catalog.table(VARIABLES)
    scan = range_of(transaction, table, table.indexes["by_name"], (name,)).scan
    return next((document for document, _ in transaction.scan(scan)), None)


def stored_value(engine: Engine, transaction: Transaction, name: str) -> str | None:
    found = find_variable(engine, transaction, name)
    return None if found is None else cast("str", found.fields["value"])


def all_variables(engine: Engine, transaction: Transaction) -> dict[str, str]:
    """Every variable that was set, by its name, in the order of names."""
    table = engine.catalog.table(VARIABLES)
    scan = range_of(transaction, table, table.indexes["by_name"]).scan
    rows = [document.fields for document, _ in transaction.scan(scan)]
    return {cast("str", row["name"]): cast("str", row["value"]) for row in rows}


def set_variable(runner: Runner, transaction: Transaction, name: str, value: str | None) -> None:
    """Set a variable; None removes it.

    Raises:
        RequestError: `InvalidEnvironmentVariable`.
        LimitExceededError: `EnvironmentVariableTooLarge`, `TooManyEnvironmentVariables`.
    """
    engine = runner.engine
    limits = engine.limits
    found = find_variable(engine, transaction, name)
    if value is None:
        if found is not None:
            transaction.delete(found)
        return
    _check(name, value, limits)
    validator = runner.env.get(name)
    if validator is not None and not _fits(validator, value):
        raise RequestError(
            f"the application declares `{name}` as `{validator}`, got something else",
            code="InvalidEnvironmentVariable",
            name=name,
        )
    if found is not None:
        transaction.replace(found, {"name": name, "value": value})
        return
    transaction.insert(engine.catalog.table(VARIABLES), {"name": name, "value": value})
    count = len(all_variables(engine, transaction))
    if count > limits.environment_variables_max:
        raise _too_much("TooManyEnvironmentVariables", "environment_variables_max", limits, count)


def _check(name: str, value: str, limits: Limits) -> None:
    if len(name) > limits.environment_name_length_max:
        raise _too_much("EnvironmentVariableTooLarge", "environment_name_length_max", limits, len(name))
    if not _NAME.fullmatch(name) or name in URL_NAMES:
        raise RequestError(
            "a variable's name has letters, digits and `_`, and is not one of the deployment's own, got "
            f"`{name[:80]}`",
            code="InvalidEnvironmentVariable",
            name=name,
        )
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > limits.environment_value_size_bytes_max:
        raise _too_much("EnvironmentVariableTooLarge", "environment_value_size_bytes_max", limits, size)


def _too_much(code: str, limit: str, limits: Limits, asked: int) -> LimitExceededError:
    maximum: int = getattr(limits, limit)
    return LimitExceededError(
        f"environment variables keep within `{limit}` of {maximum}, this would be {asked} - "
        "remove or shorten some, and keep data in documents",
        code=code,
        limit=limit,
        maximum=maximum,
        asked=asked,
    )
