"""Channels against the real module on the stock runtime. Run by ``cargo xtask interop``, which says where it is."""

from __future__ import annotations

import asyncio
import os
import random
import re
import unittest
from collections.abc import Sequence
from dataclasses import replace

from selium_remote import frames, log_record
from selium_remote import operations as ops
from selium_remote.client import LIMITS, Client, Publishing, Stream, connect
from selium_remote.connection import Missing, Received
from selium_remote.errors import Code, Error, RemoteError
from selium_remote.fields import Writer
from selium_remote.frames import Ack, Cancel, Credit, Data, DataMore, End, Frame, Gap, Goodbye, Pong, Reset, Response
from selium_remote.hello import CLOCK
from selium_remote.operations import (
    Argument, Backpressure, ChannelState, CreateChannel, Kind, Publish, Start, Subscribe,
)  # fmt: skip

from .test_connection import SEED
from .test_live import Live, within

#: A gap as the tests write it: the next sequence number and the count.
_Gap = tuple[int, int | None]

STOPPED = Error(Code.CANCELLED, "enough")


class Channels(Live):
    """What most of these tests need."""

    async def create(self, client: Client, capacity: int = 65_536, backpressure: int | None = None) -> str:
        await client.create_channel(CreateChannel(capacity, backpressure, self.name))
        return self.name

    async def publish(self, client: Client, resume: bool | None = None) -> Publishing:
        return await client.publish(Publish(self.name, client.publication(), resume))

    async def subscribe(self, client: Client, **what: int | bool) -> Stream:
        return (await client.subscribe(Subscribe(self.name, **what)))[1]  # type: ignore[arg-type]

    async def take(self, stream: Stream, count: int) -> list[Received]:
        """So many messages, and no gap between them."""
        found: list[Received] = []
        while len(found) < count:
            item = await stream.__anext__()
            assert isinstance(item, Received), item
            found.append(item)
        return found

    async def up_to(self, stream: Stream, last: bytes) -> list[Received | Missing]:
        """Everything up to a message that says so."""
        found: list[Received | Missing] = []
        async for item in stream:
            found.append(item)
            if isinstance(item, Received) and item.payload == last:
                return found
        self.fail(f"it ended: {stream.reason}")

    def shown(self, items: Sequence[Received | Missing]) -> list[int | _Gap]:
        return [(item.next, item.count) if isinstance(item, Missing) else item.sequence for item in items]

    async def is_quiet(self, stream: Stream, client: Client) -> None:
        """Nothing came for a stream within two round trips."""
        await client.ping()
        await client.ping()
        self.assertTrue(stream._queue.empty())

    async def standstill(self, publishing: Publishing, client: Client) -> int:
        """Waits until no ACK came during many round trips, and says how many messages were taken."""
        quiet, count = 0, -1
        while quiet < 50:
            quiet, count = (quiet + 1, count) if len(publishing.acks) == count else (0, len(publishing.acks))
            await client.ping()
        return publishing.acks[-1][0] + 1 if publishing.acks else 0

    async def rest(self, stream: Stream) -> list[Received | Missing]:
        return [item async for item in stream if isinstance(item, Received | Missing)]


