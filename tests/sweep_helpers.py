"""What the tests of sweeps share: a stand-in for main.py that is quick, and ends as its flags say."""

import os
import subprocess
import sys
from pathlib import Path

from helpers import REPOSITORY

# lr decides how it ends: 0.5 badly, 0.25 killed at first, 0.125 waits to be stopped at first; others well, after
# --momentum seconds. What it was called with is in calls.txt of its folder.
STAND_IN = """
import os, signal, sys, time
from pathlib import Path
words = sys.argv[1:]
flag = lambda name, default=None: next((w.partition("=")[2] or words[k + 1] for k, w in enumerate(words)
    if w.partition("=")[0] == name), default)
out, lr = Path(flag("--out-dir")), float(flag("--lr", 0.01))
with open(out / "calls.txt", "a") as file:
    file.write(" ".join(words) + "\\n")
again = len((out / "calls.txt").read_text().splitlines()) > 1
(out / "checkpoint.pth.tar").touch()
print("a line that says nothing\\n\\nprogress 1\\rprogress 2")
if lr == 0.5:
    sys.exit("error: the loss became nan")
if lr == 0.25 and not again:
    os.kill(os.getpid(), signal.SIGKILL)
if lr == 0.125 and not again:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("waiting", flush=True)
    time.sleep(60)
if lr == 0.0625:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(float(flag("--momentum", 0)))
(out / "result").mkdir(exist_ok=True)
rows = ["Split,energy_MAE,energy_R^2,Val_energy_MAE,Val_Score"]
for split in range(int(flag("--num-splits", 1))):
    rows.append(f"{split + 1},{lr + 0.1 * split},,{2 * lr},{10 * lr + split}")
(out / "result" / "x_metrics.csv").write_text("\\n".join(rows) + "\\n")
"""


def stand_in(folder: Path) -> list[str]:
    """The command of the stand-in, written to `folder`."""
    path = folder / "main.py"
    path.write_text(STAND_IN)
    return [sys.executable, "-S", str(path)]


def worker(command: list[str], folder: Path, *words: object, script: str = "grid_search.py") -> subprocess.Popen:
    """grid_search.py, or another script, as a process of its own, whose trials are the stand-in."""
    code = (
        "import sys, runpy, cgcnn.sweep.trial as trial\n"
        f"trial._main = lambda: {command!r}\n"
        "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(REPOSITORY / script), *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
