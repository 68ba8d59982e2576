"""What waits to be sent: urgent frames, then lanes in deficit round robin (page: Credit, Order and fairness)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from . import frames
from .credit import OVERHEAD, SendWindow
from .frames import MAX_CHUNK, Frame

#: The most bytes of one write.
MAX_WRITE = 65_536

#: What a lane of weight 1 may send in one turn: a whole chunk that begins a message.
TURN = MAX_CHUNK + OVERHEAD

#: Makes the frame of a chunk; the flag says whether it is the message's first.
MakeFrame = Callable[[bool, bytes], Frame]


@dataclass
class _Message:
    payload: bytes
    make: MakeFrame
    sent: int = 0


@dataclass
class _Lane:
    #: Stream data needs credit, requests do not.
    window: SendWindow | None
    weight: int = 1
    messages: deque[_Message | Frame] = field(default_factory=deque)
    deficit: int = 0
    in_turn: bool = False


class Outbox:
    """Frames on their way out, in the order in which they may go."""

    def __init__(self) -> None:
        self._urgent: deque[bytes] = deque()
        self._lanes: dict[int, _Lane] = {}
        self._turns: deque[int] = deque()
        self._connection = SendWindow(0)
        self._budget = self._taken = 0

    def set_limits(self, credit: int, budget: int) -> None:
        """The peer's hello came."""
        self._connection.raise_to(credit)
        self._budget = budget

    def urgent(self, frame: Frame) -> None:
        """A control frame."""
        self._urgent.append(frames.encode(frame))

    def open_lane(self, number: int, window: SendWindow | None, weight: int = 1) -> None:
        """Before anything long is sent of this id."""
        self._lanes[number] = _Lane(window, weight)

    def message(self, number: int, payload: bytes, make: MakeFrame) -> None:
        """A message that is cut into chunks and waits for its turn."""
        self._put(number, _Message(payload, make))

    def has_room(self, total: int, *, stream: bool = False) -> bool:
        """Whether a message of several chunks can begin now. Stream messages leave half of the budget to requests."""
        if stream and self._taken:
            return self._taken + total <= self._budget // 2
        return self._taken + total <= self._budget

    def begun(self, number: int, payload: bytes, make: MakeFrame) -> None:
        """A long request. Its first chunk goes with the control frames: ids must arrive in ascending order, and a CANCEL
        behind it. The rest waits for its turns."""
        self._taken += len(payload)
        self.urgent(make(True, payload[:MAX_CHUNK]))
        self._put(number, _Message(payload, make, MAX_CHUNK))

    def frame(self, number: int, frame: Frame) -> None:
        """A frame that keeps its place behind the messages of its lane, as END does."""
        self._put(number, frame)

    def waiting(self, number: int) -> int:
        """How many messages and frames of a lane wait."""
        lane = self._lanes.get(number)
        return 0 if lane is None else len(lane.messages)

    def credit(self, number: int, limit: int) -> None:
        """A CREDIT came for a lane, or for the connection."""
        if number == 0:
            self._connection.raise_to(limit)
        elif (lane := self._lanes.get(number)) is not None and lane.window is not None:
            lane.window.raise_to(limit)

    def drop_lane(self, number: int) -> None:
        """What is left of it is not sent."""
        lane = self._lanes.pop(number, None)
        if lane is None:
            return
        if lane.messages and isinstance(first := lane.messages[0], _Message) and first.sent:
            self._taken -= len(first.payload)
        if number in self._turns:
            self._turns.remove(number)

    def clear(self) -> None:
        """The connection is over."""
        self._urgent.clear()
        self._lanes.clear()
        self._turns.clear()

    def take(self) -> bytes:
        """The next write; empty when nothing can go."""
        out = bytearray()
        while self._urgent and len(out) + len(self._urgent[0]) <= MAX_WRITE:
            out += self._urgent.popleft()
        if self._urgent:
            return bytes(out)
        idle = 0
        while self._turns and idle < len(self._turns) and len(out) + frames.MAX_LENGTH + 4 <= MAX_WRITE:
            number = self._turns[0]
            lane = self._lanes[number]
            if not lane.in_turn:
                lane.in_turn, lane.deficit = True, lane.deficit + TURN * lane.weight
            size = self._next_size(lane)
            if size is None:  # no credit, no budget: its turn passes
                lane.in_turn, lane.deficit = False, 0
                self._turns.rotate(-1)
                idle += 1
                continue
            idle = 0
            cost = _cost(lane, size)
            if cost > lane.deficit:
                lane.in_turn = False
                self._turns.rotate(-1)
                continue
            lane.deficit -= cost
            out += self._send(lane, size, cost)
            if not lane.messages:
                lane.in_turn, lane.deficit = False, 0
                self._turns.popleft()
        return bytes(out)

    def _put(self, number: int, item: _Message | Frame) -> None:
        lane = self._lanes[number]
        if not lane.messages:
            self._turns.append(number)
        lane.messages.append(item)

    def _next_size(self, lane: _Lane) -> int | None:
        """How much content this lane's next frame can have; ``None`` if it cannot go."""
        first = lane.messages[0]
        if not isinstance(first, _Message):
            return 0
        rest = len(first.payload) - first.sent
        size = min(MAX_CHUNK, rest)
        if lane.window is not None:
            overhead = _cost(lane, 0)
            size = min(size, lane.window.available - overhead, self._connection.available - overhead)
        if size <= 0:
            return None
        stream = lane.window is not None
        if not first.sent and size < rest and not self.has_room(len(first.payload), stream=stream):
            return None
        return size

    def _send(self, lane: _Lane, size: int, cost: int) -> bytes:
        """The next frame of this lane."""
        first = lane.messages[0]
        if not isinstance(first, _Message):
            lane.messages.popleft()
            return frames.encode(first)
        if lane.window is not None:
            lane.window.spend(cost)
            self._connection.spend(cost)
        begin, end = first.sent, first.sent + size
        first.sent = end
        total = len(first.payload)
        if begin == 0 and end < total:
            self._taken += total
        elif begin and end == total:
            self._taken -= total
        if end == total:
            lane.messages.popleft()
        return frames.encode(first.make(begin == 0, first.payload[begin:end]))


def _cost(lane: _Lane, size: int) -> int:
    """What a frame with so much content costs: in credit on a stream, in bytes of a request."""
    first = lane.messages[0]
    begins = lane.window is not None and isinstance(first, _Message) and not first.sent
    return size + OVERHEAD * begins
