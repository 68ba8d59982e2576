"""Bodies: lists of numbered fields (page: Fields)."""

from __future__ import annotations

from collections.abc import Iterable

from . import varint
from .errors import BodyError, Code

#: An integer has at most so many bytes.
MAX_INTEGER = 8


class Writer:
    """Writes fields, in ascending order of their numbers."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._last = -1

    def raw(self, number: int, value: bytes, *, mandatory: bool = False) -> Writer:
        """Bytes, or a message that is encoded already. Again with the same number: a repeated field."""
        if number < self._last:
            raise ValueError(f"field {number} comes after field {self._last}")
        self._last = number
        self._out += varint.encode(number * 2 + mandatory) + varint.encode(len(value)) + value
        return self

    def integer(self, number: int, value: int, *, mandatory: bool = False) -> Writer:
        """Big-endian without leading zero bytes."""
        return self.raw(number, value.to_bytes((value.bit_length() + 7) // 8, "big"), mandatory=mandatory)

    def flag(self, number: int, value: bool, *, mandatory: bool = False) -> Writer:
        """An integer, 0 or 1."""
        return self.integer(number, int(value), mandatory=mandatory)

    def text(self, number: int, value: str, *, mandatory: bool = False) -> Writer:
        """UTF-8."""
        return self.raw(number, value.encode(), mandatory=mandatory)

    def done(self) -> bytes:
        """All of it."""
        return bytes(self._out)


class Fields:
    """The fields of a body, checked against the numbers that the reader knows."""

    def __init__(self, data: bytes, known: Iterable[int], repeated: Iterable[int] = ()) -> None:
        self._values: dict[int, list[tuple[int, bytes]]] = {}
        known, repeated = frozenset(known), frozenset(repeated)
        at, last = 0, -1
        while at < len(data):
            begin = at
            key = varint.decode(data, at)
            if key is None:
                raise BodyError(Code.INVALID_ARGUMENT, None, begin, "its key is cut off")
            number, mandatory = key[0] >> 1, key[0] & 1
            length = varint.decode(data, key[1])
            if length is None:
                raise BodyError(Code.INVALID_ARGUMENT, number, begin, "its length is cut off")
            at = length[1] + length[0]
            if at > len(data):
                raise BodyError(Code.INVALID_ARGUMENT, number, begin, "it goes past the end of the body")
            if number < last:
                raise BodyError(Code.INVALID_ARGUMENT, number, begin, f"it stands behind field {last}")
            if number not in known:
                if mandatory:
                    raise BodyError(Code.UNSUPPORTED, number, begin, "it is mandatory and not known here")
            elif number == last and number not in repeated:
                raise BodyError(Code.INVALID_ARGUMENT, number, begin, "it stands twice")
            else:
                self._values.setdefault(number, []).append((begin, data[length[1] : at]))
            last = number

    def raws(self, number: int) -> list[bytes]:
        """Every occurrence of a repeated field."""
        return [value for _, value in self._values.get(number, [])]

    def raw(self, number: int, *, exactly: int | None = None) -> bytes | None:
        """Bytes; ``None`` when the field is absent."""
        found = self._find(number)
        if found is None:
            return None
        begin, value = found
        if exactly is not None and len(value) != exactly:
            raise BodyError(Code.INVALID_ARGUMENT, number, begin, f"it must have {exactly} bytes")
        return value

    def integer(self, number: int) -> int | None:
        """A number; ``None`` when the field is absent."""
        found = self._find(number)
        if found is None:
            return None
        begin, value = found
        if len(value) > MAX_INTEGER:
            raise BodyError(Code.INVALID_ARGUMENT, number, begin, "an integer has at most 8 bytes")
        if value[:1] == b"\0":
            raise BodyError(Code.INVALID_ARGUMENT, number, begin, "an integer has no leading zero byte")
        return int.from_bytes(value, "big")

    def flag(self, number: int) -> bool | None:
        """0 or 1; ``None`` when the field is absent."""
        value = self.integer(number)
        if value is not None and value > 1:
            raise BodyError(Code.INVALID_ARGUMENT, number, self._begin(number), "a flag is 0 or 1")
        return None if value is None else value == 1

    def text(self, number: int, *, most: int | None = None) -> str | None:
        """UTF-8 of at most ``most`` bytes; ``None`` when the field is absent."""
        found = self._find(number)
        if found is None:
            return None
        begin, value = found
        if most is not None and len(value) > most:
            raise BodyError(Code.INVALID_ARGUMENT, number, begin, f"it has at most {most} bytes")
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise BodyError(Code.INVALID_ARGUMENT, number, begin, "text is UTF-8") from None

    def _find(self, number: int) -> tuple[int, bytes] | None:
        return next(iter(self._values.get(number, [])), None)

    def _begin(self, number: int) -> int:
        found = self._find(number)
        return found[0] if found else 0
