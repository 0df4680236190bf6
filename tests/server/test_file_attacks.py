"""Is each attack on uploads answered by one clear error, with nothing left on the disk?"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from files import application as files

import reactivedb as rdb
from reactivedb.functions.file_links import links_of
from reactivedb.limits import KIB, MIB

from .deployment import Deployment, Urls
from .raw import Raw
from .test_files import Client

pytestmark = pytest.mark.slow

SIZE_MAX = 256 * KIB
# Short, so that a test need not wait; long enough for two busy cores.
LIMITS = rdb.Limits(
    file_size_bytes_max=SIZE_MAX,
    http_body_idle_s=0.5,
    http_body_rate_bytes_per_s_min=64 * KIB,
    http_head_s=0.6,
    blocked_receiver_s=0.5,
    uploads_max=3,
)
DEADLINE_S = 10.0


class Attacked(Client):
    """A deployment with one file in it."""

    def __init__(self, urls: Urls, folder: Path, deployment: Deployment) -> None:
        super().__init__(urls)
        self.folder = folder
        self._deployment = deployment
        self.id, self.url = self.store(b"the only file")

    @property
    def path(self) -> str:
        """Where one more file may be sent."""
        return self.call("upload_url").removeprefix(self.urls.main)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def token(self, *, expires_ms: float) -> str:
        """A token with a good seal."""
        secret = self._deployment.database.runtime.engine.cursor_secret
        return links_of(secret).token(bytes(16), int(expires_ms))

    def until_nothing_is_left(self) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while self.names != [self.id]:
            assert time.monotonic() < deadline_s, self.names
            httpx.get(f"{self.urls.main}/healthz")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    place = tmp_path_factory.mktemp("attacked")
    deployment = Deployment(files.file_app(LIMITS), place / "data.db")
    yield Attacked(deployment.start(), place / "data.db.files", deployment)
    deployment.stop()


@pytest.fixture
def server(running: Attacked, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    """After each attack nothing is left of it, the server answers, and its log holds no error of its own."""
    yield running
    running.until_nothing_is_left()
    assert [row["_id"] for row in running.call("all_files")] == [running.id]
    assert httpx.get(running.url).content == b"the only file"
    faults = [record for record in caplog.records if record.name in ("asyncio", "uvicorn.error")]
    assert [record.getMessage() for record in faults if record.levelname == "ERROR"] == []


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert set(answer.json()) == {"code", "message"}
    return answer.status_code, answer.json()["code"]


# Addresses


@pytest.mark.parametrize(
    "path",
    [
        "/api/storage/../data.db",
        "/api/storage/%2e%2e/data.db",
        "/api/storage/..%2fdata.db",
        "/api/storage/%2e%2e%2fdata.db",
        "/api/storage/..%5cdata.db",
        "/api/storage/%252e%252e%252fdata.db",
        "/api/storage/%2fetc%2fpasswd",
        "/api/storage//etc/passwd",
        "/api/storage/data.db%00.png",
        "/api/storage/.",
        "/api/storage/",
        "/api/storage",
        "/api/storage/ID",
        "/api/storage/ID.part",
        "/api/storage/UUID",
        "/api/storage/upload",
        "/api/storage/urn:uuid:ADDRESS",
        "/api/storage/{ADDRESS}",
        "/api/storage/ADDRESS/",
        "/api/storage/ADDRESS%20",
        "/api/storage/ADDRESS%00",
    ],
)
def test_only_the_address_itself_leads_to_a_file(server: Attacked, path: str) -> None:
    address = server.url.rpartition("/")[2]
    for text, value in (("ADDRESS", address), ("UUID", str(uuid4())), ("ID", server.id)):
        path = path.replace(text, value)
    with Raw(server.urls.main) as raw:
        raw.begin(path, "Connection: close", method="GET")
        status, code = raw.refusal()
    assert status in (400, 404), code
    assert code in ("FileNotFound", "NotFound", "InvalidPath")


def test_an_address_in_another_spelling_is_none(server: Attacked) -> None:
    url, _, address = server.url.rpartition("/")
    for other in (address.upper(), address.replace("-", ""), address[:-1], address[::-1]):
        assert refusal(httpx.get(f"{url}/{other}")) == (404, "FileNotFound")


# Tokens


def test_h92_a_forged_token_is_refused(server: Attacked) -> None:
    token = server.call("upload_url").rpartition("=")[2]
    changed = [
        token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        for place in range(0, len(token) - 1, 7)
    ]
    other = token_of_another_deployment()
    for forged in ("", "nonsense", token[:-4], token + "AAAA", "é" * 54, token[::-1], other, *changed):
        answer = httpx.post(
            f"{server.urls.main}/api/storage/upload", params={"token": forged}, content=b"x" * 1000
        )
        assert refusal(answer) == (403, "InvalidUploadToken")
    assert refusal(httpx.post(f"{server.urls.main}/api/storage/upload", content=b"x"))[0] == 403


def token_of_another_deployment() -> str:
    return links_of(bytes(16)).token(bytes(16), int(time.time() * 1000 + 60_000))


def test_h92_an_expired_token_is_refused(server: Attacked) -> None:
    now_ms = time.time() * 1000
    url = f"{server.urls.main}/api/storage/upload?token="
    answer = httpx.post(url + server.token(expires_ms=now_ms - 1), content=b"x")
    assert refusal(answer) == (403, "UploadTokenExpired")
    # The time stands under the seal.
    late, early = server.token(expires_ms=now_ms + 60_000), server.token(expires_ms=now_ms - 60_000)
    assert refusal(httpx.post(url + late[:32] + early[32:], content=b"x"))[1] == "InvalidUploadToken"


def test_a_token_is_good_for_one_file_even_when_that_is_deleted(server: Attacked) -> None:
    url = server.call("upload_url")
    id = httpx.post(url, content=b"first").json()["storageId"]
    assert refusal(httpx.post(url, content=b"second")) == (403, "UploadTokenUsed")
    server.call("remove", id=id)
    assert refusal(httpx.post(url, content=b"third")) == (403, "UploadTokenUsed")
    # Its last letter has bits to spare, which make no new token of it.
    twin = url[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}.get(url[-1], "A")
    assert httpx.post(twin, content=b"fourth").status_code == 403


def test_two_uploads_to_one_url_are_not_taken_at_once(server: Attacked) -> None:
    path = server.path
    with Raw(server.urls.main) as first:
        first.begin(path, "Content-Length: 10", "Connection: close")
        first.send("01234")
        until_it_is_being_written(server)
        assert refusal(httpx.post(server.urls.main + path, content=b"x")) == (409, "UploadInProgress")
        first.send("56789")
        status, _ = first.answer()
    assert status == 200
    [id] = [name for name in server.names if name != server.id]
    server.call("remove", id=id)


def until_it_is_being_written(server: Attacked, count: int = 1) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while sum(name.endswith(".part") for name in server.names) < count:
        assert time.monotonic() < deadline_s
        httpx.get(f"{server.urls.main}/healthz")


def test_a_failed_upload_leaves_its_token_good(server: Attacked) -> None:
    url = server.call("upload_url")
    wrong = base64.b64encode(bytes(32)).decode()
    assert refusal(httpx.post(url, content=b"x", headers={"digest": f"sha-256={wrong}"}))[0] == 400
    assert refusal(httpx.post(url, content=b"x" * (SIZE_MAX + 1)))[0] == 413
    id = httpx.post(url, content=b"x").json()["storageId"]
    server.call("remove", id=id)


def test_more_uploads_at_once_than_the_limit_are_refused(server: Attacked) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(LIMITS.uploads_max):
            raw = stack.enter_context(Raw(server.urls.main))
            raw.begin(server.path, "Content-Length: 10")
            raw.send("0")
        until_it_is_being_written(server, LIMITS.uploads_max)
        assert refusal(server.send(b"x")) == (429, "TooManyUploads")


# Bodies


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"digest": "sha-256=WRONG"}, "DigestMismatch"),
        ({"content-digest": "sha-256=:WRONG:"}, "DigestMismatch"),
        ({"digest": "sha-256=RIGHT,sha-256=WRONG"}, "DigestMismatch"),
        ({"digest": "sha-256=RIGHT", "content-digest": "sha-256=:WRONG:"}, "DigestMismatch"),
        ({"digest": "sha-256="}, "InvalidDigest"),
        ({"digest": "sha-256"}, "InvalidDigest"),
        ({"digest": "sha-256=AAAA"}, "InvalidDigest"),
        ({"digest": "sha-256=!"}, "InvalidDigest"),
        ({"content-digest": "sha-256=RIGHT"}, "InvalidDigest"),
        ({"content-digest": "sha-256=:"}, "InvalidDigest"),
    ],
)
def test_h92_a_wrong_digest_is_refused(server: Attacked, headers: dict[str, str], code: str) -> None:
    right = base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    named = {name: text.replace("RIGHT", right).replace("WRONG", wrong) for name, text in headers.items()}
    assert refusal(httpx.post(server.call("upload_url"), content=b"data", headers=named)) == (400, code)


def test_a_file_above_the_limit_is_refused_with_and_without_its_length(server: Attacked) -> None:
    body = b"x" * (SIZE_MAX + 1)

    def pieces() -> Iterator[bytes]:
        yield from (body[start : start + 10_000] for start in range(0, len(body), 10_000))

    for content in (body, pieces()):
        assert refusal(server.send(content)) == (413, "FileTooLarge")
    id, _ = server.store(body[:SIZE_MAX])
    server.call("remove", id=id)


def test_a_file_that_announces_too_much_is_refused_before_it_comes(server: Attacked) -> None:
    for length in (str(SIZE_MAX + 1), "9" * 18):
        with Raw(server.urls.main) as raw:
            raw.begin(server.path, f"Content-Length: {length}", "Expect: 100-continue")
            assert raw.refusal() == (413, "FileTooLarge")


def test_an_endless_body_is_cut_off(server: Attacked) -> None:
    sent = 0
    stop = threading.Event()
    with Raw(server.urls.main) as raw:
        raw.begin(server.path, "Transfer-Encoding: chunked")

        def pour() -> None:
            nonlocal sent
            chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    raw.send(chunk)
                    sent += 65_536

        pouring = threading.Thread(target=pour)
        pouring.start()
        try:
            assert raw.refusal() == (413, "FileTooLarge")
        except ConnectionResetError:
            # It was still pouring when the server closed; that it was cut off is what counts.
            pass
        finally:
            stop.set()
            pouring.join()
    assert sent < 64 * MIB


@pytest.mark.parametrize("headers", [["Content-Length: 100000"], ["Transfer-Encoding: chunked"]])
def test_a_body_that_stands_still_is_given_up(server: Attacked, headers: list[str]) -> None:
    with Raw(server.urls.main) as raw:
        raw.begin(server.path, *headers)
        raw.send("5\r\nhello\r\n")
        assert raw.refusal() == (408, "BodyTooSlow")


def test_a_body_that_trickles_is_given_up(server: Attacked) -> None:
    with Raw(server.urls.main) as raw:
        raw.begin(server.path, "Content-Length: 100000")
        raw.socket.settimeout(0.05)
        seen = b""
        while not seen.endswith(b"}"):
            if not seen:
                raw.send("x")
            with contextlib.suppress(TimeoutError):
                seen += raw.socket.recv(65_536)
    assert b" 408 " in seen.partition(b"\r\n")[0]
    assert b"BodyTooSlow" in seen


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "zstd", "x"])
def test_a_packed_body_is_never_unpacked(server: Attacked, encoding: str) -> None:
    assert refusal(server.send(b"x" * 100, content_encoding=encoding)) == (415, "UnknownContentEncoding")


@pytest.mark.parametrize("content_type", ["x" * 256, "text/\u00e9"])
def test_a_content_type_that_is_none_is_refused(server: Attacked, content_type: str) -> None:
    answer = httpx.post(
        server.call("upload_url"), content=b"x", headers={"content-type": content_type.encode()}
    )
    assert refusal(answer) == (400, "InvalidContentType")


@pytest.mark.parametrize("headers", [["Content-Length: 100000"], ["Transfer-Encoding: chunked"]])
def test_an_upload_that_breaks_off_leaves_nothing_and_its_token_good(
    server: Attacked, headers: list[str]
) -> None:
    path = server.path
    with Raw(server.urls.main) as raw:
        raw.begin(path, *headers)
        raw.send("5\r\nhello\r\n")
        until_it_is_being_written(server)
    server.until_nothing_is_left()
    id = httpx.post(server.urls.main + path, content=b"x").json()["storageId"]
    server.call("remove", id=id)


def test_a_length_that_lies_is_no_file(server: Attacked) -> None:
    with Raw(server.urls.main) as raw:
        raw.begin(server.path, "Content-Length: 10")
        raw.send("12345")
        raw.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            raw.socket.recv(1000)


def test_a_reader_that_takes_nothing_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = rdb.Limits(blocked_receiver_s=0.3)
    deployment = Deployment(files.file_app(limits), tmp_path / "data.db")
    try:
        client = Client(deployment.start())
        _, url = client.store(b"x" * 32 * MIB)
        with Raw(client.urls.main) as raw:
            raw.begin(url.removeprefix(client.urls.main), method="GET")
            deadline_s = time.monotonic() + DEADLINE_S
            while "took nothing of a file" not in caplog.text:
                assert time.monotonic() < deadline_s
                httpx.get(f"{client.urls.main}/healthz")
            taken = 0
            while piece := raw.socket.recv(MIB):
                taken += len(piece)
        assert taken < 32 * MIB
    finally:
        deployment.stop()


def test_a_file_that_was_taken_away_is_missed_without_telling_where(tmp_path: Path) -> None:
    deployment = Deployment(files.file_app(LIMITS), tmp_path / "data.db")
    try:
        client = Client(deployment.start())
        id, url = client.store(b"data")
        (tmp_path / "data.db.files" / id).unlink()
        answer = httpx.get(url)
    finally:
        deployment.stop()
    assert refusal(answer) == (503, "FileMissing")
    assert str(tmp_path) not in answer.text
