"""The parts without I/O: any cuts of the input, malformed input, credit, reassembly, ends."""

from __future__ import annotations

import os
import random
import struct
import unittest

from selium_remote import certificate, frames, log_record, varint
from selium_remote import connection as c
from selium_remote.credit import OVERHEAD, ReceiveWindow, SendWindow
from selium_remote.envelope import SERVER_MAGIC, Accepted, LegacyServer, Refused, read_answer
from selium_remote.errors import BodyError, Code, Error, ProtocolError
from selium_remote.fields import Fields, Writer
from selium_remote.frames import MAX_CHUNK, Splitter
from selium_remote.hello import ClientHello, Limits, ServerHello
from selium_remote.messages import Reassembler

LIMITS = Limits(message=100_000, reassembly=150_000, connection_credit=40_000, stream_credit=20_000)
HELLO = ClientHello(b"n" * 16, b"s" * 16, LIMITS)
SERVER = ServerHello(b"i" * 16, LIMITS, requests_in_flight=4, open_streams=4, largest_request=90_000)
ACCEPTED = Accepted(1, 1, 1, SERVER.encode()).encode()

SEED = int(os.environ.get("SELIUM_INTEROP_SEED", random.SystemRandom().randrange(1 << 32)))


def setUpModule() -> None:
    print(f"seed {SEED} (SELIUM_INTEROP_SEED)", flush=True)


def connected() -> c.Connection:
    connection = c.Connection(HELLO)
    connection.take()
    events = connection.receive(ACCEPTED)
    assert events == [c.Connected(SERVER)], events
    return connection


def following() -> tuple[c.Connection, int]:
    """A connection with an open stream."""
    connection = connected()
    number = connection.request(20, b"x", stream=True)
    connection.take()
    give(connection, frames.Response(number, 0, 0, b""))
    return connection, number


def publishing() -> tuple[c.Connection, int]:
    """A connection with an open stream that is ours to send on."""
    connection = connected()
    number = connection.request(39, b"x", stream=True, sends=True)
    connection.take()
    give(connection, frames.Response(number, 0, 0, b""))
    return connection, number


def give(connection: c.Connection, *items: frames.Frame) -> list[c.Event]:
    return connection.receive(b"".join(frames.encode(item) for item in items))


def sent(connection: c.Connection) -> list[frames.Frame]:
    splitter = Splitter()
    while data := connection.take():
        splitter.feed(data)
    found = []
    while (frame := splitter.next()) is not None:
        found.append(frame)
    return found


class Varints(unittest.TestCase):
    def test_every_length_at_its_edges(self) -> None:
        for number, length in ((0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), (2**30 - 1, 4), (2**30, 8)):
            data = varint.encode(number)
            self.assertEqual((len(data), varint.decode(data)), (length, (number, length)))
            self.assertIsNone(varint.decode(data[:-1]))

    def test_longer_forms_are_read(self) -> None:
        self.assertEqual(varint.decode(bytes.fromhex("c000000000000025")), (37, 8))

    def test_too_large_is_not_written(self) -> None:
        for number in (-1, 2**62):
            self.assertRaises(ValueError, varint.encode, number)


class FieldLists(unittest.TestCase):
    def refused(self, data: str, code: Code, number: int | None, offset: int) -> None:
        with self.assertRaises(BodyError) as raised:
            fields = Fields(bytes.fromhex(data), (1, 2, 3), repeated=(3,))
            fields.integer(1), fields.text(2), fields.raws(3)
        error = raised.exception
        self.assertEqual((error.code, error.number, error.offset), (code, number, offset))

    def test_malformed_bodies_name_the_field_and_its_byte(self) -> None:
        bad = Code.INVALID_ARGUMENT
        self.refused("40", bad, None, 0)
        self.refused("02", bad, 1, 0)
        self.refused("02 05 01", bad, 1, 0)
        self.refused("02 00 02 00", bad, 1, 2)
        self.refused("04 01 61 02 00", bad, 1, 3)
        self.refused("02 01 00", bad, 1, 0)
        self.refused("02 09 010000000000000000", bad, 1, 0)
        self.refused("02 00 04 01 ff", bad, 2, 2)

    def test_unknown_fields(self) -> None:
        self.assertEqual(Fields(bytes.fromhex("02 01 05 3e 03 616263"), (1,)).integer(1), 5)
        self.refused("02 00 09 00", Code.UNSUPPORTED, 4, 2)

    def test_repeated_ones_keep_their_order(self) -> None:
        body = Writer().raw(3, b"b").raw(3, b"a").raw(3, b"").done()
        self.assertEqual(Fields(body, (3,), repeated=(3,)).raws(3), [b"b", b"a", b""])

    def test_writers_cannot_go_back(self) -> None:
        self.assertRaises(ValueError, Writer().raw(3, b"").raw, 2, b"")


