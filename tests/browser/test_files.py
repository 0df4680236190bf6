"""Can a page of another origin send and fetch files, and can a file that somebody sent do harm?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clients.conftest import running_server
from clients.server import DevServer
from playwright.sync_api import Page

pytestmark = pytest.mark.slow

SEND = """async ([url, type, body, headers]) => {
  const answer = await fetch(url, { method: "POST", body: new Blob([body], { type }), headers });
  return { status: answer.status, ...(await answer.json()) };
}"""
FETCH = """async (url) => {
  const answer = await fetch(url, { headers: { Range: "bytes=1-3" } });
  return [answer.status, answer.headers.get("content-range"), await answer.text()];
}"""
RUN = "<script>document.title = origin; fetch('/api/query');</script>"
PAGES = {
    "text/html": f"<!doctype html><title>quiet</title><body>{RUN}",
    "image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'>{RUN}</svg>",
    "application/xhtml+xml": f"<html xmlns='http://www.w3.org/1999/xhtml'>{RUN}</html>",
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with running_server(tmp_path_factory.mktemp("browser") / "data") as server:
        yield server


def send(page: Page, deployment: DevServer, type: str, body: str, **headers: str) -> Any:
    url = deployment.mutation("files:generateUploadUrl")
    return page.evaluate(SEND, [url, type, body, headers])


def test_h91_a_page_of_another_origin_sends_and_fetches_a_file(page: Page, deployment: DevServer) -> None:
    # Another port is another origin.
    page.goto(deployment.site_url)
    sent = send(page, deployment, "text/plain", "0123456789")
    assert sent["status"] == 200
    url = deployment.query("files:getUrl", id=sent["storageId"])
    assert page.evaluate(FETCH, url) == [206, "bytes 1-3/10", "123"]
    # A header of its own makes the browser ask first.
    refused = send(page, deployment, "image/png", "x", Digest="sha-256=AAAA")
    assert (refused["status"], refused["code"]) == (400, "InvalidDigest")


@pytest.mark.parametrize("type", PAGES)
def test_a_script_in_a_file_does_not_run(page: Page, deployment: DevServer, type: str) -> None:
    page.goto(deployment.site_url)
    sent = send(page, deployment, type, PAGES[type])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    url = deployment.query("files:getUrl", id=sent["storageId"])
    answer = page.goto(url)
    assert answer is not None
    assert answer.headers["content-type"] == type
    assert deployment.url not in page.title()
    # Neither as a page of the deployment nor as one of nobody: the address itself is all that was asked for.
    assert [request for request in asked if "favicon" not in request] == [url]


def test_a_page_cannot_be_made_of_what_says_it_is_text(page: Page, deployment: DevServer) -> None:
    page.goto(deployment.site_url)
    sent = send(page, deployment, "text/plain", PAGES["text/html"])
    page.goto(deployment.query("files:getUrl", id=sent["storageId"]))
    assert "<script>" in page.inner_text("body")
