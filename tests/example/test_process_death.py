"""What becomes of an answer whose process dies?"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .chat_server import ChatServer

pytestmark = pytest.mark.slow


def test_an_answer_cut_off_by_kill_9_is_failed_after_the_restart(tmp_path: Path) -> None:
    server = ChatServer(tmp_path, CHAT_LEASE_S="2", CHAT_MODEL_PACE_MS="20")
    server.start()
    created = server.call("mutation", "tasks:create", prompt="count to 9999", clientRequestId="r")
    growing = wait_for_answer(server, created["taskId"], lambda answer: len(answer["content"]) > 40)
    server.end(signal.SIGKILL)
    server.start()
    try:
        lost = wait_for_answer(server, created["taskId"], lambda answer: answer["status"] != "streaming")
        assert (lost["status"], lost["finishReason"]) == ("failed", "lost")
        assert lost["content"].startswith(growing["content"])
        retried = server.call("mutation", "streaming:retry", promptMessageId=created["promptMessageId"])
        assert retried["messageId"] != lost["_id"]
        wait_for_answer(
            server, created["taskId"], lambda answer: answer["attempt"] == 2 and answer["content"]
        )
    finally:
        server.end(signal.SIGTERM)


def wait_for_answer(
    server: ChatServer, task_id: str, is_right: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    return next(seen[-1] for seen in server.watch("messages:byTask", taskId=task_id) if is_right(seen[-1]))
