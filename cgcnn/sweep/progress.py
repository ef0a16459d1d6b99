"""What a sweep says while it runs: a line a trial that ended, with the best so far and the time left."""

from __future__ import annotations

from collections.abc import Sequence

from cgcnn.sweep.entry import Entry
from cgcnn.sweep.summary import headline

DONE = ("complete", "failed")


def progress_line(entries: Sequence[Entry], total: int, key: str, name: str, how: str, lines: Sequence[str]) -> str:
    """The line of the trial that just ended: its combination's key and name, how it ended, and its last words."""
    done = sum(entry.state in DONE for entry in entries)
    (entry,) = (entry for entry in entries if entry.combination.key == key)
    if entry.state == "complete":
        what = headline(entry)
    elif entry.state == "failed":
        what = f"failed: {' | '.join(entry.result.get('lines', []))}"
    else:
        what = f"{how}, will go on" + (f": {' | '.join(lines)}" if how == "died" else "")
    return f"[{done:{len(str(total))}}/{total}]  {name}: {what}{_best(entries, total, key)}"


def counts(entries: Sequence[Entry]) -> str:
    """How many combinations are in which state."""
    states = [entry.state for entry in entries]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "nothing yet"


def _best(entries: Sequence[Entry], total: int, key: str) -> str:
    complete = [entry for entry in entries if entry.state == "complete"]
    if not complete:
        return ""
    best = min(complete, key=lambda entry: entry.score)
    shown = "" if best.combination.key == key else f": {headline(best)}"
    return f" | best so far{shown} | {_time_left(entries, total)}"


def _time_left(entries: Sequence[Entry], total: int) -> str:
    """From the mean time of a trial, and how many run at once, on all machines."""
    complete = [entry.seconds for entry in entries if entry.state == "complete"]
    running = sum(entry.state == "running" for entry in entries)
    rest = total - sum(entry.state in DONE for entry in entries)
    # the trial that this line is about left a place that the next one takes
    seconds = sum(complete) / len(complete) * rest / min(max(rest, 1), running + 1)
    if seconds < 90:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"
