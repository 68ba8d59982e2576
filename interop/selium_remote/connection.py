"""A client's connection without I/O: bytes in, events out (page: A connection's life, Requests, Messages, Credit)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from . import frames
from .credit import OVERHEAD, ReceiveWindow, SendWindow
from .envelope import VERSION, Accepted, ClientEnvelope, read_answer
from .errors import BodyError, Code, Error, ProtocolError
from .frames import Frame
from .hello import ClientHello, ServerHello
from .messages import Reassembler
from .outbox import Outbox


@dataclass(frozen=True)
class Connected:
    """The server accepted us."""

    hello: ServerHello


@dataclass(frozen=True)
class Answered:
    """A request's one answer: code 0 and a body, or an error."""

    id: int
    body: bytes
    error: Error | None


@dataclass(frozen=True)
class Received:
    """A stream's message. It takes room until it is given to ``Connection.read``."""

    stream: int
    sequence: int
    payload: bytes

    @property
    def cost(self) -> int:
        """In credit."""
        return len(self.payload) + OVERHEAD


@dataclass(frozen=True)
class Missing:
    """A gap in a stream. It takes room until it is given to ``Connection.read``."""

    stream: int
    next: int
    count: int | None

    @property
    def cost(self) -> int:
        """In credit."""
        return OVERHEAD


@dataclass(frozen=True)
class Ended:
    """A stream's end, with a reason or without."""

    stream: int
    reason: Error | None


@dataclass(frozen=True)
class WasReset:
    """A stream is over in both directions."""

    stream: int
    error: Error


@dataclass(frozen=True)
class Acknowledged:
    """What was sent up to this message was taken over."""

    stream: int
    sequence: int
    may_be_dropped: bool


@dataclass(frozen=True)
class Ponged:
    """A PING's answer."""

    payload: bytes


@dataclass(frozen=True)
class Draining:
    """The server takes no new requests."""


@dataclass(frozen=True)
class Closed:
    """Nothing more comes. ``by_us`` if it was this side that found fault with the other."""

    error: Error | None
    by_us: bool = False


Event: TypeAlias = (
    Connected | Answered | Received | Missing | Ended | WasReset | Acknowledged | Ponged | Draining | Closed
)


@dataclass
class _Waiting:
    """A request without its answer."""

    stream: bool
    #: Of a stream: whether it is ours to send on.
    sends: bool = False
    weight: int = 1
    cancelled: bool = False


@dataclass
class _Stream:
    """An open stream."""

    window: ReceiveWindow
    #: Whether it flows from us to the server.
    sends: bool = False
    #: The least sequence number that the next message can have.
    expected: int = 0
    #: The least sequence number that the next message that we send can have.
    sending: int = 0
    #: Messages whose last byte was sent and that were not acknowledged, by their numbers.
    sent: deque[int] = field(default_factory=deque)
    #: We ended our half.
    ended: bool = field(default=False)


