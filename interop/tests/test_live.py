"""Against the real module on the stock runtime. Run by ``cargo xtask interop``, which says where it is."""

from __future__ import annotations

import asyncio
import functools
import os
import struct
import unittest
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from selium_remote import frames, log_record
from selium_remote import operations as ops
from selium_remote.certificate import CertificateError
from selium_remote.client import LIMITS, Client, Endpoint, Link, Stream, connect, open_link
from selium_remote.connection import Missing, Received
from selium_remote.envelope import Accepted, ClientEnvelope, LegacyServer, Refused, read_answer
from selium_remote.errors import Code, ConnectionClosed, Error, RemoteError
from selium_remote.fields import Writer
from selium_remote.hello import CLOCK, ClientHello, Limits, ServerHello
from selium_remote.operations import Argument, Capability, Common, Follow, Kind, Start, Target

PORT = os.environ.get("SELIUM_INTEROP_PORT")
CA = os.environ.get("SELIUM_INTEROP_CA")

#: For one test; a start compiles a guest.
LIMIT_S = 30

_Test = TypeVar("_Test", bound="Live")


def within(test: Callable[[_Test], Awaitable[None]]) -> Callable[[_Test], Awaitable[None]]:
    """A test that must end in time."""

    @functools.wraps(test)
    async def limited(self: _Test) -> None:
        await asyncio.wait_for(test(self), LIMIT_S)

    return limited


def at_rest(process: ops.ProcessInfo) -> ops.ProcessInfo:
    """Without what changes by itself."""
    return replace(process, log=0, next_sequence=0, logged_ms=None)


@unittest.skipUnless(PORT and CA, "needs a runtime: run `cargo xtask interop`")
class Live(unittest.IsolatedAsyncioTestCase):
    """Where the server is, and what most tests need."""

    def setUp(self) -> None:
        self.endpoint = Endpoint(int(PORT or 0), Path(CA or ""))
        # Names stay taken after a stop, and the runtime may have seen this test before.
        self.name = "t-" + os.urandom(8).hex()

    async def asyncSetUp(self) -> None:
        # unittest turns it on; it costs half of the time.
        asyncio.get_running_loop().set_debug(False)

    async def fails(self, awaitable: Awaitable[Any], code: Code, field: str | None = None) -> Error:
        with self.assertRaises(RemoteError) as raised:
            await awaitable
        error = raised.exception.error
        self.assertEqual((error.code, error.field), (code, field), error)
        return error

    def raw(self) -> _Raw:
        return _Raw(self.endpoint)

    async def next_frame(self, link: Link, splitter: frames.Splitter) -> frames.Frame:
        while (frame := splitter.next()) is None:
            data = await link.reader.read(65_536)
            if not data:
                raise ConnectionClosed(None, link.close_reason)
            splitter.feed(data)
        return frame

    async def storm(self, client: Client, lines: int) -> str:
        """A guest that has logged so many lines."""
        arguments = [Argument(Kind.U32, lines)]
        await client.start(Start.of("storm.wasm", "start", arguments=arguments, name=self.name))
        _, stream = await client.follow(Follow(self.name))
        async for item in stream:
            if isinstance(item, Received) and item.sequence == lines - 1:
                break
        stream.cancel()
        return self.name

    async def sequences(self, client: Client, **what: Any) -> list[int | tuple[int, int | None]]:
        """What is retained: sequence numbers, and gaps as pairs."""
        _, stream = await client.follow(Follow(self.name, until_now=True, **what))
        found: list[int | tuple[int, int | None]] = []
        async for item in stream:
            found.append((item.next, item.count) if isinstance(item, Missing) else item.sequence)
        self.assertIsNone(stream.reason)
        return found


