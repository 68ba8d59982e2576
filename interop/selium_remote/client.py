"""A client on asyncio and aioquic (page: Transport)."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.quic.packet import QuicProtocolVersion

from . import certificate
from . import connection as machine
from . import operations as ops
from .errors import Code, ConnectionClosed, Error, RemoteError
from .hello import ClientHello, Limits, ServerHello

#: The runtime drops a connection that is silent for 30 s.
KEEP_ALIVE_S = 5.0

#: What this client accepts unless it is told otherwise.
LIMITS = Limits(message=1_048_576, reassembly=2_097_152, connection_credit=262_144, stream_credit=65_536)

_READ_BYTES = 65_536


@dataclass(frozen=True)
class Endpoint:
    """Where the control plane is."""

    port: int
    ca_file: Path
    host: str = "127.0.0.1"
    server_name: str = "localhost"


class Link(QuicConnectionProtocol):
    """One QUIC connection and the one stream on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    #: Why the connection ended, as QUIC tells it.
    close_reason: str = ""

    def quic_event_received(self, event: QuicEvent) -> None:
        """Keeps the reason of the end."""
        if isinstance(event, ConnectionTerminated):
            self.close_reason = f"{event.reason_phrase or 'closed'} ({event.error_code:#x})"
        super().quic_event_received(event)

    def end(self) -> None:
        """Ends our half of the stream, if there is one, and closes the connection."""
        if hasattr(self, "writer") and not self.close_reason:
            self.writer.close()
        self.close()

    def check_certificate(self, endpoint: Endpoint) -> None:
        """Whether the server is who it should be. TLS has checked that it holds the certificate's key."""
        tls = self._quic.tls
        server = tls._peer_certificate
        if server is None:
            raise certificate.CertificateError("the server showed no certificate")
        certificate.check(server, tls._peer_certificate_chain, endpoint.ca_file, endpoint.server_name)


