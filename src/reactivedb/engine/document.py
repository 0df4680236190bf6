"""What does the engine know of one stored document, and which of them does it keep decoded?

A `StoredDocument` is one version and never changes: text, fields, Python object and index keys are
worked out when first asked for. The cache holds the newest version of a document or nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, cast

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
# Enough for what a few hundred live queries read again; an id takes about 100 bytes.
_OFFERED_MAX = 16_384


class IndexKey(NamedTuple):
    """A document's place in an index: its bytes, and where the equality prefixes of them end."""

    key: bytes
    ends: tuple[int, ...]

    def prefixes(self) -> list[bytes]:
        """Every equality prefix of the key: empty, one per field, and the whole."""
        return [b"", *(self.key[:end] for end in self.ends), self.key]


class StoredDocument:
    """One version of one document. `ts` is 0 while its commit has no timestamp yet.

    A version that is older than a migration of its table is brought into the new form here, wherever it was
    found (raises SchemaError `MigrationFailed`); `gone` is set if the migration deletes it.
    """

    __slots__ = ("_fields", "_keys", "_object", "_weight_bytes", "gone", "id", "json", "table", "ts")

    def __init__(
        self, table: TableState, id: str, ts: int, json: bytes, *, fields: dict[str, Value] | None = None
    ) -> None:
        self.table = table
        self.id = id
        self.ts = ts
        self.gone = False
        if fields is None and table.upgrade is not None and ts <= table.upgrade.until_ts:
            upgraded = table.upgrade.apply(ts, json)
            self.gone = upgraded is None
            json, fields = upgraded or (json, None)
        self.json = json
        self._fields = fields
        self._object: Any = None
        self._keys: dict[int, IndexKey] = {}
        self._weight_bytes = 0

    @property
    def fields(self) -> dict[str, Value]:
        """All stored fields under their wire names, system fields included. Not to be changed."""
        if self._fields is None:
            self._fields = cast("dict[str, Value]", decode(self.json))
        return self._fields

    @property
    def creation_time(self) -> float:
        return cast("float", self.fields["_creationTime"])

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
        found = self._keys.get(index.number)
        if found is None:
            found = self._keys[index.number] = index.key_of(self)
        return found


class DocumentCache:
    """The newest version of recently used documents, bounded by what they weigh.

    What a scan meets is admitted the second time only (`offer`): one pass over a large table is quicker by
    that, and does not drive out what is used again and again.
    """

    def __init__(self, size_bytes_max: int) -> None:
        self._size_bytes_max = size_bytes_max
        self._size_bytes = 0
        # The ids that were offered lately, in two generations of about `_OFFERED_MAX`.
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

    def __contains__(self, id: str) -> bool:
        """Whether it is there; unlike `get`, no use of it."""
        return id in self._documents

    def offer(self, documents: dict[str, StoredDocument]) -> None:
        """Keep the documents that were offered lately; of the others, remember that they were."""
        for id in self._offered.intersection(documents) | self._offered_before.intersection(documents):
            self.put(documents[id])
        self._offered.update(documents)
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
