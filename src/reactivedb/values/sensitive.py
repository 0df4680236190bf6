"""What is secret, and how is it kept out of errors and logs?

Three rules. What stands under a name such as `password`, `token` or `apiKey` is never quoted, whatever its
type (`hides`, `unshown`). Texts that are shown to people lose what looks like a credential (`redacted`): JSON
Web Tokens, refresh tokens, the values behind such names, in headers and in query strings, private keys, and
the addresses of files. And the records of our loggers go through `redacted` before any handler sees them
(`watch_logs`), since they may quote an exception.

Every expression is linear in the length of the text: repetitions are bounded, or begin behind what they
cannot contain.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

BLANK: Final = "[redacted]"

# Parts of names; `tokens` and `tokenizer` are about the words of a text.
_SECRET: Final = (
    r"(?:pass[_-]?(?:word|phrase|code|wd)|passwd|pwd|secret|credential|token(?![si])|authorization|cookie"
    r"|(?:api|admin|private|access|secret|signing|encryption)[_-]?key)"
)
# One of them is in every such name. Looked for first: searching an expression costs a hundred times as much,
# and a union whose branches fail in turn makes an error for each.
_STEMS: Final = ("pass", "pwd", "secret", "credential", "token", "authoriz", "cookie", "key")
_SECRET_NAME: Final = re.compile(_SECRET, re.IGNORECASE)
_SECRET_FIELD: Final = re.compile(_SECRET + r"\w{0,40}[\"'`]?\s{0,4}:", re.IGNORECASE)

# Text in quotes, also when it was cut; a container, of which the rest of the line goes; a word.
_QUOTED: Final = r"(?:\"(?:[^\"\\]|\\.){0,9999}(?:\"|\Z)|'(?:[^'\\]|\\.){0,9999}(?:'|\Z))"
_VALUE: Final = rf"(?:b?{_QUOTED}|[\[{{(][^\n]{{0,9999}}|[^\s\"'`,;&)\]}}]{{1,9999}})"
# `password='x'`, `"password": 5`, `?token=x`, `{password: "x"}`; but no code as in `InvalidToken: expected`.
_ASSIGNED: Final = re.compile(
    rf"({_SECRET}\w{{0,40}}(?:[\"'`]\]?\s{{0,4}}[:=]{{1,2}}|\s{{0,2}}=)\s{{0,4}}){_VALUE}"
    rf"|({_SECRET}\w{{0,40}}\s{{0,2}}:\s{{0,4}}){_QUOTED}",
    re.IGNORECASE,
)
_AUTHORIZATION: Final = re.compile(
    r"(authorization[\"'`]?\s{0,4}[:=,]\s{0,4}b?[\"']?(?:[a-z]{1,20}\s{1,4})?+)[^\s\"'`,]{4,9999}"
    # Elsewhere a scheme is a word like others: what follows is a credential if it has a digit.
    r"|(\b(?:bearer|basic|convex)\s{1,4})(?=[^\s\"'`,\d]{0,200}\d)[^\s\"'`,]{8,9999}",
    re.IGNORECASE,
)
_COOKIE: Final = re.compile(r"(cookie[\"'`]?\s{0,4}[:=,]\s{0,4}b?[\"']?)[^\"'`\n]{1,9999}", re.IGNORECASE)
_USER_OF_URL: Final = re.compile(r"(://)[^/\s@\"'`]{1,300}@")
_FILE_ADDRESS: Final = re.compile(r"(/api/storage/)[0-9a-f-]{8,36}", re.IGNORECASE)
_PRIVATE_KEY: Final = re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]{0,9999}")
# Of this library's own sessions, and the keys of well-known services.
_KNOWN_KINDS: Final = re.compile(
    r"()(?<![\w-])(?:[\w-]{22}\.[\w-]{43}(?![\w-])|(?:sk|pk|rk|ghp|gho|xox[a-z])[-_][\w-]{16,9999})"
)
_KNOWN_LENGTH_MIN: Final = 19
# Each with what is in every text that it finds something in.
_BY_HINT: Final = (
    (("private key-",), _PRIVATE_KEY),
    (("authorization", "bearer", "basic", "convex"), _AUTHORIZATION),
    (("cookie",), _COOKIE),
    (_STEMS, _ASSIGNED),
    (("://",), _USER_OF_URL),
    (("/api/storage/",), _FILE_ADDRESS),
)
_WORDS: Final = re.compile(r"[\w.-]+")
_JWT: Final = "eyJ"
# `{"alg":""}` is the shortest header; alone, a piece is long enough to be no word.
_JWT_HEADER_LENGTH_MIN: Final = 8
_JWT_PIECE_LENGTH_MIN: Final = 24
# Short values of variables are words that other texts have too.
_VARIABLE_LENGTH_MIN: Final = 8
_FOLDERS: Final = ("PWD", "OLDPWD")
# More than an error quotes of a value.
LOOKED_AT_MAX: Final = 1_000


def is_secret_name(name: str) -> bool:
    """Whether what has this name, or lies at this path, may be a secret."""
    return _has_stem(name) and _SECRET_NAME.search(name) is not None


def hides(path: str, expected: str) -> bool:
    """Whether a value that does not fit there may be a secret, or hold one."""
    return is_secret_name(path) or (_has_stem(expected) and _SECRET_FIELD.search(expected) is not None)


def unshown(value: object) -> str:
    """What an error says instead of a value."""
    return f"a `{type(value).__name__}` that is not shown"


def quoted(text: str, *, length_max: int) -> str:
    """The beginning of a value's text for an error, in backticks and without credentials."""
    text = redacted(text[:LOOKED_AT_MAX])
    return f"`{text}`" if len(text) <= length_max else f"`{text[: length_max - 4]}...`"


