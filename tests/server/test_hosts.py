"""By which names do admin requests reach a server, and which are refused? (DNS rebinding)"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

import reactivedb as rdb
from reactivedb.errors import ReactiveDBError
from reactivedb.server.hosts import AllowedHosts, host_of
from reactivedb.server.serving import Listeners

from . import notes
from .deployment import KEY, Deployment

ADMIN = {"Authorization": f"Convex {KEY}"}
STRONG = "Vq3hT7wZ1nLx9KpB4sYd"
KNOWN = [
    "127.0.0.1:3210",
    "192.168.1.5:3210",
    "203.0.113.9",
    "[::1]:3210",
    "[2001:DB8::1]",
    "[fe80::1%25eth0]:3210",
    "localhost",
    "LOCALHOST:3210",
    "localhost.:3210",
    "app.localhost:80",
    "db.example.com",
    "DB.Example.COM:443",
    "db.example.com.",
    "db.example.com.:443",
    "db.example.com:",
    "a.b.wild.example",
    "xn--bcher-kva.example:3210",
    "cloud.example",
    "site.example",
]
FOREIGN = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#localhost",
    "localhost@evil.example",
    "db.example.com@evil.example",
    "db.example.com.evil.example",
    "evildb.example.com",
    "sub.db.example.com",
    "db.example.com..",
    ".db.example.com",
    "wild.example",
    "evilwild.example",
    "2130706433",
    "0x7f.1",
    "[::1",
    "[::1].evil.example",
    "[evil.example]",
    "::1",
    "127.0.0.1, evil.example",
    "localhost:80:evil",
    "",
    "a" * 300,
]


@pytest.fixture(scope="module")
def told() -> Iterator[TestClient]:
    """An application that was told its names in every way there is."""
    live = rdb.asgi(
        rdb.App(notes, root=__package__),
        ":memory:",
        admin_key=STRONG,
        allowed_hosts=["db.example.com", "*.wild.example", "bücher.example"],
    )
    with ExitStack() as until_the_end:
        # The environment counts as it is when the database is opened.
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("CONVEX_CLOUD_URL", "https://cloud.example:8443/")
            environment.setenv("CONVEX_SITE_URL", "https://site.example")
            client = until_the_end.enter_context(TestClient(live, base_url="http://127.0.0.1"))
        client.headers["Authorization"] = f"Convex {STRONG}"
        yield client


@pytest.mark.parametrize("host", KNOWN)
def test_an_address_and_a_name_that_was_told_are_known_however_they_are_spelt(
    told: TestClient, host: str
) -> None:
    assert told.get("/api/check_admin_key", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_any_other_host_is_foreign_and_the_error_says_the_way_out(told: TestClient, host: str) -> None:
    answer = told.get("/api/check_admin_key", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "ForeignHost")
    assert f"`{host[:80]}`" in answer.json()["message"]
    assert "--allowed-host " in answer.json()["message"]


def test_canonical_urls_are_those_that_were_told(told: TestClient) -> None:
    urls = told.get("/api/v1/get_canonical_urls").json()
    assert urls == {"convexCloudUrl": "https://cloud.example:8443/", "convexSiteUrl": "https://site.example"}


def test_the_way_out_names_the_host_without_its_port(told: TestClient) -> None:
    answer = told.get("/api/check_admin_key", headers={"Host": "New.Example:3210"})
    assert "`New.Example:3210`" in answer.json()["message"]
    assert "`--allowed-host new.example`" in answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/api/check_admin_key"),
        ("GET", "/api/v1/get_canonical_urls"),
        ("GET", "/api/list_environment_variables"),
        ("POST", "/api/update_environment_variables"),
        ("POST", "/api/function"),
    ],
)
def test_every_admin_route_refuses_a_foreign_name_and_only_those_do(
    told: TestClient, method: str, path: str
) -> None:
    body = {"path": "notes:count", "args": {}, "changes": []} if method == "POST" else None
    refused = told.request(method, path, json=body, headers={"Host": "evil.example"})
    assert (refused.status_code, refused.json()["code"]) == (403, "ForeignHost")
    assert told.request(method, path, json=body, headers={"Host": "db.example.com"}).status_code == 200
    for open_path in ("/healthz", "/readyz", "/version", "/api/openapi.json"):
        assert told.get(open_path, headers={"Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "is_known"),
    [
        ("http://localhost:5173", True),
        ("http://127.0.0.1:6791", True),
        ("http://[::1]:6791", True),
        ("https://DB.example.com.", True),
        ("https://xn--bcher-kva.example", True),
        ("http://192.168.1.5:6791", True),
        ("http://192.168.1.6", False),
        ("https://evil.example", False),
        ("https://localhost@evil.example", False),
        ("http://[::1", False),
        ("null", False),
    ],
)
def test_a_page_may_ask_from_this_machine_a_told_name_or_the_very_address_it_asks(
    told: TestClient, origin: str, is_known: bool
) -> None:
    headers = {"Host": "192.168.1.5:3210", "Origin": origin}
    answer = told.get("/api/check_admin_key", headers=headers)
    assert answer.status_code == (200 if is_known else 403)
    assert is_known or answer.json()["code"] == "ForeignOrigin"


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "Forwarded", "X-Original-Host", "X-Host"])
def test_what_a_forwarding_header_says_does_not_count(told: TestClient, header: str) -> None:
    value = "host=localhost" if header == "Forwarded" else "localhost"
    headers = {"Host": "evil.example", header: value}
    assert told.get("/api/check_admin_key", headers=headers).json()["code"] == "ForeignHost"
    value = "host=evil.example" if header == "Forwarded" else "evil.example"
    headers = {"Host": "db.example.com", header: value}
    assert told.get("/api/check_admin_key", headers=headers).status_code == 200


def test_an_application_without_allowed_hosts_leaves_the_check_to_the_one_it_is_mounted_in() -> None:
    live = rdb.asgi(rdb.App(notes, root=__package__), ":memory:", admin_key=KEY)
    with TestClient(live) as client:
        answer = client.get("/api/check_admin_key", headers={**ADMIN, "Host": "outer.example"})
        assert answer.status_code == 200
    checked = rdb.asgi(rdb.App(notes, root=__package__), ":memory:", admin_key=KEY, allowed_hosts=[])
    with TestClient(checked) as client:
        answer = client.get("/api/check_admin_key", headers={**ADMIN, "Host": "outer.example"})
        assert answer.json()["code"] == "ForeignHost"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*.",
        "*.com",
        "http://db.example",
        "a b",
        "db/x",
        "*.10.0.0.1",
        "[::1",
        "\ud800",
    ],
)
def test_what_is_no_host_cannot_be_allowed(text: str) -> None:
    with pytest.raises(ReactiveDBError) as caught:
        AllowedHosts.of([text])
    assert caught.value.code == "InvalidAllowedHost"


def test_a_star_allows_every_host_and_is_no_local_one() -> None:
    live = rdb.asgi(rdb.App(notes, root=__package__), ":memory:", admin_key=STRONG, allowed_hosts=["*"])
    with TestClient(live, base_url="http://anything.example") as client:
        headers = {"Authorization": f"Convex {STRONG}", "Origin": "https://elsewhere.example"}
        assert client.get("/api/check_admin_key", headers=headers).status_code == 200
        assert client.get("/api/check_admin_key", headers={**headers, "Host": "a@b"}).status_code == 403
    assert not AllowedHosts.of(["*"]).are_local


def test_an_allowed_address_may_be_written_with_brackets_or_without() -> None:
    allowed = AllowedHosts.of(["[2001:DB8::0:1]:443", "::1", "10.0.0.1:80"])
    assert allowed.names == {"2001:db8::1", "::1", "10.0.0.1"}
    assert not allowed.are_local
    assert AllowedHosts.of(["::1", "localhost", "a.localhost", "127.9.9.9"]).are_local
    assert host_of("[2001:db8:0::1]:80") == "2001:db8::1"


@pytest.mark.parametrize(
    ("bound", "is_public"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True), ("", True)]
)
def test_a_server_is_public_where_others_reach_its_ports(bound: str, is_public: bool) -> None:
    listeners = Listeners.bind(bound, 0, 0)
    try:
        assert listeners.is_public == is_public
    finally:
        listeners.close()


def test_a_server_on_every_address_answers_administrators_who_name_it_by_address() -> None:
    server = Deployment(rdb.App(notes, root=__package__), host="0.0.0.0", admin_key=STRONG)
    urls = server.start()
    try:

        def ask(host: str, path: str = "/api/check_admin_key") -> tuple[int, dict[str, str]]:
            headers = {"Host": host, "Authorization": f"Convex {STRONG}"}
            answer = httpx.get(f"{urls.main}{path}", headers=headers)
            return answer.status_code, answer.json()

        for host, status in [("192.168.1.5:3210", 200), ("localhost", 200), ("db.example.com", 403)]:
            assert ask(host)[0] == status
            assert httpx.get(f"{urls.main}/metrics", headers={"Host": host}).status_code == status
        cloud, site = urlsplit(urls.main).port, urlsplit(urls.site).port
        for host in ("192.168.1.5", "[2001:db8::1]"):
            status, told = ask(f"{host}:{cloud}", "/api/v1/get_canonical_urls")
            assert (status, told["convexCloudUrl"]) == (200, f"http://{host}:{cloud}")
            assert told["convexSiteUrl"] == f"http://{host}:{site}"
    finally:
        server.stop()
