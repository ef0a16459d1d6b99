"""The database of a sweep: Optuna's storage, with a lock that lets one worker at a time change the queue."""

from __future__ import annotations

import contextlib
import threading
import warnings
from pathlib import Path

import optuna
import sqlalchemy as sql
from filelock import FileLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from cgcnn.labels import DataError

_LOCKS = sql.Table("cgcnn_sweep_locks", sql.MetaData(), sql.Column("name", sql.String(200), primary_key=True))
_BRING_BACK = "UPDATE trial_heartbeats SET heartbeat = CURRENT_TIMESTAMP WHERE heartbeat > CURRENT_TIMESTAMP"

optuna.logging.set_verbosity(optuna.logging.ERROR)
# Optuna calls its heartbeat so.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Database:
    """url: SQLAlchemy's, of a file or a server. lock: a context; in it no other thread, process or machine is."""

    def __init__(self, url: str | URL, name: str, *, beat: int, grace: int) -> None:
        """Open it, or make it. name: of the sweep. beat, grace: seconds between heartbeats, and until death.

        Raises DataError.
        """
        self.url = _parsed(url)
        self.shown_url = self.url.database if self._is_file else self.url.render_as_string(hide_password=True)
        # SQLite waits for another writer; a server is asked whether it still listens after an hour's silence
        options = {"connect_args": {"timeout": 60}} if self._is_file else {"pool_pre_ping": True}
        try:
            self.lock = self._file_lock() if self._is_file else RowLock(sql.create_engine(self.url, **options), name)
            with self.lock:
                self.storage = optuna.storages.RDBStorage(
                    self.url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
                    engine_kwargs=options,
                    heartbeat_interval=beat,
                    grace_period=grace,
                )
        except ImportError as error:
            reason = f"its driver is not installed ({error.__cause__ or error})"
            raise DataError(f"{self.shown_url}: {reason}") from None
        except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.shown_url}: {first_line(error)}") from None

    def bring_back_beats(self) -> None:
        """Heartbeats of the future, from before a clock was set back, become those of now.

        A worker that lives beats again; one that is dead would not be missed until the clock is there once more.
        """
        with self.storage.engine.begin() as connection:
            connection.execute(sql.text(_BRING_BACK))

    @property
    def _is_file(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def _file_lock(self) -> FileLock:
        """SQLite has no lock on a row that is read to be changed."""
        path = Path(self.url.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_name(f"{path.name}.lock"))


class RowLock:
    """A row that one connection has read for update. One that is lost, with its process or machine, gives it back."""

    def __init__(self, engine: sql.Engine, name: str) -> None:
        self._engine, self._name = engine, name
        self._threads, self._depth = threading.RLock(), 0
        _LOCKS.metadata.create_all(engine)
        with contextlib.suppress(IntegrityError), engine.begin() as connection:
            connection.execute(_LOCKS.insert().values(name=name))

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if not self._depth:
                self._connection = self._engine.connect()
                self._connection.execute(sql.select(_LOCKS).where(_LOCKS.c.name == self._name).with_for_update())
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *_) -> None:
        self._depth -= 1
        try:
            if not self._depth:
                self._connection.close()
        finally:
            self._threads.release()


def file_url(path: Path) -> URL:
    """The URL of an SQLite file."""
    return URL.create("sqlite", database=str(path.resolve()))


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parsed = _parsed(url)
    return url if parsed.password is None else parsed.render_as_string(hide_password=True)


def first_line(error: Exception) -> str:
    """What went wrong, without what the layers between add."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]


def _parsed(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
            raise DataError(f"{url}: names no file")
    except SQLAlchemyError:
        raise DataError(f"{url}: not a database URL such as sqlite:///FILE or postgresql://HOST/NAME") from None
    return parsed