class Connection:
    """One connection. ``take`` gives what is to be sent, first of all the preface and the hello."""

    def __init__(self, hello: ClientHello) -> None:
        self._limits = hello.limits
        self._preface = ClientEnvelope(hello.encode()).encode()
        self._buffer = b""
        self._server: ServerHello | None = None
        self._closed = self._said_goodbye = False
        self._splitter = frames.Splitter()
        self._outbox = Outbox()
        self._answers = Reassembler(self._limits.message, self._limits.reassembly)
        self._window = ReceiveWindow(self._limits.connection_credit)
        self._exchanges: dict[int, _Waiting | _Stream] = {}
        self._last_id = 0

    @property
    def server(self) -> ServerHello | None:
        """The server's hello, once it came."""
        return self._server

    @property
    def closed(self) -> bool:
        """Whether nothing more comes or goes."""
        return self._closed

    def take(self) -> bytes:
        """The next bytes to write; empty when there is nothing to send now."""
        if self._preface:
            preface, self._preface = self._preface, b""
            return preface
        return b"" if self._server is None and not self._said_goodbye else self._outbox.take()

    # What the application wants.

    def request(
        self, operation: int, body: bytes = b"", *, stream: bool = False, sends: bool = False, weight: int = 1
    ) -> int:
        """Sends a request and returns its id. ``stream`` if a good answer opens a stream, and then whether we send on
        it, and its weight."""
        self._check_open()
        if len(body) > frames.MAX_CHUNK and not self._outbox.has_room(len(body)):
            raise ValueError("the server does not take so many long requests at a time")
        self._last_id += 1
        number = self._last_id
        self._exchanges[number] = _Waiting(stream, sends, weight)
        if len(body) <= frames.MAX_CHUNK:
            self._outbox.urgent(frames.Request(number, operation, len(body), body))
            return number

        def make(first: bool, content: bytes) -> Frame:
            return frames.Request(number, operation, len(body), content) if first else frames.More(number, content)

        self._outbox.open_lane(number, None)
        self._outbox.begun(number, body, make)
        return number

    def cancel(self, number: int) -> None:
        """Does not want it any more. A request is still answered; of an open stream nothing more comes."""
        exchange = self._exchanges.get(number)
        if self._closed or exchange is None:
            return
        self._outbox.urgent(frames.Cancel(number))
        if isinstance(exchange, _Waiting):
            exchange.cancelled = True
        else:
            self._over(number)

    def reset(self, stream: int, error: Error) -> None:
        """Ends an open stream in both directions; what was not sent of it yet is not sent any more."""
        if self._closed or not isinstance(self._exchanges.get(stream), _Stream):
            raise ValueError(f"no stream {stream} is open")
        self._outbox.urgent(frames.Reset(stream, error))
        self._over(stream)

    def waiting(self, stream: int) -> int:
        """How many messages of a stream are not sent, or not to their ends."""
        return self._outbox.waiting(stream)

    def send(self, stream: int, sequence: int, payload: bytes) -> None:
        """Sends a message on an open stream, as far and as soon as there is credit."""
        opened = self._check_sending(stream)
        if sequence < opened.sending:
            raise ValueError(f"message {sequence} comes after {opened.sending}")
        if not payload:
            raise ValueError("a stream message has at least one byte")
        if self._server is not None and len(payload) > self._server.limits.message:
            raise ValueError(f"the server takes messages of at most {self._server.limits.message} bytes")
        opened.sending = sequence + 1
        total = left = len(payload)

        def make(first: bool, content: bytes) -> Frame:
            nonlocal left
            left -= len(content)
            if not left:
                opened.sent.append(sequence)
            return frames.Data(stream, sequence, total, content) if first else frames.DataMore(stream, content)

        self._outbox.message(stream, payload, make)

    def end(self, stream: int, reason: Error | None = None) -> None:
        """Ends our half of a stream, behind what was sent on it."""
        self._check_sending(stream).ended = True
        self._outbox.frame(stream, frames.End(stream, reason))

    def read(self, item: Received | Missing) -> None:
        """The application has read it; its room is given back."""
        self._window.release(item.cost)
        stream = self._exchanges.get(item.stream)
        if isinstance(stream, _Stream):
            stream.window.release(item.cost)
        self._grant(item.stream)

    def ping(self, payload: bytes) -> None:
        """Asks whether the server is there; 8 bytes of one's own choice."""
        self._check_open()
        self._outbox.urgent(frames.Ping(payload))

    def drain(self) -> None:
        """Says that no new requests will be made."""
        self._check_open()
        self._outbox.urgent(frames.Drain())

    def goodbye(self, error: Error = Error(Code.CANCELLED)) -> None:
        """The last frame."""
        if not self._closed:
            self._outbox.clear()
            if self._server is not None:
                self._outbox.urgent(frames.Goodbye(error))
            self._closed = self._said_goodbye = True
            self._exchanges.clear()

    # What the server sent.

    def receive(self, data: bytes) -> list[Event]:
        """Takes bytes, in any pieces, and tells what they mean."""
        events: list[Event] = []
        if self._closed:
            return events
        try:
            for event in self._receive(data):
                events.append(event)
        except (ProtocolError, BodyError) as error:
            reason = Error(Code.PROTOCOL_ERROR, str(error)[:200])
            self.goodbye(reason)
            events.append(Closed(reason, by_us=True))
        return events

    def receive_end(self) -> list[Event]:
        """The transport is at its end."""
        if self._closed:
            return []
        self._closed = True
        self._exchanges.clear()
        return [Closed(None)]

    def _receive(self, data: bytes) -> Iterator[Event]:
        if self._server is None:
            self._buffer += data
            answer = read_answer(self._buffer)
            if answer is None:
                return
            verdict, end = answer
            data, self._buffer = self._buffer[end:], b""
            if not isinstance(verdict, Accepted):
                self._closed = True
                yield Closed(Error(verdict.code, verdict.message))
                return
            if verdict.version != VERSION:
                raise ProtocolError(f"the server chose version {verdict.version}")
            self._server = ServerHello.decode(verdict.hello)
            limits = self._server.limits
            self._outbox.set_limits(limits.connection_credit, limits.reassembly)
            yield Connected(self._server)
        self._splitter.feed(data)
        while not self._closed and (frame := self._splitter.next()) is not None:
            yield from self._handle(frame)

    def _handle(self, frame: Frame) -> Iterator[Event]:
        match frame:
            case frames.Ping(payload):
                self._outbox.urgent(frames.Pong(payload))
            case frames.Pong(payload):
                yield Ponged(payload)
            case frames.Goodbye(error):
                self._closed = True
                self._exchanges.clear()
                yield Closed(error)
            case frames.Drain():
                yield Draining()
            case frames.Credit(stream, limit):
                if stream:
                    self._check_used(stream)
                self._outbox.credit(stream, limit)
            case frames.Response(number, code, total, content):
                self._check_used(number)
                yield from self._answer_begins(number, code, total, content)
            case frames.More(number, content):
                self._check_used(number)
                exchange = self._exchanges.get(number)
                if isinstance(exchange, _Stream):
                    raise ProtocolError(f"more of an answer to {number}, which is complete")
                if exchange is not None and (done := self._answers.more(number, content)):
                    yield from self._answer(number, *done)
            case frames.Data() | frames.DataMore() | frames.Gap():
                yield from self._stream_data(frame)
            case frames.End() | frames.Reset() | frames.Ack():
                yield from self._stream_control(frame)
            case frames.Unknown():
                pass
            case frames.Request() | frames.Cancel():
                raise ProtocolError("servers make no requests")

    def _answer_begins(self, number: int, code: int, total: int, content: bytes) -> Iterator[Event]:
        exchange = self._exchanges.get(number)
        if exchange is None:
            return
        if isinstance(exchange, _Stream):
            raise ProtocolError(f"a second answer to {number}")
        body = self._answers.begin(number, code, total, content)
        if body is not None:
            yield from self._answer(number, code, body)

    def _answer(self, number: int, code: int, body: bytes) -> Iterator[Event]:
        exchange = self._exchanges.get(number)
        if not isinstance(exchange, _Waiting):
            return
        # What was not sent of the request yet is not sent any more.
        self._outbox.drop_lane(number)
        error = None if code == 0 else frames.decode_error_fields(code, body)
        # A CANCEL that crossed a good answer reached an open stream, and ended it.
        if error is None and exchange.stream and not exchange.cancelled and self._server is not None:
            self._exchanges[number] = _Stream(ReceiveWindow(self._limits.stream_credit), exchange.sends)
            self._outbox.open_lane(number, SendWindow(self._server.limits.stream_credit), exchange.weight)
        else:
            self._over(number)
        yield Answered(number, b"" if error else body, error)

    def _stream_data(self, frame: frames.Data | frames.DataMore | frames.Gap) -> Iterator[Event]:
        number = frame.stream
        self._check_used(number)
        cost = OVERHEAD if isinstance(frame, frames.Gap) else len(frame.content)
        if isinstance(frame, frames.Data):
            cost += OVERHEAD
        self._window.spend(cost)
        stream = self._exchanges.get(number)
        if stream is None:  # it is over: dropped, and its room is given back at once
            self._grant(number)
            return
        if isinstance(stream, _Waiting):
            raise ProtocolError(f"data of {number} before its answer")
        if stream.sends:
            raise ProtocolError(f"data of {number}, which is ours to send on")
        stream.window.spend(cost)
        match frame:
            case frames.Gap(_, following, count):
                if self._answers.under_way(number):
                    raise ProtocolError(f"a gap of {number} inside a message")
                if following < stream.expected:
                    raise ProtocolError(f"a gap of {number} before {following}, after {stream.expected}")
                stream.expected = following
                missing = Missing(number, following, count)
                yield self._hold(stream, missing)
            case frames.Data(_, sequence, total, content):
                if sequence < stream.expected:
                    raise ProtocolError(f"message {sequence} of {number} after {stream.expected}")
                if total == 0:
                    raise ProtocolError(f"an empty message of {number}")
                payload = self._answers.begin(number, sequence, total, content)
                stream.expected = sequence + 1
                if payload is not None:
                    yield self._hold(stream, Received(number, sequence, payload))
                else:
                    self._grant(number)
            case frames.DataMore(_, content):
                done = self._answers.more(number, content)
                if done is not None:
                    yield self._hold(stream, Received(number, *done))
                else:
                    self._grant(number)

    def _stream_control(self, frame: frames.End | frames.Reset | frames.Ack) -> Iterator[Event]:
        number = frame.stream
        self._check_used(number)
        stream = self._exchanges.get(number)
        if stream is None:
            return
        if isinstance(stream, _Waiting):
            raise ProtocolError(f"the end of {number} before its answer")
        match frame:
            case frames.End(_, reason):
                if self._answers.under_way(number):
                    raise ProtocolError(f"the end of {number} inside a message")
                self._over(number)
                yield Ended(number, reason)
            case frames.Reset(_, error):
                self._over(number)
                yield WasReset(number, error)
            case frames.Ack(_, sequence, _):
                # What is behind it was acknowledged already, or is not on its way yet.
                if sequence not in stream.sent:
                    raise ProtocolError(f"an acknowledgement of {sequence} on {number}")
                while stream.sent.popleft() != sequence:
                    pass
                yield Acknowledged(number, sequence, frame.may_be_dropped)

    def _hold(self, stream: _Stream, item: Received | Missing) -> Event:
        stream.window.hold(item.cost)
        self._window.hold(item.cost)
        return item

    def _grant(self, number: int) -> None:
        """Gives back what credit there is to give back."""
        if self._closed:
            return
        stream, needed = self._exchanges.get(number), self._answers.needed(number)
        if isinstance(stream, _Stream) and (limit := stream.window.grant(needed)) is not None:
            self._outbox.urgent(frames.Credit(number, limit))
        if (limit := self._window.grant(needed)) is not None:
            self._outbox.urgent(frames.Credit(0, limit))

    def _over(self, number: int) -> None:
        self._exchanges.pop(number, None)
        self._answers.drop(number)
        self._outbox.drop_lane(number)

    def _check_used(self, number: int) -> None:
        if not 0 < number <= self._last_id:
            raise ProtocolError(f"a frame for {number}, which was never used")

    def _check_open(self) -> None:
        if self._closed or self._server is None:
            raise ValueError("the connection is not open")

    def _check_sending(self, number: int) -> _Stream:
        stream = self._exchanges.get(number)
        if self._closed or not isinstance(stream, _Stream) or not stream.sends or stream.ended:
            raise ValueError(f"nothing can be sent on {number}")
        return stream


