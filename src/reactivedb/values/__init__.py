"""What is a value, and how is it written: as JSON, as an index key, as a document id?"""

from reactivedb.values.id import ID_LENGTH_MAX, decode_id, encode_id
from reactivedb.values.json import (
    MalformedJson,
    decode,
    dumps,
    encode,
    encode_plain,
    from_jsonable,
    loads,
    to_jsonable,
)
from reactivedb.values.key import decode_key, encode_key, end_of_values, key_parts
from reactivedb.values.sensitive import (
    LOOKED_AT_MAX,
    hides,
    is_secret_name,
    quoted,
    redacted,
    secrets_in,
    unshown,
    watch_logs,
)
from reactivedb.values.value import (
    UNSET,
    Int64,
    MisfitError,
    Unset,
    Value,
    check_field_names,
    depth,
    normalize,
    size_bytes,
)
from reactivedb.values.weight import decoded_size_bytes

__all__ = [
    "ID_LENGTH_MAX",
    "LOOKED_AT_MAX",
    "UNSET",
    "Int64",
    "MalformedJson",
    "MisfitError",
    "Unset",
    "Value",
    "check_field_names",
    "decode",
    "decode_id",
    "decode_key",
    "decoded_size_bytes",
    "depth",
    "dumps",
    "encode",
    "encode_id",
    "encode_key",
    "encode_plain",
    "end_of_values",
    "from_jsonable",
    "hides",
    "is_secret_name",
    "key_parts",
    "loads",
    "normalize",
    "quoted",
    "redacted",
    "secrets_in",
    "size_bytes",
    "to_jsonable",
    "unshown",
    "watch_logs",
]
