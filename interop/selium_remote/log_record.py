"""Guests' log records: a hand-written FlatBuffers reader that checks every offset (page: log follow).

The bytes come from a guest through a runtime that can tear them, so that nothing in them is believed: no offset, no
count, and not that two offsets lead to different places.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

#: Fields and spans in one record. Many offsets may lead to one place, so that the size alone bounds nothing.
MAX_ITEMS = 4_096

#: Bytes of all texts of one record, for the same reason.
MAX_TEXT = 1 << 20

_T = TypeVar("_T")


class RecordError(Exception):
    """These bytes are no log record."""


class Level(IntEnum):
    """How much a record matters."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


@dataclass(frozen=True)
class Span:
    """A span around a record. Absent texts are empty."""

    name: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LogRecord:
    """A record. Absent texts are empty, absent lists too."""

    level: Level
    target: str
    message: str
    fields: tuple[tuple[str, str], ...]
    spans: tuple[Span, ...]
    timestamp_ms: int


def decode(data: bytes) -> LogRecord:
    """Reads a record, or refuses the bytes."""
    buffer = _Buffer(data)
    record = _Table(buffer, buffer.forward(0))
    level = record.number(0, "b")
    if level not in set(Level):
        raise RecordError(f"there is no level {level}")
    return LogRecord(
        Level(level),
        record.text(1),
        record.text(2),
        _fields(record, 3),
        record.tables(4, lambda span: Span(span.text(0), _fields(span, 1))),
        record.number(5, "Q"),
    )


def _fields(table: _Table, slot: int) -> tuple[tuple[str, str], ...]:
    return table.tables(slot, lambda field: (field.text(0), field.text(1)))


class _Buffer:
    """Bytes that are read only where they are, and what may still be taken from them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._items, self._text = MAX_ITEMS, MAX_TEXT

    def number(self, at: int, form: str) -> int:
        if at < 0 or at + struct.calcsize(form) > len(self.data):
            raise RecordError(f"an offset leads to byte {at} of {len(self.data)}")
        value: int = struct.unpack_from("<" + form, self.data, at)[0]
        return value

    def forward(self, at: int) -> int:
        """Follows the offset that stands here. They lead forward only."""
        offset = self.number(at, "I")
        if offset == 0:
            raise RecordError(f"the offset at byte {at} leads to itself")
        return at + offset

    def text(self, at: int) -> str:
        length, begin = self.number(at, "I"), at + 4
        if begin + length > len(self.data):
            raise RecordError(f"a text of {length} bytes goes past the end")
        self._text -= length
        if self._text < 0:
            raise RecordError(f"more than {MAX_TEXT} bytes of text")
        try:
            return self.data[begin : begin + length].decode()
        except UnicodeDecodeError:
            raise RecordError("a text is not UTF-8") from None

    def count(self, at: int) -> int:
        """The length of a vector of offsets."""
        count = self.number(at, "I")
        if at + 4 + 4 * count > len(self.data):
            raise RecordError(f"a list of {count} goes past the end")
        self._items -= count
        if self._items < 0:
            raise RecordError(f"more than {MAX_ITEMS} fields and spans")
        return count


class _Table:
    """A table: where its fields are stands in its vtable, which may be anywhere."""

    def __init__(self, buffer: _Buffer, at: int) -> None:
        self._buffer, self._at = buffer, at
        self._vtable = at - buffer.number(at, "i")
        self._vtable_size = buffer.number(self._vtable, "H")
        self._size = buffer.number(self._vtable + 2, "H")
        if self._vtable_size < 4 or self._vtable + self._vtable_size > len(buffer.data):
            raise RecordError("a vtable goes past the end")
        if self._size < 4 or at + self._size > len(buffer.data):
            raise RecordError("a table goes past the end")

    def number(self, slot: int, form: str) -> int:
        """A number; 0 when it is absent."""
        at = self._field(slot, struct.calcsize(form))
        return 0 if at is None else self._buffer.number(at, form)

    def text(self, slot: int) -> str:
        """A text; empty when it is absent."""
        at = self._field(slot, 4)
        return "" if at is None else self._buffer.text(self._buffer.forward(at))

    def tables(self, slot: int, read: Callable[[_Table], _T]) -> tuple[_T, ...]:
        """A list of tables; empty when it is absent."""
        at = self._field(slot, 4)
        if at is None:
            return ()
        vector = self._buffer.forward(at)
        places = (vector + 4 + 4 * index for index in range(self._buffer.count(vector)))
        return tuple(read(_Table(self._buffer, self._buffer.forward(place))) for place in places)

    def _field(self, slot: int, size: int) -> int | None:
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return None
        offset = self._buffer.number(self._vtable + entry, "H")
        if offset == 0:
            return None
        if offset < 4 or offset + size > self._size:
            raise RecordError("a field lies outside of its table")
        return self._at + offset
