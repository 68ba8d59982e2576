"""Error codes, what an error carries, and the exceptions of this package (page: Errors)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """Why something failed."""

    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    ALREADY_EXISTS = 3
    PERMISSION_DENIED = 4
    UNAUTHENTICATED = 5
    RESOURCE_EXHAUSTED = 6
    TOO_LARGE = 7
    DEADLINE_EXCEEDED = 8
    CANCELLED = 9
    OUTCOME_UNKNOWN = 10
    UNAVAILABLE = 11
    UNSUPPORTED = 12
    INTERNAL = 13
    PROTOCOL_ERROR = 14

    @classmethod
    def read(cls, number: int) -> Code:
        """Readers make "internal" of codes that they do not know."""
        try:
            return cls(number)
        except ValueError:
            return cls.INTERNAL


@dataclass(frozen=True)
class Error:
    """An error as it travels in a RESPONSE, a GOODBYE, an END or a RESET."""

    code: Code
    message: str | None = None
    field: str | None = None
    limit: int | None = None
    process: int | None = None

    def __str__(self) -> str:
        text = self.code.name.lower().replace("_", " ")
        if self.message:
            text += f": {self.message}"
        if self.field is not None:
            text += f" (field {self.field})"
        if self.limit is not None:
            text += f" (limit {self.limit})"
        if self.process is not None:
            text += f" (process {self.process:016x} exists)"
        return text


class BodyError(Exception):
    """A body that is refused; the connection lives on."""

    def __init__(self, code: Code, number: int | None, offset: int, why: str) -> None:
        super().__init__(f"field {number} at byte {offset}: {why}")
        self.code = code
        #: The number of the field at fault; ``None`` if not even that could be read.
        self.number = number
        #: The byte of the body at which that field begins.
        self.offset = offset


class ProtocolError(Exception):
    """The peer broke the protocol; the connection ends."""


class RemoteError(Exception):
    """The server answered with an error."""

    def __init__(self, error: Error) -> None:
        super().__init__(str(error))
        self.error = error


class ConnectionClosed(Exception):
    """The connection ended before what was waited for came."""

    def __init__(self, error: Error | None, why: str = "") -> None:
        super().__init__(str(error) if error else why or "the connection ended without a goodbye")
        self.error = error
