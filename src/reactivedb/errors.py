"""What can go wrong, and who can mend it?

    ReactiveDBError            `code` (stable CamelCase), `message` (one sentence), `fields`
    ├── SchemaError            the program is wrong; raised while declaring, before anything runs
    ├── RequestError           the caller is wrong; code and message go to the client
    │   ├── ApplicationError   raised by user code, carries `data` (Convex: ConvexError)
    │   │   └── InvalidCursorError   a page is asked for with the cursor of another query
    │   ├── ValidationError    argument, document or return value; carries `path`
    │   ├── FunctionNotFoundError
    │   ├── AuthenticationError    the token proves nobody
    │   │   └── AuthProviderError  the provider's keys cannot be had now; the token may be good
    │   └── LimitExceededError names the limit, its value and what was asked
    │       └── ValueLimitError   of a value, so that it is a ValidationError too: carries `path`
    ├── ConflictError          retries used up; names the table, the id and the function that wrote it
    ├── StorageError           closed, corrupt, full, in use by another process
    └── ProtocolError          the peer broke the sync protocol; the connection ends

Every message says what was expected, what came, where, and the way out. Programs match `code` and
`fields`, never the message. Messages and texts among the fields are cut: both may quote a caller.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from .limits import ERROR_TEXT_LENGTH_MAX
from .text import cut


class ReactiveDBError(Exception):
    """The root of every error this library raises on purpose."""

    default_code: ClassVar[str] = "ReactiveDBError"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # A program's own class may have an `__init__` that does not call this one's.
        self = super().__new__(cls, *args, **kwargs)
        self.code = cls.default_code
        self.message = f"`{cls.__name__}` has no message - let its `__init__` call `super().__init__(...)`"
        self.fields = {}
        return self

    def __init__(self, message: str, *, code: str | None = None, **fields: Any) -> None:
        message = cut(message, ERROR_TEXT_LENGTH_MAX)
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.fields: dict[str, Any] = {
            name: cut(value, ERROR_TEXT_LENGTH_MAX) if isinstance(value, str) else value
            for name, value in fields.items()
        }

    def __str__(self) -> str:
        return self.message

    @property
    def wire_text(self) -> str:
        """The text a client is sent: the protocol's word first, then the sentence."""
        return f"{self.code}: {self.message}"


class SchemaError(ReactiveDBError):
    """The program declares something that cannot work."""

    default_code = "SchemaError"


class RequestError(ReactiveDBError):
    """The caller asked for something that cannot be done; it is told code and message, always."""

    default_code = "RequestError"


class ApplicationError(RequestError):
    """Raised by user code to tell the caller something: `data` is any value and reaches it whole."""

    default_code = "ApplicationError"

    def __init__(self, data: Any) -> None:
        text = data if isinstance(data, str) else repr(data)
        super().__init__(text)
        # The application's own words: whole here, and cut where they leave this process (`CallError`).
        self.message = text
        self.data = data

    @property
    def wire_text(self) -> str:
        return f"Uncaught ConvexError: {self.message}"


class InvalidCursorError(ApplicationError):
    """A cursor does not belong to the query it is used with; the pages have to be read from the first on."""

    default_code = "InvalidCursor"

    def __init__(self, message: str) -> None:
        # Convex's hooks look for exactly this, and begin again.
        super().__init__({"isConvexSystemError": True, "paginationError": "InvalidCursor"})
        self.message = message

    @property
    def wire_text(self) -> str:
        return f"{self.code}: {self.message}"


class ValidationError(RequestError):
    """A value does not fit its validator; `path` says where, in the names of the wire."""

    default_code = "ValidationError"
    path = ""

    def __init__(self, message: str, *, code: str | None = None, path: str = "", **fields: Any) -> None:
        super().__init__(message, code=code, path=path, **fields)
        self.path: str = self.fields["path"]


class FunctionNotFoundError(RequestError):
    """No public function answers to that path; an internal one is answered in the same words."""

    default_code = "FunctionNotFound"

    @property
    def wire_text(self) -> str:
        return self.message


class AuthenticationError(RequestError):
    """A user's token is not accepted; `code` says why. The caller gets a new one, or goes on as nobody."""

    default_code = "InvalidToken"


class AuthProviderError(AuthenticationError):
    """The keys of the token's provider cannot be had at the moment: the same token may do later."""

    default_code = "AuthProviderUnavailable"


class LimitExceededError(RequestError):
    """A bound was reached: `limit` names it, `maximum` is its value, `asked` what was wanted."""

    default_code = "LimitExceeded"

    def __init__(
        self, message: str, *, code: str | None = None, limit: str, maximum: float, asked: float | None = None
    ) -> None:
        super().__init__(message, code=code, limit=limit, maximum=maximum, asked=asked)
        self.limit = limit
        self.maximum = maximum
        self.asked = asked


class ValueLimitError(LimitExceededError, ValidationError):
    """A value is larger than values may be; `path` says where."""

    def __init__(
        self, message: str, *, code: str, limit: str, maximum: float, asked: float, path: str = ""
    ) -> None:
        RequestError.__init__(self, message, code=code, limit=limit, maximum=maximum, asked=asked, path=path)
        self.limit = limit
        self.maximum = maximum
        self.asked = asked
        self.path = self.fields["path"]


class ConflictError(ReactiveDBError):
    """Other commits kept touching what this one read, and the retries are used up."""

    default_code = "OptimisticConcurrencyControlFailure"


class StorageError(ReactiveDBError):
    """The database file cannot be used: closed, corrupt, full, read-only, or held by another process."""

    default_code = "StorageError"


class ProtocolError(ReactiveDBError):
    """The peer broke the sync protocol; its connection ends."""

    default_code = "ProtocolError"
