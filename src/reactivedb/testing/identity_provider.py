"""How does a test get users with real tokens?

A `LocalIdentityProvider` is an identity provider on this machine: it serves discovery and its public keys
at 127.0.0.1, in a thread, and signs tokens for whoever holds the object.

with LocalIdentityProvider() as provider:
    app = rdb.App(chat, auth=[provider.oidc()])
    token = provider.token("ada", name="Ada")
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from ..auth import CustomJwtProvider, OidcProvider
from ..auth.providers import Algorithm
from ..auth.signing import SigningKey
from ..clock import Clock, SystemClock
from ..values import dumps

_DISCOVERY = "/.well-known/openid-configuration"
_KEYS = "/keys"


class LocalIdentityProvider:
    """An identity provider with real keys. Use it in a `with` block, or `close` it."""

    def __init__(
        self,
        *,
        application_id: str = "app",
        algorithm: Algorithm = "EdDSA",
        clock: Clock | None = None,
    ) -> None:
        self.application_id = application_id
        self.algorithm: Algorithm = algorithm
        self.keys: list[SigningKey] = []
        # What was asked for, by path.
        self.request_counts: Counter[str] = Counter()
        # Sent with the keys, as `Cache-Control: max-age`, unless None.
        self.max_age_s: int | None = None
        # While true every request is answered with status 503.
        self.is_failing = False
        self._clock = clock or SystemClock()
        self._key_count = 0
        self.rotate()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._answer))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; tokens can still be signed."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def jwks_url(self) -> str:
        return self.issuer + _KEYS

    @property
    def key(self) -> SigningKey:
        """The one that signs."""
        return self.keys[0]

    def oidc(self, *, allow_private: bool = False) -> OidcProvider:
        """Its declaration, for `App(auth=[...])`."""
        return OidcProvider(self.issuer, self.application_id, allow_private=allow_private)

    def custom_jwt(self, *, allow_private: bool = False) -> CustomJwtProvider:
        """The same as a custom provider."""
        return CustomJwtProvider(
            issuer=self.issuer,
            jwks=self.jwks_url,
            algorithm=self.algorithm,
            application_id=self.application_id,
            allow_private=allow_private,
        )

    def rotate(self, *, keep: bool = False) -> None:
        """Sign with a new key from now on; the keys before are published on only if `keep`."""
        self._key_count += 1
        key = SigningKey.generate(f"key-{self._key_count}", self.algorithm)
        self.keys = [key, *(self.keys if keep else [])]

    def payload(self, subject: str, *, expires_in_s: float = 3600.0, **claims: Any) -> dict[str, Any]:
        """The claims of a token; each can be given another value, or None to be left out."""
        now_s = self._clock.now_ns() // 1_000_000_000
        payload: dict[str, Any] = {
            "iss": self.issuer,
            "sub": subject,
            "aud": self.application_id,
            "iat": now_s,
            "exp": now_s + expires_in_s,
            # Two tokens of one second are two tokens.
            "jti": str(time.monotonic_ns()),
            **claims,
        }
        return {name: value for name, value in payload.items() if value is not None}

    def token(
        self,
        subject: str,
        *,
        expires_in_s: float = 3600.0,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A signed token."""
        return self.key.sign(self.payload(subject, expires_in_s=expires_in_s, **claims), header=header)

    def _answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        self.request_counts[path] += 1
        if self.is_failing:
            return 503, b"", {}
        if path == _DISCOVERY:
            return 200, dumps({"issuer": self.issuer, "jwks_uri": self.jwks_url}), {}
        if path == _KEYS:
            headers = {} if self.max_age_s is None else {"Cache-Control": f"public, max-age={self.max_age_s}"}
            return 200, dumps({"keys": [key.published() for key in self.keys]}), headers
        return 404, b"", {}


def _handler(
    answer: Callable[[str], tuple[int, bytes, dict[str, str]]],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read `request_counts` instead."""

    return Handler
