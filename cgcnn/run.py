"""A run of main.py from its flags to its end: what stopped it becomes a line, and the command that goes on."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import torch

from cgcnn import distributed, job
from cgcnn.experiment import Experiment
from cgcnn.flags import EXIT_STOPPED
from cgcnn.interrupt import Interrupted
from cgcnn.labels import DataError
from cgcnn.reading import said
from cgcnn.results import RunResult
from cgcnn.training import TrainingError


def run(args: Namespace, say: Callable[[str], None] = print) -> RunResult:
    """Do what main.py's flags say; a stop that was asked for is told, with the command that goes on."""
    experiment = Experiment(args, say)
    path = experiment.out.top("checkpoint.pth.tar")
    try:
        with experiment.stop.listening(), experiment.out.alone() if job.is_first() else nullcontext():
            return experiment.run()
    except Interrupted as stop:
        way_on = f"saved. Go on with: {_command_that_resumes(args, path)}"
        if not experiment.has_saved:
            way_on = "the crystal graphs built so far are kept. Go on with the same command"
        experiment.say(f"{stop}: {way_on}")
        return RunResult(pd.DataFrame(), pd.DataFrame(), None, path, experiment.stop.exit_status)
    except distributed.LostProcess as lost:
        saved = path if experiment.has_saved else args.resume
        way_on = f"Go on with: {_command_that_resumes(args, saved)}" if saved else "nothing was saved yet"
        if job.may_speak():
            say(f"{lost}; {way_on}")
        return RunResult(pd.DataFrame(), pd.DataFrame(), None, path, EXIT_STOPPED)
    except TrainingError as error:
        kept = f"; the last good state is in {path}" if path.exists() else ""
        raise DataError(f"{error}{kept}") from None
    except torch.cuda.OutOfMemoryError as error:
        less = "--no-data-on-gpu, a smaller --batch-size or --max-edges-per-batch take less"
        way_on = f"; go on with: {_command_that_resumes(args, path)}" if experiment.has_saved else ""
        raise DataError(f"the GPU's memory is full ({said(error, 120)}); {less}{way_on}") from None
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise DataError(f"--compile: {said(error, 300)}; leave it out") from None


def _command_that_resumes(args: Namespace, path: str | Path) -> str:
    start = ["python"] if job.count() == 1 else job.launcher()
    words = [*start, "main.py", args.data_options[0], "--resume", str(path)]
    return shlex.join(words if args.out_dir == "." else [*words, "--out-dir", args.out_dir])
