"""Reassembly of messages from chunks, within a budget (page: Messages)."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ProtocolError


@dataclass
class _Partial:
    total: int
    content: bytearray
    #: The sequence number of a stream message, the code of an answer.
    tag: int


class Reassembler:
    """Messages of one direction; at most one of each id is under way."""

    def __init__(self, largest: int, budget: int) -> None:
        self._largest, self._budget, self._taken = largest, budget, 0
        self._partial: dict[int, _Partial] = {}

    def begin(self, number: int, tag: int, total: int, content: bytes) -> bytes | None:
        """A first frame; the message, if that was all of it."""
        if number in self._partial:
            raise ProtocolError(f"a second message of {number} begins inside the first")
        if total > self._largest:
            raise ProtocolError(f"a message of {total} bytes, of at most {self._largest}")
        if len(content) > total or (total and not content):
            raise ProtocolError(f"{len(content)} bytes of a message of {total}")
        if len(content) == total:
            return content
        if self._taken + total > self._budget:
            raise ProtocolError(f"more than {self._budget} bytes in reassembly")
        self._taken += total
        self._partial[number] = _Partial(total, bytearray(content), tag)
        return None

    def more(self, number: int, content: bytes) -> tuple[int, bytes] | None:
        """A further frame; the tag of its first frame and the message, if that was the last of it."""
        partial = self._partial.get(number)
        if partial is None:
            raise ProtocolError(f"{number} is continued and was not begun")
        if not content or len(partial.content) + len(content) > partial.total:
            raise ProtocolError(f"{len(content)} more bytes of a message that lacks others")
        partial.content += content
        if len(partial.content) < partial.total:
            return None
        self.drop(number)
        return partial.tag, bytes(partial.content)

    def under_way(self, number: int) -> bool:
        """Whether a message of this id is incomplete."""
        return number in self._partial

    def needed(self, number: int) -> int:
        """How many bytes its incomplete message lacks; 0 if there is none."""
        partial = self._partial.get(number)
        return 0 if partial is None else partial.total - len(partial.content)

    def drop(self, number: int) -> None:
        """Its rest will not come, or all of it has."""
        partial = self._partial.pop(number, None)
        if partial is not None:
            self._taken -= partial.total
