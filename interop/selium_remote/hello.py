"""What each side says about itself (page: Hello)."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import BodyError, Code
from .fields import Fields, Writer

#: Feature bit 0: the server has a clock.
CLOCK = 1

_SHORT_TEXT = 64
_KNOWN = (*range(1, 6), *range(10, 17), 20, 21, 22)


@dataclass(frozen=True)
class Limits:
    """What a side accepts. A missing limit means 0."""

    message: int = 0
    reassembly: int = 0
    connection_credit: int = 0
    stream_credit: int = 0


@dataclass(frozen=True)
class ClientHello:
    """The client's hello."""

    nonce: bytes
    session: bytes
    limits: Limits
    features: int = 0
    software: str = ""
    version: str = ""

    def encode(self) -> bytes:
        """The body."""
        out = Writer().raw(1, self.nonce, mandatory=True).raw(2, self.session, mandatory=True)
        _write_common(out, self.features, self.software, self.version, self.limits)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> ClientHello:
        """From a body."""
        fields = Fields(data, _KNOWN)
        return cls(
            _sixteen(fields, 1),
            _sixteen(fields, 2),
            _read_limits(fields),
            fields.integer(3) or 0,
            fields.text(4, most=_SHORT_TEXT) or "",
            fields.text(5, most=_SHORT_TEXT) or "",
        )


@dataclass(frozen=True)
class ServerHello:
    """The server's hello."""

    incarnation: bytes
    limits: Limits
    features: int = 0
    software: str = ""
    version: str = ""
    requests_in_flight: int = 0
    open_streams: int = 0
    largest_request: int = 0
    role: str = ""
    capabilities: bytes = b""
    authenticates: bool = False

    def encode(self) -> bytes:
        """The body."""
        out = Writer().raw(2, self.incarnation, mandatory=True)
        _write_common(out, self.features, self.software, self.version, self.limits)
        out.integer(14, self.requests_in_flight).integer(15, self.open_streams).integer(16, self.largest_request)
        return out.text(20, self.role).raw(21, self.capabilities).flag(22, self.authenticates).done()

    @classmethod
    def decode(cls, data: bytes) -> ServerHello:
        """From a body."""
        fields = Fields(data, _KNOWN)
        return cls(
            _sixteen(fields, 2),
            _read_limits(fields),
            fields.integer(3) or 0,
            fields.text(4, most=_SHORT_TEXT) or "",
            fields.text(5, most=_SHORT_TEXT) or "",
            fields.integer(14) or 0,
            fields.integer(15) or 0,
            fields.integer(16) or 0,
            fields.text(20, most=_SHORT_TEXT) or "",
            fields.raw(21) or b"",
            fields.flag(22) or False,
        )


def _write_common(out: Writer, features: int, software: str, version: str, limits: Limits) -> None:
    out.integer(3, features).text(4, software).text(5, version)
    out.integer(10, limits.message).integer(11, limits.reassembly)
    out.integer(12, limits.connection_credit).integer(13, limits.stream_credit)


def _read_limits(fields: Fields) -> Limits:
    return Limits(*(fields.integer(number) or 0 for number in (10, 11, 12, 13)))


def _sixteen(fields: Fields, number: int) -> bytes:
    value = fields.raw(number, exactly=16)
    if value is None:
        raise BodyError(Code.INVALID_ARGUMENT, number, 0, "it is missing")
    return value
