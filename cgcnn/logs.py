"""The log file of a run: a line an epoch and phase, so that a night's run can be read in the morning."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cgcnn.files import naming


class _LogFile(logging.FileHandler):
    """A log that cannot be written ends the run with its name, as any other file does."""

    def emit(self, record: logging.LogRecord) -> None:
        with naming(Path(self.baseFilename)):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        raise

    def close(self) -> None:
        with suppress(OSError):  # each line is written at once: what is left here was told already
            super().close()


def setup_logger(run_id: str, split: int, log_dir: str | Path = "result/log") -> logging.Logger:
    """A logger that writes to `log_dir`/{run_id}_split{split}_<time>.log; a second call gets a file of its own."""
    folder = Path(log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_id}_split{split}_{time.strftime('%Y%m%d_%H%M%S')}.log"
    logger = logging.getLogger(f"cgcnn.{path.stem}")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    return logger


def no_logger() -> logging.Logger:
    """A logger that writes nothing."""
    logger = logging.Logger("cgcnn")
    logger.addHandler(logging.NullHandler())
    return logger


def close_logger(logger: logging.Logger) -> None:
    """Close the log file."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def log_train_metrics(logger: logging.Logger, epoch: int, metrics: Mapping[str, float]) -> None:
    """A line with the training losses of an epoch."""
    logger.info("epoch %d train %s", epoch, _text(metrics))


def log_val_metrics(logger: logging.Logger, epoch: int, metrics: Mapping[str, float], phase: str = "val") -> None:
    """A line with the metrics of a phase (val or test) after an epoch."""
    logger.info("epoch %d %s %s", epoch, phase, _text(metrics))


def _text(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in metrics.items())
