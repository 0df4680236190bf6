"""What answers when there is no model?

A server on 127.0.0.1 that speaks the streaming part of OpenAI's `POST /v1/chat/completions` and types a
scripted answer, a word every `CHAT_MODEL_PACE_MS` (30 by default). A prompt `count to N` is answered by
counting, so that somebody can have an answer as long as they like. It runs in a daemon thread of this process
and starts when it is first needed.
"""

import json
import os
import re
import socket
import threading
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

ANSWER = """You said: “{prompt}”.

I am a **scripted model**: a few lines of Python on a local socket. Every word of mine goes the long way, \
though. An action reads this stream, a mutation types what came in the last moments into the database, and \
each tab that looks at this chat is told because the query behind it read what has just changed.

```python
async for piece in model.stream_answer(turns):
    outbox.add(piece)
```

Open a second tab and watch both of them grow. **Stop** me, reload in the middle, or send something else: \
the database knows what was said, and whose turn it is. Set `OPENAI_BASE_URL` and a real model speaks here."""


def scripted_answer(prompt: str) -> str:
    if counting := re.search(r"\bcount to (\d{1,5})\b", prompt, re.IGNORECASE):
        return " ".join(str(n) for n in range(1, int(counting[1]) + 1))
    shown = prompt if len(prompt) <= 200 else prompt[:199] + "…"
    return ANSWER.format(prompt=shown)


def pace_s() -> float:
    return float(os.environ.get("CHAT_MODEL_PACE_MS", "30")) / 1000


def _event(choices: list[dict[str, Any]], **extra: Any) -> str:
    chunk = {"id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    return f"data: {json.dumps(chunk | {'choices': choices} | extra)}\n\n"


async def _type(prompt: str) -> AsyncIterator[str]:
    words = re.findall(r"\s*\S+", scripted_answer(prompt))
    for word in words:
        yield _event([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        await anyio.sleep(pace_s())
    yield _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    asked = len(prompt.split())
    usage = {"prompt_tokens": asked, "completion_tokens": len(words), "total_tokens": asked + len(words)}
    yield _event([], usage=usage)
    yield "data: [DONE]\n\n"


async def complete(request: Request) -> StreamingResponse:
    body = await request.json()
    prompts = [turn["content"] for turn in body["messages"] if turn["role"] == "user"]
    return StreamingResponse(_type(prompts[-1] if prompts else ""), media_type="text/event-stream")


def serve_in_thread(asgi: ASGIApp) -> str:
    """Serve until the process ends; gives the base URL. The port takes connections at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(asgi, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="model-server", daemon=True
    ).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@cache
def shared_url() -> str:
    """The base URL of the one server of this process."""
    return serve_in_thread(Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])]))