class Envelopes(unittest.TestCase):
    def test_any_cut_is_incomplete(self) -> None:
        for end in range(len(ACCEPTED)):
            self.assertIsNone(read_answer(ACCEPTED[:end]))

    def test_a_server_of_033_is_known(self) -> None:
        answer = bytes.fromhex("b8000000 14000000") + b"RMCL" + bytes(10)
        self.assertIsNone(read_answer(answer[:11]))
        self.assertRaises(LegacyServer, read_answer, answer)

    def test_strangers_are_refused(self) -> None:
        self.assertRaises(ProtocolError, read_answer, b"HTTP/1.1 400 Bad Request")
        too_long = SERVER_MAGIC + struct.pack(">HHHH", 1, 1, 1, 985)
        self.assertRaises(ProtocolError, read_answer, too_long)

    def test_a_refusal_closes(self) -> None:
        connection = c.Connection(HELLO)
        connection.take()
        events = connection.receive(Refused(2, 3, Code.UNSUPPORTED, "update").encode())
        self.assertEqual(events, [c.Closed(Error(Code.UNSUPPORTED, "update"))])
        self.assertEqual(connection.take(), b"")

    def test_nothing_is_sent_before_the_answer(self) -> None:
        connection = c.Connection(HELLO)
        self.assertTrue(connection.take())
        self.assertEqual(connection.take(), b"")
        self.assertRaises(ValueError, connection.request, 1)


class Splitting(unittest.TestCase):
    def test_broken_frames(self) -> None:
        for text in (
            "00",  # no kind
            "01 01",  # no id
            "02 80 40",  # an id that is cut off
            "02 30 01",  # an unknown kind below 0x80
            "03 01 00 61",  # a ping of one byte
            "0a 01 05 0000000000000001",  # a ping with an id
            "02 22 07",  # an end without anything
            "04 22 07 00 00",  # bytes behind a plain end
            "80 00 40 41",  # 16,449 bytes
            "ff ff ff ff ff ff ff ff",
        ):
            with self.subTest(text):
                splitter = Splitter()
                splitter.feed(bytes.fromhex(text))
                self.assertRaises(ProtocolError, splitter.next)

    def test_trailing_bytes_are_ignored_where_the_page_says_so(self) -> None:
        for frame in (frames.Drain(), frames.Credit(7, 9), frames.Cancel(7), frames.Gap(7, 5, 2), frames.Ack(7, 5, 1)):
            content = frames.encode(frame)[1:] + b"more"
            self.assertEqual(frames.decode(content), frame)

    def test_a_chunk_of_the_largest_size_fits_and_one_more_does_not(self) -> None:
        huge = frames.Data(2**62 - 1, 2**62 - 1, 2**62 - 1, bytes(MAX_CHUNK))
        splitter = Splitter()
        splitter.feed(frames.encode(huge))
        self.assertEqual(splitter.next(), huge)
        content = bytes.fromhex("21 07") + bytes(MAX_CHUNK + 1)
        self.assertRaises(ProtocolError, frames.decode, content)

    def test_noise_never_raises_anything_else(self) -> None:
        dice = random.Random(SEED)
        for _ in range(3_000):
            connection = connected()
            connection.request(20, stream=True)
            kind = dice.choice((*range(0x01, 0x06), *range(0x10, 0x14), *range(0x20, 0x26), 0x80, dice.randrange(256)))
            content = bytes((kind, dice.choice((0, 1, 1, 2)))) + dice.randbytes(dice.randrange(20))
            connection.receive(varint.encode(len(content)) + content)


