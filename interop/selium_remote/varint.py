"""Variable-length integers as in RFC 9000, section 16 (page: Integers)."""

from __future__ import annotations

MAX = (1 << 62) - 1


def encode(number: int) -> bytes:
    """The shortest form."""
    if number < 0 or number > MAX:
        raise ValueError(f"{number} does not fit into a varint")
    for power, bits in enumerate((6, 14, 30, 62)):
        if number < 1 << bits:
            length = 1 << power
            return (number | power << (8 * length - 2)).to_bytes(length, "big")
    raise AssertionError("unreachable: the largest varint has 62 bits")


def decode(data: bytes, at: int = 0) -> tuple[int, int] | None:
    """The number that begins at ``at`` and where it ends; ``None`` when bytes are missing. Any form is accepted."""
    if at < 0 or at >= len(data):
        return None
    length = 1 << (data[at] >> 6)
    end = at + length
    if end > len(data):
        return None
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * length - 2)) - 1), end
