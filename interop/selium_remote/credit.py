"""Both sides of a window (page: Credit). Limits count bytes since the start and never shrink."""

from __future__ import annotations

from .errors import ProtocolError

#: What a message costs with its first frame besides its bytes, and what a GAP costs.
OVERHEAD = 32


class SendWindow:
    """How far we may send."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0

    @property
    def available(self) -> int:
        """How many bytes may be sent now."""
        return self._limit - self._used

    def spend(self, cost: int) -> None:
        """Counts what is sent."""
        if cost > self.available:
            raise ValueError("sent more than there was credit for")
        self._used += cost

    def raise_to(self, limit: int) -> None:
        """A CREDIT came; one that is not higher changes nothing."""
        self._limit = max(self._limit, limit)


class ReceiveWindow:
    """How far the peer may send. What is complete and was not read yet takes room; a message in reassembly does not."""

    def __init__(self, window: int) -> None:
        self._window = self._limit = window
        self._used = self._unread = 0

    def spend(self, cost: int) -> None:
        """Counts what came."""
        self._used += cost
        if self._used > self._limit:
            raise ProtocolError(f"{self._used} bytes were sent with a credit of {self._limit}")

    def hold(self, cost: int) -> None:
        """A message is complete and waits for its reader."""
        self._unread += cost

    def release(self, cost: int) -> None:
        """It was read."""
        self._unread -= cost

    def grant(self, needed: int = 0) -> int | None:
        """The new limit, if enough was read to be worth a frame: half a window. A message that has begun and still needs
        so many bytes gets them, half a window at a time, whatever is unread before it."""
        half = max(1, self._window // 2)
        limit = self._used - self._unread + self._window
        if limit - self._limit < half:
            limit = self._used + min(needed, half)
        if limit <= self._limit:
            return None
        self._limit = limit
        return limit
