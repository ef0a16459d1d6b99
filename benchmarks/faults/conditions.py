"""Conditions of a process or a folder: permissions that hold for root, too, and clocks that are wrong."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import time
from pathlib import Path

DAY = 86_400  # s


def obey_permissions() -> None:
    """From here on root may write only what its owner may (capset(2), without CAP_DAC_OVERRIDE and the like)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def tomorrow() -> None:
    clock, clock_ns, local, text = time.time, time.time_ns, time.localtime, time.strftime
    time.time = lambda: clock() + DAY
    time.time_ns = lambda: clock_ns() + DAY * 10**9
    time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)
    time.strftime = lambda form, when=None: text(form, time.localtime() if when is None else when)


def shift_heartbeats(path: Path) -> None:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '+1 day')")
        connection.commit()


def age(folder: Path, seconds: float = DAY) -> None:
    """Files and heartbeats of the future, as a clock that was set back leaves them."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (path.stat().st_atime + seconds, path.stat().st_mtime + seconds))
        if path.suffix == ".db":
            shift_heartbeats(path)
