"""Processes that work for another: how many, and when they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import REPOSITORY

from cgcnn import workers


def test_how_many_processes(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert [workers.workers_for(n, None) for n in (1, workers.MANY - 1, workers.MANY)] == [0, 0, 4]
    assert workers.workers_for(10**6, 0) == 0 and workers.workers_for(1, 3) == 3
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    assert workers.workers_for(10**6, None) == 0


def children(pid: int) -> set[int]:
    """The processes below one, at any depth."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = set(), {pid}
    while new:
        new = {p for p, parent in parents.items() if parent in new} - found
        found |= new
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import time\nfrom cgcnn import workers\n"
        "if __name__ == '__main__':\n    workers.PRELOADED = 'cgcnn.workers'\n    pool = workers.new_pool(2)\n"
        "    for job in [pool.submit(time.sleep, 0.2) for _ in range(4)]:\n        job.result()\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    (tmp_path / "parent.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(tmp_path / "parent.py")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    below = children(process.pid)
    assert len(below) >= 3  # the two, and the one that they fork from
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in below):
        assert time.monotonic() < end, "workers go on alone"
        time.sleep(0.1)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_processes_that_build_graphs_load_no_torch():
    code = f"import sys, {workers.PRELOADED}, cgcnn.cluster; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
