"""The bodies of requests and answers (page: Types, Operations)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from .errors import BodyError, Code
from .fields import Fields, Writer

SERVER_INFO = 1
PROCESS_START = 16
PROCESS_STOP = 17
PROCESS_LIST = 18
PROCESS_INSPECT = 19
LOG_FOLLOW = 20
CHANNEL_CREATE = 32
CHANNEL_DELETE = 33
CHANNEL_DRAIN = 34
CHANNEL_LIST = 35
CHANNEL_INSPECT = 36
CHANNEL_SHARE = 37
SUBSCRIBE = 38
PUBLISH = 39


class Capability(IntEnum):
    """What a process may do; numbers of the runtime's ABI."""

    SESSION_LIFECYCLE = 0
    CHANNEL_LIFECYCLE = 1
    CHANNEL_READER = 2
    CHANNEL_WRITER = 3
    PROCESS_LIFECYCLE = 4
    NET_QUIC_BIND = 5
    NET_QUIC_ACCEPT = 6
    NET_QUIC_CONNECT = 7
    NET_QUIC_READ = 8
    NET_QUIC_WRITE = 9
    NET_HTTP_BIND = 10
    NET_HTTP_ACCEPT = 11
    NET_HTTP_CONNECT = 12
    NET_HTTP_READ = 13
    NET_HTTP_WRITE = 14
    NET_TLS_SERVER_CONFIG = 15
    NET_TLS_CLIENT_CONFIG = 16
    SINGLETON_REGISTRY = 17
    SINGLETON_LOOKUP = 18
    TIME_READ = 19


class Kind(IntEnum):
    """The type of a parameter, a result or an argument."""

    I8 = 0
    U8 = 1
    I16 = 2
    U16 = 3
    I32 = 4
    U32 = 5
    I64 = 6
    U64 = 7
    F32 = 8
    F64 = 9
    BUFFER = 16
    #: Arguments only.
    RESOURCE = 17


_FORMS = {
    Kind.I8: ">b",
    Kind.U8: ">B",
    Kind.I16: ">h",
    Kind.U16: ">H",
    Kind.I32: ">i",
    Kind.U32: ">I",
    Kind.I64: ">q",
    Kind.U64: ">Q",
    Kind.F32: ">f",
    Kind.F64: ">d",
    Kind.RESOURCE: ">Q",
}


@dataclass(frozen=True)
class Argument:
    """One argument of a start."""

    kind: Kind
    value: int | float | bytes

    def encode(self) -> bytes:
        """A kind byte, then the value."""
        if isinstance(self.value, bytes):
            if self.kind is not Kind.BUFFER:
                raise ValueError(f"bytes are no {self.kind.name}")
            return bytes((self.kind,)) + self.value
        return bytes((self.kind,)) + struct.pack(_FORMS[self.kind], self.value)

    @classmethod
    def decode(cls, data: bytes) -> Argument:
        """From these bytes."""
        try:
            kind = Kind(data[0])
            if kind is Kind.BUFFER:
                return cls(kind, data[1:])
            return cls(kind, struct.unpack(_FORMS[kind], data[1:])[0])
        except (IndexError, ValueError, struct.error) as error:
            raise BodyError(Code.INVALID_ARGUMENT, None, 0, f"no argument: {error}") from error


@dataclass(frozen=True)
class Common:
    """What every request may carry."""

    token: int | None = None
    retry: bool = False
    deadline_ms: int | None = None
    #: Of the stream that the request opens: 1 to 16.
    weight: int | None = None

    KNOWN = (64, 65, 66, 67)

    def write(self, out: Writer) -> bytes:
        """Appends it to an operation's own fields, and ends the body."""
        if self.token is not None:
            out.integer(64, self.token, mandatory=True)
        if self.retry:
            out.flag(65, True, mandatory=True)
        if self.deadline_ms is not None:
            out.integer(66, self.deadline_ms)
        if self.weight is not None:
            out.integer(67, self.weight)
        return out.done()

    @classmethod
    def read(cls, fields: Fields) -> Common:
        """From a request's fields."""
        return cls(fields.integer(64), fields.flag(65) or False, fields.integer(66), fields.integer(67))


NOTHING = Common()


@dataclass(frozen=True)
class ServerInfo:
    """The answer to server info."""

    uptime_ms: int | None
    connections: int
    processes: int
    open_streams: int
    logs: int
    ring_bytes: int
    starts: int
    lingering: int
    connection_bytes: int
    suppressed_records: int
    orphans: int

    def encode(self) -> bytes:
        """The body."""
        out = Writer()
        if self.uptime_ms is not None:
            out.integer(1, self.uptime_ms)
        counts = (
            self.connections, self.processes, self.open_streams, self.logs, self.ring_bytes,
            self.starts, self.lingering, self.connection_bytes, self.suppressed_records, self.orphans,
        )  # fmt: skip
        for number, count in enumerate(counts, 2):
            out.integer(number, count)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> ServerInfo:
        """From a body."""
        fields = Fields(data, range(1, 12))
        return cls(fields.integer(1), *(fields.integer(number) or 0 for number in range(2, 12)))


