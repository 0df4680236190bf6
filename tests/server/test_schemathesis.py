"""Does every operation of the OpenAPI document keep to it, whatever is sent, while others are served?

Schemathesis makes requests from the document, good ones and bad ones, for a real server with a function of
each kind. CI runs the same few each time; `REACTIVEDB_LONG=1` runs many, from the seed that it prints
(`REACTIVEDB_SEED` repeats one).
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import jsonschema
import psutil
import pytest
import requests
import schemathesis
from clients.server import DevServer
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from websockets.sync.client import connect

from reactivedb.limits import MIB
from reactivedb.schema import ID_FORMAT

pytestmark = pytest.mark.slow

KINDS = Path(__file__).parent.parent / "apps" / "kinds"
LONG = os.environ.get("REACTIVEDB_LONG") == "1"
EXAMPLES = 400 if LONG else 12
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
# A number that no float holds is rounded to one that it does, which may be within the bounds again.
EXACT_MAX = 2**53


class KindsServer(DevServer):
    @property
    def resident_bytes(self) -> int:
        assert self.process is not None
        return psutil.Process(self.process.pid).memory_info().rss

    def beat(self, number: int) -> None:
        body = {"path": "things:beat", "args": {"number": number}}
        headers = {"Authorization": f"Convex {self.admin_key}"}
        answer = httpx.post(f"{self.url}/api/function", json=body, headers=headers, timeout=30)
        assert answer.json()["status"] == "success", answer.text


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KindsServer]:
    running = KindsServer(tmp_path / "data", app=KINDS)
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()
    print(running.log)


class Bystander:
    """A client that follows a query all the while, and notes how long each update takes to come."""

    def __init__(self, server: KindsServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self.latencies_s: list[float] = []
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)
        assert self.failure is None, self.failure
        assert not self._thread.is_alive()

    def _follow(self) -> None:
        try:
            with connect(f"ws://127.0.0.1:{self._server.port}/api/1.48.0/sync") as socket:
                socket.send(json.dumps({"type": "Connect", "sessionId": "bystander", "connectionCount": 0}))
                add = {"type": "Add", "queryId": 0, "udfPath": "things:lastBeat", "args": [{}]}
                change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
                socket.send(json.dumps(change))
                number = 0
                while not self._stop.is_set():
                    number += 1
                    began_s = time.monotonic()
                    self._server.beat(number)
                    while self._value_of(socket.recv(timeout=30)) != number:
                        pass
                    self.latencies_s.append(time.monotonic() - began_s)
                    self._stop.wait(0.05)
        except BaseException as error:
            self.failure = error

    @staticmethod
    def _value_of(message: str | bytes) -> object:
        update = json.loads(message)
        assert update["type"] in ("Transition", "Ping"), update
        return next((change.get("value") for change in update.get("modifications", ())), None)


def settings(seed: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As many examples as the mode has, the same each time unless it is the long one."""
    bounded = hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # A request that fails is small enough as it is, and each further one goes over the network.
        phases=[Phase.generate],
    )
    return lambda test: bounded(hypothesis.seed(seed)(test) if LONG else test)


def has_inexact_number(value: object) -> bool:
    match value:
        case bool():
            return False
        case int() | float():
            return abs(value) > EXACT_MAX
        case list():
            return any(map(has_inexact_number, value))
        case dict():
            return any(map(has_inexact_number, value.values()))
        case _:
            return False


def only_names_no_format(validator: jsonschema.Draft202012Validator, body: Any) -> bool:
    """A null is taken for a format that is left out, which the document does not offer."""
    if not isinstance(body, dict) or body.get("format", "") is not None:
        return False
    return validator.is_valid({name: item for name, item in body.items() if name != "format"})


def body_validator(document: dict[str, Any], path: str) -> jsonschema.Draft202012Validator:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


def test_no_request_made_from_the_document_breaks_the_server_or_disturbs_anybody(server: KindsServer) -> None:
    seed = int(os.environ.get("REACTIVEDB_SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}" if LONG else "derandomized")
    document = httpx.get(f"{server.url}/api/openapi.json").json()
    thing = {"label": "seed", "weight": 1, "count": {"$integer": "BQAAAAAAAAA="}}
    ids = [server.mutation("things:addThing", **thing) for _ in range(3)]
    schemathesis.openapi.format(ID_FORMAT, st.sampled_from(ids))
    schema = schemathesis.openapi.from_dict(document)
    operations = [
        found.ok() for found in schema.get_all_operations() if found.ok().path.startswith("/api/run/")
    ]
    assert len(operations) == len([path for path in document["paths"] if path.startswith("/api/run/")])

    counts: Counter[str] = Counter()
    session = requests.Session()
    resident_before = server.resident_bytes

    def attack(operation: Any, mode: schemathesis.GenerationMode) -> None:
        validator = body_validator(document, operation.path)

        @settings(seed)
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: schemathesis.Case) -> None:
            response = case.call(base_url=server.url, session=session, timeout=30)
            case.validate_response(response, checks=CHECKS)
            counts[f"{mode.value} {response.status_code}"] += 1
            told = response.json()
            refused = response.status_code != 200 or told.get("errorMessage", "").startswith(
                ("ArgumentValidationError", "ValidationError")
            )
            if response.status_code == 401:
                return  # It is about the header.
            # What the document allows is taken, and what it does not is named as wrong.
            is_valid = validator.is_valid(case.body)
            if is_valid:
                assert not refused, (case.body, told)
            elif not has_inexact_number(case.body) and not only_names_no_format(validator, case.body):
                assert response.status_code != 200 or told["status"] == "error", (case.body, told)

        send()

    with Bystander(server) as bystander:
        for operation in operations:
            for mode in MODES:
                attack(operation, mode)

    grown = server.resident_bytes - resident_before
    slowest_s = max(bystander.latencies_s)
    print(
        f"{sum(counts.values())} requests to {len(operations)} operations: {dict(sorted(counts.items()))}; "
        f"{len(bystander.latencies_s)} updates meanwhile, the slowest {slowest_s * 1000:.0f} ms; "
        f"{grown / MIB:.1f} MiB more resident"
    )
    assert sum(counts.values()) > len(operations) * EXAMPLES
    assert any(kind.startswith("positive 200") for kind in counts)
    assert any(kind.startswith("negative 4") for kind in counts)
    assert len(bystander.latencies_s) >= 3
    assert slowest_s < 20
    assert grown < 64 * MIB
    assert server.stop() == 0
    assert "Traceback" not in server.log
    assert "Exception" not in server.log
