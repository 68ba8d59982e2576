"""Every vector of docs/PROTOCOL.md, in both directions, against what the prose on the page says."""

from __future__ import annotations

import os
import re
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selium_remote import frames, varint
from selium_remote import operations as ops
from selium_remote.envelope import Accepted, ClientEnvelope, Refused, read_answer
from selium_remote.errors import Code, Error
from selium_remote.frames import Splitter
from selium_remote.hello import ClientHello, Limits, ServerHello
from selium_remote.operations import Argument, Capability, Common, Kind

PAGE = Path(os.environ.get("SELIUM_INTEROP_PAGE", Path(__file__).parents[2] / "docs" / "PROTOCOL.md"))

#: Reads bytes, writes a value, and the value.
Expectation = tuple[Callable[[bytes], Any], Callable[[Any], bytes], Any]


def vectors(page: str) -> dict[str, bytes]:
    """The page's vectors by name; a name that stands twice is a mistake."""
    found: dict[str, bytes] = {}
    for name, text in re.findall(r"^```vector (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if name in found:
            raise ValueError(f"two vectors {name}")
        found[name] = bytes.fromhex(text)
    return found


def _varint(number: int) -> Expectation:
    def read(data: bytes) -> int | None:
        result = varint.decode(data)
        return result[0] if result is not None and result[1] == len(data) else None

    return read, varint.encode, number


def _frame(frame: frames.Frame) -> Expectation:
    def read(data: bytes) -> frames.Frame | None:
        splitter = Splitter()
        splitter.feed(data)
        found = splitter.next()
        if splitter.next() is not None:
            raise ValueError("two frames")
        return found

    return read, frames.encode, frame


def _body(value: Any) -> Expectation:
    return type(value).decode, type(value).encode, value


def _answer(value: Accepted | Refused) -> Expectation:
    def read(data: bytes) -> Accepted | Refused | None:
        answer = read_answer(data)
        return answer[0] if answer is not None and answer[1] == len(data) else None

    return read, type(value).encode, value


ID = 0x0123456789ABCDEF
LIMITS = Limits(message=0x10_0000, reassembly=0x20_0000, connection_credit=0x4_0000, stream_credit=0x1_0000)
WEB = ops.ProcessInfo(
    id=ID,
    name="web",
    module="hello.wasm",
    entrypoint="hello",
    state=ops.State.STOPPED,
    capabilities=(Capability.CHANNEL_WRITER,),
    log=ops.LogState.ENDED,
    next_sequence=3,
    started_ms=1_700_000_000_000,
    stopped_ms=1_700_000_001_000,
    logged_ms=1_700_000_000_500,
)
PRICES = ops.ChannelInfo(
    id=ID,
    name="prices",
    capacity=65_536,
    backpressure=ops.Backpressure.DROP,
    state=ops.ChannelState.DRAINING,
    shared=True,
    lossless=0,
    lossy=2,
    publications=1,
    messages=300,
    created_ms=1_700_000_000_000,
)
CLIENT_HELLO = ClientHello(nonce=b"\xaa" * 16, session=b"\xbb" * 16, limits=LIMITS, software="demo", version="1.0")
SERVER_HELLO = ServerHello(
    incarnation=b"\xcc" * 16,
    limits=LIMITS,
    features=1,
    software="server",
    version="1.0",
    requests_in_flight=256,
    open_streams=512,
    largest_request=327_680,
    role="admin",
    capabilities=bytes((1, 3)),
    authenticates=False,
)

EXPECTED: dict[str, Expectation] = {
    "varint-37": _varint(37),
    "varint-15293": _varint(15_293),
    "varint-494878333": _varint(494_878_333),
    "varint-max": _varint(2**62 - 1),
    "envelope-client": _body(ClientEnvelope(CLIENT_HELLO.encode())),
    "envelope-accepted": _answer(Accepted(1, 1, 1, SERVER_HELLO.encode())),
    "envelope-refused": _answer(Refused(1, 1, Code.UNSUPPORTED, "update")),
    "frame-ping": _frame(frames.Ping((1).to_bytes(8, "big"))),
    "frame-pong": _frame(frames.Pong((1).to_bytes(8, "big"))),
    "frame-goodbye": _frame(frames.Goodbye(Error(Code.CANCELLED, "bye"))),
    "frame-drain": _frame(frames.Drain()),
    "frame-credit-connection": _frame(frames.Credit(0, 524_288)),
    "frame-credit-stream": _frame(frames.Credit(7, 98_304)),
    "frame-request": _frame(frames.Request(1, ops.SERVER_INFO, 0, b"")),
    "frame-response-ok": _frame(frames.Response(1, 0, 2, b"ok")),
    "frame-response-error": _frame(
        frames.Response(300, Code.TOO_LARGE, 14, frames.encode_error_fields(Error(Code.TOO_LARGE, "no", "f", 256, 1)))
    ),
    "frame-request-first": _frame(frames.Request(2, ops.PROCESS_START, 5, b"abc")),
    "frame-more": _frame(frames.More(2, b"de")),
    "frame-cancel": _frame(frames.Cancel(2)),
    "frame-data": _frame(frames.Data(7, 41, 5, b"hello")),
    "frame-data-first": _frame(frames.Data(7, 42, 6, b"wor")),
    "frame-data-more": _frame(frames.DataMore(7, b"ld!")),
    "frame-end": _frame(frames.End(7)),
    "frame-end-reason": _frame(frames.End(7, Error(Code.CANCELLED, "stopped"))),
    "frame-reset": _frame(frames.Reset(7, Error(Code.INTERNAL, ""))),
    "frame-gap-counted": _frame(frames.Gap(7, 50, 7)),
    "frame-gap-unknown": _frame(frames.Gap(7, 50, None)),
    "frame-ack": _frame(frames.Ack(7, 3, 0)),
    "frame-ack-may-be-dropped": _frame(frames.Ack(7, 3, 1)),
    "arg-i8": _body(Argument(Kind.I8, -2)),
    "arg-u64": _body(Argument(Kind.U64, 2**40)),
    "arg-f32": _body(Argument(Kind.F32, 1.5)),
    "arg-f64": _body(Argument(Kind.F64, -0.25)),
    "arg-buffer": _body(Argument(Kind.BUFFER, b"hi")),
    "arg-resource": _body(Argument(Kind.RESOURCE, 5)),
    "response-info": _body(ops.ServerInfo(5_000, 2, 3, 1, 3, 4_096, 0, 0, 0, 0, 0)),
    "request-start": _body(
        ops.Start(
            module="hello.wasm",
            entrypoint="hello",
            capabilities=(Capability.CHANNEL_LIFECYCLE, Capability.CHANNEL_WRITER),
            parameters=(Kind.BUFFER, Kind.U16),
            results=(Kind.I32,),
            arguments=(Argument(Kind.BUFFER, b"hi"), Argument(Kind.U16, 7_000)),
            log_uri="sel://x",
            name="web",
            common=Common(token=9, retry=True, deadline_ms=30_000),
        )
    ),
    "response-process": _body(ops.Process(ID, "web")),
    "request-stop": _body(ops.Target("web")),
    "request-list": _body(ops.List(cursor=5, most=100, stopped=True)),
    "response-list": _body(ops.Listing((WEB,), 6)),
    "request-inspect": _body(ops.Target("web")),
    "response-inspect": _body(WEB),
    "request-follow": _body(ops.Follow("web", tail=10, since=41, until_now=True)),
    "request-follow-weight": _body(ops.Follow("web", common=Common(weight=4))),
    "response-follow": _body(ops.Following(ID, "web", 41, 50, ops.LogState.BEING_READ)),
    "request-channel-create": _body(ops.CreateChannel(65_536, ops.Backpressure.DROP, "prices", Common(token=9))),
    "response-channel": _body(PRICES),
    "request-channel-delete": _body(ops.Target("prices", Common(token=9))),
    "request-channel-drain": _body(ops.Target("prices", Common(token=9))),
    "request-channel-inspect": _body(ops.Target("prices")),
    "request-channel-share": _body(ops.Target("prices", Common(token=9))),
    "request-channel-list": _body(ops.ListChannels(cursor=5, most=100)),
    "response-channel-list": _body(ops.ChannelListing((PRICES,), 6)),
    "request-subscribe": _body(ops.Subscribe("prices", lossless=True, since=41, tail=10)),
    "response-subscribe": _body(ops.Subscribed(ID, "prices", 41, 50)),
    "request-publish": _body(ops.Publish("prices", 3, resume=True)),
    "response-publish": _body(ops.Published(ID, "prices", 65_536, ops.Backpressure.DROP, 299)),
}


class Vectors(unittest.TestCase):
    """The page and this package agree."""

    vectors: dict[str, bytes]

    @classmethod
    def setUpClass(cls) -> None:
        cls.vectors = vectors(PAGE.read_text(encoding="utf-8"))

    def test_every_vector_has_an_expectation_and_the_other_way_round(self) -> None:
        self.assertEqual(sorted(set(self.vectors) - set(EXPECTED)), [], "the page has vectors that are new here")
        self.assertEqual(sorted(set(EXPECTED) - set(self.vectors)), [], "the page has these vectors no more")

    def test_they_are_read_as_what_the_page_says(self) -> None:
        for name, (read, _, value) in EXPECTED.items():
            with self.subTest(name):
                self.assertEqual(read(self.vectors[name]), value)

    def test_what_the_page_says_is_written_as_they_are(self) -> None:
        for name, (_, write, value) in EXPECTED.items():
            with self.subTest(name):
                self.assertEqual(write(value).hex(" "), self.vectors[name].hex(" "))

    def test_no_cut_of_a_frame_is_a_frame(self) -> None:
        for name, data in self.vectors.items():
            if not name.startswith("frame-"):
                continue
            for end in range(len(data)):
                with self.subTest(name, end=end):
                    splitter = Splitter()
                    splitter.feed(data[:end])
                    self.assertIsNone(splitter.next())

    def test_the_hellos_are_read_out_of_the_envelopes(self) -> None:
        envelope = ClientEnvelope.decode(self.vectors["envelope-client"])
        self.assertEqual(ClientHello.decode(envelope.hello), CLIENT_HELLO)
        answer = read_answer(self.vectors["envelope-accepted"])
        assert answer is not None and isinstance(answer[0], Accepted)
        self.assertEqual(ServerHello.decode(answer[0].hello), SERVER_HELLO)

    def test_a_vector_nobody_expects_is_found(self) -> None:
        page = "text\n```vector new-one\n01\n02\n```\n```text\nno\n```\n"
        self.assertEqual(vectors(page), {"new-one": b"\x01\x02"})
        with self.assertRaises(ValueError):
            vectors(page + page)


if __name__ == "__main__":
    unittest.main()
