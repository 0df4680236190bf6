"""Which admin keys are refused where others reach the server?"""

from __future__ import annotations

import base64
import random
import uuid

import pytest
from starlette.testclient import TestClient

import reactivedb as rdb
from reactivedb.errors import ReactiveDBError
from reactivedb.server.admin_key import AdminKey, is_guessable
from reactivedb.server.serving import serve

from . import notes

GUESSABLE = [
    "x",
    "admin",
    "password",
    "hunter2",
    "x" * 64,
    "ab" * 32,
    "abc" * 20,
    "password" * 4,
    "P@ssw0rd!P@ssw0rd!",
    "hunter2hunter2hunter2",
    "administrator2024",
    "2024-01-01-admin-key",
    "0123456789abcdef0123456789abcdef",
    "zyxwvutsrqponmlkjihg",
    "a1b2c3d4e5f6g7h8i9",
    "qwertyuiopasdfghjkl",
    "aaaabbbbccccdddd1111",
    "deadbeefdeadbeefdeadbeef",
    "00000000-0000-4000-8000-000000000000",
    "changeme-changeme-changeme",
    "correct horse battery staple",
    "mysupersecretadminkey",
    "REACTIVEDB_ADMIN_KEY",
    "your-admin-key-here",
    "reactivedb|admin-key",
    "prod|0123456789abcdef",
    "Vq3hT7wZ1nLx9Kp",
]


@pytest.mark.parametrize("key", GUESSABLE)
def test_a_short_or_guessable_key_is_known_as_one(key: str) -> None:
    assert is_guessable(key)
    with pytest.raises(ReactiveDBError) as caught:
        AdminKey.of(key).require_strong()
    assert caught.value.code == "WeakAdminKey"
    assert "secrets.token_urlsafe(32)" in caught.value.message
    # The same words for every key, so that none is in them.
    assert "got one that is short or easily guessed - make" in caught.value.message


def test_a_key_that_was_drawn_is_strong() -> None:
    draw = random.Random(20260)
    for _ in range(200):
        number = draw.randbytes(32)
        for key in (
            number.hex(),
            f"reactivedb|{number.hex()}",
            number[:16].hex(),
            base64.urlsafe_b64encode(number).decode().rstrip("="),
            str(uuid.UUID(bytes=number[:16], version=4)),
        ):
            assert not is_guessable(key), key
            AdminKey.of(key).require_strong()
    assert not is_guessable("gravel onion teapot mischief")


@pytest.mark.parametrize("key", ["", " ", "\n", "\t \n"])
def test_a_blank_key_is_refused_everywhere_for_everybody_would_show_it(key: str) -> None:
    with pytest.raises(ReactiveDBError) as caught:
        rdb.asgi(rdb.App(notes, root=__package__), ":memory:", admin_key=key)
    assert caught.value.code == "WeakAdminKey"


def test_blanks_around_a_key_from_a_file_do_not_count() -> None:
    live = rdb.asgi(rdb.App(notes, root=__package__), ":memory:", admin_key=" the key\n")
    with TestClient(live) as client:
        answer = client.get("/api/check_admin_key", headers={"Authorization": "Convex the key"})
        assert answer.status_code == 200


def test_a_guessable_key_is_refused_before_a_public_address_is_served() -> None:
    with pytest.raises(ReactiveDBError) as caught:
        serve(
            rdb.App(notes, root=__package__),
            ":memory:",
            host="0.0.0.0",
            port=0,
            site_port=0,
            admin_key="password1234",
        )
    assert caught.value.code == "WeakAdminKey"
    assert "password1234" not in caught.value.message


def test_a_guessable_key_is_refused_behind_a_proxy_with_a_name_of_its_own() -> None:
    app = rdb.App(notes, root=__package__)
    with pytest.raises(ReactiveDBError) as caught:
        rdb.asgi(app, ":memory:", admin_key="x", allowed_hosts=["db.example.com"])
    assert caught.value.code == "WeakAdminKey"
    rdb.asgi(app, ":memory:", admin_key="x", allowed_hosts=["localhost", "127.0.0.1"])


@pytest.mark.parametrize(("key", "warnings"), [("hunter2", 1), ("Vq3hT7wZ1nLx9KpB4sYd", 0)])
def test_in_production_a_mounted_application_warns_of_a_key_that_can_be_guessed(
    key: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    rdb.asgi(rdb.App(notes, root=__package__), ":memory:", admin_key=key, production=True)
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "admin key can be guessed" in text]) == warnings
    assert key not in "".join(told)


def test_a_key_shows_nothing_of_itself_in_its_repr() -> None:
    key = AdminKey.of("x")
    assert key.digest.hex() not in repr(key)
    assert repr(key.digest) not in repr(key)
