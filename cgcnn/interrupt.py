"""A stop that was asked for: by a signal, or by the time that the user gave the run."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cgcnn import distributed, job
from cgcnn.flags import EXIT_STOPPED

REASONS = ("", "the time of --max-time is over", "stopped by a signal")
_SECONDS_OF_ECHOES = 5.0


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """A run was asked to stop."""


class StopRequest:
    """Whether a run should stop. It is looked at (`check`) wherever what was done by then can be kept."""

    def __init__(self, max_time: float | None = None) -> None:
        """max_time: seconds from now."""
        self.end = None if max_time is None else time.monotonic() + max_time
        self.signal: int | None = None
        self._since = 0.0  # when it came

    def asked(self, *, by_time: bool = True) -> int:
        """Place in REASONS of why a stop was asked for, 0: none was. by_time: whether time that is over counts."""
        if self.signal is not None:
            return 2
        return int(by_time and self.end is not None and time.monotonic() > self.end)

    def check(self, *, by_time: bool = True) -> None:
        """Raises Interrupted where a stop was asked for, in this process or one that trains together with it."""
        if asked := distributed.largest(self.asked(by_time=by_time)):
            raise Interrupted(REASONS[asked])

    @property
    def reason(self) -> str:
        return REASONS[self.asked()]

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