@dataclass(frozen=True)
class Start:
    """A request to start a process."""

    module: str
    entrypoint: str
    capabilities: tuple[int, ...]
    parameters: tuple[int, ...]
    results: tuple[int, ...]
    arguments: tuple[Argument, ...]
    log_uri: str | None = None
    name: str | None = None
    common: Common = NOTHING

    @classmethod
    def of(
        cls,
        module: str,
        entrypoint: str,
        capabilities: Iterable[Capability] = (Capability.CHANNEL_LIFECYCLE, Capability.CHANNEL_WRITER),
        arguments: Iterable[Argument] = (),
        name: str | None = None,
        common: Common = NOTHING,
    ) -> Start:
        """The usual one: parameters as the arguments are, no results, and a log."""
        arguments = tuple(arguments)
        kinds = tuple(argument.kind for argument in arguments)
        return cls(module, entrypoint, tuple(capabilities), kinds, (), arguments, None, name, common)

    def encode(self) -> bytes:
        """The body."""
        out = Writer()
        out.text(1, self.module, mandatory=True).text(2, self.entrypoint, mandatory=True)
        out.raw(3, bytes(self.capabilities), mandatory=True)
        out.raw(4, bytes(self.parameters), mandatory=True)
        out.raw(5, bytes(self.results), mandatory=True)
        for argument in self.arguments:
            out.raw(6, argument.encode(), mandatory=True)
        if self.log_uri is not None:
            out.text(7, self.log_uri, mandatory=True)
        if self.name is not None:
            out.text(8, self.name, mandatory=True)
        return self.common.write(out)

    @classmethod
    def decode(cls, data: bytes) -> Start:
        """From a body."""
        fields = Fields(data, (*range(1, 9), *Common.KNOWN), repeated=(6,))
        return cls(
            fields.text(1, most=256) or "",
            fields.text(2, most=256) or "",
            tuple(fields.raw(3) or b""),
            tuple(fields.raw(4) or b""),
            tuple(fields.raw(5) or b""),
            tuple(Argument.decode(argument) for argument in fields.raws(6)),
            fields.text(7, most=1_024),
            fields.text(8),
            Common.read(fields),
        )


@dataclass(frozen=True)
class Process:
    """The answer to start and stop."""

    id: int
    name: str

    def encode(self) -> bytes:
        """The body."""
        return Writer().integer(1, self.id).text(2, self.name).done()

    @classmethod
    def decode(cls, data: bytes) -> Process:
        """From a body."""
        fields = Fields(data, (1, 2))
        return cls(fields.integer(1) or 0, fields.text(2) or "")


@dataclass(frozen=True)
class Target:
    """A request that names a process or a channel, and says no more."""

    target: str
    common: Common = NOTHING

    def encode(self) -> bytes:
        """The body."""
        return self.common.write(Writer().text(1, self.target, mandatory=True))

    @classmethod
    def decode(cls, data: bytes) -> Target:
        """From a body."""
        fields = Fields(data, (1, *Common.KNOWN))
        return cls(fields.text(1, most=128) or "", Common.read(fields))


class State(IntEnum):
    """What is known of a process."""

    STARTED = 1
    STOPPED = 2


class LogState(IntEnum):
    """What is known of a process's log."""

    NONE = 0
    NOT_SHOWN_YET = 1
    BEING_READ = 2
    ENDED = 3


@dataclass(frozen=True)
class ProcessInfo:
    """The answer to inspect, and one entry of a list."""

    id: int
    name: str
    module: str
    entrypoint: str
    state: int
    capabilities: tuple[int, ...]
    log: int
    next_sequence: int
    started_ms: int | None = None
    stopped_ms: int | None = None
    logged_ms: int | None = None

    def encode(self) -> bytes:
        """The body."""
        out = Writer().integer(1, self.id).text(2, self.name).text(3, self.module).text(4, self.entrypoint)
        out.integer(5, self.state).raw(6, bytes(self.capabilities)).integer(7, self.log)
        out.integer(8, self.next_sequence)
        for number, time in ((9, self.started_ms), (10, self.stopped_ms), (11, self.logged_ms)):
            if time is not None:
                out.integer(number, time)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> ProcessInfo:
        """From a body."""
        fields = Fields(data, range(1, 12))
        return cls(
            fields.integer(1) or 0,
            fields.text(2) or "",
            fields.text(3) or "",
            fields.text(4) or "",
            fields.integer(5) or 0,
            tuple(fields.raw(6) or b""),
            fields.integer(7) or 0,
            fields.integer(8) or 0,
            fields.integer(9),
            fields.integer(10),
            fields.integer(11),
        )