class Requests(unittest.TestCase):
    def test_ids_rise_and_answers_come_in_any_order(self) -> None:
        connection = connected()
        self.assertEqual([connection.request(1), connection.request(18, b"b")], [1, 2])
        self.assertEqual(sent(connection), [frames.Request(1, 1, 0, b""), frames.Request(2, 18, 1, b"b")])
        failure = Error(Code.NOT_FOUND, "no", "target")
        body = frames.encode_error_fields(failure)
        events = give(connection, frames.Response(2, 2, len(body), body), frames.Response(1, 0, 2, b"ok"))
        self.assertEqual(events, [c.Answered(2, b"", failure), c.Answered(1, b"ok", None)])

    def test_a_long_answer_is_put_together_however_it_is_cut(self) -> None:
        dice = random.Random(SEED)
        body = dice.randbytes(50_000)
        parts = [body[at : at + MAX_CHUNK] for at in range(0, len(body), MAX_CHUNK)]
        wire = b"".join(
            frames.encode(frames.More(1, part) if index else frames.Response(1, 0, len(body), part))
            for index, part in enumerate(parts)
        )
        wire += frames.encode(frames.Pong(b"12345678"))
        for _ in range(20):
            connection = connected()
            connection.request(1)
            events: list[c.Event] = []
            at = 0
            while at < len(wire):
                size = dice.choice((1, 7, 500, 30_000))
                events += connection.receive(wire[at : at + size])
                at += size
            self.assertTrue(events == [c.Answered(1, body, None), c.Ponged(b"12345678")])

    def test_a_long_request_is_cut_and_keeps_its_id_order(self) -> None:
        connection = connected()
        body = bytes(range(256)) * 300
        connection.request(16, body)
        connection.request(1)
        connection.cancel(1)
        found = sent(connection)
        self.assertEqual([type(frame).__name__ for frame in found[:3]], ["Request", "Request", "Cancel"])
        contents = [frame.content for frame in found if isinstance(frame, frames.Request | frames.More) and frame.id == 1]
        self.assertEqual(b"".join(contents), body)
        self.assertLessEqual(max(map(len, contents)), MAX_CHUNK)

    def test_no_more_is_begun_than_the_server_reassembles(self) -> None:
        connection = connected()
        connection.request(16, bytes(90_000))
        self.assertRaises(ValueError, connection.request, 16, bytes(90_000))
        sent(connection)
        connection.request(16, bytes(90_000))

    def test_long_requests_take_turns(self) -> None:
        connection = connected()
        connection.request(16, bytes(70_000))
        connection.request(16, bytes(70_000))
        more = [frame.id for frame in sent(connection) if isinstance(frame, frames.More)]
        self.assertEqual(more[:6], [1, 2, 1, 2, 1, 2])

    def test_what_the_server_must_not_do(self) -> None:
        cases: dict[str, list[frames.Frame]] = {
            "an answer to nothing": [frames.Response(5, 0, 0, b"")],
            "more of nothing": [frames.More(1, b"x")],
            "data of nothing": [frames.Data(5, 0, 1, b"x")],
            "data before the answer": [frames.Data(1, 0, 1, b"x")],
            "an end before the answer": [frames.End(1)],
            "more than it said": [frames.Response(1, 0, 3, b"ab"), frames.More(1, b"cd")],
            "an empty part": [frames.Response(1, 0, 3, b"ab"), frames.More(1, b"")],
            "nothing of something": [frames.Response(1, 0, 3, b"")],
            "two answers at once": [frames.Response(1, 0, 3, b"ab"), frames.Response(1, 0, 3, b"ab")],
            "a message too long": [frames.Response(1, 0, 100_001, b"ab")],
            "a request": [frames.Request(1, 1, 0, b"")],
            "credit for nothing": [frames.Credit(5, 5)],
        }
        for name, wrong in cases.items():
            with self.subTest(name):
                connection = connected()
                connection.request(1)
                connection.take()
                events = give(connection, *wrong)
                self.assertIsInstance(events[-1], c.Closed)
                self.assertIsInstance(sent(connection)[-1], frames.Goodbye)
                self.assertEqual(give(connection, frames.Pong(b"12345678")), [])

    def test_late_frames_of_what_is_over_are_dropped(self) -> None:
        connection = connected()
        connection.request(1)
        give(connection, frames.Response(1, 0, 0, b""))
        late: list[frames.Frame] = [
            frames.Response(1, 0, 0, b""),
            frames.More(1, b"x"),
            frames.End(1),
            frames.Credit(1, 5),
        ]
        self.assertEqual(give(connection, *late), [])
        self.assertFalse(connection.closed)

    def test_a_cancel_that_crossed_the_answer_leaves_no_stream(self) -> None:
        connection = connected()
        number = connection.request(20, stream=True)
        connection.cancel(number)
        events = give(connection, frames.Response(number, 0, 0, b""), frames.Data(number, 0, 1, b"x"))
        self.assertEqual(events, [c.Answered(number, b"", None)])

    def test_messages_in_reassembly_have_a_budget(self) -> None:
        connection = connected()
        connection.request(1)
        connection.request(1)
        events = give(connection, *(frames.Response(number, 0, 80_000, b"x") for number in (1, 2)))
        self.assertIsInstance(events[-1], c.Closed)


