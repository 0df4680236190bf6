"""What is a client told that repeats a request whose recorded answer was erased?"""

from __future__ import annotations

from typing import Final

from ..errors import RequestError

# In the place of an answer that held an erased document; no value has a field of such a name.
ERASED_ANSWER: Final = b'{"$erased":null}'


def answer_erased() -> RequestError:
    return RequestError(
        "this mutation has happened, but its answer held a document that was erased since - do not send it "
        "again under another number",
        code="AnswerErased",
    )