class Hello(Live):
    @within
    async def test_the_server_says_what_the_page_says(self) -> None:
        async with connect(self.endpoint) as first, connect(self.endpoint) as second:
            server = first.server
            self.assertEqual(server, second.server)
            self.assertNotEqual(server.incarnation, bytes(16))
            self.assertEqual((server.limits.message, server.limits.reassembly), (1_048_576, 2_097_152))
            limits = (server.requests_in_flight, server.open_streams, server.largest_request)
            self.assertEqual(limits, (256, 512, 327_680))
            self.assertEqual(server.features & ~CLOCK, 0)
            self.assertFalse(server.authenticates)
            self.assertLessEqual({Capability.CHANNEL_LIFECYCLE, Capability.CHANNEL_WRITER}, set(server.capabilities))

    @within
    async def test_a_certificate_of_another_ca_or_name_is_refused_by_us(self) -> None:
        other = replace(self.endpoint, ca_file=self.endpoint.ca_file.with_name("client.crt"))
        with self.assertRaisesRegex(CertificateError, "vouch"):
            async with connect(other):
                pass

    async def answer(self, first: bytes) -> bytes:
        """What the server says to these first bytes, up to the end of its answer."""
        async with open_link(self.endpoint) as link:
            link.writer.write(first)
            received = b""
            while read_answer(received) is None:
                data = await link.reader.read(65_536)
                self.assertTrue(data, "no answer")
                received += data
            return received

    def hello(self, extra: bytes = b"") -> bytes:
        return ClientHello(os.urandom(16), os.urandom(16), LIMITS).encode() + extra

    async def refused(self, first: bytes, code: Code) -> None:
        answer = read_answer(await self.answer(first))
        assert answer is not None and isinstance(answer[0], Refused), answer
        self.assertEqual((answer[0].code, answer[0].lowest, answer[0].highest), (code, 1, 1), answer)

    @within
    async def test_the_highest_version_that_both_speak_is_chosen(self) -> None:
        answer = read_answer(await self.answer(ClientEnvelope(self.hello(), 1, 7).encode()))
        assert answer is not None and isinstance(answer[0], Accepted), answer
        self.assertEqual(answer[0].version, 1)
        ServerHello.decode(answer[0].hello)
        await self.refused(ClientEnvelope(self.hello(), 2, 7).encode(), Code.UNSUPPORTED)

    @within
    async def test_hellos_that_cannot_be_are_refused(self) -> None:
        optional = Writer().raw(40, b"x").done()
        await self.answer(ClientEnvelope(self.hello(optional)).encode())
        mandatory = Writer().raw(40, b"x", mandatory=True).done()
        await self.refused(ClientEnvelope(self.hello(mandatory)).encode(), Code.UNSUPPORTED)
        await self.refused(ClientEnvelope(b"").encode(), Code.INVALID_ARGUMENT)
        await self.refused(ClientEnvelope(self.hello(b"\x02\x00")).encode(), Code.INVALID_ARGUMENT)

    @within
    async def test_nothing_may_stand_behind_the_hello(self) -> None:
        ping = frames.encode(frames.Ping(bytes(8)))
        await self.refused(ClientEnvelope(self.hello()).encode() + ping, Code.PROTOCOL_ERROR)

    @within
    async def test_a_client_of_033_is_told_to_update(self) -> None:
        async with open_link(self.endpoint) as link:
            link.writer.write(bytes.fromhex("10000000") + b"RMCL" + bytes(24))
            received = await link.reader.readexactly(4)
            received += await link.reader.readexactly(struct.unpack("<I", received)[0])
            self.assertRaises(LegacyServer, read_answer, received)
            self.assertIn(b"update", received)