class Streams(unittest.TestCase):
    def test_messages_gaps_and_the_end(self) -> None:
        connection, number = following()
        reason = Error(Code.CANCELLED, "stopped")
        events = give(
            connection,
            frames.Gap(number, 3, 3),
            frames.Data(number, 3, 5, b"hello"),
            frames.Data(number, 4, 5, b"wor"),
            frames.DataMore(number, b"ld"),
            frames.Gap(number, 9, None),
            frames.Data(number, 9, 1, b"!"),
            frames.End(number, reason),
        )
        self.assertEqual(
            events,
            [
                c.Missing(number, 3, 3),
                c.Received(number, 3, b"hello"),
                c.Received(number, 4, b"world"),
                c.Missing(number, 9, None),
                c.Received(number, 9, b"!"),
                c.Ended(number, reason),
            ],
        )

    def test_what_the_server_must_not_do(self) -> None:
        cases: dict[str, list[frames.Frame]] = {
            "the same number": [frames.Data(2, 5, 1, b"x"), frames.Data(2, 5, 1, b"x")],
            "go back": [frames.Data(2, 5, 1, b"x"), frames.Data(2, 4, 1, b"x")],
            "a gap that goes back": [frames.Data(2, 5, 1, b"x"), frames.Gap(2, 5, 1)],
            "go behind a gap": [frames.Gap(2, 9, 9), frames.Data(2, 8, 1, b"x")],
            "acknowledge what was not sent": [frames.Ack(2, 0, 0)],
            "an empty message": [frames.Data(2, 0, 0, b"")],
            "a message in a message": [frames.Data(2, 0, 3, b"x"), frames.Data(2, 1, 3, b"x")],
            "an end in a message": [frames.Data(2, 0, 3, b"x"), frames.End(2)],
            "a second answer": [frames.Response(2, 0, 0, b"")],
            "more of the answer": [frames.More(2, b"x")],
        }
        for name, wrong in cases.items():
            with self.subTest(name):
                connection = connected()
                connection.request(1)
                connection.request(20, stream=True)
                give(connection, frames.Response(2, 0, 0, b""))
                self.assertIsInstance(give(connection, *wrong)[-1], c.Closed)

    def test_overrun_of_a_streams_credit(self) -> None:
        connection, number = following()
        chunk = bytes(10_000 - OVERHEAD)
        give(connection, *(frames.Data(number, index, len(chunk), chunk) for index in range(2)))
        self.assertFalse(connection.closed)
        self.assertIsInstance(give(connection, frames.Data(number, 2, 1, b"x"))[-1], c.Closed)

    def test_overrun_of_the_connections_credit_by_what_is_over(self) -> None:
        connection, number = following()
        connection.cancel(number)
        chunk = bytes(10_000 - OVERHEAD)
        for index in range(20):  # given back at once, each time
            give(connection, frames.Data(number, index, len(chunk), chunk))
        self.assertFalse(connection.closed)
        limits = [frame.limit for frame in sent(connection) if isinstance(frame, frames.Credit) and frame.stream == 0]
        self.assertEqual(limits, [60_000, 80_000, 100_000, 120_000, 140_000, 160_000, 180_000, 200_000, 220_000, 240_000])

    def test_credit_comes_back_when_a_message_was_read_and_not_before(self) -> None:
        connection, number = following()
        sent(connection)
        payload = bytes(15_000)
        [event] = give(connection, frames.Data(number, 0, len(payload), payload))
        self.assertEqual(sent(connection), [])
        assert isinstance(event, c.Received)
        connection.read(event)
        self.assertEqual(sent(connection), [frames.Credit(number, 20_000 + 15_000 + OVERHEAD)])

    def test_a_message_larger_than_the_window_arrives_and_then_counts(self) -> None:
        connection, number = following()
        sent(connection)
        payload = bytes(90_000)
        window, at, limit, events = SendWindow(20_000), 0, 20_000, []
        while at < len(payload):
            cost = 0 if at else OVERHEAD
            size = min(MAX_CHUNK, window.available - cost, len(payload) - at)
            self.assertGreater(size, 0, "the window is stuck")
            window.spend(size + cost)
            part = payload[at : at + size]
            events += give(connection, frames.DataMore(number, part) if at else frames.Data(number, 0, 90_000, part))
            at += size
            for frame in sent(connection):
                if isinstance(frame, frames.Credit) and frame.stream == number:
                    self.assertGreater(frame.limit, limit)
                    limit = frame.limit
                    window.raise_to(limit)
        [event] = events
        assert isinstance(event, c.Received)
        self.assertLessEqual(limit, 90_000 + OVERHEAD + 20_000)
        self.assertGreaterEqual(limit, 90_000 + OVERHEAD + 20_000 - 10_000)
        self.assertEqual(give(connection, frames.Data(number, 1, 1, b"x")), [c.Received(number, 1, b"x")])
        self.assertEqual(sent(connection), [])  # the large one is unread now
        connection.read(event)
        grants = [f.limit for f in sent(connection) if isinstance(f, frames.Credit) and f.stream == number]
        # At most one, and none if the last one left more than half a window.
        self.assertIn(grants, ([], [90_000 + OVERHEAD + 20_000]))

    def test_our_own_messages_wait_for_credit_of_both_kinds(self) -> None:
        connection, number = publishing()
        sent(connection)
        give(connection, frames.Credit(number, 5), frames.Credit(0, 5))  # limits do not fall
        connection.send(number, 0, bytes(45_000))
        connection.end(number)

        def content() -> int:
            return sum(len(f.content) for f in sent(connection) if isinstance(f, frames.Data | frames.DataMore))

        self.assertEqual(content(), 20_000 - OVERHEAD)
        give(connection, frames.Credit(number, 60_000))
        self.assertEqual(content(), 20_000)
        give(connection, frames.Credit(0, 40_000))  # not higher: nothing changes
        self.assertEqual(content(), 0)
        give(connection, frames.Credit(0, 41_000))
        self.assertEqual(content(), 1_000)
        give(connection, frames.Credit(0, 60_000))
        rest = sent(connection)
        self.assertEqual(rest[-1], frames.End(number))
        self.assertRaises(ValueError, connection.send, number, 1, b"x")

    def test_a_message_that_has_begun_gets_credit_though_others_are_unread(self) -> None:
        connection, number = following()
        sent(connection)
        give(connection, frames.Data(number, 0, 15_000, bytes(15_000)))
        self.assertEqual(sent(connection), [])
        give(connection, frames.Data(number, 1, 12_000, bytes(4_000)))
        self.assertEqual(sent(connection), [frames.Credit(number, 15_032 + 4_032 + 8_000)])

    def test_streams_share_by_weight(self) -> None:
        connection = connected()
        for weight in (3, 1):
            number = connection.request(39, stream=True, sends=True, weight=weight)
            give(connection, frames.Response(number, 0, 0, b""), frames.Credit(number, 1 << 30))
        give(connection, frames.Credit(0, 1 << 30))
        sent(connection)
        for sequence in range(8):
            for number in (1, 2):
                connection.send(number, sequence, bytes(MAX_CHUNK))
        order = [frame.stream for frame in sent(connection) if isinstance(frame, frames.Data)]
        self.assertEqual(order[:12], [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 2, 2])

    def test_windows_do_not_shrink(self) -> None:
        window = ReceiveWindow(100)
        window.spend(90)
        window.hold(90)
        self.assertIsNone(window.grant())
        window.release(90)
        self.assertEqual(window.grant(), 190)
        self.assertIsNone(window.grant())
        self.assertRaises(ProtocolError, window.spend, 101)

    def test_acknowledgements(self) -> None:
        connection, number = publishing()
        for sequence in range(4):
            connection.send(number, sequence, b"x")
        connection.end(number)
        sent(connection)
        events = give(connection, frames.Ack(number, 1, 0), frames.Ack(number, 3, 1), frames.End(number))
        expected = [c.Acknowledged(number, 1, False), c.Acknowledged(number, 3, True), c.Ended(number, None)]
        self.assertEqual(events, expected)

    def test_wrong_acknowledgements(self) -> None:
        for name, wrong in {
            "twice": (7, 7),
            "back": (7, 6),
            "before what was sent on this stream": (4,),
            "behind it": (8,),
            "not whole yet": (7, 9),
            "waits for credit": (10,),
        }.items():
            with self.subTest(name):
                connection, number = publishing()
                for sequence in (5, 6, 7):
                    connection.send(number, sequence, b"x")
                connection.send(number, 9, bytes(30_000))
                connection.send(number, 10, b"x")
                sent(connection)
                self.assertEqual(connection.waiting(number), 2)
                *good, bad = (frames.Ack(number, sequence) for sequence in wrong)
                self.assertEqual(give(connection, *good), [c.Acknowledged(number, f.sequence, False) for f in good])
                self.assertIsInstance(give(connection, bad)[-1], c.Closed)

    def test_only_one_side_sends(self) -> None:
        connection, number = following()
        self.assertRaises(ValueError, connection.send, number, 0, b"x")
        for wrong in (frames.Data(1, 0, 1, b"x"), frames.Gap(1, 1, 1)):
            connection, number = publishing()
            self.assertIsInstance(give(connection, wrong)[-1], c.Closed)

    def test_our_reset_drops_what_waits(self) -> None:
        connection, number = publishing()
        connection.send(number, 0, bytes(60_000))
        first = sent(connection)
        self.assertTrue(first)
        connection.reset(number, Error(Code.CANCELLED))
        self.assertEqual(sent(connection), [frames.Reset(number, Error(Code.CANCELLED))])
        self.assertEqual(give(connection, frames.Credit(number, 1 << 20), frames.Ack(number, 0), frames.End(number)), [])
        self.assertEqual((sent(connection), connection.waiting(number)), ([], 0))
        self.assertRaises(ValueError, connection.reset, number, Error(Code.CANCELLED))

    def test_a_reset_in_the_middle_of_a_message(self) -> None:
        connection, number = following()
        error = Error(Code.INTERNAL, "")
        events = give(connection, frames.Data(number, 0, 5, b"x"), frames.Reset(number, error), frames.DataMore(number, b"y"))
        self.assertEqual(events, [c.WasReset(number, error)])