@asynccontextmanager
async def open_link(endpoint: Endpoint) -> AsyncIterator[Link]:
    """Connects: QUIC version 1, no ALPN, IPv4, the given SNI, a certificate that the CA file vouches for."""
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=None,
        server_name=endpoint.server_name,
        # Checked below, before anything is sent: see `certificate`.
        verify_mode=ssl.CERT_NONE,
        supported_versions=[QuicProtocolVersion.VERSION_1],
        original_version=QuicProtocolVersion.VERSION_1,
    )
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(endpoint.host, endpoint.port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    transport, link = await loop.create_datagram_endpoint(
        lambda: Link(QuicConnection(configuration=configuration)), family=socket.AF_INET, local_addr=("0.0.0.0", 0)
    )
    try:
        link.connect(found[0][4])
        try:
            await link.wait_connected()
        except ConnectionError:
            raise ConnectionClosed(None, link.close_reason) from None
        link.check_certificate(endpoint)
        link.reader, link.writer = await link.create_stream()
        yield link
    finally:
        link.end()
        await link.wait_closed()
        transport.close()


class Stream:
    """An open stream: its items as they come, each read when it is taken."""

    def __init__(self, client: Client, number: int) -> None:
        self.id = number
        #: Why it ended, once it has and if that was said.
        self.reason: Error | None = None
        self.was_reset = False
        self._client = client
        # Bounded by the credit that we give.
        self._queue: asyncio.Queue[machine.Event] = asyncio.Queue()
        self._over = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> machine.Received | machine.Missing:
        if self._over and self._queue.empty():
            raise StopAsyncIteration
        item = await self._queue.get()
        match item:
            case machine.Received() | machine.Missing():
                self._client._has_read(item)
                return item
            case machine.Ended(_, reason):
                self.reason = reason
            case machine.WasReset(_, error):
                self.reason, self.was_reset = error, True
            case machine.Closed(error):
                self._over = True
                raise ConnectionClosed(error)
        self._over = True
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Wants no more of it."""
        self._over = True
        self._client._cancel(self.id)
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if isinstance(item, machine.Received | machine.Missing):
                self._client._has_read(item)

    def put(self, event: machine.Event) -> None:
        """Something came for it."""
        if not self._over:
            self._queue.put_nowait(event)
        elif isinstance(event, machine.Received | machine.Missing):
            self._client._has_read(event)


class Publishing:
    """An open publication: our messages, and what the server says of them."""

    def __init__(self, client: Client, number: int) -> None:
        self.id = number
        #: The answer to the request.
        self.opened = ops.Published(0, "", 0, 0)
        #: Messages that were not acknowledged, with their numbers.
        self.pending: deque[tuple[int, bytes]] = deque()
        #: Every ACK: its number, and whether the channel may have dropped.
        self.acks: list[tuple[int, bool]] = []
        #: How it ended, once it has.
        self.over = False
        self.reason: Error | None = None
        self.was_reset = False
        self._client = client
        self._next = 0
        self._news = asyncio.Event()

    def begin(self, opened: ops.Published, before: Publishing | None) -> None:
        """The server answered. What lies behind the last number that it has of an earlier stream is sent again."""
        self.opened = opened
        if before is None:
            self._next = 0 if opened.last is None else opened.last + 1
            return
        self._next = before._next
        for sequence, payload in before.pending:
            if opened.last is None or sequence > opened.last:
                self.pending.append((sequence, payload))
                self._client._send(self.id, sequence, payload)

    def put(self, event: machine.Event) -> None:
        """Something came for it."""
        match event:
            case machine.Acknowledged(_, sequence, may_be_dropped):
                self.acks.append((sequence, may_be_dropped))
                while self.pending and self.pending[0][0] <= sequence:
                    self.pending.popleft()
            case machine.Ended(_, reason):
                self.over, self.reason = True, reason
            case machine.WasReset(_, error):
                self.over, self.reason, self.was_reset = True, error, True
            case machine.Closed(error):
                self.over, self.reason = True, error
        self.progress()

    def progress(self) -> None:
        """Something may have been sent, or came."""
        self._news.set()

    def send(self, payload: bytes) -> int:
        """Sends a message as soon as there is credit, and returns its number."""
        sequence, self._next = self._next, self._next + 1
        self._client._send(self.id, sequence, payload)
        self.pending.append((sequence, payload))
        return sequence

    @property
    def waiting(self) -> int:
        """How many messages wait for credit."""
        return self._client._machine.waiting(self.id)

    async def sent(self) -> None:
        """Waits until everything is on its way, or the stream is over."""
        await self._until(lambda: not self.waiting)

    async def acknowledged(self) -> None:
        """Waits until everything was taken over."""
        await self._until(lambda: not self.pending)
        if self.pending:
            raise RemoteError(self.reason or Error(Code.CANCELLED))

    async def end(self) -> None:
        """Ends our half, and waits for the server's."""
        self._client._machine.end(self.id)
        self._client._flush()
        await self.ended()

    async def ended(self) -> None:
        """Waits for the end of the stream."""
        await self._until(lambda: False)

    def reset(self, error: Error) -> None:
        """Ends the stream at once; the publication can be gone on with."""
        self.over = True
        self._client._machine.reset(self.id, error)
        self._client._streams.pop(self.id, None)
        self._client._flush()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not self.over and not done():
            self._news.clear()
            await self._news.wait()


class Client:
    """A connected client. Made by :func:`connect`."""

    def __init__(self, link: Link, hello: ClientHello) -> None:
        self.link = link
        self.hello = hello
        self.server = ServerHello(b"", Limits())
        self.closed: machine.Closed | None = None
        self.draining = False
        self._machine = machine.Connection(hello)
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Future[machine.Answered]] = {}
        self._streams: dict[int, Stream | Publishing] = {}
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._ended = asyncio.Event()
        self._next_token = self._next_ping = 0
        self._publications = itertools.count()

    # Operations.

    async def server_info(self) -> ops.ServerInfo:
        """How the server is doing."""
        return ops.ServerInfo.decode(await self.call(ops.SERVER_INFO))

    async def start(self, request: ops.Start) -> ops.Process:
        """Starts a process; with a token of its own unless the request has one."""
        if request.common.token is None:
            request = replace(request, common=replace(request.common, token=self.token()))
        return ops.Process.decode(await self.call(ops.PROCESS_START, request.encode()))

    async def stop(self, target: str) -> ops.Process:
        """Requests the stop of a process."""
        body = ops.Target(target, ops.Common(token=self.token())).encode()
        return ops.Process.decode(await self.call(ops.PROCESS_STOP, body))

    async def processes(self, *, stopped: bool = True, page: int = 256) -> list[ops.ProcessInfo]:
        """All processes, page by page."""
        found: list[ops.ProcessInfo] = []
        cursor: int | None = 0
        while cursor is not None:
            body = ops.List(cursor, page, stopped).encode()
            listing = ops.Listing.decode(await self.call(ops.PROCESS_LIST, body))
            found += listing.processes
            cursor = listing.next
        return found

    async def inspect(self, target: str) -> ops.ProcessInfo:
        """What is known of a process."""
        return ops.ProcessInfo.decode(await self.call(ops.PROCESS_INSPECT, ops.Target(target).encode()))

    async def follow(self, request: ops.Follow) -> tuple[ops.Following, Stream]:
        """Follows a log."""
        body, stream = await self._open(ops.LOG_FOLLOW, request.encode())
        return ops.Following.decode(body), stream

    # Channels.

    async def create_channel(self, request: ops.CreateChannel) -> ops.ChannelInfo:
        """Creates a channel; with a token of its own unless the request has one."""
        if request.common.token is None:
            request = replace(request, common=replace(request.common, token=self.token()))
        return ops.ChannelInfo.decode(await self.call(ops.CHANNEL_CREATE, request.encode()))

    async def delete_channel(self, target: str) -> ops.ChannelInfo:
        """Deletes a channel."""
        return await self._change_channel(ops.CHANNEL_DELETE, target)

    async def drain_channel(self, target: str) -> ops.ChannelInfo:
        """Lets a channel take no new messages."""
        return await self._change_channel(ops.CHANNEL_DRAIN, target)

    async def share_channel(self, target: str) -> ops.ChannelInfo:
        """Makes a channel known to the runtime."""
        return await self._change_channel(ops.CHANNEL_SHARE, target)

    async def channel(self, target: str) -> ops.ChannelInfo:
        """What is known of a channel."""
        return ops.ChannelInfo.decode(await self.call(ops.CHANNEL_INSPECT, ops.Target(target).encode()))

    async def channels(self, *, page: int = 256) -> list[ops.ChannelInfo]:
        """All channels, page by page."""
        found: list[ops.ChannelInfo] = []
        cursor: int | None = 0
        while cursor is not None:
            body = ops.ListChannels(cursor, page).encode()
            listing = ops.ChannelListing.decode(await self.call(ops.CHANNEL_LIST, body))
            found += listing.channels
            cursor = listing.next
        return found

    async def subscribe(self, request: ops.Subscribe) -> tuple[ops.Subscribed, Stream]:
        """Reads a channel."""
        body, stream = await self._open(ops.SUBSCRIBE, request.encode())
        return ops.Subscribed.decode(body), stream

    async def publish(self, request: ops.Publish, before: Publishing | None = None) -> Publishing:
        """Writes into a channel. ``before`` is an earlier stream of this publication, perhaps of another connection."""
        number = self.begin(ops.PUBLISH, request.encode(), stream=True, sends=True)
        publishing = self._streams[number]
        assert isinstance(publishing, Publishing)
        publishing.begin(ops.Published.decode(await self.answer(number)), before)
        return publishing

    def publication(self) -> int:
        """A number for a publication that this client has not used yet."""
        return next(self._publications)

    # What they are made of.

    def token(self) -> int:
        """A number that this session has not used yet."""
        self._next_token += 1
        return self._next_token

    async def call(self, operation: int, body: bytes = b"") -> bytes:
        """A request and the body of its answer."""
        return await self.answer(self.begin(operation, body))

    def begin(self, operation: int, body: bytes = b"", *, stream: bool = False, sends: bool = False) -> int:
        """Sends a request and returns its id; :meth:`answer` has to be awaited."""
        if self.closed is not None:
            raise ConnectionClosed(self.closed.error)
        number = self._machine.request(operation, body, stream=stream, sends=sends)
        self._answers[number] = asyncio.get_running_loop().create_future()
        if stream:
            self._streams[number] = Publishing(self, number) if sends else Stream(self, number)
        self._flush()
        return number

    async def answer(self, number: int) -> bytes:
        """The body of a good answer; an error is raised."""
        try:
            answered = await self._answers[number]
        finally:
            self._answers.pop(number, None)
        if answered.error is not None:
            self._streams.pop(number, None)
            raise RemoteError(answered.error)
        return answered.body

    def cancel(self, number: int) -> None:
        """Does not want a request any more; it is answered all the same."""
        self._cancel(number)

    async def ping(self) -> None:
        """Returns when the server answered."""
        self._next_ping += 1
        payload = self._next_ping.to_bytes(8, "big")  # its first bit stays 0: it counts as a sign of time
        self._pongs[payload] = asyncio.get_running_loop().create_future()
        self._machine.ping(payload)
        self._flush()
        await self._pongs[payload]

    async def wait_closed(self) -> machine.Closed:
        """Waits for the connection's end."""
        await self._ended.wait()
        return self.closed or machine.Closed(None)

    async def _change_channel(self, operation: int, target: str) -> ops.ChannelInfo:
        body = ops.Target(target, ops.Common(token=self.token())).encode()
        return ops.ChannelInfo.decode(await self.call(operation, body))

    async def _open(self, operation: int, body: bytes) -> tuple[bytes, Stream]:
        number = self.begin(operation, body, stream=True)
        answer = await self.answer(number)
        stream = self._streams[number]
        assert isinstance(stream, Stream)
        return answer, stream

    # For `connect`, `Stream` and `Publishing`.

    async def run(self) -> None:
        """Reads until the end."""
        self._flush()
        while data := await self.link.reader.read(_READ_BYTES):
            for event in self._machine.receive(data):
                self._dispatch(event)
            self._flush()
            for stream in self._streams.values():
                if isinstance(stream, Publishing):
                    stream.progress()  # credit may have come
        for event in self._machine.receive_end():
            self._dispatch(event)

    async def keep_alive(self) -> None:
        """Pings for ever."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            await self.ping()

    async def wait_connected(self) -> None:
        """Returns when the server's hello came."""
        await self._connected

    def goodbye(self) -> None:
        """Says it, if there is still somebody who listens."""
        self._machine.goodbye()
        self._flush()

    def _cancel(self, number: int) -> None:
        self._machine.cancel(number)
        self._streams.pop(number, None)
        self._flush()

    def _send(self, number: int, sequence: int, payload: bytes) -> None:
        self._machine.send(number, sequence, payload)
        self._flush()

    def _has_read(self, item: machine.Received | machine.Missing) -> None:
        self._machine.read(item)
        self._flush()

    def _flush(self) -> None:
        while data := self._machine.take():
            self.link.writer.write(data)

    def _dispatch(self, event: machine.Event) -> None:
        match event:
            case machine.Connected(hello):
                self.server = hello
                _settle(self._connected, None)
            case machine.Answered(number):
                _settle(self._answers.get(number), event)
            case machine.Received(number) | machine.Missing(number):
                if number in self._streams:
                    self._streams[number].put(event)
                else:
                    self._machine.read(event)
            case machine.Ended(number) | machine.WasReset(number) | machine.Acknowledged(number):
                if (stream := self._streams.get(number)) is not None:
                    stream.put(event)
            case machine.Ponged(payload):
                _settle(self._pongs.pop(payload, None), None)
            case machine.Draining():
                self.draining = True
            case machine.Closed(error):
                self.closed = event
                failure = ConnectionClosed(error, self.link.close_reason)
                waiters: list[asyncio.Future[Any]] = [self._connected, *self._answers.values(), *self._pongs.values()]
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_exception(failure)
                        waiter.exception()  # nobody has to be waiting
                for stream in self._streams.values():
                    stream.put(event)
                self._ended.set()


def _settle(waiter: asyncio.Future[Any] | None, value: object) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(value)


@asynccontextmanager
async def connect(
    endpoint: Endpoint, *, session: bytes | None = None, limits: Limits = LIMITS
) -> AsyncIterator[Client]:
    """A client whose hello was answered. It says goodbye at the end."""
    hello = ClientHello(
        nonce=os.urandom(16),
        session=session or os.urandom(16),
        limits=limits,
        software="selium-remote-interop",
        version="1",
    )
    async with open_link(endpoint) as link:
        client = Client(link, hello)
        tasks = [asyncio.ensure_future(client.run())]
        try:
            await client.wait_connected()
            tasks.append(asyncio.ensure_future(client.keep_alive()))
            yield client
            client.goodbye()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