class Processes(Live):
    @within
    async def test_the_life_of_a_process(self) -> None:
        async with connect(self.endpoint) as client:
            before = await client.server_info()
            started = await client.start(Start.of("hello.wasm", "hello", name=self.name))
            self.assertEqual(started.name, self.name)
            after = await client.server_info()
            self.assertEqual(after.processes, before.processes + 1)
            self.assertGreaterEqual(after.connections, 1)

            clock = bool(client.server.features & CLOCK)
            self.assertEqual(after.uptime_ms is not None, clock)
            info = await client.inspect(f"{started.id:016x}")
            expected = (started.id, self.name, "hello.wasm", "hello", ops.State.STARTED)
            self.assertEqual((info.id, info.name, info.module, info.entrypoint, info.state), expected)
            self.assertEqual(set(info.capabilities), {Capability.CHANNEL_LIFECYCLE, Capability.CHANNEL_WRITER})
            self.assertEqual((info.started_ms is not None, info.stopped_ms), (clock, None))
            [listed] = [process for process in await client.processes(stopped=False) if process.id == started.id]
            # Its log may have been found in between.
            self.assertEqual(at_rest(listed), at_rest(info))

            self.assertEqual(await client.stop(self.name), started)
            self.assertEqual(await client.stop(self.name), started)
            info = await client.inspect(self.name)
            self.assertEqual((info.state, info.stopped_ms is not None), (ops.State.STOPPED, clock))
            self.assertNotIn(started.id, [process.id for process in await client.processes(stopped=False)])
            self.assertIn(started.id, [process.id for process in await client.processes(stopped=True)])

    @within
    async def test_the_list_comes_in_pages_in_the_order_of_the_starts(self) -> None:
        async with connect(self.endpoint) as client:
            names = [f"{self.name}-{index}" for index in range(3)]
            for name in names:
                await client.start(Start.of("hello.wasm", "hello", name=name))
            whole = await client.processes()
            self.assertEqual([process.name for process in whole][-3:], names)
            paged = await client.processes(page=2)
            self.assertEqual([at_rest(process) for process in paged], [at_rest(process) for process in whole])

    @within
    async def test_arguments_of_every_kind_arrive(self) -> None:
        arguments = [
            Argument(Kind.I8, -2),
            Argument(Kind.U8, 200),
            Argument(Kind.I16, -300),
            Argument(Kind.U16, 60_000),
            Argument(Kind.I32, -70_000),
            Argument(Kind.U32, 4_000_000_000),
            Argument(Kind.I64, -(2**40)),
            Argument(Kind.U64, 2**63 + 1),
            Argument(Kind.F32, 1.5),
            Argument(Kind.F64, -0.25),
        ]
        async with connect(self.endpoint) as client:
            await client.start(Start.of("args.wasm", "scalars", arguments=arguments, name=self.name))
            line = await self.first_line(client, self.name)
            self.assertEqual(
                line,
                "i8=-2 u8=200 i16=-300 u16=60000 i32=-70000 u32=4000000000 i64=-1099511627776 "
                "u64=9223372036854775809 f32=1.5 f64=-0.25",
            )

    @within
    async def test_a_long_request_is_put_together_and_others_pass_it(self) -> None:
        text = "selium " * 30_000
        request = Start.of("args.wasm", "big", arguments=[Argument(Kind.BUFFER, text.encode())], name=self.name)
        async with connect(self.endpoint) as client:
            starting = asyncio.ensure_future(client.start(request))
            await asyncio.gather(client.ping(), client.server_info(), starting)
            total = sum(text.encode()) % (1 << 32)
            self.assertEqual(await self.first_line(client, self.name), f"len={len(text)} sum={total}")

    @within
    async def test_a_request_that_is_too_long_is_answered_and_nothing_else_happens(self) -> None:
        async with connect(self.endpoint) as client:
            limit = client.server.largest_request
            error = await self.fails(client.call(ops.PROCESS_START, bytes(limit + 1)), Code.TOO_LARGE)
            self.assertEqual(error.limit, limit)
            await client.ping()

    async def first_line(self, client: Client, target: str) -> str:
        _, stream = await client.follow(Follow(target))
        async for item in stream:
            assert isinstance(item, Received), item
            stream.cancel()
            return log_record.decode(item.payload).message
        raise AssertionError(f"the log ended: {stream.reason}")


