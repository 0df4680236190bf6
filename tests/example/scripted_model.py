"""What does the chat see of a model that does exactly as a test says?"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable

import anyio
from chat_streaming.model_server import serve_in_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


def delta(text: str, *, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return f"data: {json.dumps({'id': 'x', 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


class Model:
    """A model server; `hung_up` is set when its answer was not wanted to the end."""

    def __init__(self, script: Callable[[], AsyncIterator[str]]) -> None:
        self.hung_up = threading.Event()
        self.requests: list[dict[str, object]] = []
        self._script = script
        self.url = serve_in_thread(
            Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])
        )

    async def _complete(self, request: Request) -> Response:
        self.requests.append(await request.json())
        return StreamingResponse(self._watched(), media_type="text/event-stream")

    async def _watched(self) -> AsyncIterator[str]:
        try:
            async for event in self._script():
                yield event
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            self.hung_up.set()
            raise


def refusing_model() -> str:
    """The base URL of a model that takes no one."""

    async def refuse(request: Request) -> Response:
        return JSONResponse({"error": {"message": "no such key"}}, status_code=401)

    return serve_in_thread(Starlette(routes=[Route("/v1/chat/completions", refuse, methods=["POST"])]))


async def endless() -> AsyncIterator[str]:
    while True:
        yield delta("word ")
        await anyio.sleep(0.005)


async def silent_after_a_word() -> AsyncIterator[str]:
    yield delta("word")
    await anyio.sleep_forever()


async def broken_off() -> AsyncIterator[str]:
    yield delta("half an ans")
