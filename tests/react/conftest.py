"""A browser, a server, users with tokens, and Convex's own React hooks bundled into a page for them."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from browser.conftest import CHROMIUM, FLAGS, page
from clients.conftest import JS, npm_client, running_server
from clients.proxy import CuttingProxy, cutting_proxy
from clients.server import APPS, DevServer
from playwright.sync_api import Browser, Page, sync_playwright

from reactivedb.testing import LocalIdentityProvider

__all__ = ["npm_client", "page"]

HERE = Path(__file__).parent
HTML = (
    "<!doctype html><meta charset=utf-8><link rel=icon href=data:,>"
    "<div id=root></div><script src=/hooks.js></script>"
)
# A client that waits to come back does so after up to 1.5 s, then up to 3 s.
PATIENCE_MS = 15_000
Part = dict[str, Any]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all tests of hooks; none of them needs an event loop of its own in this thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class TokenDesk:
    """Where a page fetches the token of its user. `issue` says what it gets: None is a user signed out."""

    def __init__(self, provider: LocalIdentityProvider) -> None:
        self.provider = provider
        self.issue: Callable[[str, bool], str | None] = lambda user, _fresh: provider.token(user)
        # Who asked, and whether for a fresh one.
        self.asked: list[tuple[str, bool]] = []

    def answer(self, query: dict[str, list[str]]) -> str | None:
        user, is_fresh = query["user"][0], query["fresh"][0] == "true"
        self.asked.append((user, is_fresh))
        return self.issue(user, is_fresh)


@pytest.fixture(scope="package")
def provider() -> Iterator[LocalIdentityProvider]:
    with LocalIdentityProvider(algorithm="RS256") as running:
        yield running


@pytest.fixture(scope="package")
def folder(npm_client: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with React and `convex` bundled into it."""
    if not (JS / "node_modules" / "react-dom" / "package.json").exists():
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
        subprocess.run(install, cwd=JS, check=True, timeout=240)
    folder = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_text(HTML)
    command = [str(JS / "node_modules" / ".bin" / "esbuild"), str(HERE / "page.jsx"), "--bundle"]
    command += ['--define:process.env.NODE_ENV="production"', "--log-level=warning", "--jsx=automatic"]
    command += [f"--outfile={folder / 'hooks.js'}"]
    subprocess.run(command, check=True, env=os.environ | {"NODE_PATH": str(JS / "node_modules")}, timeout=60)
    return folder


@pytest.fixture
def desk(provider: LocalIdentityProvider) -> TokenDesk:
    return TokenDesk(provider)


