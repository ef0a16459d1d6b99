"""A client of a Dask scheduler, or one line why there is none. Imports nothing heavy: Dask is an extra."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from cgcnn.labels import DataError

SECONDS_TO_ANSWER = 6.0  # for a scheduler


def is_installed() -> bool:
    """Whether Dask is here, without importing it."""
    return importlib.util.find_spec("distributed") is not None


@contextlib.contextmanager
def connected(address: str) -> Iterator:
    """A client of the scheduler. Raises DataError where it does not answer."""
    with _quiet():
        from distributed import Client

        url = address if "://" in address else f"tcp://{address}"
        # a client waits for ever for what answers, but is no scheduler
        answered = _who_answers(url)
        if answered != "Scheduler":
            raise DataError(f"--scheduler-address {address}: {answered}; start one with: dask scheduler")
        try:
            client = Client(url, timeout=SECONDS_TO_ANSWER, set_as_default=False)
        except Exception as error:
            raise DataError(f"--scheduler-address {address}: it cannot be used ({one_line(error)})") from None
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=2)


def _who_answers(url: str) -> str:
    """Scheduler, or why it is none."""
    from distributed.core import rpc

    async def ask() -> str:
        async with rpc(url, timeout=SECONDS_TO_ANSWER) as other:
            return (await other.identity())["type"]

    async def ask_in_time() -> str:
        return await asyncio.wait_for(ask(), SECONDS_TO_ANSWER)

    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own in this one
            kind = thread.submit(asyncio.run, ask_in_time()).result()
    except (OSError, asyncio.TimeoutError):
        return f"no Dask scheduler answers there within {SECONDS_TO_ANSWER:.0f} s"
    except Exception:
        return "what answers there is no Dask scheduler"
    return kind if kind == "Scheduler" else f"what answers there is a {kind.lower()}, no scheduler"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own account of lost workers and connections is not for our users."""
    import distributed  # noqa: F401 - its import sets the levels

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.core")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def one_line(error: BaseException) -> str:
    """Its type and what it says, cut to a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
