"""A real uvicorn in a thread of its own, on a free port, for one ASGI application."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from reactivedb.limits import DEFAULT_LIMITS, Limits
from reactivedb.server.websocket import ReactiveWebSocketProtocol

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(app)` gives `127.0.0.1:PORT`; every server started ends with the test."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: Any, *, limits: Limits = DEFAULT_LIMITS, compression: bool = False) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            ws=ReactiveWebSocketProtocol,
            ws_max_size=limits.message_size_bytes_max,
            ws_per_message_deflate=compression,
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        running.append((server, thread))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, _ in running:
        server.should_exit = True
    for _, thread in running:
        thread.join(timeout=10)