class Errors(Live):
    @within
    async def test_what_does_not_exist_is_not_found(self) -> None:
        async with connect(self.endpoint) as client:
            await self.fails(client.inspect("nobody"), Code.NOT_FOUND, "target")
            await self.fails(client.stop("nobody"), Code.NOT_FOUND, "target")
            await self.fails(client.follow(Follow("nobody")), Code.NOT_FOUND, "target")
            await self.fails(client.start(Start.of("nothing.wasm", "hello")), Code.NOT_FOUND, "module")
            await self.fails(client.start(Start.of("hello.wasm", "nothing")), Code.NOT_FOUND, "entrypoint")

    @within
    async def test_wrong_arguments_name_the_field(self) -> None:
        async with connect(self.endpoint) as client:
            for bad, field in (
                (Start.of("hello.wasm", "hello", name="No"), "name"),
                (Start.of("hello.wasm", "hello", name="0123456789abcdef"), "name"),
                (Start.of("../hello.wasm", "hello"), "module"),
                (Start.of("hello.wasm", ""), "entrypoint"),
                (replace(Start.of("hello.wasm", "hello"), log_uri=""), "log-uri"),
                (replace(Start.of("hello.wasm", "hello"), parameters=(Kind.U16,)), "arguments"),
            ):
                await self.fails(client.start(bad), Code.INVALID_ARGUMENT, field)
            await self.fails(client.inspect(""), Code.INVALID_ARGUMENT, "target")

    @within
    async def test_malformed_bodies_name_the_fields_number(self) -> None:
        async with connect(self.endpoint) as client:
            for text, code, field in (
                ("", Code.INVALID_ARGUMENT, "1"),
                ("03 01 61 03 01 62", Code.INVALID_ARGUMENT, "1"),
                ("40 84 01 05 03 01 61", Code.INVALID_ARGUMENT, "1"),
                ("03 05 61", Code.INVALID_ARGUMENT, "1"),
                ("03 01 ff", Code.INVALID_ARGUMENT, "1"),
                ("03 01 61 33 00", Code.UNSUPPORTED, "25"),
                ("03 02 7a 7a 32 00", Code.NOT_FOUND, "target"),  # optional: skipped
            ):
                with self.subTest(text):
                    await self.fails(client.call(ops.PROCESS_INSPECT, bytes.fromhex(text)), code, field)

    @within
    async def test_other_codes(self) -> None:
        async with connect(self.endpoint) as client:
            await self.fails(client.call(99), Code.UNSUPPORTED)
            error = await self.fails(client.inspect("a" * 129), Code.TOO_LARGE, "1")
            self.assertEqual(error.limit, 128)
            await client.start(Start.of("hello.wasm", "hello", name=self.name))
            again = client.start(Start.of("hello.wasm", "hello", name=self.name))
            await self.fails(again, Code.ALREADY_EXISTS, "name")
            resource = Start.of("args.wasm", "text", arguments=[Argument(Kind.RESOURCE, 5)])
            await self.fails(client.start(replace(resource, parameters=(Kind.U64,))), Code.NOT_FOUND, "arguments")

    @within
    async def test_a_deadline_that_has_passed(self) -> None:
        async with connect(self.endpoint) as client:
            if not client.server.features & CLOCK:
                self.skipTest("the server has no clock")
            start = Start.of("hello.wasm", "hello", common=Common(deadline_ms=0))
            await self.fails(client.start(start), Code.DEADLINE_EXCEEDED)


class Outcomes(Live):
    async def test_the_same_token_gives_the_same_process(self) -> None:
        session = os.urandom(16)
        request = Start.of("hello.wasm", "hello", common=Common(token=7))
        retry = replace(request, common=Common(token=7, retry=True))
        async with connect(self.endpoint, session=session) as client:
            before = (await client.server_info()).processes
            both = [client.begin(ops.PROCESS_START, request.encode()) for _ in range(2)]
            joined = [ops.Process.decode(await client.answer(number)) for number in both]
            self.assertEqual(joined[0], joined[1])
            self.assertEqual(await client.start(retry), joined[0])
            self.assertEqual((await client.server_info()).processes, before + 1)
        async with connect(self.endpoint, session=session) as client:
            self.assertEqual(await client.start(retry), joined[0])
        async with connect(self.endpoint) as client:
            self.assertNotEqual(await client.start(request), joined[0])

    @within
    async def test_a_retry_that_the_server_does_not_know_is_not_done(self) -> None:
        async with connect(self.endpoint) as client:
            before = (await client.server_info()).processes
            retry = Start.of("hello.wasm", "hello", common=Common(token=5, retry=True))
            await self.fails(client.start(retry), Code.OUTCOME_UNKNOWN)
            self.assertEqual((await client.server_info()).processes, before)

    @within
    async def test_errors_are_results_too(self) -> None:
        async with connect(self.endpoint) as client:
            bad = Start.of("nothing.wasm", "hello", common=Common(token=5))
            await self.fails(client.start(bad), Code.NOT_FOUND, "module")
            good = Start.of("hello.wasm", "hello", common=Common(token=5))
            await self.fails(client.start(good), Code.NOT_FOUND, "module")

    @within
    async def test_a_start_that_was_cancelled_tells_which_process_exists(self) -> None:
        async with connect(self.endpoint) as client:
            number = client.begin(ops.PROCESS_START, Start.of("hello.wasm", "hello", name=self.name).encode())
            client.cancel(number)
            error = await self.fails(client.answer(number), Code.CANCELLED)
            if error.process is not None:  # the runtime was asked already
                self.assertEqual((await client.inspect(self.name)).id, error.process)
            else:
                await self.fails(client.inspect(self.name), Code.NOT_FOUND, "target")


