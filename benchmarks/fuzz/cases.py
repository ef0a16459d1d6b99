"""One case of the fuzzer: what is broken and how, what became of it, and whether that may be."""

from __future__ import annotations

import random
import re
import shutil
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.entries import ENTRIES, WrongError
from cgcnn.labels import DataError
from cgcnn.structures import StructureError

USED, REFUSED, FAULT = "used", "refused", "fault"
LONGEST_LINE = 700  # characters of a reason
MAX_LINES = 120  # of one refusal
PEAK_MIB = 2048


@dataclass(frozen=True)
class Case:
    """number: in the run, from 0. kind: of ENTRIES, NAMED or COMMANDS; seconds: that it may take."""

    number: int
    seed: int
    kind: str
    name: str = ""
    seconds: float = 10.0

    @property
    def rng(self) -> random.Random:
        return random.Random(f"{self.seed} {self.number} {self.kind} {self.name}")


@dataclass
class Outcome:
    """verdict: used, refused or fault. said: the reasons, or what is wrong. peak: MiB of the process at its most."""

    verdict: str
    said: str = ""
    source: str = ""
    changes: str = ""
    seconds: float = 0.0
    peak: float = 0.0


def run_mutated(case: Case, good: Path, work: Path) -> Outcome:
    """Break a file of a copy of good inputs below `work` as the case says, and give it to its entry."""
    entry, rng = ENTRIES[case.kind], case.rng
    folder = work / entry.template
    shutil.copytree(good / entry.template, folder)
    sources = sorted(path for path in (good / (entry.pool or entry.template)).glob(entry.targets) if path.is_file())
    source = rng.choice(sources)
    target = folder / (source.name if entry.pool else source.relative_to(good / entry.template))
    data, changes = entry.change(source.read_bytes(), rng)
    target.write_bytes(data)
    begun = time.monotonic()
    outcome = judged(lambda: entry.call(folder, target, rng), target.name if entry.is_named else "")
    outcome.seconds = time.monotonic() - begun
    outcome.source, outcome.changes = str(source.relative_to(good)), changes
    return outcome


def judged(call, name: str) -> Outcome:
    """What became of a call that gives reasons back or raises them; name: what they have to name."""
    try:
        reasons = call()
    except (DataError, StructureError) as error:
        lines = str(error).split("\n")
        return told(lines, name if isinstance(error, DataError) else "")
    except WrongError as error:
        return Outcome(FAULT, f"wrong: {error}")
    except OSError as error:
        if not error.filename or not error.strerror:  # what a command needs to say it in a line
            return Outcome(FAULT, traceback.format_exc(limit=-6))
        return Outcome(REFUSED, f"{error.filename}: {error.strerror}")
    except BaseException:
        return Outcome(FAULT, traceback.format_exc(limit=-6))
    return told(reasons, name) if reasons else Outcome(USED)


def told(lines: list[str], name: str) -> Outcome:
    """A refusal in these lines, or the fault that there is in them."""
    if complaint := complaint_about(lines, name):
        return Outcome(FAULT, f"message: {complaint}: {lines[:3]!r:.600}")
    return Outcome(REFUSED, "\n".join(lines))


def complaint_about(lines: list[str], name: str) -> str:
    """What is wrong with a refusal as a text; empty if nothing."""
    if not lines or not all(line.strip() for line in lines):
        return "an empty line"
    if len(lines) > MAX_LINES:
        return f"{len(lines)} lines"
    if (longest := max(map(len, lines))) > LONGEST_LINE:
        return f"a line of {longest} characters"
    if odd := next((letter for line in lines for letter in line if not letter.isprintable()), ""):
        return f"{odd!r} cannot be printed"
    if any(re.search(r"Traceback|object at 0x|<class ", line) for line in lines):
        return "words of a programmer"
    if name and name not in "\n".join(lines):
        return f"{name} is not named"
    return ""
