"""What may a function be called with?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema import ArgsValidator, Document, Id, Model, returns_validator, with_code

if TYPE_CHECKING:
    from somewhere import Ctx  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]


class Channel(Document, table="argument_channels"):
    name: str


class Paging(Model):
    __wire_argument__ = "paginationOpts"
    num_items: int


def listed(
    ctx: Ctx,
    channel_id: Id[Channel],
    page_size: int = 10,
    *,
    author_name: str | None = None,
    sort: str | None = "asc",
) -> list[Channel]:
    raise NotImplementedError


def untyped(ctx, anything, more=None):  # type: ignore[no-untyped-def]
    raise NotImplementedError


LISTED = ArgsValidator.from_signature(listed)


def test_arguments_are_exported_in_camel_case() -> None:
    assert LISTED.export()["value"] == {
        "channelId": {"fieldType": {"type": "id", "tableName": "argument_channels"}, "optional": False},
        "pageSize": {"fieldType": {"type": "number"}, "optional": True},
        "authorName": {"fieldType": {"type": "string"}, "optional": True},
        "sort": {
            "fieldType": {"type": "union", "value": [{"type": "string"}, {"type": "null"}]},
            "optional": True,
        },
    }
    assert str(returns_validator(listed)).startswith("v.array(v.object({")
    assert str(returns_validator(untyped)) == "v.any()"
    assert str(ArgsValidator.from_signature(untyped)) == (
        'v.object({"anything": v.any(), "more": v.optional(v.any())})'
    )


@pytest.mark.parametrize("spelling", ["pageSize", "page_size"])
def test_both_spellings_of_a_parameter_are_accepted(channel_id: str, spelling: str) -> None:
    assert LISTED.parse({"channelId": channel_id, spelling: 5.0}) == {
        "channel_id": channel_id,
        "page_size": 5,
        "author_name": None,
        "sort": "asc",
    }


def test_null_for_a_parameter_with_a_default_is_the_default_unless_null_fits(channel_id: str) -> None:
    named = LISTED.parse({"channelId": channel_id, "pageSize": None, "authorName": None, "sort": None})
    assert named["page_size"] == 10
    assert named["author_name"] is None
    assert named["sort"] is None


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"page_size": 1.0, "pageSize": 1.0}, ".pageSize"),
        ({"unknown": 1.0}, ".unknown"),
        ({"channelId": "x"}, ".channelId"),
        ({"page_size": 1.5}, ".pageSize"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(channel_id: str, wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LISTED.parse({"channelId": channel_id} | wrong)
    assert caught.value.code == "ArgumentValidationError"
    assert caught.value.path == path
    assert caught.value.wire_text.startswith("ArgumentValidationError: ")


def test_a_missing_argument_is_named() -> None:
    for refused in (lambda: LISTED.parse({}), lambda: LISTED.bind((), {})):
        with pytest.raises(ValidationError) as caught:
            refused()
        assert caught.value.code == "ArgumentValidationError"
        assert caught.value.path == ".channelId"


def test_a_call_in_python_becomes_what_a_client_would_send(channel_id: str) -> None:
    named = LISTED.bind((Id(channel_id), 3), {"author_name": None})
    assert LISTED.dump(named) == {"channelId": channel_id, "pageSize": 3.0}
    assert LISTED.parse(LISTED.dump(named))["page_size"] == 3


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("c", 1, "a"), {}),
        (("c",), {"channel_id": "c"}),
        (("c",), {"chanel_id": "c"}),
        (("c",), {"pageSize": 1}),
        ((), {"page_size": 1}),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        LISTED.bind(args, kwargs)
    assert caught.value.code == "ArgumentValidationError"


def test_arguments_of_a_wrong_type_are_refused_before_they_are_sent() -> None:
    with pytest.raises(ValidationError) as caught:
        LISTED.dump({"channel_id": 3})
    assert caught.value.code == "ArgumentValidationError"
    assert caught.value.path == ".channelId"


def test_a_class_can_name_the_argument_on_the_wire() -> None:
    def paged(ctx: Any, options: Paging) -> None: ...

    validator = ArgsValidator.from_signature(paged)
    assert validator.parse({"paginationOpts": {"numItems": 3.0}}) == {"options": Paging(num_items=3)}


def test_a_default_is_fresh_in_each_run() -> None:
    def many(ctx: Any, tags: list[str] = []) -> None: ...  # noqa: B006

    validator = ArgsValidator.from_signature(many)
    validator.parse({})["tags"].append("x")
    assert validator.parse({}) == {"tags": []}


def test_parameters_without_a_name_of_their_own_are_refused() -> None:
    def starred(ctx: Any, *rest: str) -> None: ...
    def keywords(ctx: Any, **rest: str) -> None: ...
    def no_context() -> None: ...
    def undefined(ctx: Any, x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def wrong_default(ctx: Any, x: int = "a") -> None: ...  # type: ignore[assignment]
    def twice(ctx: Any, page_size: int, pageSize: int) -> None: ...  # noqa: N803
    def unsendable(ctx: Any, größe: int) -> None: ...  # noqa: PLC2401

    for handler, code in [
        (starred, "UnsupportedParameter"),
        (keywords, "UnsupportedParameter"),
        (no_context, "UnsupportedParameter"),
        (undefined, "UnresolvedAnnotation"),
        (wrong_default, "DefaultDoesNotFit"),
        (twice, "AmbiguousWireName"),
        (unsendable, "InvalidFieldName"),
    ]:
        with pytest.raises(SchemaError) as caught:
            ArgsValidator.from_signature(handler)
        assert caught.value.code == code


def test_the_code_of_an_error_can_be_replaced() -> None:
    with pytest.raises(ValidationError) as caught:
        returns_validator(listed).dump([3])
    error = with_code(caught.value, "ReturnsValidationError")
    assert (error.code, error.path, error.message) == (
        "ReturnsValidationError",
        "[0]",
        caught.value.message,
    )