@pytest.fixture
def web(folder: Path, desk: TokenDesk) -> Iterator[str]:
    """The URL of the page.

    It comes from a server of its own: what Playwright makes up itself may not connect to this machine.
    """

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path != "/token":
                super().do_GET()
                return
            body = json.dumps(desk.answer(parse_qs(url.query))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """What a browser fetched says nothing about a test."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as files:
        serving = threading.Thread(target=files.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{files.server_port}/index.html"
        files.shutdown()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, provider: LocalIdentityProvider) -> Iterator[DevServer]:
    """One for all tests of hooks: each writes under a `name` of its own."""
    with pytest.MonkeyPatch.context() as environment:
        # It stays for the restarts.
        environment.setenv("REACTIVEDB_TEST_ISSUER", provider.issuer)
        data = tmp_path_factory.mktemp("hooks") / "data"
        with running_server(data, app=APPS / "hooks") as running:
            yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name


@pytest.fixture
def proxy(server: DevServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(server.port) as running:
        yield running


class HooksPage:
    """A page of parts, and everything that it has shown."""

    def __init__(self, page: Page, address: str, wanted: dict[str, Any]) -> None:
        self._page = page
        self._presses = 0
        self.messages: list[str] = []
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(f"uncaught: {error}"))
        page.goto(f"{address}#{quote(json.dumps(wanted))}")

    def put(self, name: str, part: Part | None) -> None:
        """Show this part under the name, or none."""
        self._page.evaluate("([name, part]) => window.put(name, part)", [name, part])

    def press(self, name: str, *args: object) -> int:
        """Call what the part's hook returned; the number of this press."""
        self._presses += 1
        self._page.evaluate("args => window.press(...args)", [name, self._presses, *args])
        return self._presses

    def end_of(self, press: int) -> dict[str, Any]:
        """How it ended: `value`, `data` of an error of the application, or `error`."""
        self.until("press => window.ended[press] !== undefined", press)
        return self._page.evaluate("press => window.ended[press]", press)

    def call(self, name: str, *args: object) -> dict[str, Any]:
        return self.end_of(self.press(name, *args))

    def shown(self, name: str) -> list[Any]:
        """Every state of the part, in order."""
        return self._page.evaluate("name => window.shown[name] ?? []", name)

    @property
    def moments(self) -> list[dict[str, Any]]:
        """Every state of the whole page, in order."""
        return self._page.evaluate("window.moments")

    def wait_for(self, name: str, state: object) -> None:
        """Until the part shows this, or an object with these fields."""
        # What is compared is the text, since the order of fields is the server's, too.
        self.until(
            """([name, state]) => {
                 const shown = document.getElementById(name)?.textContent;
                 if (shown === undefined) return false;
                 if (shown === JSON.stringify(state)) return true;
                 return state?.constructor === Object && Object.entries(state).every(
                   ([field, value]) => JSON.stringify(JSON.parse(shown)?.[field]) === JSON.stringify(value));
               }""",
            [name, state],
        )

    def until(self, condition: str, *args: object) -> None:
        try:
            self._page.wait_for_function(condition, arg=args[0] if args else None, timeout=PATIENCE_MS)
        except Exception:
            print("the page shows", self.moments[-1:], "and said", self.messages)
            raise

    def sign_in(self, user: str | None) -> None:
        """What the sign-in library says from now on: a user, or nobody."""
        self._page.evaluate("user => window.signIn(user)", user)

    def evaluate(self, expression: str, *args: object) -> Any:
        return self._page.evaluate(expression, *args)


Show = Callable[..., HooksPage]


@pytest.fixture
def show(page: Page, web: str, server: DevServer) -> Show:
    """Open the page with these parts: `show({"n": query("counter:value", name="n")}, url=proxy.url)`."""

    def open_page(parts: dict[str, Part], *, url: str | None = None, **wanted: object) -> HooksPage:
        return HooksPage(page, web, {"parts": parts, "url": url or server.url, **wanted})

    return open_page


def query(path: str, /, **args: object) -> Part:
    return {"kind": "query", "query": path, "args": args}


SKIPPED: Part = {"kind": "query", "query": "conformance/counter:value", "args": "skip"}


def counter(name: str) -> Part:
    return query("conformance/counter:value", name=name)


class List:
    """The list that one `usePaginatedQuery` shows."""

    def __init__(self, page: HooksPage) -> None:
        self._page = page

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Every state that was ever shown, in order."""
        return [
            {
                "ids": [card["_id"] for card in state["results"]],
                "ranks": [card["rank"] for card in state["results"]],
                "status": state["status"],
            }
            for state in self._page.shown("list")
        ]

    @property
    def warnings(self) -> list[str]:
        return self._page.messages

    def load_more(self, count: int) -> None:
        self._page.press("list", count)

    def load_all(self) -> None:
        """Press until nothing is left to load; while it loads, a press does nothing."""
        self._page.until(
            "() => (window.press('list', 0, 50), window.shown.list.at(-1).status === 'Exhausted')"
        )

    def wait_for(self, *, status: str | None = None, **fields: list[Any]) -> None:
        """Until it shows this status and the cards with these `ranks` or `ids`."""
        self._page.until(
            """([status, fields]) => {
                 const shown = window.shown.list?.at(-1);
                 if (!shown || (status && shown.status !== status)) return false;
                 return Object.entries(fields).every(([field, values]) =>
                   JSON.stringify(shown.results.map((card) => card[field])) === JSON.stringify(values));
               }""",
            [status, {{"ids": "_id", "ranks": "rank"}[name]: values for name, values in fields.items()}],
        )


Open = Callable[..., List]


@pytest.fixture
def hook(show: Show) -> Open:
    """Mount `usePaginatedQuery`: a query, its arguments, the size of its first page, the server's URL."""

    def mount(path: str, args: dict[str, Any], *, size: int, url: str | None = None) -> List:
        part = {"kind": "list", "query": f"pages/{path}", "args": args, "size": size}
        return List(show({"list": part}, url=url))

    return mount
