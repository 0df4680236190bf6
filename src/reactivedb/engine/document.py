"""What does the engine know of one stored document, and which of them does it keep decoded?

A `StoredDocument` is one version and never changes: text, fields, Python object and index keys are
worked out when first asked for. The cache holds the newest version of a document or nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import KeysView
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from ..errors import StorageError, ValidationError
from ..values import Value, decode

if TYPE_CHECKING:
    from .catalog import IndexState, TableState


# What a document takes once everything is worked out, measured with tracemalloc for flat, nested, long and
# tiny ones: the text and its decoded copies, the objects around it, and for each value and container (as
# the punctuation of the text tells them) a Python object. Right within a factor of two, and rarely below.
_FIXED_SIZE_BYTES = 1_000
_TEXT_COPIES = 3
_VALUE_SIZE_BYTES = 60
_DICT_SIZE_BYTES = 200
# Ends of scans; enough to find again what a few hundred live queries read. A longer memory fills the cache
# with what is read too seldom to pay: of ranges all over a million documents, that was a tenth of the cost.
_OFFERED_MAX = 512


class IndexKey(NamedTuple):
    """A document's place in an index: its bytes, and where the equality prefixes of them end."""

    key: bytes
    ends: tuple[int, ...]

    def prefixes(self) -> list[bytes]:
        """Every equality prefix of the key: empty, one per field, and the whole."""
        return [b"", *(self.key[:end] for end in self.ends), self.key]


class StoredDocument(msgspec.Struct, eq=False):
    """One version of one document. `ts` is 0 while its commit has no timestamp yet.

    A struct, because a range read makes one for each document that is not in the cache.
    """

    table: TableState
    id: str
    ts: int
    json: bytes
    _fields: dict[str, Value] | None = None
    # Its version is older than a migration of its table, which deletes it.
    gone: bool = False
    _object: Any = None
    _keys: dict[int, IndexKey] | None = None
    _weight_bytes: int = 0

    @classmethod
    def found(cls, table: TableState, id: str, ts: int, json: bytes) -> StoredDocument:
        """A version that was found in the storage, brought into the form of now if it is older.

        Raises:
            SchemaError: `MigrationFailed`.
        """
        if table.upgrade is None or ts > table.upgrade.until_ts:
            return cls(table, id, ts, json)
        upgraded = table.upgrade.apply(ts, json)
        return cls(table, id, ts, *(upgraded or (json, None)), upgraded is None)

    @property
    def fields(self) -> dict[str, Value]:
        """All stored fields under their wire names, system fields included. Not to be changed."""
        if self._fields is None:
            try:
                self._fields = cast("dict[str, Value]", decode(self.json))
            except ValidationError as error:
                raise self._damaged(f"its text cannot be read ({error.message})") from error
        return self._fields

    @property
    def creation_time(self) -> float:
        try:
            return cast("float", self.fields["_creationTime"])
        except KeyError:
            raise self._damaged("it has no `_creationTime`") from None

    def _damaged(self, how: str) -> StorageError:
        """Only in a file of an earlier format, or where another program put pages: there are no checksums."""
        return StorageError(
            f"document `{self.id}` of table `{self.table.name}` is damaged: {how} - look at the file with "
            "`reactivedb doctor`, and restore a copy",
            code="DatabaseCorrupt",
            table=self.table.name,
            id=self.id,
        )

    @property
    def weight_bytes(self) -> int:
        """About what this takes in memory once everything is worked out; O(length of the text), once."""
        if not self._weight_bytes:
            count = self.json.count
            self._weight_bytes = (
                _FIXED_SIZE_BYTES
                + _TEXT_COPIES * len(self.json)
                + _VALUE_SIZE_BYTES * (count(b",") + count(b"["))
                + _DICT_SIZE_BYTES * count(b"{")
            )
        return self._weight_bytes

    def object(self) -> Any:
        """The document as user code sees it; shared only if nothing in it can be changed."""
        definition = self.table.definition
        if self._object is not None:
            return self._object
        # What was just written is known decoded; what was found is decoded when a field of it is asked for.
        waits = definition.unread if self._fields is None or not definition.shareable else None
        if waits is not None:
            made = waits(self.id, self.json)
        elif definition.shareable:
            made = definition.load(self.fields, self.json)
        else:
            # A private copy of the fields too: decoded lists and dicts reach the caller as they are.
            made = definition.load(cast("dict[str, Value]", decode(self.json)), self.json)
        if definition.shareable:
            self._object = made
        return made

    def key(self, index: IndexState) -> IndexKey:
        # Only what is written or follows a write is asked for its keys.
        keys = self._keys
        if keys is None:
            keys = self._keys = {}
        found = keys.get(index.number)
        if found is None:
            found = keys[index.number] = index.key_of(self)
        return found

    def take_keys(self, earlier: StoredDocument) -> None:
        """Have the keys of an earlier version wherever what they are made of has not changed."""
        mine, before = self.fields, earlier.fields
        self._keys = {
            index.number: earlier.key(index)
            for index in self.table.all_indexes
            if index.looks_alike(mine, before)
        }


class DocumentCache:
    """The newest version of recently used documents, bounded by what they weigh.

    What a scan meets is admitted the second time only (`offer`): one pass over a large table is quicker by
    that, and does not drive out what is used again and again.
    """

    def __init__(self, size_bytes_max: int) -> None:
        self._size_bytes_max = size_bytes_max
        self._size_bytes = 0
        # The ends of what was offered lately, in two generations of about `_OFFERED_MAX`.
        self._offered: set[str] = set()
        self._offered_before: set[str] = set()
        self._documents: OrderedDict[str, StoredDocument] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def get(self, id: str) -> StoredDocument | None:
        found = self._documents.get(id)
        if found is not None:
            self._documents.move_to_end(id)
        return found

    @property
    def ids(self) -> KeysView[str]:
        """What is there; unlike `get`, looking at it is no use of a document."""
        return self._documents.keys()

    def offer(self, documents: dict[str, StoredDocument], ends: set[str]) -> None:
        """Keep what a scan has fetched if it begins or ends where one did lately; else remember that.

        `ends` are the first and the last id.
        """
        if not (ends.isdisjoint(self._offered) and ends.isdisjoint(self._offered_before)):
            for document in documents.values():
                self.put(document)
        self._offered |= ends
        if len(self._offered) >= _OFFERED_MAX:
            self._offered_before, self._offered = self._offered, set()

    def put(self, document: StoredDocument) -> None:
        if document.id in self._documents:
            self.discard(document.id)
        self._documents[document.id] = document
        self._size_bytes += document.weight_bytes
        while self._size_bytes > self._size_bytes_max and self._documents:
            _, oldest = self._documents.popitem(last=False)
            self._size_bytes -= oldest.weight_bytes

    def discard(self, id: str) -> None:
        found = self._documents.pop(id, None)
        if found is not None:
            self._size_bytes -= found.weight_bytes

    def clear(self) -> None:
        self._documents.clear()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._documents)

    def check(self) -> None:
        """Assert the invariant: the size is the sum of what is held, and within its bound."""
        assert self._size_bytes == sum(document.weight_bytes for document in self._documents.values())
        assert self._size_bytes <= self._size_bytes_max or not self._documents
