"""Frames as a client's parser reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from reactivedb.server.frames import text_message


def read_frames(data: bytes) -> list[Frame]:
    client = ClientProtocol(parse_uri("ws://test"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 400))
def test_frames_put_together_give_the_parts_put_together(parts: list[bytes], frame_size_max: int) -> None:
    frames = read_frames(b"".join(text_message(parts, frame_size_bytes_max=frame_size_max)))
    assert b"".join(bytes(frame.data) for frame in frames) == b"".join(parts)
    assert all(len(frame.data) <= frame_size_max for frame in frames)
    assert [frame.opcode for frame in frames] == [Opcode.TEXT] + [Opcode.CONT] * (len(frames) - 1)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]


def test_each_size_of_header_is_read_back() -> None:
    for size_bytes in (0, 125, 126, 65_535, 65_536):
        (frame,) = read_frames(b"".join(text_message([b"x" * size_bytes], frame_size_bytes_max=1 << 20)))
        assert len(frame.data) == size_bytes


def test_a_part_is_handed_on_without_a_copy() -> None:
    shared = b"x" * 1000
    buffers = text_message([b"{", shared, b"}"], frame_size_bytes_max=1 << 20)
    assert any(buffer is shared for buffer in buffers)
