"""A sweep: trials of main.py, several at once and on several machines, and one table of what came out.

The best combination, and what TPE minimises, is chosen by the validation score: the mean over the targets of MAE over
the training part's standard deviation (cross-entropy for a class). The test part is reported and chooses nothing.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgcnn.arguments import parse_training
from cgcnn.dataset import load_dataset
from cgcnn.files import is_writable
from cgcnn.flag_kinds import as_flag
from cgcnn.flags import EXIT_SOME_FAILED
from cgcnn.interrupt import Interrupted, StopRequest
from cgcnn.labels import DataError
from cgcnn.sweep.axes import describe
from cgcnn.sweep.combination import Settler, data_digest, settings_of
from cgcnn.sweep.entry import Entry
from cgcnn.sweep.flags import SweepFlags
from cgcnn.sweep.plan import make_plan
from cgcnn.sweep.progress import counts, progress_line
from cgcnn.sweep.queue import Claim, Queue
from cgcnn.sweep.storage import file_url, without_password
from cgcnn.sweep.summary import best_row, headline, new_stem, summary_table, write_summary
from cgcnn.sweep.trial import COMPLETE, FAILED, STOPPED, Killed, Outcome, run_trial

_POLL = 0.2  # seconds, between looks at the clock and the signals
_PAUSE = 2.0  # seconds, between looks into a queue in which nothing waits


class Sweep:
    """One start of grid_search.py: a worker, or --jobs of them, at a queue that others may share."""

    script = "grid_search.py"

    def __init__(self, flags: SweepFlags, argv: Sequence[str] = ()) -> None:
        self.flags = flags
        self.command = shlex.join(["python", self.script, *argv])
        self.stop = StopRequest(flags.max_time)
        self._stopping, self._killed = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._writing = threading.Lock()

    def run(self) -> int:
        """Work until nothing is left to do; the exit status. Raises DataError for what is wrong with the input."""
        flags = self.flags
        self.settle = Settler(flags)
        self.plan = make_plan(flags, self.settle)
        result = flags.out_dir / "result"
        if not is_writable(result):
            raise DataError(f"--out-dir {flags.out_dir}: cannot be written")
        with self.stop.listening():
            try:
                self._read_data()
            except Interrupted as stop:
                print(f"{stop}: no trial was started. Go on with: {self.command}")
                return self.stop.exit_status
            url = flags.storage or file_url(result / f"sweep_{flags.study}.db")
            self.queue = Queue(url, flags.study, grace=flags.grace)
            if flags.storage:  # a password in it is not for the page
                shown = shlex.quote(without_password(flags.storage))
                self.command = self.command.replace(shlex.quote(flags.storage), shown)
            self.queue.join(self._identity(), self._difference)
            if flags.retry_failed and (count := self.queue.retry_failed()):
                print(f"queued again: {count} failed")
            self.stem = new_stem(result)
            self._begin()
            self._work_in_threads()
        return self._finish()

    def _read_data(self) -> None:
        """Build the graphs once for all trials, and find what is wrong with the data before the first starts."""
        begun = time.monotonic()
        for k, args in enumerate(self.settle.data_variants.values()):
            try:
                data = load_dataset(args, self.stop.check)
            except DataError as error:
                hint = " (this is the published sweep; --grid makes another)" if self.flags.is_published else ""
                raise DataError(f"{error}{hint}") from None
            if k == 0:
                print(*data.notes, sep="\n", end="\n" if data.notes else "")
        print(f"{len(data.ids)} crystals, graphs ready in {time.monotonic() - begun:.1f} s", flush=True)

    def _identity(self) -> dict[str, object]:
        """What all trials of a sweep have in common: the data, and the flags that are no axes."""
        args = parse_training(self.flags.words, strict=False)  # also flags that act beside some axis only
        data = data_digest(Path(args.data_options[0]), args.cache_dir)
        return {"data": data, "flags": json.loads(json.dumps(settings_of(args)))}

    def _difference(self, first: Mapping[str, Mapping]) -> str | None:
        """Why this start cannot join the sweep that a `first` one made."""
        mine = self._identity()
        other = "use another --study NAME for another sweep"
        if first["data"] != mine["data"]:
            return f"sweep {self.flags.study} is of another data folder, or its tables have changed since; {other}"
        names = [*mine["flags"], *first["flags"]]
        differing = [name for name in names if mine["flags"].get(name) != first["flags"].get(name)]
        if not differing:
            return None
        values = [flags["flags"].get(differing[0], "default") for flags in (first, mine)]
        return f"sweep {self.flags.study} has {as_flag(differing[0])} {values[0]}, this command {values[1]}; {other}"

    def _begin(self) -> None:
        """The first lines on the screen, and the table as it stands."""
        flags, entries = self.flags, self.queue.entries()
        self._write()
        axes = [f"{axis.name} ({axis.range or len(axis.values)})" for axis in flags.axes if axis.is_swept]
        of = f" of {', '.join(axes)}" if axes else ", every axis with one value"
        total = self.plan.total(entries)
        print(f"sweep {flags.study}: {total} combination{'s' * (total != 1)}{of}")
        if self.settle.num_repeats:
            print(
                f"{self.settle.num_repeats} of them repeat another: the weights of --conditional-loss, "
                "--auxiliary-tasks and --adaptive-weights have no effect where that is off"
            )
        if count := self.settle.num_same:
            print(f"{count} more differ from these only in flags that mean nothing there, and are not run")
        if entries:
            print(f"already there: {counts(entries)}")
        print(
            f"{flags.jobs} at once, {flags.threads} thread{'s' * (flags.threads > 1)} each; "
            f"storage {self.queue.shown_url}; folders in {flags.folder}",
            flush=True,
        )

    def _work_in_threads(self) -> None:
        """Raises what ended a worker, and KeyboardInterrupt for a second Ctrl-C."""
        workers = [threading.Thread(target=self._work, args=(k,)) for k in range(self.flags.jobs)]
        for worker in workers:
            worker.start()
        try:
            while any(worker.is_alive() for worker in workers):
                time.sleep(_POLL)
                if not self._stopping.is_set():
                    with contextlib.suppress(Interrupted):
                        self.stop.check()
                        continue
                    print(f"{self.stop.reason}: the trials under way save what they have", flush=True)
                    self._stopping.set()
        except BaseException:
            self._killed.set()
            raise
        finally:
            for worker in workers:
                worker.join()
            self.queue.close()
        if self._error:
            raise self._error

    def _work(self, number: int) -> None:
        """Worker `number`: take trials until none is left, here or in the hands of a worker that may die."""
        is_told = False
        try:
            while not self._is_stopped():
                if claim := self.queue.take(self.plan):
                    self._run_trial(claim, number)
                    continue
                running = sum(entry.state == "running" for entry in self.queue.entries())
                if not running:
                    return
                if not is_told and (others := running - self.queue.num_held) > 0:
                    print(f"nothing waits; {others} trials run elsewhere, and go on here if they die", flush=True)
                    is_told = True
                self._stopping.wait(_PAUSE)
        except Killed:
            return
        except BaseException as error:
            self._error = error
            self._stopping.set()

    def _is_stopped(self) -> bool:
        if self._killed.is_set():
            raise Killed
        return self._stopping.is_set()

    def _run_trial(self, claim: Claim, worker: int) -> None:
        flags, one = self.flags, claim.combination
        folder = flags.folder / f"trial_{one.key}"
        words = [*flags.command(one.values), "--threads", str(flags.threads)]
        note = {"folder": folder.relative_to(flags.out_dir).as_posix(), "host": socket.gethostname()}
        try:
            outcome = run_trial(words, folder, self._is_stopped, worker=worker)
        except Killed:
            self.queue.drop(claim, STOPPED, note)
            raise
        note |= {"seconds": outcome.seconds, "metrics": outcome.metrics, "lines": outcome.lines}
        note |= {"facts": {**outcome.facts, "threads": flags.threads}}
        if outcome.how == COMPLETE:
            is_ours = self.queue.complete(claim, outcome.score, note)
        else:
            is_ours = self.queue.drop(claim, outcome.how, note)
        self._tell(claim, outcome, is_ours)

    def _tell(self, claim: Claim, outcome: Outcome, is_ours: bool) -> None:
        """Write the tables anew, and print the line of a trial that ended."""
        with self._writing:
            self._write()
            entries = self.queue.entries()
            swept = [axis.name for axis in self.flags.axes if axis.is_swept]
            name = describe(claim.combination.effective, swept or None)
            if self.flags.is_published:
                name = "published setting"
            how = outcome.how if is_ours else "taken for dead and handed on"
            key, total = claim.combination.key, self.plan.total(entries)
            print(progress_line(entries, total, key, name, how, outcome.lines), flush=True)

    def _write(self) -> list[Path]:
        """The tables as the queue stands; their paths."""
        return write_summary(self.stem, summary_table(self.queue.entries()))

    def _tell_result(self, entries: Sequence[Entry]) -> None:
        """What came out, on the screen."""
        if (best := best_row(summary_table(entries))) is not None:
            entry = entries[best]
            folder = self.flags.out_dir / entry.result["folder"]
            print(f"best on validation: {entry.combination}\n  {headline(entry)}, in {folder}")

    def _finish(self) -> int:
        """Tables, figure and page; the last lines on the screen."""
        from cgcnn.plots import save, svg
        from cgcnn.sweep.figure import axis_effects
        from cgcnn.sweep.page import write_page

        entries = self.queue.entries()
        table = summary_table(entries)
        figure = axis_effects(entries, table)
        drawings = save(figure, self.stem.with_name(f"{self.stem.name}_axes")) if figure else []
        drawn = svg(figure, "axes", "Results over the values of each axis") if figure else ""
        page = self.stem.with_name(f"{self.stem.name}.html")
        write_page(page, f"Sweep {self.flags.study}", self.command, entries, table, drawn)
        written = self._write()
        print(f"\n{counts(entries)}")
        self._tell_result(entries)
        print(*(f"  {path}" for path in (*written, *drawings, page)), sep="\n")
        if self._stopping.is_set():
            print(f"Go on with: {self.command}")
            return self.stop.exit_status
        return EXIT_SOME_FAILED if any(entry.state == FAILED for entry in entries) else 0