@dataclass(frozen=True)
class List:
    """A request for a part of the list of processes."""

    cursor: int | None = None
    most: int | None = None
    stopped: bool | None = None
    common: Common = NOTHING

    def encode(self) -> bytes:
        """The body."""
        out = Writer()
        if self.cursor is not None:
            out.integer(1, self.cursor)
        if self.most is not None:
            out.integer(2, self.most)
        if self.stopped is not None:
            out.flag(3, self.stopped, mandatory=True)
        return self.common.write(out)

    @classmethod
    def decode(cls, data: bytes) -> List:
        """From a body."""
        fields = Fields(data, (1, 2, 3, *Common.KNOWN))
        return cls(fields.integer(1), fields.integer(2), fields.flag(3), Common.read(fields))


@dataclass(frozen=True)
class Listing:
    """A part of the list, and where the next one begins."""

    processes: tuple[ProcessInfo, ...]
    next: int | None

    def encode(self) -> bytes:
        """The body."""
        out = Writer()
        for process in self.processes:
            out.raw(1, process.encode())
        if self.next is not None:
            out.integer(2, self.next)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> Listing:
        """From a body."""
        fields = Fields(data, (1, 2), repeated=(1,))
        return cls(tuple(ProcessInfo.decode(entry) for entry in fields.raws(1)), fields.integer(2))


@dataclass(frozen=True)
class Follow:
    """A request to follow a log."""

    target: str
    tail: int | None = None
    since: int | None = None
    until_now: bool | None = None
    common: Common = NOTHING

    def encode(self) -> bytes:
        """The body."""
        out = Writer().text(1, self.target, mandatory=True)
        if self.tail is not None:
            out.integer(2, self.tail, mandatory=True)
        if self.since is not None:
            out.integer(3, self.since, mandatory=True)
        if self.until_now is not None:
            out.flag(4, self.until_now, mandatory=True)
        return self.common.write(out)

    @classmethod
    def decode(cls, data: bytes) -> Follow:
        """From a body."""
        fields = Fields(data, (1, 2, 3, 4, *Common.KNOWN))
        return cls(
            fields.text(1, most=128) or "",
            fields.integer(2),
            fields.integer(3),
            fields.flag(4),
            Common.read(fields),
        )


@dataclass(frozen=True)
class Following:
    """The answer to it, before the records."""

    id: int
    name: str
    first: int
    next: int
    log: int

    def encode(self) -> bytes:
        """The body."""
        out = Writer().integer(1, self.id).text(2, self.name)
        return out.integer(3, self.first).integer(4, self.next).integer(5, self.log).done()

    @classmethod
    def decode(cls, data: bytes) -> Following:
        """From a body."""
        fields = Fields(data, range(1, 6))
        return cls(
            fields.integer(1) or 0,
            fields.text(2) or "",
            fields.integer(3) or 0,
            fields.integer(4) or 0,
            fields.integer(5) or 0,
        )


class Backpressure(IntEnum):
    """What becomes of messages for which a channel has no room."""

    PARK = 1
    DROP = 2


class ChannelState(IntEnum):
    """What is known of a channel."""

    OPEN = 1
    DRAINING = 2
    DELETED = 3


@dataclass(frozen=True)
class CreateChannel:
    """A request to create a channel."""

    capacity: int
    backpressure: int | None = None
    name: str | None = None
    common: Common = NOTHING

    def encode(self) -> bytes:
        """The body."""
        out = Writer().integer(1, self.capacity, mandatory=True)
        if self.backpressure is not None:
            out.integer(2, self.backpressure, mandatory=True)
        if self.name is not None:
            out.text(3, self.name, mandatory=True)
        return self.common.write(out)

    @classmethod
    def decode(cls, data: bytes) -> CreateChannel:
        """From a body."""
        fields = Fields(data, (1, 2, 3, *Common.KNOWN))
        return cls(fields.integer(1) or 0, fields.integer(2), fields.text(3), Common.read(fields))


@dataclass(frozen=True)
class ChannelInfo:
    """The answer to create, delete, drain, inspect and share, and one entry of a list."""

    id: int
    name: str
    capacity: int
    backpressure: int
    state: int
    shared: bool = False
    lossless: int = 0
    lossy: int = 0
    publications: int = 0
    messages: int = 0
    created_ms: int | None = None

    def encode(self) -> bytes:
        """The body."""
        out = Writer().integer(1, self.id).text(2, self.name).integer(3, self.capacity)
        out.integer(4, self.backpressure).integer(5, self.state).flag(6, self.shared)
        out.integer(7, self.lossless).integer(8, self.lossy).integer(9, self.publications).integer(10, self.messages)
        if self.created_ms is not None:
            out.integer(11, self.created_ms)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> ChannelInfo:
        """From a body."""
        fields = Fields(data, range(1, 12))
        return cls(
            fields.integer(1) or 0,
            fields.text(2) or "",
            *(fields.integer(number) or 0 for number in (3, 4, 5)),
            fields.flag(6) or False,
            *(fields.integer(number) or 0 for number in (7, 8, 9, 10)),
            fields.integer(11),
        )


