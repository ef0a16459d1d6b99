"""A stop that was asked for: by a signal, or by the time that the user gave the run."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cgcnn import job
from cgcnn.flags import EXIT_STOPPED

_SECONDS_OF_ECHOES = 5.0


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """A run was asked to stop."""


class StopRequest:
    """Whether a run should stop. It is looked at (`check`) wherever what was done by then can be kept."""

    def __init__(self, max_time: float | None = None) -> None:
        """max_time: seconds from now."""
        self.end = None if max_time is None else time.monotonic() + max_time
        self.signal: int | None = None

    def is_asked(self, *, by_time: bool = True) -> bool:
        """Whether a stop was asked for; by_time: whether time that is over counts."""
        return self.signal is not None or (by_time and self.end is not None and time.monotonic() > self.end)

    def check(self, *, by_time: bool = True) -> None:
        """Raises Interrupted where a stop was asked for."""
        if self.is_asked(by_time=by_time):
            raise Interrupted(self.reason)

    @property
    def reason(self) -> str:
        if self.signal is not None:
            return "stopped by a signal"
        return "the time of --max-time is over" if self.is_asked() else "stopped in another process"

    @property
    def exit_status(self) -> int:
        """As a shell has it for a signal; for time that is over, the one that says: try again later."""
        return EXIT_STOPPED if self.signal is None else 128 + self.signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for a stop; a second one stops at once.

        Under torchrun not if it comes soon: queues send it to all processes, and torchrun to those it has started.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number, frame):
            now = time.monotonic()
            if self.signal is None:
                self.signal, self._since = number, now
            elif now - self._since > _SECONDS_OF_ECHOES:
                signal.signal(number, before[number])
                signal.raise_signal(number)
            if job.count() == 1:
                signal.signal(number, before[number])

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
