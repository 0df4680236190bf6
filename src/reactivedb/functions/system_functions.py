"""Which functions does the product bring along?

They stand in every registry under `_system/`, where only jobs and administrators find them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .db import cascade_of
from .registration import RegisteredFunction, internal_mutation
from .system_api import API_FUNCTIONS
from .system_environment import ENVIRONMENT_FUNCTIONS

if TYPE_CHECKING:
    from .context import MutationCtx


@internal_mutation
def resume_cascade(ctx: MutationCtx, ids: list[str]) -> None:
    """Go on with what follows the deletion of those documents."""
    cascade_of(ctx.db).resume(ids)


SYSTEM_FUNCTIONS: Final[dict[str, RegisteredFunction[..., Any]]] = {
    "_system/cascade:resume": resume_cascade,
    **API_FUNCTIONS,
    **ENVIRONMENT_FUNCTIONS,
}
