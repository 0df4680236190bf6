"""h.53-h.62, h.104: who is a client, and how long? Real tokens, of the test's own identity provider."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from reactivedb.auth.signing import SigningKey
from reactivedb.testing import LocalIdentityProvider

from .conftest import JsRun, StartsScript, running_server
from .probe import Probe, add, probe
from .server import APPS, DevServer


@pytest.fixture(scope="module")
def provider() -> Iterator[LocalIdentityProvider]:
    with LocalIdentityProvider(algorithm="RS256") as running:
        yield running


@pytest.fixture(scope="module")
def members(provider: LocalIdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """One server for the module: it asks for the provider's keys once."""
    data = tmp_path_factory.mktemp("members") / "data"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("REACTIVEDB_TEST_ISSUER", provider.issuer)
        with running_server(data, app=APPS / "members") as running:
            yield running


@pytest.fixture
def server(members: DevServer) -> DevServer:
    return members


def bad_tokens(provider: LocalIdentityProvider) -> dict[str, str]:
    forger = SigningKey.generate(provider.key.key_id, "RS256")
    return {
        "signature": forger.sign(provider.payload("ada")),
        "audience": provider.token("ada", aud="other"),
        "expired": provider.token("ada", expires_in_s=-60),
        "unknown key": provider.token("ada", header={"kid": "other"}),
    }


def test_h53_a_valid_token_signs_in(js: JsRun, provider: LocalIdentityProvider) -> None:
    tokens = [provider.token("ada", name="Ada", role="admin") for _ in range(2)]
    js("auth", "signIn", tokens=tokens, issuer=provider.issuer)


@pytest.mark.parametrize("kind", ["signature", "audience", "expired"])
def test_h54_after_a_bad_token_the_client_goes_on_anonymously(
    js: JsRun, provider: LocalIdentityProvider, kind: str
) -> None:
    js("auth", "refused", tokens=[bad_tokens(provider)[kind] for _ in range(3)])


def test_h55_a_bad_token_and_then_a_good_one_sign_in_once(js: JsRun, provider: LocalIdentityProvider) -> None:
    tokens = [bad_tokens(provider)["expired"], provider.token("ada")]
    js("auth", "secondTokenGood", tokens=tokens, issuer=provider.issuer)


def test_h56_a_token_of_15_seconds_is_refreshed_before_it_expires(
    node: StartsScript, server: DevServer, provider: LocalIdentityProvider
) -> None:
    before = server.query("who:lineCount")
    script = node("auth", "refreshed", server.url, issuer=provider.issuer, before=before)
    for _ in range(3):
        script.hear("token")
        script.tell(provider.token("ada", expires_in_s=15))
    script.hear("done")
    script.finish()


def test_h57_signing_out_runs_the_queries_as_nobody(js: JsRun, provider: LocalIdentityProvider) -> None:
    js("auth", "signOut", tokens=[provider.token("ada")], issuer=provider.issuer)


def test_h57_a_token_that_is_not_given_again_signs_out(js: JsRun, provider: LocalIdentityProvider) -> None:
    js("auth", "tokenTakenAway", token=provider.token("ada"), issuer=provider.issuer)


def authenticate(opened: Probe, base: int, token: str | None) -> None:
    shown = {"tokenType": "None"} if token is None else {"tokenType": "User", "value": token}
    opened.send({"type": "Authenticate", "baseVersion": base, **shown})


def test_h58_a_change_of_identity_runs_every_query_in_one_transition(
    server: DevServer, provider: LocalIdentityProvider
) -> None:
    with probe(server.url) as wire:
        wire.modify(add(0, "who:amI"), add(1, "who:profile"), add(2, "who:lineCount"))
        wire.until("Transition")
        for base, subject in enumerate(["ada", "bob", None]):
            authenticate(wire, base, subject and provider.token(subject))
            changed = wire.until("Transition")
            assert changed["endVersion"]["identity"] == base + 1
            # The third one looks at nobody, so nothing of it can change.
            assert {change["queryId"] for change in changed["modifications"]} == {0, 1}
            assert wire.results[0] == (subject and f"{provider.issuer}|{subject}")
            assert (wire.results[1] or {}).get("subject") == subject


def test_h58_the_same_user_again_changes_nothing(server: DevServer, provider: LocalIdentityProvider) -> None:
    with probe(server.url) as wire:
        authenticate(wire, 0, provider.token("ada"))
        wire.modify(add(0, "who:amI"))
        while wire.version["querySet"] < 1:
            wire.until("Transition")
        authenticate(wire, 1, provider.token("ada", expires_in_s=99))
        changed = wire.until("Transition")
        assert (changed["endVersion"]["identity"], changed["modifications"]) == (2, [])


