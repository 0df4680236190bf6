"""What does the model say?

It is asked through the `openai` client at `OPENAI_BASE_URL` with `OPENAI_API_KEY` and `OPENAI_MODEL`. Without
the first of these a small server of our own answers on 127.0.0.1 (`model_server`), over the same wire.
"""

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

from openai import AsyncOpenAI, Timeout
from openai.types.chat import ChatCompletionMessageParam

from . import model_server
from .tables import FinishReason, Usage

CONNECT_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A token or a few; the last pieces say why the model ended and what it cost."""

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


async def stream_answer(
    turns: Sequence[tuple[str, str]], *, model: str | None, silence_s: float
) -> AsyncIterator[Piece]:
    """The answer to the conversation `turns` (role, content), as it comes.

    Raises:
        openai.OpenAIError: the model cannot be reached, refuses, or says nothing for `silence_s`.
    """
    client = AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL") or model_server.shared_url(),
        # A local model asks for no key, but the client insists on one.
        api_key=os.environ.get("OPENAI_API_KEY") or "none",
        timeout=Timeout(silence_s, connect=CONNECT_TIMEOUT_S),
        max_retries=1,
    )
    async with client:
        stream = await client.chat.completions.create(
            model=model or os.environ.get("OPENAI_MODEL") or "gpt-4o-mini",
            messages=[cast(ChatCompletionMessageParam, {"role": r, "content": c}) for r, c in turns],
            stream=True,
            stream_options={"include_usage": True},
        )
        async with stream:
            async for chunk in stream:
                usage = chunk.usage and Usage(
                    prompt_tokens=chunk.usage.prompt_tokens,
                    completion_tokens=chunk.usage.completion_tokens,
                    total_tokens=chunk.usage.total_tokens,
                )
                choice = chunk.choices[0] if chunk.choices else None
                yield Piece(
                    text=(choice and choice.delta.content) or "",
                    finish_reason=_known_reason(choice.finish_reason) if choice else None,
                    usage=usage or None,
                )


def _known_reason(reason: str | None) -> FinishReason | None:
    """Servers invent reasons of their own; what is not known still means that the model is done."""
    if reason is None:
        return None
    return cast(FinishReason, reason) if reason in get_args(FinishReason) else "stop"