@dataclass(frozen=True)
class ListChannels:
    """A request for a part of the list of channels."""

    cursor: int | None = None
    most: int | None = None
    common: Common = NOTHING

    def encode(self) -> bytes:
        """The body."""
        out = Writer()
        if self.cursor is not None:
            out.integer(1, self.cursor)
        if self.most is not None:
            out.integer(2, self.most)
        return self.common.write(out)

    @classmethod
    def decode(cls, data: bytes) -> ListChannels:
        """From a body."""
        fields = Fields(data, (1, 2, *Common.KNOWN))
        return cls(fields.integer(1), fields.integer(2), Common.read(fields))


@dataclass(frozen=True)
class ChannelListing:
    """A part of the list, and where the next one begins."""

    channels: tuple[ChannelInfo, ...]
    next: int | None

    def encode(self) -> bytes:
        """The body."""
        out = Writer()
        for channel in self.channels:
            out.raw(1, channel.encode())
        if self.next is not None:
            out.integer(2, self.next)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> ChannelListing:
        """From a body."""
        fields = Fields(data, (1, 2), repeated=(1,))
        return cls(tuple(ChannelInfo.decode(entry) for entry in fields.raws(1)), fields.integer(2))


@dataclass(frozen=True)
class Subscribe:
    """A request for the messages of a channel."""

    target: str
    lossless: bool | None = None
    since: int | None = None
    tail: int | None = None
    common: Common = NOTHING

    def encode(self) -> bytes:
        """The body."""
        out = Writer().text(1, self.target, mandatory=True)
        if self.lossless is not None:
            out.flag(2, self.lossless, mandatory=True)
        if self.since is not None:
            out.integer(3, self.since, mandatory=True)
        if self.tail is not None:
            out.integer(4, self.tail, mandatory=True)
        return self.common.write(out)

    @classmethod
    def decode(cls, data: bytes) -> Subscribe:
        """From a body."""
        fields = Fields(data, (1, 2, 3, 4, *Common.KNOWN))
        return cls(
            fields.text(1, most=128) or "",
            fields.flag(2),
            fields.integer(3),
            fields.integer(4),
            Common.read(fields),
        )


@dataclass(frozen=True)
class Subscribed:
    """The answer to it, before the messages."""

    id: int
    name: str
    first: int
    next: int

    def encode(self) -> bytes:
        """The body."""
        return Writer().integer(1, self.id).text(2, self.name).integer(3, self.first).integer(4, self.next).done()

    @classmethod
    def decode(cls, data: bytes) -> Subscribed:
        """From a body."""
        fields = Fields(data, range(1, 5))
        return cls(
            fields.integer(1) or 0,
            fields.text(2) or "",
            fields.integer(3) or 0,
            fields.integer(4) or 0,
        )


@dataclass(frozen=True)
class Publish:
    """A request to publish into a channel."""

    target: str
    publication: int
    resume: bool | None = None
    common: Common = NOTHING

    def encode(self) -> bytes:
        """The body."""
        out = Writer().text(1, self.target, mandatory=True).integer(2, self.publication, mandatory=True)
        if self.resume is not None:
            out.flag(3, self.resume, mandatory=True)
        return self.common.write(out)

    @classmethod
    def decode(cls, data: bytes) -> Publish:
        """From a body."""
        fields = Fields(data, (1, 2, 3, *Common.KNOWN))
        return cls(
            fields.text(1, most=128) or "", fields.integer(2) or 0, fields.flag(3), Common.read(fields)
        )


@dataclass(frozen=True)
class Published:
    """The answer to it, before our messages."""

    id: int
    name: str
    capacity: int
    backpressure: int
    #: The last number of the publication that the channel has.
    last: int | None = None

    def encode(self) -> bytes:
        """The body."""
        out = Writer().integer(1, self.id).text(2, self.name)
        out.integer(3, self.capacity).integer(4, self.backpressure)
        if self.last is not None:
            out.integer(5, self.last)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> Published:
        """From a body."""
        fields = Fields(data, range(1, 6))
        return cls(
            fields.integer(1) or 0,
            fields.text(2) or "",
            fields.integer(3) or 0,
            fields.integer(4) or 0,
            fields.integer(5),
        )