class Life(Channels):
    @within
    async def test_the_life_of_a_channel(self) -> None:
        async with connect(self.endpoint) as client:
            made = await client.create_channel(CreateChannel(1_000, name=self.name))
            clock = bool(client.server.features & CLOCK)
            self.assertEqual((made.name, made.capacity, made.created_ms is not None), (self.name, 1_024, clock))
            kind = (made.backpressure, made.state, made.shared)
            self.assertEqual(kind, (Backpressure.PARK, ChannelState.OPEN, False))
            self.assertEqual((made.lossless, made.lossy, made.publications, made.messages), (0, 0, 0, 0))
            for target in (self.name, f"{made.id:016x}", f"{made.id:016x}"[:15]):
                self.assertEqual(await client.channel(target), made)
            self.assertIn(made, await client.channels())

            shared = replace(made, shared=True)
            self.assertEqual(await client.share_channel(self.name), shared)
            self.assertEqual(await client.share_channel(self.name), shared)
            draining = replace(shared, state=ChannelState.DRAINING)
            self.assertEqual(await client.drain_channel(self.name), draining)
            self.assertEqual(await client.drain_channel(self.name), draining)
            self.assertEqual(await client.channel(self.name), draining)
            deleted = replace(shared, state=ChannelState.DELETED)
            self.assertEqual(await client.delete_channel(self.name), deleted)
            await self.fails(client.channel(self.name), Code.NOT_FOUND, "target")
            await self.fails(client.delete_channel(self.name), Code.NOT_FOUND, "target")
            self.assertNotIn(made.id, [channel.id for channel in await client.channels()])
            again = await client.create_channel(CreateChannel(1, Backpressure.DROP, self.name))
            self.assertNotEqual(again.id, made.id)
            self.assertEqual((again.capacity, again.backpressure), (1, Backpressure.DROP))
            await client.delete_channel(self.name)

    @within
    async def test_the_list_comes_in_pages_in_the_order_of_the_creates(self) -> None:
        async with connect(self.endpoint) as client:
            names = [f"{self.name}-{index}" for index in range(3)]
            for name in names:
                await client.create_channel(CreateChannel(16, name=name))
            unnamed = await client.create_channel(CreateChannel(16))
            self.assertTrue(unnamed.name)
            whole = await client.channels()
            self.assertEqual([channel.name for channel in whole][-4:], [*names, unnamed.name])
            self.assertEqual(await client.channels(page=2), whole)
            for name in (*names, unnamed.name):
                await client.delete_channel(name)

    @within
    async def test_the_same_token_gives_the_same_channel(self) -> None:
        async with connect(self.endpoint) as client:
            request = CreateChannel(16, name=self.name, common=ops.Common(token=7))
            made = await client.create_channel(request)
            retry = replace(request, common=ops.Common(token=7, retry=True))
            self.assertEqual(await client.create_channel(retry), made)
            await self.fails(client.create_channel(CreateChannel(16, name=self.name)), Code.ALREADY_EXISTS, "name")
            unknown = CreateChannel(16, common=ops.Common(token=8, retry=True))
            await self.fails(client.create_channel(unknown), Code.OUTCOME_UNKNOWN)
            await client.delete_channel(self.name)

    @within
    async def test_channels_and_processes_have_separate_names(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            await self.fails(client.inspect(self.name), Code.NOT_FOUND, "target")
            started = await client.start(Start.of("hello.wasm", "hello", name=self.name))
            self.assertNotEqual((await client.channel(self.name)).id, started.id)
            await self.fails(client.channel(f"{started.id:016x}"), Code.NOT_FOUND, "target")

    @within
    async def test_a_channel_as_an_argument_is_shared(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            info = await client.channel(self.name)
            for kind, id, code in ((Kind.U64, 5, Code.NOT_FOUND), (Kind.U32, info.id, Code.INVALID_ARGUMENT)):
                start = Start.of("args.wasm", "text", arguments=[Argument(Kind.RESOURCE, id)])
                await self.fails(client.start(replace(start, parameters=(kind,))), code, "arguments")
            self.assertFalse((await client.channel(self.name)).shared)

            kinds = (Kind.I8, Kind.U8, Kind.I16, Kind.U16, Kind.I32, Kind.U32, Kind.I64, Kind.U64)
            arguments = [Argument(kind, 1) for kind in kinds] + [Argument(Kind.F32, 1.5), Argument(Kind.F64, 1.5)]
            start = Start.of("args.wasm", "scalars", arguments=arguments, name=self.name)
            arguments[7] = Argument(Kind.RESOURCE, info.id)
            await client.start(replace(start, arguments=tuple(arguments)))
            self.assertTrue((await client.channel(self.name)).shared)
            _, stream = await client.follow(ops.Follow(self.name))
            [item] = await self.take(stream, 1)
            number = re.search(r" u64=(\d+) ", log_record.decode(item.payload).message)
            assert number is not None
            self.assertNotEqual(int(number[1]), info.id)
            await client.delete_channel(self.name)

    @within
    async def test_wrong_requests_name_the_field(self) -> None:
        bad = Code.INVALID_ARGUMENT
        async with connect(self.endpoint) as client:
            for request, field in (
                (CreateChannel(0), "1"),
                (CreateChannel((1 << 24) + 1), "1"),
                (CreateChannel(1 << 60), "1"),
                (CreateChannel(16, 3), "2"),
                (CreateChannel(16, 1, "No"), "name"),
                (CreateChannel(16, 1, "0123456789abcdef"), "name"),
            ):
                with self.subTest(request):
                    await self.fails(client.create_channel(request), bad, field)
            for operation in range(ops.CHANNEL_CREATE, ops.PUBLISH + 1):
                with self.subTest(operation):
                    unknown = Writer().raw(50, b"", mandatory=True).done()
                    if operation == ops.CHANNEL_LIST:
                        await self.fails(client.call(operation, unknown), Code.UNSUPPORTED, "50")
                        continue
                    await self.fails(client.call(operation), bad, "1")
                    good = Writer().integer(1, 16) if operation == ops.CHANNEL_CREATE else Writer().text(1, "x")
                    if operation == ops.PUBLISH:
                        await self.fails(client.call(operation, good.done()), bad, "2")
                        good.integer(2, 1)
                    await self.fails(client.call(operation, good.done() + unknown), Code.UNSUPPORTED, "50")
            for operation in range(40, 48):
                await self.fails(client.call(operation), Code.UNSUPPORTED)

    @within
    async def test_there_is_room_for_so_many_channels(self) -> None:
        async with connect(self.endpoint) as client:
            for capacity, field, limit in ((1 << 24, "capacity", 67_108_864), (1, None, 256)):
                made: list[str] = []
                error: Error | None = None
                while error is None and len(made) < 1_000:
                    try:
                        made.append((await client.create_channel(CreateChannel(capacity))).name)
                    except RemoteError as refused:
                        error = refused.error
                assert error is not None
                self.assertEqual((error.code, error.field, error.limit), (Code.RESOURCE_EXHAUSTED, field, limit))
                for name in made:
                    await client.delete_channel(name)

    @within
    async def test_what_does_not_exist_is_not_found(self) -> None:
        async with connect(self.endpoint) as client:
            for call in (
                client.delete_channel("nobody"),
                client.drain_channel("nobody"),
                client.share_channel("nobody"),
                client.channel("nobody"),
                client.subscribe(Subscribe("nobody")),
                client.publish(Publish("nobody", 1)),
                client.publish(Publish("nobody", 1, resume=True)),
            ):
                await self.fails(call, Code.NOT_FOUND, "target")


class Messages(Channels):
    @within
    async def test_a_thousand_messages_arrive_as_they_were_sent(self) -> None:
        dice = random.Random(SEED)
        messages = [dice.randbytes(dice.choice((1, 2, 100, dice.randrange(1, 4_000)))) for _ in range(999)]
        messages.insert(dice.randrange(999), dice.randbytes(65_536))
        messages[-1] = b"the last one"  # there is none like it
        async with connect(self.endpoint) as client, connect(self.endpoint) as other:
            await self.create(client)
            lossless, lossy = await self.subscribe(client, lossless=True), await self.subscribe(client)
            elsewhere = await self.subscribe(other, lossless=True)
            publishing = await self.publish(client)
            opened = publishing.opened
            self.assertEqual((opened.name, opened.capacity, opened.last), (self.name, 65_536, None))

            async def write() -> None:
                for message in messages:
                    publishing.send(message)
                    await publishing.sent()
                await publishing.end()

            writing = asyncio.ensure_future(write())
            for stream in (lossless, elsewhere):
                found = await self.take(stream, 1_000)
                self.assertTrue([item.payload for item in found] == messages, "not what was sent")
                self.assertEqual([item.sequence for item in found], list(range(1_000)))
            await writing
            self.assertEqual((publishing.reason, publishing.was_reset, len(publishing.pending)), (None, False, 0))
            numbers = [sequence for sequence, _ in publishing.acks]
            self.assertEqual((numbers, numbers[-1]), (sorted(set(numbers)), 999))
            self.assertEqual({flag for _, flag in publishing.acks}, {False})

            # The lossy one had room for all, and was read by nobody; but the runtime may have dropped some.
            found = await self.up_to(lossy, messages[-1])
            at = 0
            for item in found:
                if isinstance(item, Received):
                    at = messages.index(item.payload, at) + 1
            if not any(isinstance(item, Missing) for item in found):
                self.assertEqual(self.shown(found), list(range(1_000)))
            info = await client.channel(self.name)
            self.assertEqual((info.lossless, info.lossy, info.publications, info.messages), (2, 1, 0, 1_000))
            await client.delete_channel(self.name)

    @within
    async def test_a_channel_that_drops_says_so_with_every_ack(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 4_096, Backpressure.DROP)
            stream, publishing = await self.subscribe(client), await self.publish(client)
            self.assertEqual(publishing.opened.backpressure, Backpressure.DROP)
            for index in range(50):
                publishing.send(b"%d" % index)
                await publishing.acknowledged()
            await publishing.end()
            self.assertEqual(publishing.acks[-1], (49, True))
            self.assertEqual({flag for _, flag in publishing.acks}, {True})
            found = await self.up_to(stream, b"49")
            self.assertEqual(self.shown(found), list(range(50)))
            payloads = [item.payload for item in found if isinstance(item, Received)]
            self.assertEqual(payloads, [b"%d" % index for index in range(50)])
            await self.fails(client.subscribe(Subscribe(self.name, lossless=True)), Code.INVALID_ARGUMENT, "lossless")
            await client.delete_channel(self.name)

    @within
    async def test_messages_up_to_the_capacity_and_no_longer(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 1_000)
            stream, publishing = await self.subscribe(client, lossless=True), await self.publish(client)
            for size in (1_023, 1_024, 1):
                publishing.send(bytes(size))
            await publishing.acknowledged()
            publishing.send(bytes(1_025))
            publishing.send(b"behind it")
            await publishing.ended()
            assert publishing.reason is not None
            self.assertEqual((publishing.reason.code, publishing.reason.limit), (Code.TOO_LARGE, 1_024))
            self.assertTrue(publishing.was_reset)
            # It can be gone on with, without that one.
            again = await client.publish(Publish(self.name, 0, resume=True))
            self.assertEqual(again.opened.last, 2)
            again.send(b"x")
            await again.end()
            self.assertEqual([len(item.payload) for item in await self.take(stream, 4)], [1_023, 1_024, 1, 1])
            await client.delete_channel(self.name)

    @within
    async def test_messages_larger_than_every_window(self) -> None:
        dice = random.Random(SEED)
        messages = [dice.randbytes(size) for size in (300_000, 16_384, 16_385, 1_048_576, 1)]
        small = replace(LIMITS, connection_credit=300, stream_credit=200)
        async with connect(self.endpoint) as client, connect(self.endpoint, limits=small) as reader:
            await self.create(client, 1 << 20)
            stream, publishing = await self.subscribe(reader, lossless=True), await self.publish(client)
            for message in messages[:3]:
                publishing.send(message)
            found = await self.take(stream, 3)
            self.assertTrue([item.payload for item in found] == messages[:3], "not what was sent")
            wide = await self.subscribe(client, lossless=True)
            for message in messages[3:]:
                publishing.send(message)
            stream.cancel()
            found = await self.take(wide, 2)
            self.assertTrue([item.payload for item in found] == messages[3:], "not what was sent")
            await publishing.end()
            await client.delete_channel(self.name)

    @within
    async def test_many_publications_at_a_time(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 1_024)
            stream = await self.subscribe(client, lossless=True)
            publications = [await self.publish(client) for _ in range(5)]
            self.assertEqual((await client.channel(self.name)).publications, 5)
            for index in range(100):
                for number, publishing in enumerate(publications):
                    publishing.send(b"%d %d" % (number, index))
            found = [tuple(map(int, item.payload.split())) for item in await self.take(stream, 500)]
            for number in range(5):
                self.assertEqual([index for which, index in found if which == number], list(range(100)))
            for publishing in publications:
                await publishing.end()
            await client.delete_channel(self.name)


class Subscriptions(Channels):
    async def fill(self, client: Client, count: int) -> Publishing:
        publishing = await self.publish(client)
        for index in range(count):
            publishing.send(b"%d" % index)
        await publishing.acknowledged()
        return publishing

    @within
    async def test_what_was_asked_for_is_what_comes(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            for lossless in (True, False):
                first = await self.subscribe(client, lossless=lossless)
                publishing = await self.fill(client, 50)
                await self.up_to(first, b"49")
                streams: list[tuple[Stream, list[int]]] = []
                for what, sequences in (
                    ({}, []),
                    ({"tail": 0}, []),
                    ({"tail": 5}, [45, 46, 47, 48, 49]),
                    ({"tail": 1_000}, list(range(50))),
                    ({"since": 45}, [45, 46, 47, 48, 49]),
                    ({"since": 45, "tail": 2}, [48, 49]),
                    ({"since": 47, "tail": 40}, [47, 48, 49]),
                    ({"since": 50}, []),
                    ({"since": 51}, None),
                ):
                    answer, stream = await client.subscribe(Subscribe(self.name, lossless, **what))
                    self.assertEqual((answer.name, answer.first, answer.next), (self.name, 0, 50))
                    streams.append((stream, [51] if sequences is None else [*sequences, 50, 51]))
                publishing.send(b"last but one")
                publishing.send(b"last")
                for stream, sequences in streams:
                    self.assertEqual(self.shown(await self.up_to(stream, b"last")), sequences)
                    stream.cancel()
                first.cancel()
                await publishing.end()
                # The other kind has a source of its own, which begins with what the channel holds.
                await client.delete_channel(self.name)
                await self.create(client)
            await client.delete_channel(self.name)

    @within
    async def test_the_first_of_a_source_gets_what_the_channel_holds(self) -> None:
        async with connect(self.endpoint) as client:
            for lossless in (True, False):
                await self.create(client)
                publishing = await self.fill(client, 5)
                # Field 4 counts what the source has read, and that is nothing yet.
                answer, first = await client.subscribe(Subscribe(self.name, lossless, tail=2))
                self.assertEqual((answer.first, answer.next), (0, 0))
                self.assertEqual(self.shown(await self.up_to(first, b"4")), list(range(5)))
                answer, second = await client.subscribe(Subscribe(self.name, lossless))
                self.assertEqual((answer.first, answer.next), (0, 5))
                publishing.send(b"last")
                for stream in (first, second):
                    self.assertEqual(self.shown(await self.up_to(stream, b"last")), [5])
                await client.delete_channel(self.name)

    @within
    async def test_a_source_begins_with_what_lossless_readers_left(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            lossless = await self.subscribe(client, lossless=True)
            publishing = await self.fill(client, 5)
            await self.take(lossless, 5)
            lossy = await self.subscribe(client)
            publishing.send(b"last")
            found = await self.up_to(lossy, b"last")
            # None of the five, or some if the reader had not come as far in the channel.
            self.assertEqual([item.payload for item in found if isinstance(item, Received)][-1:], [b"last"])
            self.assertLessEqual(len(found), 6)
            await client.delete_channel(self.name)

    @within
    async def test_what_is_not_retained_any_more_comes_as_a_gap(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            stream, publishing = await self.subscribe(client, lossless=True), await self.publish(client)
            for _ in range(30):  # 1.5 MB, of which 1 MiB is retained
                publishing.send(bytes(50_000))
                await self.take(stream, 1)
            answer, late = await client.subscribe(Subscribe(self.name, True, since=2))
            self.assertGreater(answer.first, 2)
            found = [await late.__anext__() for _ in range(answer.next - answer.first + 1)]
            expected = [(answer.first, answer.first - 2), *range(answer.first, 30)]
            self.assertEqual((answer.next, self.shown(found)), (30, expected))
            await client.delete_channel(self.name)

    @within
    async def test_a_gap_where_there_was_no_lossless_subscriber(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            stream = await self.subscribe(client, lossless=True)
            publishing = await self.fill(client, 3)
            await self.take(stream, 3)
            stream.cancel()
            await client.ping()
            publishing.send(b"unseen, or a repeat")
            await publishing.acknowledged()
            again = await self.subscribe(client, lossless=True, since=3)
            publishing.send(b"last")
            found = await self.up_to(again, b"last")
            self.assertIsInstance(found[0], Missing)
            self.assertIsNone(found[0].count)
            self.assertFalse(any(isinstance(item, Missing) for item in found[1:]))
            await client.delete_channel(self.name)

    @within
    async def test_a_message_that_the_client_does_not_take_is_a_gap_of_one(self) -> None:
        short = replace(LIMITS, message=100)
        async with connect(self.endpoint) as client, connect(self.endpoint, limits=short) as other:
            await self.create(client)
            streams = [await self.subscribe(other, lossless=lossless) for lossless in (True, False)]
            publishing = await self.publish(client)
            for size in (100, 101, 5):
                publishing.send(b"x" * size)
            for stream in streams:
                self.assertEqual(self.shown(await self.up_to(stream, b"x" * 5)), [0, (2, 1), 2])
            await client.delete_channel(self.name)

    @within
    async def test_a_slow_lossy_one_gets_a_gap_and_holds_up_nobody(self) -> None:
        slow = replace(LIMITS, stream_credit=2_000)
        for backpressure in (Backpressure.PARK, Backpressure.DROP):
            async with connect(self.endpoint) as client, connect(self.endpoint, limits=slow) as other:
                await self.create(client, 65_536, backpressure)
                stream, publishing = await self.subscribe(other), await self.publish(client)
                for index in range(3_000):
                    publishing.send(index.to_bytes(4, "big") + bytes(1_000))
                    if index % 20 == 0:
                        await publishing.acknowledged()
                publishing.send(b"last")
                await publishing.acknowledged()
                found = await self.up_to(stream, b"last")
                gaps = [item for item in found if isinstance(item, Missing)]
                self.assertTrue(gaps)
                expected = 0
                for item in found[:-1]:
                    if isinstance(item, Missing):
                        # With a count it is exact.
                        if item.count is not None:
                            self.assertEqual(item.next - expected, item.count)
                        expected = item.next
                    else:
                        self.assertEqual(item.sequence, expected)
                        expected += 1
                if all(item.count is not None for item in gaps):
                    # Then sequence numbers are places in the publication.
                    self.assertEqual(expected, 3_000)
                    for item in found[:-1]:
                        if isinstance(item, Received):
                            self.assertEqual(int.from_bytes(item.payload[:4], "big"), item.sequence)
                await client.delete_channel(self.name)

    @within
    async def test_a_lossless_subscriber_behind_a_lossy_one(self) -> None:
        """Nothing is lost, and the lossy one keeps up."""
        async with connect(self.endpoint) as client:
            await self.create(client)
            lossy, lossless = await self.subscribe(client), await self.subscribe(client, lossless=True)
            publishing = await self.fill(client, 3)
            self.assertEqual(self.shown(await self.up_to(lossless, b"2")), [0, 1, 2])
            self.assertEqual(self.shown(await self.up_to(lossy, b"2")), [0, 1, 2])
            await publishing.end()

    @within
    async def test_a_cancelled_one_is_silent_and_is_not_waited_for(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 1_024)
            stream, reset = await self.subscribe(client, lossless=True), await self.subscribe(client, lossless=True)
            self.assertEqual((await client.channel(self.name)).lossless, 2)
            stream.cancel()
            client._machine.reset(reset.id, STOPPED)
            client._flush()
            await client.ping()
            self.assertEqual((await client.channel(self.name)).lossless, 0)
            publishing = await self.publish(client)
            for _ in range(3_000):  # more than everything that could hold it
                publishing.send(bytes(1_000))
            await publishing.acknowledged()
            await client.delete_channel(self.name)


class Flow(Channels):
    @within
    async def test_a_publisher_stops_when_a_lossless_subscriber_does_not_read(self) -> None:
        total = 4_000
        async with connect(self.endpoint) as client, connect(self.endpoint) as other:
            await self.create(client, 4_096)
            stream, publishing = await self.subscribe(other, lossless=True), await self.publish(client)
            for index in range(total):
                publishing.send(index.to_bytes(4, "big") + bytes(996))
            taken = await self.standstill(publishing, client)
            # The source, the channel, the subscriber's window and ours.
            self.assertLess(taken, 2_000)
            self.assertGreater(publishing.waiting, 1_000)
            # Other things go on meanwhile.
            self.assertEqual((await client.channel(self.name)).messages, taken)
            found = await self.take(stream, total)
            self.assertEqual([int.from_bytes(item.payload[:4], "big") for item in found], list(range(total)))
            await publishing.acknowledged()
            self.assertEqual(publishing.waiting, 0)
            await publishing.end()
            await client.delete_channel(self.name)

    @within
    async def test_a_subscriber_gets_no_more_than_it_gave_credit_for(self) -> None:
        """The machine ends the connection otherwise; and what fits does come."""
        tight = replace(LIMITS, stream_credit=3 * 132)
        async with connect(self.endpoint) as client, connect(self.endpoint, limits=tight) as other:
            await self.create(client)
            stream, publishing = await self.subscribe(other, lossless=True), await self.publish(client)
            for _ in range(20):
                publishing.send(bytes(100))
            await publishing.acknowledged()
            while stream._queue.qsize() < 3:
                await other.ping()
            await other.ping()
            self.assertEqual(stream._queue.qsize(), 3)
            self.assertEqual(self.shown(await self.take(stream, 20)), list(range(20)))
            await client.delete_channel(self.name)

    @within
    async def test_one_that_nobody_reads_does_not_stop_another_stream(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 4_096)
            unread, publishing = await self.subscribe(client, lossless=True), await self.publish(client)
            for _ in range(3_000):
                publishing.send(bytes(1_000))
            await self.standstill(publishing, client)
            name, self.name = self.name, self.name + "-b"
            await self.create(client)
            stream, second = await self.subscribe(client, lossless=True), await self.publish(client)
            for index in range(100):
                second.send(b"%d" % index)
            self.assertEqual([item.payload for item in await self.take(stream, 100)], [b"%d" % n for n in range(100)])
            await client.delete_channel(self.name)
            await client.delete_channel(name)
            await publishing.ended()
            unread.cancel()


class Publications(Channels):
    @within
    async def test_a_publication_goes_on_over_a_second_connection(self) -> None:
        dice = random.Random(SEED)
        session, number, total = os.urandom(16), 3, 1_000
        messages = [b"%d " % index + dice.randbytes(dice.randrange(2_000)) for index in range(total)]
        async with connect(self.endpoint) as reader:
            await self.create(reader)
            stream = await self.subscribe(reader, lossless=True)
            before: Publishing | None = None
            at = again = 0
            while True:
                # The connection is dropped without a goodbye, with messages on their way.
                async with connect(self.endpoint, session=session) as client:
                    publishing = await client.publish(Publish(self.name, number, before is not None), before)
                    if before is not None:
                        last = publishing.opened.last
                        known = before.acks[-1][0] if before.acks else -1
                        self.assertGreaterEqual(-1 if last is None else last, known)
                        again += len(publishing.pending)
                    if at == total:
                        await publishing.end()
                        break
                    end = min(total, at + 250)
                    for index in range(at, end):
                        publishing.send(messages[index])
                    at = end
                    while len(publishing.acks) < 20 and publishing.pending:
                        await client.ping()
                    before = publishing
                    client._machine._closed = True  # says nothing more
            self.assertEqual(len(publishing.pending), 0)
            self.assertGreater(again, 0, "nothing had to be sent again")
            found = await self.take(stream, total)
            self.assertTrue([item.payload for item in found] == messages, "not what was sent")
            self.assertEqual((await reader.channel(self.name)).messages, total)
            await self.is_quiet(stream, reader)
            await reader.delete_channel(self.name)

    @within
    async def test_what_the_server_has_is_taken_once(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            stream, publishing = await self.subscribe(client, lossless=True), await self.publish(client)
            for index in range(5):
                publishing.send(b"%d" % index)
            await publishing.acknowledged()
            publishing.reset(STOPPED)
            self.assertEqual((await client.channel(self.name)).publications, 0)
            # Also without the flag.
            again = await client.publish(Publish(self.name, 0))
            self.assertEqual(again.opened.last, 4)
            again._next = 2
            for index in range(2, 7):
                again.send(b"again %d" % index)
            await again.end()
            self.assertEqual(again.acks[-1], (6, False))
            found = [item.payload for item in await self.take(stream, 7)]
            self.assertEqual(found, [b"0", b"1", b"2", b"3", b"4", b"again 5", b"again 6"])
            # What was ended can be gone on with as well.
            once_more = await client.publish(Publish(self.name, 0, resume=True))
            self.assertEqual(once_more.opened.last, 6)
            await once_more.end()
            await client.delete_channel(self.name)

    @within
    async def test_a_second_stream_ends_the_first(self) -> None:
        session = os.urandom(16)
        async with connect(self.endpoint, session=session) as client, connect(self.endpoint, session=session) as other:
            await self.create(client)
            first = await self.publish(client)
            first.send(b"x")
            await first.acknowledged()
            second = await other.publish(Publish(self.name, 0, resume=True))
            self.assertEqual(second.opened.last, 0)
            await first.ended()
            assert first.reason is not None
            self.assertEqual((first.reason.code, first.was_reset), (Code.CANCELLED, True))
            self.assertEqual((await client.channel(self.name)).publications, 1)
            await second.end()
            await client.delete_channel(self.name)

    @within
    async def test_publications_belong_to_a_session_and_a_channel(self) -> None:
        async with connect(self.endpoint) as client, connect(self.endpoint) as other:
            await self.create(client)
            publishing = await self.publish(client)
            publishing.send(b"x")
            await publishing.acknowledged()
            await self.fails(other.publish(Publish(self.name, 0, resume=True)), Code.OUTCOME_UNKNOWN, "publication")
            await self.fails(client.publish(Publish(self.name, 77, resume=True)), Code.OUTCOME_UNKNOWN, "publication")
            self.assertIsNone((await other.publish(Publish(self.name, 0))).opened.last)
            elsewhere = await client.create_channel(CreateChannel(16, name=self.name + "-b"))
            await self.fails(client.publish(Publish(elsewhere.name, 0)), Code.INVALID_ARGUMENT, "publication")
            self.assertFalse(publishing.over)
            await client.delete_channel(elsewhere.name)
            await client.delete_channel(self.name)

    @within
    async def test_the_oldest_publications_without_a_stream_are_forgotten(self) -> None:
        async with connect(self.endpoint) as client, connect(self.endpoint) as other:
            await self.create(client)
            (await self.publish(other)).reset(STOPPED)
            for _ in range(1_025):
                (await self.publish(client)).reset(STOPPED)
            await self.fails(client.publish(Publish(self.name, 0, resume=True)), Code.OUTCOME_UNKNOWN, "publication")
            await client.publish(Publish(self.name, 1_024, resume=True))
            # Who has most loses one, and not another session.
            await other.publish(Publish(self.name, 0, resume=True))
            await client.delete_channel(self.name)

    @within
    async def test_a_cancelled_publication_can_be_gone_on_with(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            publishing = await self.publish(client)
            publishing.send(b"x")
            await publishing.acknowledged()
            client.cancel(publishing.id)
            await client.ping()
            self.assertEqual((await client.channel(self.name)).publications, 0)
            again = await client.publish(Publish(self.name, 0, resume=True))
            self.assertEqual(again.opened.last, 0)
            await client.delete_channel(self.name)


class Ends(Channels):
    @within
    async def test_delete_ends_both(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            streams = [await self.subscribe(client, lossless=lossless) for lossless in (True, False)]
            publishing = await self.publish(client)
            publishing.send(b"x")
            await publishing.acknowledged()
            await client.delete_channel(self.name)
            await publishing.ended()
            assert publishing.reason is not None
            self.assertEqual((publishing.reason.code, publishing.was_reset), (Code.NOT_FOUND, True))
            for stream in streams:
                await self.rest(stream)
                assert stream.reason is not None
                self.assertEqual((stream.reason.code, stream.was_reset), (Code.CANCELLED, False))

    @within
    async def test_drain_ends_publications_now_and_subscriptions_when_all_was_read(self) -> None:
        async with connect(self.endpoint) as client, connect(self.endpoint) as reader:
            await self.create(client, 4_096)
            streams = [await self.subscribe(reader, lossless=lossless) for lossless in (True, False)]
            publishing = await self.publish(client)
            for index in range(300):
                publishing.send(b"%d" % index)
            await publishing.acknowledged()
            self.assertEqual((await client.drain_channel(self.name)).state, ChannelState.DRAINING)
            await publishing.ended()
            assert publishing.reason is not None
            self.assertEqual((publishing.reason.code, publishing.was_reset), (Code.UNAVAILABLE, False))
            late = await self.subscribe(client, lossless=True, since=290)
            for stream in streams:
                self.assertEqual([item.payload for item in await self.rest(stream)], [b"%d" % n for n in range(300)])
                self.assertEqual((stream.reason, stream.was_reset), (None, False))
            self.assertEqual(self.shown(await self.rest(late)), list(range(290, 300)))
            await self.fails(client.publish(Publish(self.name, 99)), Code.UNAVAILABLE)
            await client.delete_channel(self.name)

    @within
    async def test_an_end_with_messages_on_their_way(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 4_096)
            stream, publishing = await self.subscribe(client, lossless=True), await self.publish(client)
            for _ in range(2_000):
                publishing.send(bytes(1_000))
            ending = asyncio.ensure_future(publishing.end())
            await self.take(stream, 2_000)
            await ending
            self.assertEqual((publishing.acks[-1][0], len(publishing.pending), publishing.reason), (1_999, 0, None))
            await client.delete_channel(self.name)


class Broken(Channels):
    """Frames that a client must not send, and those that are dropped."""

    async def answers(self, operation: int, body: bytes, *sent: Frame) -> list[Frame]:
        """What the server says behind the good answer, up to its goodbye or the PONG of a last PING."""
        last = b"\x80interop"
        async with self.raw() as (link, splitter):
            link.writer.write(frames.encode(frames.Request(1, operation, len(body), body)))
            while not isinstance(frame := await self.next_frame(link, splitter), Response):
                pass
            self.assertEqual(frame.code, 0, frame)
            for item in sent:
                link.writer.write(frames.encode(item))
            link.writer.write(frames.encode(frames.Ping(last)))
            found: list[Frame] = []
            while not isinstance(frame, Goodbye) and frame != Pong(last):
                frame = await self.next_frame(link, splitter)
                if not isinstance(frame, frames.Ping | Credit):
                    found.append(frame)
            return found

    def body(self) -> bytes:
        return Publish(self.name, 1).encode()

    @within
    async def test_what_ends_the_connection(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 4_096)
            one = Data(1, 0, 1, b"a")
            for name, wrong in {
                "a number twice": [one, one],
                "a number that falls": [one, Data(1, 5, 1, b"a"), Data(1, 4, 1, b"a")],
                "an empty message": [Data(1, 0, 0, b"")],
                "longer than the hello says": [Data(1, 0, (1 << 20) + 1, b"a")],
                "an end in a message": [Data(1, 0, 2, b"a"), End(1)],
                "a message in a message": [Data(1, 0, 2, b"a"), Data(1, 1, 2, b"a")],
                "more of no message": [DataMore(1, b"a")],
                "more than it said": [Data(1, 0, 2, b"a"), DataMore(1, b"bc")],
                "data behind the end": [End(1), one],
                "a gap": [Gap(1, 5, 5)],
                "an ack": [one, Ack(1, 0)],
                "an answer": [Response(1, 0, 0, b"")],
            }.items():
                with self.subTest(name):
                    found = await self.answers(ops.PUBLISH, self.body(), *wrong)
                    assert isinstance(found[-1], Goodbye), found
                    self.assertEqual(found[-1].error.code, Code.PROTOCOL_ERROR)
            for name, wrong in {"data": [one], "an ack": [Ack(1, 0)], "a gap": [Gap(1, 5, 5)]}.items():
                with self.subTest(f"{name} on a stream that flows to us"):
                    found = await self.answers(ops.SUBSCRIBE, Subscribe(self.name).encode(), *wrong)
                    assert isinstance(found[-1], Goodbye), found
            await client.delete_channel(self.name)

    @within
    async def test_data_before_the_answer_ends_the_connection(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            request = frames.Request(1, ops.PUBLISH, len(self.body()), self.body())
            async with self.raw() as (link, splitter):
                link.writer.write(frames.encode(request) + frames.encode(Data(1, 0, 1, b"a")))
                while not isinstance(frame := await self.next_frame(link, splitter), Goodbye):
                    self.assertNotIsInstance(frame, Ack)
                self.assertEqual(frame.error.code, Code.PROTOCOL_ERROR)
            await client.delete_channel(self.name)

    @within
    async def test_a_credit_overrun_ends_the_connection(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client)
            credit = client.server.limits.stream_credit
            # No credit comes back: the channel is full, and its lossless subscriber reads nothing.
            unread, filler = await self.subscribe(client, lossless=True), await self.publish(client)
            for _ in range(3_000):
                filler.send(bytes(1_000))
            await self.standstill(filler, client)
            fits, rest = divmod(credit, 1_032)
            full = [Data(1, index, 1_000, bytes(1_000)) for index in range(fits)]
            found = await self.answers(ops.PUBLISH, self.body(), *full)
            self.assertIsInstance(found[-1], Pong)
            over = Data(1, fits, rest - 31, bytes(rest - 31))  # one byte too many
            found = await self.answers(ops.PUBLISH, Publish(self.name, 2).encode(), *full, over)
            assert isinstance(found[-1], Goodbye), found
            self.assertEqual(found[-1].error.code, Code.PROTOCOL_ERROR)
            unread.cancel()
            await client.delete_channel(self.name)

    @within
    async def test_what_is_taken_quietly(self) -> None:
        async with connect(self.endpoint) as client:
            await self.create(client, 4_096)
            one = Data(1, 0, 1, b"a")
            pong = Pong(b"\x80interop")
            for name, sent in {
                "data behind a cancel": [Cancel(1), one],
                "data behind a reset": [Reset(1, STOPPED), one],
                "a reset inside a message": [Data(1, 0, 2, b"a"), Reset(1, STOPPED), DataMore(1, b"b"), one],
                "two resets": [Reset(1, STOPPED), Reset(1, STOPPED)],
                "a cancel behind a reset": [Reset(1, STOPPED), Cancel(1)],
            }.items():
                with self.subTest(name):
                    self.assertEqual(await self.answers(ops.PUBLISH, self.body(), *sent), [pong])
            subscribe = Subscribe(self.name).encode()
            self.assertEqual(await self.answers(ops.SUBSCRIBE, subscribe, End(1)), [pong])
            self.assertEqual(await self.answers(ops.SUBSCRIBE, subscribe, Reset(1, STOPPED)), [pong])
            self.assertEqual((await client.channel(self.name)).messages, 0)
            await client.delete_channel(self.name)

    @within
    async def test_data_of_what_is_over_still_costs_the_connections_credit(self) -> None:
        """It is given back at once: far more than the connection's window passes."""
        async with connect(self.endpoint) as client:
            await self.create(client)
            publishing = await self.publish(client)
            window = client.server.limits.connection_credit
            async with self.raw() as (link, splitter):
                body = Publish(self.name, 9).encode()
                link.writer.write(frames.encode(frames.Request(1, ops.PUBLISH, len(body), body)))
                while not isinstance(await self.next_frame(link, splitter), Response):
                    pass
                link.writer.write(frames.encode(Reset(1, STOPPED)))
                limit, used, sequence = window, 0, 0
                while used < 3 * window:
                    if limit - used < 1_032:
                        frame = await self.next_frame(link, splitter)
                        if isinstance(frame, Credit) and frame.stream == 0:
                            limit = frame.limit
                        self.assertNotIsInstance(frame, Goodbye)
                        continue
                    link.writer.write(frames.encode(Data(1, sequence, 1_000, bytes(1_000))))
                    used, sequence = used + 1_032, sequence + 1
            await publishing.end()
            await client.delete_channel(self.name)
