"""Is a secret kept out of errors and logs, whatever its type and whatever stands around it?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest

import reactivedb as rdb
from reactivedb.errors import ProtocolError, ValidationError
from reactivedb.functions.system_environment import update_variables
from reactivedb.schema import ArgsValidator
from reactivedb.server.admin import AdminKey
from reactivedb.sync.messages import Authenticate, parse_client_message
from reactivedb.values import from_jsonable, is_secret_name, redacted, secrets_in, watch_logs

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
REFRESH = "A" * 21 + "w." + "b" * 42 + "w"

SHOWN = [
    f"got `{JWT}`",
    f"user{JWT[:30]}...",
    f"text={JWT}&x=1",
    f"first {JWT}, then {JWT}",
    "password=hunter2",
    "Password = 'hunter2 and more'",
    'PASSWORD="hunter2"',
    "{'password': 'hunter2', 'name': 'ada'}",
    '{"newPassword": "hunter2"}',
    "{password: 'hunter2'}",
    "{'password': 'hunter2 whose text was cut",
    "{'password': ['a', {'b': 'hunter2'}], 'name': 'ada'}",
    "{'pin': 1, 'passcode': b'hunter2'}",
    "User(name='ada', password_hash='hunter2')",
    '{"refresh_token": "hunter2"}',
    "os.environ['OPENAI_API_KEY'] = 'hunter2'",
    "`apiKey` = 'hunter2'",
    "client_secret=hunter2;",
    'a quote inside: "password": "a\\"hunter2"',
    "GET /api/storage/upload?token=hunter2&x=1",
    "GET /api/check_admin_key?adminKey=prod%7Chunter2 HTTP/1.1",
    "Authorization: Bearer hunter2",
    "Authorization: Convex prod|hunter2",
    "Authorization: Basic hunter2==",
    "{'authorization': 'Bearer hunter2'}",
    "[(b'authorization', b'Bearer hunter2')]",
    "it says Bearer hunter2hunter2",
    "it says Convex prod|hunter2:eyJ9",
    "Cookie: session=1; sid=hunter2",
    "{'cookie': 'session=1; sid=hunter2'}",
    "[(b'cookie', b'session=1; sid=hunter2')]",
    "https://ada:hunter2@db.example.com/x",
    "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
    "Incorrect API key provided: sk-proj-hunter2-0123456789",
    f"refresh with {REFRESH} now",
    "/api/storage/0f8fad5b-d9cb-469f-a165-70867728950e",
]


@pytest.mark.parametrize("text", SHOWN)
def test_a_text_loses_what_looks_like_a_credential(text: str) -> None:
    clean = redacted(text)
    assert "[redacted]" in clean
    for secret in ("hunter2", "eyJ", REFRESH, "0f8fad5b"):
        assert secret not in clean


@pytest.mark.parametrize(
    "text",
    [
        "InvalidUploadToken: expected the `token` of an upload URL that this deployment has made",
        "InvalidPassword: at least 8 characters",
        "expected this deployment's admin key in `Authorization: Convex KEY`, got none",
        "expected `v.string()` at `.password`, got a `float` that is not shown",
        "Convex clients reconnect, bearer tokens expire, basic things stay",
        "max_tokens=100, tokenizer=fast",
        "http://127.0.0.1:3210/api/storage/upload",
        "messages.send and notes:add",
        "2026-12-01T15:00:00.000Z",
    ],
)
def test_a_text_without_a_credential_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


PIECES = [
    "eyJ",
    "eyJa.",
    "password=",
    "password='",
    'password="',
    "token",
    "://a",
    "authorization:",
    "bearer ",
]
PIECES += ["sk-", "a-", "-----BEGIN PRIVATE KEY-----", "/api/storage/1", " ", "{password:[", "password='\\"]


@pytest.mark.parametrize("piece", PIECES)
def test_redaction_costs_in_proportion_to_the_length(piece: str) -> None:
    def cost_s(text: str) -> float:
        began_s = time.process_time()
        redacted(text)
        return time.process_time() - began_s

    length = 40_000
    plain_s = max(cost_s("a" * length), 0.005)
    # The old expression took 300 times as long for the first of them.
    assert cost_s(piece * (length // len(piece))) < 30 * plain_s


@pytest.mark.parametrize(
    "name", ["password", "newPassword", ".user.password", "api_key", "refreshToken", "pwd"]
)
def test_such_names_are_those_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["name", ".body", "maxTokens", "tokenizer", "key", "passenger", "author"])
def test_such_names_are_not(name: str) -> None:
    assert not is_secret_name(name)


def with_password(ctx: rdb.QueryCtx, name: str, password: str, tags: list[str] | None = None) -> None: ...


def of_a_user(ctx: rdb.QueryCtx, user: rdb.Value, name: str = "") -> None: ...


WRONG: list[tuple[Callable[..., None], object]] = [
    (with_password, {"name": "ada", "password": ["hunter2"]}),
    (with_password, {"name": "ada", "password": {"text": "hunter2"}}),
    (with_password, {"name": "ada", "password": 770077.5}),
    (with_password, {"name": "ada", "password": b"hunter2"}),
    (with_password, {"name": {"password": "hunter2"}, "password": "x"}),
    (with_password, {"name": "ada", "password": "x", "tags": {"token": "hunter2"}}),
    (with_password, ["hunter2"]),
    (with_password, "hunter2"),
    (of_a_user, {"name": {"password": "hunter2"}, "user": 1}),
    (of_a_user, {"name": [{"apiKey": ["hunter2"]}], "user": 1}),
    (of_a_user, {"name": [JWT], "user": 1}),
]


@pytest.mark.parametrize(("handler", "args"), WRONG)
def test_an_argument_of_the_wrong_type_is_not_quoted_where_it_may_be_a_secret(
    handler: Callable[..., None], args: rdb.Value
) -> None:
    with pytest.raises(ValidationError) as caught:
        ArgsValidator.from_signature(handler).parse(args)
    shown = f"{caught.value.message} {caught.value.fields}"
    for secret in ("hunter2", "770077", JWT):
        assert secret not in shown


def test_an_argument_that_is_no_secret_is_quoted_as_ever() -> None:
    with pytest.raises(ValidationError) as caught:
        ArgsValidator.from_signature(with_password).parse({"name": 5.5, "password": "x"})
    assert "got `5.5`" in caught.value.message


@pytest.mark.parametrize(
    "args",
    [
        {"changes": [{"name": "PLAIN", "value": 770077.5}]},
        {"changes": [{"name": "PLAIN", "value": ["hunter2"]}]},
        {"changes": ["hunter2"]},
        {"changes": "hunter2"},
        {"changes": [{"name": ["hunter2"], "value": "x"}]},
        {"changes": [{"name": "PLAIN", "value": "x", "hunter2": 1}]},
        {"hunter2": 1},
    ],
)
def test_the_values_of_variables_are_not_quoted_whatever_their_type(args: rdb.Value) -> None:
    validator = ArgsValidator.from_signature(update_variables.handler)
    with pytest.raises(ValidationError) as caught:
        validator.parse(args)
    shown = f"{caught.value.message} {caught.value.fields}"
    assert "hunter2" not in shown
    assert "770077" not in shown


@pytest.mark.parametrize("body", [{"$bytes": "hunter2!"}, {"$integer": "hunter2!"}, {"$float": ["hunter2!"]}])
def test_a_password_that_is_no_value_is_not_quoted(body: object) -> None:
    with pytest.raises(ValidationError) as caught:
        from_jsonable({"user": {"password": body}})
    assert "hunter2" not in f"{caught.value.message} {caught.value.fields}"


@pytest.mark.parametrize("value", [["hunter2"], {"token": "hunter2"}, 770077])
def test_a_token_of_the_wrong_type_is_not_quoted(value: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_client_message({"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": value})
    assert "hunter2" not in caught.value.message
    assert "770077" not in caught.value.message


def test_what_holds_a_secret_does_not_show_it_in_its_repr() -> None:
    assert "hunter2" not in repr(Authenticate(0, "User", "hunter2", None))
    assert repr(AdminKey.of("hunter2").digest) not in repr(AdminKey.of("hunter2"))


def test_the_secrets_of_an_environment_are_known_by_their_names() -> None:
    environment = {
        "OPENAI_API_KEY": "long enough",
        "DB_PASSWORD": " longer than that \n",
        "API_TOKEN": "short",
        "PWD": "/home/ada/project",
        "HOME": "/home/ada/elsewhere",
    }
    assert secrets_in(environment) == ("longer than that", "long enough")


class _Kept(logging.Handler):
    """What a program's own handler would write."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.mark.parametrize("name", ["reactivedb", "reactivedb.server", "uvicorn.error", "uvicorn.access"])
def test_records_are_redacted_before_a_programs_own_handlers_see_them(name: str) -> None:
    watch_logs()
    logger, kept = logging.getLogger(name), _Kept()
    logger.addHandler(kept)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        logger.info('%s - "%s %s HTTP/%s" %d', "::1", "POST", "/api/storage/upload?token=hunter2", "1.1", 200)
        try:
            raise RuntimeError("password='hunter2'")
        except RuntimeError as error:
            logger.exception("failed with %s", error)
    finally:
        logger.removeHandler(kept)
        logger.setLevel(level)
    assert "hunter2" not in "".join(kept.texts)
    assert "/api/storage/upload?token=[redacted]" in kept.texts[0]
    assert "RuntimeError: password=[redacted]" in kept.texts[1]