class Logs(Live):
    @within
    async def test_every_line_arrives_whole_and_in_order(self) -> None:
        # A window of 1,000 bytes: four records, so that credit has to come back all the time.
        limits = replace(LIMITS, connection_credit=2_000, stream_credit=1_000)
        async with connect(self.endpoint, limits=limits) as client:
            arguments = [Argument(Kind.U32, 250)]
            await client.start(Start.of("storm.wasm", "start", arguments=arguments, name=self.name))
            following, stream = await client.follow(Follow(self.name))
            self.assertEqual((following.name, following.first), (self.name, 0))
            await self.check(stream, 250)

    @within
    async def test_records_larger_than_the_window_arrive(self) -> None:
        limits = replace(LIMITS, connection_credit=150, stream_credit=100)
        async with connect(self.endpoint, limits=limits) as client:
            arguments = [Argument(Kind.U32, 20)]
            await client.start(Start.of("storm.wasm", "start", arguments=arguments, name=self.name))
            _, stream = await client.follow(Follow(self.name))
            await self.check(stream, 20)

    async def check(self, stream: Stream, lines: int) -> None:
        async for item in stream:
            assert isinstance(item, Received), item
            record = log_record.decode(item.payload)
            number = item.sequence + 1
            self.assertEqual(record.message, f"line {number}")
            self.assertEqual((record.level, record.target), (log_record.Level.INFO, "storm"))
            self.assertEqual(dict(record.fields), {"number": str(number), "even": str(number % 2 == 0).lower()})
            self.assertEqual({span.name for span in record.spans}, {"storm", "gust"})
            self.assertEqual(record.timestamp_ms, item.sequence)  # this guest has no clock: it counts
            if number == lines:
                stream.cancel()
                return
        self.fail(f"the log ended: {stream.reason}")

    @within
    async def test_a_record_of_several_chunks(self) -> None:
        text = "0123456789" * 5_000
        async with connect(self.endpoint) as client:
            arguments = [Argument(Kind.BUFFER, text.encode())]
            await client.start(Start.of("args.wasm", "text", arguments=arguments, name=self.name))
            _, stream = await client.follow(Follow(self.name))
            item = await stream.__anext__()
            assert isinstance(item, Received), item
            self.assertEqual(log_record.decode(item.payload).message, f'len={len(text)} text="{text}"')

    @within
    async def test_records_that_the_client_does_not_take_become_a_gap(self) -> None:
        async with connect(self.endpoint, limits=replace(LIMITS, message=100)) as client:
            await client.start(Start.of("hello.wasm", "hello", name=self.name))
            _, stream = await client.follow(Follow(self.name))
            small = await stream.__anext__()
            if isinstance(small, Received):
                self.assertLessEqual(len(small.payload), 100)
            else:
                self.assertEqual((small.next, small.count), (1, 1))

    @within
    async def test_what_was_asked_for_is_what_comes(self) -> None:
        async with connect(self.endpoint) as client:
            await self.storm(client, 50)
            everything = list(range(50))
            self.assertEqual(await self.sequences(client), everything)
            self.assertEqual(await self.sequences(client, tail=0), [])
            self.assertEqual(await self.sequences(client, tail=5), everything[45:])
            self.assertEqual(await self.sequences(client, tail=1_000), everything)
            self.assertEqual(await self.sequences(client, since=45), everything[45:])
            self.assertEqual(await self.sequences(client, since=45, tail=2), everything[48:])
            self.assertEqual(await self.sequences(client, since=30, tail=40), everything[30:])
            self.assertEqual(await self.sequences(client, since=50), [])
            self.assertEqual(await self.sequences(client, common=Common(weight=16)), everything)

    @within
    async def test_what_is_not_retained_any_more_comes_as_a_gap(self) -> None:
        async with connect(self.endpoint) as client:
            await self.storm(client, 2_500)
            following, stream = await client.follow(Follow(self.name, since=7, until_now=True))
            stream.cancel()
            first = following.first
            self.assertGreater(first, 7)
            found = await self.sequences(client, since=7)
            self.assertEqual(found, [(first, first - 7), *range(first, 2_500)])
            self.assertEqual(await self.sequences(client), [(first, first), *range(first, 2_500)])
            self.assertEqual(await self.sequences(client, tail=3), [2_497, 2_498, 2_499])

    @within
    async def test_a_stop_ends_the_stream_and_keeps_the_log(self) -> None:
        async with connect(self.endpoint) as client:
            await self.storm(client, 3)
            _, stream = await client.follow(Follow(self.name))
            await client.stop(self.name)
            found = [item.sequence async for item in stream if isinstance(item, Received)]
            self.assertEqual(found, [0, 1, 2])
            assert stream.reason is not None
            self.assertEqual((stream.reason.code, stream.was_reset), (Code.CANCELLED, False))
            self.assertEqual(await self.sequences(client), [0, 1, 2])
            info = await client.inspect(self.name)
            self.assertEqual((info.log, info.next_sequence), (ops.LogState.ENDED, 3))

    @within
    async def test_a_cancelled_stream_is_silent_and_the_connection_lives(self) -> None:
        async with connect(self.endpoint) as client:
            await self.storm(client, 20)
            before = (await client.server_info()).open_streams
            _, stream = await client.follow(Follow(self.name))
            self.assertEqual((await client.server_info()).open_streams, before + 1)
            stream.cancel()
            await client.ping()
            self.assertEqual((await client.server_info()).open_streams, before)
            pending = client.begin(ops.LOG_FOLLOW, Follow(self.name).encode(), stream=True)
            client.cancel(pending)
            await self.fails(client.answer(pending), Code.CANCELLED)
            await client.ping()

    @within
    async def test_a_process_without_a_log(self) -> None:
        async with connect(self.endpoint) as client:
            await client.start(Start.of("hello.wasm", "hello", capabilities=(), name=self.name))
            self.assertEqual((await client.inspect(self.name)).log, ops.LogState.NONE)
            await self.fails(client.follow(Follow(self.name)), Code.NOT_FOUND, "log")


