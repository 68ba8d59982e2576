"""Frames: cutting bytes into them, reading and writing their bodies (page: Frames)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from . import varint
from .errors import BodyError, Code, Error, ProtocolError
from .fields import Fields, Writer

#: The most that a frame's length may say.
MAX_LENGTH = 16_448

#: The most content of one frame.
MAX_CHUNK = 16_384

#: Unknown kinds from here on are skipped, those below end the connection.
FIRST_OPTIONAL_KIND = 0x80

_MESSAGE_BYTES = 1_024
_FIELD_BYTES = 64
_PING_BYTES = 8


@dataclass(frozen=True)
class Ping:
    """Are you there?"""

    payload: bytes


@dataclass(frozen=True)
class Pong:
    """I am."""

    payload: bytes


@dataclass(frozen=True)
class Goodbye:
    """The sender's last frame."""

    error: Error


@dataclass(frozen=True)
class Drain:
    """The sender takes, or makes, no new requests."""


@dataclass(frozen=True)
class Credit:
    """So many bytes may be sent in all on this stream; on the connection if it is 0."""

    stream: int
    limit: int


@dataclass(frozen=True)
class Request:
    """A request's first part."""

    id: int
    operation: int
    total: int
    content: bytes


@dataclass(frozen=True)
class Response:
    """An answer's first part; code 0 means success."""

    id: int
    code: int
    total: int
    content: bytes


@dataclass(frozen=True)
class More:
    """A request or an answer, continued."""

    id: int
    content: bytes


@dataclass(frozen=True)
class Cancel:
    """The client does not want it any more."""

    id: int


@dataclass(frozen=True)
class Data:
    """A stream message's first part."""

    stream: int
    sequence: int
    total: int
    content: bytes


@dataclass(frozen=True)
class DataMore:
    """A stream message, continued."""

    stream: int
    content: bytes


@dataclass(frozen=True)
class End:
    """The sender's half of the stream is over."""

    stream: int
    reason: Error | None = None


@dataclass(frozen=True)
class Reset:
    """The stream is over in both directions."""

    stream: int
    error: Error


@dataclass(frozen=True)
class Gap:
    """Messages are missing here; so many, if that is known."""

    stream: int
    next: int
    count: int | None


@dataclass(frozen=True)
class Ack:
    """Everything up to this message was taken over."""

    stream: int
    sequence: int
    flags: int = 0

    @property
    def may_be_dropped(self) -> bool:
        """Whether the channel may drop what was handed over to it."""
        return bool(self.flags & 1)


@dataclass(frozen=True)
class Unknown:
    """A kind that is to be skipped."""

    kind: int
    id: int


Frame: TypeAlias = (
    Ping | Pong | Goodbye | Drain | Credit | Request | Response | More | Cancel | Data | DataMore
    | End | Reset | Gap | Ack | Unknown
)  # fmt: skip


def encode_error(error: Error) -> bytes:
    """A varint code and the error's fields."""
    return varint.encode(error.code) + encode_error_fields(error)


def encode_error_fields(error: Error) -> bytes:
    """The fields alone, as a RESPONSE carries them."""
    out = Writer()
    if error.message is not None:
        out.text(1, error.message)
    if error.field is not None:
        out.text(2, error.field)
    if error.limit is not None:
        out.integer(3, error.limit)
    if error.process is not None:
        out.integer(4, error.process)
    return out.done()


def decode_error_fields(code: int, data: bytes) -> Error:
    """An error from a code and the fields behind it."""
    fields = Fields(data, (1, 2, 3, 4))
    return Error(
        Code.read(code),
        fields.text(1, most=_MESSAGE_BYTES),
        fields.text(2, most=_FIELD_BYTES),
        fields.integer(3),
        fields.integer(4),
    )


def encode(frame: Frame) -> bytes:
    """A whole frame, its length included."""
    kind, number, body = _parts(frame)
    content = bytes((kind,)) + varint.encode(number) + body
    if len(content) > MAX_LENGTH:
        raise ValueError(f"a frame of {len(content)} bytes is longer than {MAX_LENGTH}")
    return varint.encode(len(content)) + content


