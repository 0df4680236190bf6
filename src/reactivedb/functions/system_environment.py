"""How do administrators see and change the environment variables that are set for the deployment?

Under the names that `convex env` uses; `update` is behind `POST /api/update_environment_variables`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict

from ..schema import secret_arguments
from .environment import all_variables, set_variable, stored_value
from .registration import RegisteredFunction, internal_mutation, internal_query

if TYPE_CHECKING:
    from .context import MutationCtx, QueryCtx
    from .runner import Run


class Variable(TypedDict):
    name: str
    value: str


class VariableChange(TypedDict):
    name: str
    # None removes it.
    value: str | None


@internal_query
def list_variables(ctx: QueryCtx, component_id: str | None = None) -> list[Variable]:
    """What is set for the deployment; the process's own variables are not in it."""
    run = _run_of(ctx)
    found = all_variables(run.runner.engine, run.transaction)
    return [{"name": name, "value": value} for name, value in found.items()]


@internal_query
def get_variable(ctx: QueryCtx, name: str, component_id: str | None = None) -> Variable | None:
    """One of them, or None."""
    run = _run_of(ctx)
    value = stored_value(run.runner.engine, run.transaction, name)
    return None if value is None else {"name": name, "value": value}


@internal_mutation
@secret_arguments
def update_variables(ctx: MutationCtx, changes: list[VariableChange]) -> None:
    """Set and remove variables, all or none."""
    run = _run_of(ctx)
    for change in changes:
        set_variable(run.runner, run.transaction, change["name"], change["value"])


def _run_of(ctx: QueryCtx) -> Run:
    # The context shows user code less than this.
    return ctx._run  # pyright: ignore[reportPrivateUsage]


LIST_VARIABLES: Final = "_system/cli/queryEnvironmentVariables:default"
UPDATE_VARIABLES: Final = "_system/environment:update"

ENVIRONMENT_FUNCTIONS: Final[dict[str, RegisteredFunction[..., Any]]] = {
    LIST_VARIABLES: list_variables,
    "_system/cli/queryEnvironmentVariables:get": get_variable,
    UPDATE_VARIABLES: update_variables,
}
