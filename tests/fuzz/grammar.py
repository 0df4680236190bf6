"""What may a client say, and what might it say instead?

`talk` makes a valid session of the sync protocol: versions chain, query ids and request ids count. `garble`
turns such a session into texts of which some are wrong: in the order of messages, in their fields, in their
JSON. Everything comes from the given random numbers, so a session is made again from its seed.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

Message = dict[str, Any]

NAMES = ("a", "b", "c")
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 0.5, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**64, -(2**63) - 1, 1e308, "", "😀" * 50,
    "\0", "\ud800", "A" * 100_000, [], {}, [[]], [None], [{}, {}], {"": 1}, {"$integer": "AAAAAAAAAAA="},
    {"$integer": "!"}, {"$float": "AAAAAAAA+H8="}, {"$bytes": "??"}, {"$no": 1}, {"a\0b": 1}, "AAAAAAAAAAA=",
    "//////////8=", "_system/frontend/tables", "../x:y", "work:", ":", "__class__", "Connect", "Transition",
)  # fmt: skip
# Texts that stand where a value stood, most of them no JSON.
TOKENS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "-",
    "01",
    "1e99999",
    "9" * 5000,
    "nul",
    "'a'",
    "{",
    "]",
    "\\",
    "\ufeff",
)


@dataclass
class Paths:
    """The functions that an application offers, each with arguments that fit it."""

    queries: list[tuple[str, list[Message]]]
    mutations: list[tuple[str, list[Message]]]
    actions: list[tuple[str, list[Message]]]
    admin_key: str = ""


@dataclass
class Talk:
    """A client that keeps to the protocol."""

    rng: Random
    paths: Paths
    messages: list[Message] = field(default_factory=list)
    query_set: int = 0
    identity: int = 0
    next_query: int = 0
    next_request: int = 0
    followed: list[int] = field(default_factory=list)

    def connect(self) -> None:
        hello: Message = {
            "type": "Connect",
            "sessionId": f"{self.rng.getrandbits(128):032x}",
            "connectionCount": self.rng.randrange(3),
            "lastCloseReason": self.rng.choice(["InitialConnect", None, "InactiveServer"]),
            "clientTs": self.rng.randrange(2**41),
        }
        if self.rng.random() < 0.2:
            hello["maxObservedTimestamp"] = self.rng.choice(["AAAAAAAAAAA=", "AQAAAAAAAAA="])
        self.messages.append(hello)

    def call(self, functions: list[tuple[str, list[Message]]]) -> Message:
        path, choices = self.rng.choice(functions)
        return {"udfPath": path, "args": [self.rng.choice(choices)]}

    def authenticate(self) -> None:
        message: Message = {"type": "Authenticate", "baseVersion": self.identity, "tokenType": "None"}
        if self.paths.admin_key and self.rng.random() < 0.5:
            message |= {"tokenType": "Admin", "value": self.paths.admin_key}
            if self.rng.random() < 0.5:
                message["impersonating"] = {"issuer": "i", "subject": self.rng.choice(NAMES)}
        self.identity += 1
        self.messages.append(message)

    def modify(self) -> None:
        changes: list[Message] = []
        for _ in range(self.rng.randrange(4)):
            if self.followed and self.rng.random() < 0.4:
                leaving = self.followed.pop(self.rng.randrange(len(self.followed)))
                changes.append({"type": "Remove", "queryId": leaving})
            else:
                self.followed.append(self.next_query)
                journal = {"journal": None} if self.rng.random() < 0.2 else {}
                added = {
                    "type": "Add",
                    "queryId": self.next_query,
                    **self.call(self.paths.queries),
                    **journal,
                }
                changes.append(added)
                self.next_query += 1
        step = self.rng.choice([1, 1, 1, 5])
        message = {"type": "ModifyQuerySet", "baseVersion": self.query_set, "modifications": changes}
        self.query_set += step
        self.messages.append({**message, "newVersion": self.query_set})

    def request(self, kind: str) -> None:
        functions = self.paths.mutations if kind == "Mutation" else self.paths.actions
        self.messages.append({"type": kind, "requestId": self.next_request, **self.call(functions)})
        self.next_request += 1

    def event(self) -> None:
        kind = self.rng.choice(["ClientConnect", "ClientReceivedTransition", "SomethingNew"])
        self.messages.append({"type": "Event", "eventType": kind, "event": self.rng.choice([None, [], {}])})


def talk(rng: Random, paths: Paths) -> list[Message]:
    """A valid session of up to a dozen messages."""
    made = Talk(rng, paths)
    made.connect()
    for _ in range(rng.randrange(12)):
        match rng.randrange(10):
            case 0:
                made.authenticate()
            case 1 | 2 | 3 | 4:
                made.modify()
            case 5 | 6 | 7:
                made.request("Mutation")
            case 8:
                made.request("Action")
            case _:
                made.event()
    return made.messages


def garble(rng: Random, messages: list[Message]) -> list[str]:
    """The session as texts, with up to four mistakes; every eighth has none."""
    mistakes = rng.choice([0, 1, 1, 1, 2, 2, 3, 4])
    messages = json.loads(json.dumps(messages))
    texts_wrong = 0
    for _ in range(mistakes):
        match rng.randrange(4):
            case 0:
                _misorder(rng, messages)
            case 1 | 2 if messages:
                _misshape(rng, rng.choice(messages))
            case _:
                texts_wrong += 1
    # `surrogatepass` is for the socket to say; here a lone surrogate is a text like others.
    texts = [json.dumps(message, ensure_ascii=rng.random() < 0.5) for message in messages]
    for _ in range(texts_wrong):
        if texts:
            number = rng.randrange(len(texts))
            texts[number] = _miswrite(rng, texts[number])
    return texts


def _misorder(rng: Random, messages: list[Message]) -> None:
    if not messages:
        return
    one, other = rng.randrange(len(messages)), rng.randrange(len(messages))
    match rng.randrange(4):
        case 0:
            del messages[one]
        case 1:
            messages.insert(other, json.loads(json.dumps(messages[one])))
        case 2:
            messages[one], messages[other] = messages[other], messages[one]
        case _:
            del messages[one:]


def _misshape(rng: Random, message: Message) -> None:
    """Change something anywhere in a message."""
    node: Any = message
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.6:
            node = node[key]
            continue
        match rng.randrange(6):
            case 0:
                del node[key]
            case 1:
                node[key] = _deep(rng.choice([10, 70, 900, 5000]))
            case 2 if isinstance(node[key], int):
                node[key] += rng.choice([-1, 1, 2**32, -(2**32)])
            case 3 if isinstance(node, dict):
                node[rng.choice(["componentPath", "extra", "type", "value"])] = copy.deepcopy(
                    rng.choice(VALUES)
                )
            case _:
                node[key] = copy.deepcopy(rng.choice(VALUES))
        return


def _deep(levels: int) -> str:
    """Stands for brackets within brackets, which `json.dumps` could not write: see `_unfold`."""
    return f"@deep{levels}@"


def _miswrite(rng: Random, text: str) -> str:
    """Change something anywhere in a text."""
    place = rng.randrange(len(text) + 1)
    match rng.randrange(6):
        case 0:
            return text[:place]
        case 1:
            return text[:place] + rng.choice(TOKENS) + text[place:]
        case 2:
            end = min(len(text), place + rng.randrange(5))
            return text[:place] + text[end:]
        case 3:
            return text[:place] + chr(rng.choice([0, 9, 0x7F, 0xD800, 0xFFFE, 0x1F600])) + text[place:]
        case 4:
            return text + text
        case _:
            return "".join(rng.sample(text, len(text)))


def unfold(text: str) -> str:
    """Write out what stands for deep nesting."""
    for levels in (10, 70, 900, 5000):
        text = text.replace(f'"{_deep(levels)}"', "[" * levels + "]" * levels)
    return text