def _parts(frame: Frame) -> tuple[int, int, bytes]:
    v = varint.encode
    match frame:
        case Ping(payload):
            return 0x01, 0, payload
        case Pong(payload):
            return 0x02, 0, payload
        case Goodbye(error):
            return 0x03, 0, encode_error(error)
        case Drain():
            return 0x04, 0, b""
        case Credit(stream, limit):
            return 0x05, stream, v(limit)
        case Request(number, operation, total, content):
            return 0x10, number, v(operation) + v(total) + content
        case Response(number, code, total, content):
            return 0x11, number, v(code) + v(total) + content
        case More(number, content):
            return 0x12, number, content
        case Cancel(number):
            return 0x13, number, b""
        case Data(stream, sequence, total, content):
            return 0x20, stream, v(sequence) + v(total) + content
        case DataMore(stream, content):
            return 0x21, stream, content
        case End(stream, reason):
            return 0x22, stream, b"\0" if reason is None else encode_error(reason)
        case Reset(stream, error):
            return 0x23, stream, encode_error(error)
        case Gap(stream, following, count):
            return 0x24, stream, v(following) + v(0 if count is None else count + 1)
        case Ack(stream, sequence, flags):
            return 0x25, stream, v(sequence) + v(flags)
        case Unknown(kind, number):
            return kind, number, b""


def decode(content: bytes) -> Frame:
    """A frame from its bytes behind the length."""
    number = varint.decode(content, 1)
    if number is None:
        raise ProtocolError("a frame ends inside its header")
    kind, body = content[0], _Body(content, number[1])
    read = _READERS.get(kind)
    if read is None:
        if kind < FIRST_OPTIONAL_KIND:
            raise ProtocolError(f"unknown kind {kind:#04x}")
        return Unknown(kind, number[0])
    if kind <= 0x04 and number[0] != 0:
        raise ProtocolError(f"kind {kind:#04x} belongs to the connection, not to {number[0]}")
    if kind >= 0x10 and number[0] == 0:
        raise ProtocolError(f"kind {kind:#04x} with the id 0")
    return read(number[0], body)


class _Body:
    """What stands behind a frame's header, read once from the front."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def varint(self) -> int:
        read = varint.decode(self._data, self._at)
        if read is None:
            raise ProtocolError("a frame's body is cut off")
        number, self._at = read
        return number

    def rest(self) -> bytes:
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    def chunk(self) -> bytes:
        content = self.rest()
        if len(content) > MAX_CHUNK:
            raise ProtocolError(f"a chunk of {len(content)} bytes")
        return content

    def eight(self) -> bytes:
        payload = self.rest()
        if len(payload) != _PING_BYTES:
            raise ProtocolError(f"a ping with {len(payload)} bytes")
        return payload

    def error(self) -> Error:
        code = self.varint()
        try:
            return decode_error_fields(code, self.rest())
        except BodyError as error:
            raise ProtocolError(f"an error that cannot be read: {error}") from error

    def reason(self) -> Error | None:
        if self._data[self._at :] == b"\0":
            return None
        return self.error()


def _gap(stream: int, body: _Body) -> Gap:
    following, count = body.varint(), body.varint()
    return Gap(stream, following, count - 1 if count else None)


_READERS: dict[int, Callable[[int, _Body], Frame]] = {
    0x01: lambda _, body: Ping(body.eight()),
    0x02: lambda _, body: Pong(body.eight()),
    0x03: lambda _, body: Goodbye(body.error()),
    0x04: lambda _, body: Drain(),
    0x05: lambda number, body: Credit(number, body.varint()),
    0x10: lambda number, body: Request(number, body.varint(), body.varint(), body.chunk()),
    0x11: lambda number, body: Response(number, body.varint(), body.varint(), body.chunk()),
    0x12: lambda number, body: More(number, body.chunk()),
    0x13: lambda number, body: Cancel(number),
    0x20: lambda number, body: Data(number, body.varint(), body.varint(), body.chunk()),
    0x21: lambda number, body: DataMore(number, body.chunk()),
    0x22: lambda number, body: End(number, body.reason()),
    0x23: lambda number, body: Reset(number, body.error()),
    0x24: _gap,
    0x25: lambda number, body: Ack(number, body.varint(), body.varint()),
}


class Splitter:
    """Cuts a sequence of bytes, fed in any pieces, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Takes bytes."""
        self._buffer += data

    def next(self) -> Frame | None:
        """The next whole frame."""
        head = varint.decode(bytes(self._buffer[:8]))
        if head is None:
            return None
        length, begin = head
        if length > MAX_LENGTH:
            raise ProtocolError(f"a frame of {length} bytes")
        if len(self._buffer) < begin + length:
            return None
        content = bytes(self._buffer[begin : begin + length])
        del self._buffer[: begin + length]
        return decode(content)