def redacted(text: str) -> str:
    """`text` without what looks like a credential."""
    if _JWT in text:
        text = _WORDS.sub(_without_tokens, text)
    lower = text.lower()
    for hints, pattern in _BY_HINT:
        for hint in hints:
            if hint in lower:
                text = pattern.sub(_blanked, text)
                break
    return _KNOWN_KINDS.sub(_blanked, text) if len(text) >= _KNOWN_LENGTH_MIN else text


def secrets_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the variables that are named as secrets are, the longest first."""
    values = {
        value.strip()
        for name, value in environment.items()
        if is_secret_name(name) and name not in _FOLDERS and len(value.strip()) >= _VARIABLE_LENGTH_MIN
    }
    return tuple(sorted(values, key=len, reverse=True))


class _Redaction(logging.Filter):
    """Redacts a record's text and traceback; the arguments of a server's access log stay apart."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text and (clean := redacted(record.exc_text)) != record.exc_text:
            # Some handlers format the exception themselves; one without a secret is left to them.
            record.exc_text, record.exc_info = clean, None
        if record.name == "uvicorn.access" and isinstance(record.args, tuple):
            # Its formatter takes them one by one; the status is a number.
            record.args = tuple(arg if isinstance(arg, int) else redacted(str(arg)) for arg in record.args)
        else:
            record.msg, record.args = redacted(record.getMessage()), ()
        return True


_redaction: Final = _Redaction()
_LOGGERS: Final = (
    "reactivedb",
    "reactivedb.server",
    "reactivedb.app.schema_work",
    "uvicorn.error",
    "uvicorn.access",
)


def watch_logs() -> None:
    """Redact what our loggers, and those of the server around us, write. Harmless to call again."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redaction)


def _has_stem(text: str) -> bool:
    lower = text.lower()
    return any(stem in lower for stem in _STEMS)


def _blanked(found: re.Match[str]) -> str:
    return next((group for group in found.groups() if group is not None), "") + BLANK


def _without_tokens(found: re.Match[str]) -> str:
    """A run of letters, digits, `_`, `-` and `.` without the JSON Web Tokens in it, whole or cut."""
    pieces = found[0].split(".")
    for place, piece in enumerate(pieces):
        start = piece.find(_JWT)
        length = len(piece) - start if start >= 0 else 0
        goes_on = place + 1 < len(pieces) and pieces[place + 1] != ""
        if length >= _JWT_PIECE_LENGTH_MIN or (length >= _JWT_HEADER_LENGTH_MIN and goes_on):
            # What follows belongs to it: an encrypted token has five parts.
            return ".".join([*pieces[:place], piece[:start] + BLANK])
    return found[0]