class Life(unittest.TestCase):
    def test_pings_are_answered_before_what_waits(self) -> None:
        connection = connected()
        connection.request(16, bytes(60_000))
        give(connection, frames.Ping(b"12345678"))
        kinds = [type(frame).__name__ for frame in sent(connection)]
        self.assertLess(kinds.index("Pong"), kinds.index("More"))

    def test_optional_kinds_are_skipped(self) -> None:
        connection = connected()
        events = connection.receive(bytes.fromhex("04 90 07 61 62") + frames.encode(frames.Drain()))
        self.assertEqual(events, [c.Draining()])

    def test_goodbyes(self) -> None:
        connection = connected()
        error = Error(Code.UNAVAILABLE, "bye")
        self.assertEqual(give(connection, frames.Goodbye(error), frames.Drain()), [c.Closed(error)])
        connection = connected()
        connection.request(1)
        connection.goodbye()
        self.assertEqual(sent(connection), [frames.Goodbye(Error(Code.CANCELLED))])
        self.assertEqual(give(connection, frames.Response(1, 0, 0, b"")), [])

    def test_the_end_without_a_goodbye(self) -> None:
        connection = connected()
        self.assertEqual(connection.receive_end(), [c.Closed(None)])
        self.assertEqual(connection.receive_end(), [])

    def test_unknown_codes_are_internal(self) -> None:
        events = connected().receive(bytes.fromhex("04 03 00 40 63"))
        self.assertEqual(events, [c.Closed(Error(Code.INTERNAL))])

    def test_the_budget_is_freed_by_what_completes_and_what_is_dropped(self) -> None:
        reassembler = Reassembler(100, 150)
        for number in range(50):
            self.assertIsNone(reassembler.begin(number, 0, 100, b"x" * 99))
            if number % 2:
                reassembler.drop(number)
            else:
                self.assertEqual(reassembler.more(number, b"y"), (0, b"x" * 99 + b"y"))


