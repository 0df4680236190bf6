"""How is one large client message read while others are served?

In turns (`app/turns`), as far as its functions want it (`app/reading`). Its connection gives nothing else in
the meantime, so messages stay in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..app import Caller, Runtime, Work, read_large
from ..errors import ValidationError
from ..functions import FunctionDefinition, Identity, Kind
from ..values import Steps

_NAMED_BY = frozenset({"type", "requestId", "udfPath"})
_KINDS = {"Mutation": Kind.MUTATION, "Action": Kind.ACTION}


def read_in_turns(
    runtime: Runtime,
    caller: Caller,
    frame: str | bytes,
    identity: Identity,
    *,
    done: Callable[[object], None],
) -> Work:
    """Read the message; `done` is given its fields, or the `ValidationError` that says why there are none."""

    def find(fields: dict[str, Any]) -> FunctionDefinition:
        path, kind = fields.get("udfPath"), _KINDS.get(str(fields.get("type")), Kind.QUERY)
        name = path if isinstance(path, str) else ""
        return runtime.runner.registry.find(name, kind, internal=identity.is_admin)

    def read() -> Steps:
        # A `str` may hold surrogates, of which the reader says what is wrong.
        text = frame if isinstance(frame, bytes) else frame.encode(errors="surrogatepass")
        try:
            return (yield from read_large(text, find, runtime.limits, named_by=_NAMED_BY))
        except ValidationError as error:
            return error

    def read_through(result: object) -> None:
        # What it asks for is counted from now on by itself.
        caller.hold_bytes(-len(frame))
        done(result)
        runtime.work_ended()

    caller.hold_bytes(len(frame))
    return runtime.turns.start(caller, read(), read_through)
