"""How does the command line call a function of a running server?

Over `/api/function`, with the admin key from the data folder, so internal functions can be called too.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, cast

from ..errors import ReactiveDBError

_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: the value or error as JSON trees in the lossless encoding, and the run's log lines."""

    succeeded: bool
    value: Any
    error: str
    error_data: Any
    log_lines: list[str]


def parse_args(text: str) -> dict[str, Any]:
    """Raises: ReactiveDBError, `BadArguments`, unless the text is a JSON object."""
    try:
        args = json.loads(text)
    except ValueError as error:
        raise _bad_arguments(f"text that is no JSON ({error})") from None
    if not isinstance(args, dict):
        raise _bad_arguments(f"`{text[:80]}`")
    return cast("dict[str, Any]", args)


def call(url: str, key: str | None, path: str, args: dict[str, Any]) -> Outcome:
    """Run one function and wait for it. Raises as `ask` does."""
    answer = ask(url, key, "function", {"path": path, "args": args, "format": "convex_encoded_json"})
    return Outcome(
        succeeded=answer["status"] == "success",
        value=answer.get("value"),
        error=answer.get("errorMessage", ""),
        error_data=answer.get("errorData"),
        log_lines=answer.get("logLines", []),
    )


def ask(url: str, key: str | None, route: str, question: dict[str, Any]) -> Any:
    """Post JSON to a route below `/api/`; the JSON of the answer.

    Raises:
        ReactiveDBError: `BadURL`, `NoServer` if none answers, or the code of the server's refusal.
    """
    body = json.dumps(question).encode()
    headers = {"Content-Type": "application/json", "Convex-Client": "reactivedb-cli"}
    if key is not None:
        headers["Authorization"] = f"Convex {key}"
    if not url.startswith(("http://", "https://")):
        raise ReactiveDBError(
            f"expected the server's URL, such as `http://127.0.0.1:3210`, got `{url}` - pass another `--url`",
            code="BadURL",
        )
    request = urllib.request.Request(f"{url.rstrip('/')}/api/{route}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise _refused(error) from None
    except (OSError, ValueError) as error:
        raise ReactiveDBError(
            f"no server answers at `{url}` ({error}) - start one with `reactivedb dev`, or pass `--url`",
            code="NoServer",
        ) from None


def _refused(error: urllib.error.HTTPError) -> ReactiveDBError:
    try:
        answer = json.load(error)
        return ReactiveDBError(str(answer["message"]), code=str(answer["code"]))
    except (ValueError, KeyError, TypeError):
        # Something else listens there, and its answer is not ours to read.
        return ReactiveDBError(f"`{error.url}` answered {error.code} {error.reason}", code="NoServer")


def _bad_arguments(got: str) -> ReactiveDBError:
    return ReactiveDBError(
        f"""expected the arguments as one JSON object, such as '{{"body": "hi"}}', got {got}""",
        code="BadArguments",
    )