def record(*, level: int = 2) -> bytes:
    """A record with a message and a timestamp, laid out by hand: vtable, table, text."""
    vtable = struct.pack("<HHHHHHHH", 16, 24, 4, 0, 8, 0, 0, 16)
    table = struct.pack("<ibxxxIIQ", 16, level, 16, 0, 7)
    text = struct.pack("<I", 2) + b"hi\0"
    return struct.pack("<I", 4 + 16) + vtable + table + text


class LogRecords(unittest.TestCase):
    def test_absent_fields_have_their_defaults(self) -> None:
        self.assertEqual(
            log_record.decode(record()), log_record.LogRecord(log_record.Level.INFO, "", "hi", (), (), 7)
        )

    def test_every_cut_and_every_flipped_byte_is_read_or_refused(self) -> None:
        data = record()
        refused = 0
        for end in range(len(data)):
            try:
                log_record.decode(data[:end])
            except log_record.RecordError:
                refused += 1
        self.assertGreaterEqual(refused, len(data) - 1)  # only the text's final zero byte is not needed
        for at in range(len(data)):
            for value in range(256):
                try:
                    log_record.decode(data[:at] + bytes((value,)) + data[at + 1 :])
                except log_record.RecordError:
                    refused += 1
        self.assertGreater(refused, 1_000)

    def test_levels_that_do_not_exist_are_refused(self) -> None:
        self.assertRaises(log_record.RecordError, log_record.decode, record(level=5))
        self.assertRaises(log_record.RecordError, log_record.decode, record(level=-1))

    def test_fields_outside_of_their_table_are_refused(self) -> None:
        data = bytearray(record())
        data[6] = 23  # the table's size in its vtable: the timestamp needs 24
        with self.assertRaisesRegex(log_record.RecordError, "outside"):
            log_record.decode(bytes(data))

    def test_many_offsets_to_one_place_are_refused(self) -> None:
        # A list of 5,000 fields that are all the same table.
        vtable = struct.pack("<HHHHHH", 12, 8, 0, 0, 0, 4)
        head = struct.pack("<I", 4 + 12) + vtable + struct.pack("<iI", 12, 4)
        count = 5_000
        entries = b"".join(struct.pack("<I", 4 * (count - index)) for index in range(count))
        empty = struct.pack("<iHH", -4, 4, 4)
        with self.assertRaisesRegex(log_record.RecordError, "more than"):
            log_record.decode(head + struct.pack("<I", count) + entries + empty)


class Certificates(unittest.TestCase):
    def test_noise_is_refused(self) -> None:
        dice = random.Random(SEED)
        for _ in range(2_000):
            try:
                certificate.dns_names(b"\x30" + dice.randbytes(dice.randrange(40)))
            except certificate.CertificateError:
                pass


if __name__ == "__main__":
    unittest.main()