def test_a_token_that_expires_closes_the_socket(server: DevServer, provider: LocalIdentityProvider) -> None:
    with probe(server.url) as wire:
        # Five seconds of leeway: this one has a tenth left.
        authenticate(wire, 0, provider.token("ada", expires_in_s=-3.9))
        wire.modify(add(0, "who:amI"))
        error = wire.until("AuthError")
        assert (error["baseVersion"], error["authUpdateAttempted"]) == (1, False)
        assert wire.until_closed() == ([], 1000)


@pytest.mark.parametrize("kind", ["signature", "audience", "expired"])
def test_h54_the_wire_of_a_bad_token(server: DevServer, provider: LocalIdentityProvider, kind: str) -> None:
    with probe(server.url) as wire:
        authenticate(wire, 0, bad_tokens(provider)[kind])
        error = wire.until("AuthError")
        assert (error["baseVersion"], error["authUpdateAttempted"]) == (0, True)
        assert wire.until_closed() == ([], 1000)


def test_h59_http_with_npms_client(js: JsRun, provider: LocalIdentityProvider) -> None:
    bad = bad_tokens(provider)
    refused = [bad[kind] for kind in ("signature", "audience", "expired")]
    js("auth", "http", good=provider.token("ada"), bad=refused, issuer=provider.issuer)


def test_h59_a_bad_token_is_401_and_none_is_nobody(
    server: DevServer, provider: LocalIdentityProvider
) -> None:
    for kind in ("signature", "audience", "expired"):
        for route in ("query", "mutation", "action", "query_batch", "query_at_ts", "run/who/amI"):
            answer = httpx.post(
                f"{server.url}/api/{route}",
                json={"path": "who:amI", "args": {}},
                headers={"Authorization": f"Bearer {bad_tokens(provider)[kind]}"},
            )
            assert answer.status_code == 401
            assert {"code", "message"} <= set(answer.json())
    assert server.query("who:amI") is None


def test_h53_h59_pypis_clients(py: JsRun, provider: LocalIdentityProvider) -> None:
    bad = bad_tokens(provider)
    refused = [bad["audience"], bad["expired"]]
    py("auth", "http", good=provider.token("ada"), bad=refused, issuer=provider.issuer)


@pytest.mark.parametrize("case", ["sign_in_and_out", "iterated", "async_iterated", "http_cleared"])
def test_h104_pypi_follows_its_user(py: JsRun, provider: LocalIdentityProvider, case: str) -> None:
    py("auth", case, good=provider.token("ada"), issuer=provider.issuer)


def test_h104_pypi_with_the_admin_key(py: JsRun, server: DevServer) -> None:
    py("auth", "admin", key=server.admin_key)


def test_h60_the_admin_key_opens_internal_functions_and_another_one_nothing(
    js: JsRun, server: DevServer
) -> None:
    js("auth", "admin", key=server.admin_key)
    for route in ("query", "function", "run/who/hidden"):
        answer = httpx.post(
            f"{server.url}/api/{route}",
            json={"path": "who:hidden", "args": {}},
            headers={"Authorization": "Convex wrong|key"},
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "BadDeployKey")


def test_h61_an_administrator_acts_as_a_user(js: JsRun, server: DevServer) -> None:
    js("auth", "actingAs", key=server.admin_key)
    user = {"tokenIdentifier": "https://elsewhere|cleo"}
    acting = base64.b64encode(json.dumps(user).encode()).decode()
    answer = httpx.post(
        f"{server.url}/api/query",
        json={"path": "who:amI", "args": {}},
        headers={"Authorization": f"convex {server.admin_key}:{acting}"},
    )
    assert answer.json()["value"] == "https://elsewhere|cleo"


def test_h62_a_user_is_told_of_an_internal_function_what_is_told_of_a_missing_one(
    server: DevServer, provider: LocalIdentityProvider
) -> None:
    headers = {"Authorization": f"Bearer {provider.token('ada')}"}

    def told(path: str, name: str) -> Any:
        answers: list[Any] = []
        for kind in ("query", "mutation", "action"):
            body = {"path": path, "args": {}}
            answer = httpx.post(f"{server.url}/api/{kind}", json=body, headers=headers)
            # The id of a request is its own.
            text = answer.json()["errorMessage"].split("] ", 1)[-1].replace(name, "NAME")
            answers.append((answer.status_code, sorted(answer.json()), text))
        return answers

    assert told("who:hidden", "hidden") == told("who:absent", "absent")
    assert told("who.js:hidden", "hidden") == told("who.js:absent", "absent")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_of_the_server_signs_nobody_out(
    node: StartsScript, server: DevServer, provider: LocalIdentityProvider, end: str
) -> None:
    token = provider.token("ada")
    script = node("auth", "acrossRestart", server.url, tokens=[token], issuer=provider.issuer)
    script.hear("watching")
    getattr(server, end)()
    server.start()
    # The server knows no keys yet, so what follows the token waits for them.
    script.tell("restarted")
    script.finish()