class Life(Live):
    @within
    async def test_pings_and_many_requests_at_a_time(self) -> None:
        async with connect(self.endpoint) as client:
            await asyncio.gather(*(client.ping() for _ in range(50)), *(client.server_info() for _ in range(200)))

    @within
    async def test_a_client_that_drains_makes_no_new_requests(self) -> None:
        async with self.raw() as (link, splitter):
            link.writer.write(frames.encode(frames.Drain()) + frames.encode(frames.Request(1, 1, 0, b"")))
            answer = await self.next_frame(link, splitter)
            assert isinstance(answer, frames.Response), answer
            self.assertEqual(answer.code, Code.UNAVAILABLE)

    @within
    async def test_optional_kinds_are_skipped(self) -> None:
        async with self.raw() as (link, splitter):
            link.writer.write(bytes.fromhex("04 80 01 78 79 02 ff 00") + frames.encode(frames.Ping(b"12345678")))
            self.assertEqual(await self.next_frame(link, splitter), frames.Pong(b"12345678"))

    async def test_broken_frames_end_in_a_goodbye(self) -> None:
        info = frames.encode(frames.Request(1, 1, 0, b""))
        for name, wrong in {
            "an unknown kind": bytes.fromhex("02 30 01"),
            "no kind": bytes.fromhex("00"),
            "half a header": bytes.fromhex("02 80 40"),
            "a frame too long": bytes.fromhex("80 00 40 41"),
            "a length of 2^62 - 1": bytes.fromhex("ff" * 8),
            "a short ping": bytes.fromhex("03 01 00 61"),
            "an id twice": info + info,
            "an id that falls": frames.encode(frames.Request(5, 1, 0, b"")) + info,
            "the id 0": frames.encode(frames.Request(0, 1, 0, b"")),
            "an answer": info + frames.encode(frames.Response(1, 0, 0, b"")),
            "a cancel of nothing": frames.encode(frames.Cancel(9)),
            "data of nothing": frames.encode(frames.Data(9, 0, 1, b"x")),
            "more than it said": frames.encode(frames.Request(1, 1, 3, b"ab")) + frames.encode(frames.More(1, b"cd")),
            "an empty part": frames.encode(frames.Request(1, 1, 3, b"")),
        }.items():
            with self.subTest(name):
                await asyncio.wait_for(self.ends_in_a_goodbye(wrong), LIMIT_S)
        async with connect(self.endpoint) as client:
            await client.ping()

    async def ends_in_a_goodbye(self, wrong: bytes) -> None:
        async with self.raw() as (link, splitter):
            link.writer.write(wrong)
            frame = await self.next_frame(link, splitter)
            while not isinstance(frame, frames.Goodbye):
                frame = await self.next_frame(link, splitter)
            self.assertEqual(frame.error.code, Code.PROTOCOL_ERROR)
            # It was the last frame, whatever we say.
            link.writer.write(frames.encode(frames.Ping(b"12345678")))
            link.writer.write_eof()
            self.assertIsNone(splitter.next())
            self.assertEqual(await link.reader.read(), b"")

    @within
    async def test_the_end_of_our_half_is_answered_with_the_end(self) -> None:
        async with self.raw() as (link, splitter):
            link.writer.write(frames.encode(frames.Ping(b"12345678")))
            link.writer.write_eof()
            self.assertEqual(await self.next_frame(link, splitter), frames.Pong(b"12345678"))
            self.assertEqual(await link.reader.read(), b"")


