"""What does one connection of a client know, ask and owe?

Sans I/O: client messages go in, server messages come out through a `Transport`, and time is the runtime's.
The session alone advances protocol versions (section b.5): every `Transition` starts where the last one
ended, a mutation's response goes out before any transition that covers it, and after every response and
every change of the query set or the identity a transition is owed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial

from ..app import Caller, CallResult, Pending, Runtime, Work
from ..errors import (
    AuthenticationError,
    AuthProviderError,
    LimitExceededError,
    ProtocolError,
    StorageError,
    ValidationError,
)
from ..functions import Identity, RequestKey, RunResult, request_id_of
from ..limits import KIB
from ..log import Log
from ..user_code import contained
from ..values import decoded_size_bytes, is_light, is_object, loads, outline
from . import messages
from .credentials import Credentials
from .followed import Followed
from .large import read_in_turns
from .messages import Add, Authenticate, Call, Connect, Event, ModifyQuerySet, Remove, Version
from .replay import Replay
from .transport import ClientKind, Transport
from .unread import Unread

# Smaller transitions are sent without asking for room.
_UNPROMISED_BYTES_MAX = 64 * KIB
_SESSION_ID = re.compile(r"[0-9A-Za-z._:-]{1,100}")

_logger = Log("reactivedb.server")


class Session:
    """One connection of one client. Everything happens on the runtime's loop."""

    def __init__(
        self, runtime: Runtime, transport: Transport, *, client: ClientKind, caller: Caller | None = None
    ) -> None:
        self._runtime = runtime
        # Its shares of the server; whoever holds the connection lets it leave.
        self._caller = caller or runtime.admission.unknown()
        self._transport = transport
        self._client = client
        self._session_id: str | None = None
        self._credentials = Credentials(runtime, self)
        self._unread = Unread(self._caller, runtime.limits)
        # What the client has been told, and what it has asked for.
        self._version = Version()
        self._query_set_version = 0
        self._identity_version = 0
        self._followed = Followed(runtime, self._caller, on_change=self._due)
        # The message that is being handled.
        self._frame: str | bytes = b""
        # A large message that is being read, in turns.
        self._work: Work | None = None
        self._owed = False
        self._observed_ts = 0
        self._replay = Replay(self._due)
        self._mutations_pending = 0
        self._actions_running = 0
        self._transition_count = 0
        # Of transitions that wait until what they tell is durable.
        self._promised_bytes = 0
        self._ended = False
        # Since when its queries have not been all true at one moment.
        self._behind_since_s: float | None = None
        self._quiet_since_s = runtime.loop.time()
        self._ping = self._ping_later(runtime.limits.ping_interval_s)
        runtime.report.meters.sockets_opened += 1

    # From the client

    def receive(self, frame: str | bytes) -> Work | None:
        """Take one text message. Never raises and never waits; answers may be sent before it returns.

        What it gives back is still to be done. Who gives it another message before that has ended has it
        set aside, of which there may not be much.
        """
        if self._ended:
            return None
        if self._credentials.is_verifying or self._work is not None:
            self._set_aside(frame)
        else:
            self._read(frame)
        return self._work

    def _read(self, frame: str | bytes) -> None:
        light = is_light(frame)
        if not light and is_object(frame):
            done = partial(self._read_through, frame)
            identity = self._credentials.identity
            self._work = read_in_turns(self._runtime, self._caller, frame, identity, done=done)
            return
        self._runtime.turns.served(self._caller)
        try:
            self._take(loads(frame) if light else outline(frame), frame)
        except ValidationError as error:
            self._fatal(error.wire_text)

    def _read_through(self, frame: str | bytes, tree: object) -> None:
        """A large message was read, or could not be."""
        self._work = None
        try:
            if isinstance(tree, ValidationError):
                self._fatal(tree.wire_text)
            elif not self._ended:
                self._take(tree, frame)
            self._read_on()
        except BaseException as error:
            # As on the direct way: this connection ends and no other.
            contained(error)
            _logger.exception("a message broke its session")
            self._close(1011, "InternalServerError")

    def _take(self, tree: object, frame: str | bytes) -> None:
        self._frame = frame
        try:
            self._handle(messages.parse_client_message(tree))
        except (ProtocolError, ValidationError) as error:
            self._fatal(error.wire_text)
        finally:
            self._frame = b""

    def _set_aside(self, frame: str | bytes) -> None:
        """Who asks for this is not known yet."""
        try:
            self._unread.add(frame)
        except LimitExceededError as error:
            self._close(1013, error.wire_text)
            return
        if self._unread.is_too_much:
            self._refuse("unread_messages_max", "more messages wait for the token to be verified")

    def _read_on(self) -> None:
        """Read what was set aside, up to the next token that takes time."""
        while self._unread and not (self._ended or self._credentials.is_verifying or self._work):
            self._read(self._unread.take())

    def receive_binary(self) -> None:
        """Binary frames are no part of the protocol."""
        if self._ended:
            return
        self._fatal("MalformedMessage: expected a text frame with one JSON object, got a binary frame")

    def writable_again(self) -> None:
        """The peer takes messages again: it gets the newest state."""
        if not self._ended:
            self._runtime.delivery.due(self)

    def closed(self) -> None:
        """The connection is gone; mutations that were received are finished all the same."""
        if not self._ended:
            self._runtime.report.meters.socket_closed("ConnectionLost")
            self._end()

    def _handle(self, message: messages.ClientMessage) -> None:
        if isinstance(message, Connect):
            self._connect(message)
        elif self._session_id is None:
            raise ProtocolError("the first message is `Connect`, got another one", code="NotConnected")
        elif self._credentials.has_expired and not isinstance(message, Authenticate | Event):
            self._credentials.expire()
        else:
            match message:
                case Call(is_action=False):
                    self._mutation(message)
                case Call():
                    self._action(message)
                case ModifyQuerySet():
                    self._modify(message)
                case Authenticate():
                    self._authenticate(message)
                case Event():
                    pass

    def _connect(self, message: Connect) -> None:
        if not _SESSION_ID.fullmatch(message.session_id):
            raise ProtocolError(
                f"`sessionId` is a UUID or another short name, got {message.session_id[:100]!r}",
                code="MalformedMessage",
            )
        if self._session_id is not None:
            raise ProtocolError("`Connect` comes once, got a second one", code="AlreadyConnected")
        self._session_id = message.session_id
        # A client that has seen a later timestamp than ours is held to it: its next transition is not below.
        self._observed_ts = message.max_observed_ts
        if message.is_return:
            self._expect_replay(message)

    def _expect_replay(self, message: Connect) -> None:
        runtime = self._runtime
        # No more than these can have been without an answer when the last connection ended.
        newest = runtime.limits.pending_mutations_max
        try:
            with runtime.engine.lock:
                requests = runtime.engine.storage.requests_after(
                    message.session_id, message.max_observed_ts, newest=newest
                )
        except StorageError:
            return  # Its calls will be told so.
        self._replay.expect(requests, runtime.loop, timeout_s=runtime.limits.replay_s_max)

    def _modify(self, message: ModifyQuerySet) -> None:
        if message.base_version != self._query_set_version or message.new_version <= message.base_version:
            raise ProtocolError(
                f"`baseVersion` is {self._query_set_version} and `newVersion` above it, got "
                f"{message.base_version} and {message.new_version}",
                code="BadQuerySetVersion",
            )
        identity, request_id = self._credentials.identity, self._request_id(0)
        try:
            for change in message.modifications:
                match change:
                    case Add():
                        self._followed.add(change, identity, request_id=request_id)
                    case Remove():
                        self._followed.remove(change)
        except LimitExceededError as error:
            self._close(1013, error.wire_text)
            return
        self._query_set_version = message.new_version
        self._owe()

    def _authenticate(self, message: Authenticate) -> None:
        if message.base_version != self._identity_version:
            raise ProtocolError(
                f"`baseVersion` of `Authenticate` is {self._identity_version}, got {message.base_version}",
                code="BadIdentityVersion",
            )
        self._credentials.show(message)

    # From the credentials (`Owner`)

    def identified(self, identity: Identity) -> None:
        try:
            self._caller.identify(identity)
        except LimitExceededError as error:
            self._close(1013, error.wire_text)
            return
        self._identity_version += 1
        self._followed.identify(identity)
        self._owe()
        self._read_on()

    def refused(self, error: AuthenticationError, *, attempted: bool) -> None:
        if not self._ended:
            text = messages.auth_error(
                error.wire_text, base_version=self._version.identity, attempted=attempted
            )
            self._transport.send((text,))
            self._close(1000, error.code)

    def unverifiable(self, error: AuthProviderError) -> None:
        # An AuthError would make the client forget its user; closed like this, it comes back with them.
        self._close(1013, error.code)

    # Calls

    def _mutation(self, call: Call) -> None:
        if self._mutations_pending >= self._runtime.limits.pending_mutations_max:
            self._refuse("pending_mutations_max", "as many mutations are waiting")
            return
        pending = self._begin(len(self._frame))
        if pending is None:
            return
        self._mutations_pending += 1
        asked = call.without_args()

        def done(result: CallResult) -> None:
            self._mutations_pending -= 1
            pending.end()
            self._respond(asked, result)

        self._start(self._runtime.start_mutation, call, pending, done)

    def _action(self, call: Call) -> None:
        if self._actions_running >= self._runtime.limits.running_actions_max:
            self._refuse("running_actions_max", "as many actions are running")
            return
        # An action has its arguments for as long as it runs, and not as text.
        size_bytes = decoded_size_bytes(self._frame)
        asked = call.without_args()
        if size_bytes > self._runtime.limits.held_size_bytes_per_client_max:
            self._respond(asked, self._too_large(call, size_bytes))
            return
        pending = self._begin(size_bytes)
        if pending is None:
            return
        self._actions_running += 1

        def done(result: CallResult) -> None:
            self._actions_running -= 1
            pending.end()
            self._respond(asked, result)

        self._start(self._runtime.start_action, call, pending, done)

    def _too_large(self, call: Call, size_bytes: int) -> CallResult:
        """What is told of an action whose arguments a connection can never hold."""
        maximum = self._runtime.limits.held_size_bytes_per_client_max
        error = LimitExceededError(
            f"`held_size_bytes_per_client_max` is {maximum} bytes of memory, the arguments of `{call.path}` "
            f"would take about {size_bytes} - pass less, or store the data as a file and pass its id",
            code="ArgumentsTooLarge",
            limit="held_size_bytes_per_client_max",
            maximum=maximum,
            asked=size_bytes,
        )
        result = RunResult(0, error=error)
        return self._runtime.answer(result, self._credentials.identity, self._request_id(call.request_id))

    def _begin(self, size_bytes: int) -> Pending | None:
        """Have a request that takes so much counted; None: it is refused, the connection closed."""
        try:
            return self._caller.begin(size_bytes)
        except LimitExceededError as error:
            self._close(1013, error.wire_text)
            return None

    def _start(
        self, start: Callable[..., None], call: Call, pending: Pending, done: Callable[[CallResult], None]
    ) -> None:
        assert self._session_id is not None
        key = RequestKey(self._session_id, call.request_id)
        try:
            start(call.path, call.args, self._credentials.identity, key=key, done=done)
        except BaseException:
            # Nobody will call `done`: what goes wrong here ends the connection.
            pending.end()
            raise

    def _respond(self, call: Call, result: CallResult) -> None:
        if self._ended:
            return
        if result.outcome_unknown:
            # Its client sends it again to the restarted server, where the recorded outcome answers.
            self._close(1013, "OutcomeUnknown")
            return
        self._send(
            messages.response(
                call, value=result.value, error=result.error, log_lines=result.log_lines, ts=result.ts
            )
        )
        self._owe()
        self._replay.answered(call.request_id)

    # Transitions

    def _due(self) -> None:
        self._runtime.delivery.due(self)

    def _owe(self) -> None:
        self._owed = True
        self._runtime.delivery.due(self)

    def prepare(self, ts: int) -> Callable[[StorageError | None], None] | None:
        """Take what the client does not know of the state at `ts` (see `app.Subscriber`)."""
        if self._ended or not self._transport.writable or self._replay.is_awaited:
            return None
        if self._credentials.has_expired:
            if not self._credentials.is_verifying:
                # Not from here: others are in the middle of being served.
                self._runtime.loop.call_soon(self._credentials.expire)
            return None
        if not self._followed.is_current:
            self._fall_behind()
            return None
        self._behind_since_s = None
        promised_bytes = self._promise()
        if promised_bytes is None:
            return None
        news = self._followed.take_news()
        if not news.changes and not self._owed:
            self._keep_promise(promised_bytes)
            return None
        self._owed = False
        query_set_version, identity_version = self._query_set_version, self._identity_version

        def publish(error: StorageError | None) -> None:
            if self._ended:
                return
            if promised_bytes:
                self._keep_promise(promised_bytes)
            if error is not None:
                self._followed.take_back(news)
                self._owe()
                return
            end_ts = max(ts, self._version.ts, self._observed_ts)
            end = Version(query_set_version, identity_version, end_ts)
            self._send_transition(messages.transition(self._version, end, news.changes, news.removed))
            self._version = end

        return publish

    def _promise(self) -> int | None:
        """Have room for the next transition held; None: there is none, its client is told later."""
        size_bytes = self._followed.news_size_bytes()
        if size_bytes <= _UNPROMISED_BYTES_MAX:
            return 0
        if self._client is ClientKind.CHUNKS and size_bytes > self._runtime.limits.chunk_size_bytes:
            size_bytes = self._followed.news_size_bytes(messages.chunked_size_bytes)
        if not self._runtime.relief.promise(self._caller, size_bytes, self._due):
            return None
        self._promised_bytes += size_bytes
        return size_bytes

    def _keep_promise(self, size_bytes: int) -> None:
        """What is sent is counted by the transport from now on."""
        if size_bytes:
            self._promised_bytes -= size_bytes
            self._runtime.relief.sent(self._caller, size_bytes)

    def _fall_behind(self) -> None:
        """There was no time for all of its queries; the rest of them has the next turns."""
        runtime = self._runtime
        now_s = runtime.loop.time()
        if self._behind_since_s is None:
            self._behind_since_s = now_s
        if now_s - self._behind_since_s <= runtime.limits.behind_s_max:
            runtime.delivery.due(self)
            return
        # Not from here: others are in the middle of being served.
        why = "its queries take longer"
        runtime.loop.call_soon(self._refuse, "behind_s_max", why, "SubscriptionsWorkerFullError")

    def _send_transition(self, parts: list[bytes]) -> None:
        chunk_size = self._runtime.limits.chunk_size_bytes
        if self._client is ClientKind.WHOLE or sum(map(len, parts)) <= chunk_size:
            self._send(parts)
            return
        self._transition_count += 1
        for chunk in messages.chunks(b"".join(parts), chunk_size, str(self._transition_count)):
            self._send((chunk,))

    # Sending and the end

    def _send(self, parts: Sequence[bytes]) -> None:
        self._transport.send(parts)
        self._quiet_since_s = self._runtime.loop.time()

    def _ping_later(self, delay_s: float) -> asyncio.TimerHandle:
        return self._runtime.loop.call_later(delay_s, self._send_ping)

    def _send_ping(self) -> None:
        # One timer that looks back, not one that is moved by every message.
        interval_s = self._runtime.limits.ping_interval_s
        if self._session_id is None:
            self._close(1000, "NotConnected")
            return
        quiet_s = self._runtime.loop.time() - self._quiet_since_s
        if quiet_s >= interval_s:
            self._send(messages.PING)
            quiet_s = 0.0
        self._ping = self._ping_later(interval_s - quiet_s)

    def _request_id(self, request_id: int) -> str:
        return request_id_of(self._session_id or "", request_id)

    def _refuse(self, limit: str, why: str, word: str = "TooManyConcurrentRequests") -> None:
        """Close, because a bound of this one connection is reached; its client comes back later."""
        if not self._ended:
            self._close(1013, self._runtime.admission.over(limit, why, word).wire_text)

    def _fatal(self, text: str) -> None:
        if self._ended:
            return
        self._transport.send((messages.fatal_error(text),))
        self._close(1000, text.partition(":")[0])

    def _close(self, code: int, reason: str) -> None:
        if self._ended:
            return
        self._runtime.report.meters.socket_closed(reason)
        self._transport.close(code, reason)
        self._end()

    def _end(self) -> None:
        self._ended = True
        if self._work is not None:
            self._work.cancel()
        self._ping.cancel()
        self._credentials.close()
        self._replay.close()
        self._unread.clear()
        self._keep_promise(self._promised_bytes)
        self._runtime.relief.forget(self._caller)
        self._followed.clear()
