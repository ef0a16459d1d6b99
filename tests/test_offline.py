"""Without a cluster, no command talks to a network: every process of a run, watched by an audit hook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import REPOSITORY, root_folder

# Python runs it at the start of every process: what opens a connection that leaves the machine is written down.
WATCH = """
import os, sys
def watch(event, args):
    if event == "socket.getaddrinfo":
        told = args[0] not in (None, "", "localhost", "127.0.0.1", "::1")
    elif event in ("socket.connect", "socket.sendto"):
        told = not isinstance(args[-1], (str, bytes)) and args[-1][0] not in ("127.0.0.1", "::1")
    else:
        return
    if told:
        with open(os.environ["TALKED"], "a") as file:
            file.write(f"{event} {args!r}\\n")
sys.addaudithook(watch)
with open(os.environ["TALKED"] + ".watched", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""


@pytest.fixture
def watched(tmp_path):
    """A function that runs a command in `tmp_path` and gives back who talked and how many processes were watched."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "talked"

    def run(*words: object) -> tuple[str, int]:
        path = os.pathsep.join([str(tmp_path / "hook"), str(REPOSITORY)])
        environment = {**os.environ, "PYTHONPATH": path, "TALKED": str(log), "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(
            [sys.executable, *map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        return log.read_text() if log.exists() else "", len(Path(f"{log}.watched").read_text().splitlines())

    return run


def test_the_hook_sees_a_connection(watched):
    lookup = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    connect = "s = socket.socket(); s.setblocking(False)\ntry: s.connect(('192.0.2.1', 80))\nexcept OSError: pass"
    talked, processes = watched("-c", f"{lookup}\n{connect}")
    assert "example.invalid" in talked and "192.0.2.1" in talked
    assert processes == 1


COMMANDS = """
import sys
from cgcnn import build, cli
build.SECONDS_ALONE, build.FILES_A_TASK = 0, 2
flags = ["--epochs", "1", "--threads", "1", "--disable-cuda"]
for command, words in (
    (cli.train_command, ["data", *flags, "--graph-jobs", "2"]),
    (cli.predict_command, ["model_best.pth.tar", "data", "--workers", "2"]),
    (cli.sweep_command, ["data", *flags, "--grid", "lr=0.01", "--out-dir", "sweep"]),
):
    if command(words):
        sys.exit(f"{command} failed")
"""


def test_commands_talk_to_no_network(watched, tmp_path):
    root_folder(tmp_path / "data")
    talked, processes = watched("-c", COMMANDS)
    assert processes >= 1 + 2 + 2 + 1  # builders of graphs, readers of structures, and a trial, too
    assert talked == ""
