"""The frozen first bytes of a connection (page: The envelope, Version 0.3.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .errors import Code, ProtocolError

CLIENT_MAGIC = bytes.fromhex("53 4c 52 43 0d 0a 1a 0a")
SERVER_MAGIC = bytes.fromhex("53 4c 52 53 0d 0a 1a 0a")

#: The only version that this package speaks.
VERSION = 1

#: Preface and hello together.
MAX_BYTES = 1_000

_HEADER = 16
_LEGACY = b"RMCL"


class LegacyServer(ProtocolError):
    """The server is of the published 0.3.3."""


@dataclass(frozen=True)
class ClientEnvelope:
    """What the client sends first."""

    hello: bytes
    lowest: int = VERSION
    highest: int = VERSION

    def encode(self) -> bytes:
        """Preface and hello."""
        out = CLIENT_MAGIC + struct.pack(">HHHH", self.lowest, self.highest, len(self.hello), 0) + self.hello
        if len(out) > MAX_BYTES:
            raise ValueError(f"preface and hello have {len(out)} bytes, more than {MAX_BYTES}")
        return out

    @classmethod
    def decode(cls, data: bytes) -> ClientEnvelope:
        """From exactly these bytes."""
        if data[:8] != CLIENT_MAGIC or not _HEADER <= len(data) <= MAX_BYTES:
            raise ProtocolError("no preface of a client")
        lowest, highest, length, _ = struct.unpack_from(">HHHH", data, 8)
        if len(data) != _HEADER + length:
            raise ProtocolError("the length of the hello is wrong")
        return cls(data[_HEADER:], lowest, highest)


@dataclass(frozen=True)
class Accepted:
    """The server goes on with this version."""

    version: int
    lowest: int
    highest: int
    hello: bytes

    def encode(self) -> bytes:
        """Preface and hello."""
        header = struct.pack(">HHHH", self.version, self.lowest, self.highest, len(self.hello))
        return SERVER_MAGIC + header + self.hello


@dataclass(frozen=True)
class Refused:
    """The server does not go on, and says why."""

    lowest: int
    highest: int
    code: Code
    message: str

    def encode(self) -> bytes:
        """Preface and reason."""
        reason = struct.pack(">H", self.code) + self.message.encode()
        return SERVER_MAGIC + struct.pack(">HHHH", 0, self.lowest, self.highest, len(reason)) + reason


def read_answer(data: bytes) -> tuple[Accepted | Refused, int] | None:
    """The server's answer and where it ends; ``None`` when bytes are missing."""
    if data[: len(SERVER_MAGIC)] != SERVER_MAGIC[: len(data)]:
        if data[8:12] == _LEGACY:
            raise LegacyServer("the server is version 0.3.3: update it")
        # A server of 0.3.3 begins with a length; what tells it apart comes last.
        if len(data) < 12:
            return None
        raise ProtocolError("this is no Selium control plane")
    if len(data) < _HEADER:
        return None
    version, lowest, highest, length = struct.unpack_from(">HHHH", data, 8)
    end = _HEADER + length
    if end > MAX_BYTES:
        raise ProtocolError("the server's hello is too long")
    if len(data) < end:
        return None
    rest = data[_HEADER:end]
    if version:
        return Accepted(version, lowest, highest, rest), end
    if len(rest) < 2:
        raise ProtocolError("a refusal without a code")
    code = Code.read(int.from_bytes(rest[:2], "big"))
    return Refused(lowest, highest, code, rest[2:].decode(errors="replace")), end