class Rules(Live):
    """What the page says of requests as such."""

    @within
    async def test_server_info_refuses_mandatory_fields_that_it_does_not_know(self) -> None:
        async with connect(self.endpoint) as client:
            body = Writer().raw(99, b"", mandatory=True).done()
            await self.fails(client.call(ops.SERVER_INFO, body), Code.UNSUPPORTED, "99")

    @within
    async def test_common_fields_are_checked_on_every_request(self) -> None:
        async with connect(self.endpoint) as client:
            await client.start(Start.of("hello.wasm", "hello", name=self.name))
            body = Writer().text(1, self.name, mandatory=True).raw(65, b"\2", mandatory=True).done()
            await self.fails(client.call(ops.PROCESS_INSPECT, body), Code.INVALID_ARGUMENT, "65")

    @within
    async def test_since_holds_for_records_that_are_not_written_yet(self) -> None:
        async with connect(self.endpoint) as client:
            ticking = Start.of(
                "ticker.wasm",
                "start",
                capabilities=(Capability.CHANNEL_LIFECYCLE, Capability.CHANNEL_WRITER, Capability.TIME_READ),
                arguments=[Argument(Kind.U32, 20), Argument(Kind.U32, 50)],
                name=self.name,
            )
            await client.start(ticking)
            _, stream = await client.follow(Follow(self.name, since=15))
            first = await stream.__anext__()
            assert isinstance(first, Received), first
            self.assertGreaterEqual(first.sequence, 15)

    @within
    async def test_a_record_that_is_longer_than_the_reassembly_budget_is_a_gap_of_one(self) -> None:
        async with connect(self.endpoint, limits=replace(LIMITS, reassembly=10)) as client:
            await client.start(Start.of("hello.wasm", "hello", name=self.name))
            _, stream = await client.follow(Follow(self.name))
            gap = await stream.__anext__()
            assert isinstance(gap, Missing), gap
            self.assertEqual((gap.next, gap.count), (1, 1))

    @within
    async def test_credit_for_an_id_that_was_never_used_ends_the_connection(self) -> None:
        async with self.raw() as (link, splitter):
            link.writer.write(frames.encode(frames.Credit(9, 1 << 20)) + frames.encode(frames.Ping(bytes(8))))
            self.assertIsInstance(await self.next_frame(link, splitter), frames.Goodbye)


class _Raw:
    """A connection whose frames the test writes itself."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._link = open_link(endpoint)

    async def __aenter__(self) -> tuple[Link, frames.Splitter]:
        link = await self._link.__aenter__()
        hello = ClientHello(os.urandom(16), os.urandom(16), Limits(1 << 20, 1 << 21, 1 << 18, 1 << 16))
        link.writer.write(ClientEnvelope(hello.encode()).encode())
        received = b""
        while (answer := read_answer(received)) is None:
            received += await link.reader.read(65_536)
        assert isinstance(answer[0], Accepted), answer
        splitter = frames.Splitter()
        splitter.feed(received[answer[1] :])
        return link, splitter

    async def __aexit__(self, *error: Any) -> None:
        await self._link.__aexit__(*error)


if __name__ == "__main__":
    unittest.main()
