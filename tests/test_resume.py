"""Runs that stop, are stopped or are killed, and go on as if nothing had happened; and those that may not go on."""

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import cif_text, random_crystal
from helpers import (
    copy_folder,
    finished,
    predict,
    read_rows,
    refused,
    result_file,
    root_folder,
    run,
    same_weights,
    script,
    table,
    train,
    write_rows,
)

import cgcnn
from cgcnn import build, checkpoint, training
from cgcnn.cli import train_command
from cgcnn.labels import DataError
from cgcnn.losses import MultiTaskLoss
from cgcnn.network import CrystalGraphNetwork
from cgcnn.resume import taken_up
from cgcnn.shard import MARKER, Shard

# 10 training crystals in batches of 4, 4 and 2: three steps an epoch.
COMMON = ["--val-size", "3", "--test-size", "3", "--batch-size", "4"]
STEPS = 3
# A process that ends itself with a signal before its n-th step.
AT_STEP = """
import os, signal
from cgcnn import training
step, count = training.Trainer._step, iter(range(10**9))
def _step(*args):
    if next(count) == {n}:
        os.kill(os.getpid(), signal.{signal})
    return step(*args)
training.Trainer._step = _step
"""
# A process that is killed while it writes its n-th checkpoint or model, half of which is on the disk then.
AT_SAVE = """
import io, os, signal, torch
from cgcnn import checkpoint, files
save, count = checkpoint.save, iter(range(10**9))
def half(path, content):
    if next(count) == {n}:
        whole = io.BytesIO()
        torch.save(content, whole)
        with files.replacing(path) as temporary, open(temporary, 'wb') as file:
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            os.fsync(file.fileno())
            os.kill(os.getpid(), signal.SIGKILL)
    return save(path, content)
checkpoint.save = half
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return root_folder(tmp_path_factory.mktemp("root") / "data")


@pytest.fixture(scope="module")
def vacancies(tmp_path_factory) -> Path:
    return copy_folder("vacancy_data", tmp_path_factory.mktemp("vacancies") / "data", take=slice(0, 16))


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory) -> Path:
    """An uninterrupted run of three epochs with everything that has a memory."""
    out = tmp_path_factory.mktemp("whole")
    train(root, out, "--epochs", 3, *MEMORY, *COMMON)
    return out


MEMORY = ["--optim", "Adam", "--ema", "0.9", "--dropout", "0.3", "--adaptive-weights", "--scheduler", "one-cycle"]

CRYSTALFORMER = [
    *("--optim", "AdamW", "--adam-betas", 0.9, 0.98, "--weight-decay", 0.01, "--no-decay-biases", "--clip-grad", 1),
    *("--scheduler", "inverse_sqrt_nowarmup", "--loss", "l1", "--lr", 0.003),
]


def stop_at(monkeypatch, step: int, number: int = signal.SIGTERM) -> None:
    """Have a signal arrive in this process during a training step, counted from 0."""
    plain, count = training.Trainer._step, iter(range(10**9))

    def _step(*args):
        if next(count) == step:
            os.kill(os.getpid(), number)
        return plain(*args)

    monkeypatch.setattr(training.Trainer, "_step", _step)


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "checkpoint.pth.tar", weights_only=True)["state_dict"]


def assert_same_run(one: Path, other: Path) -> None:
    """Same weights of the last and of the best epoch, same tables, bit for bit; only the clock may differ."""
    first, second = last_weights(one), last_weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert same_weights(one / "model_best.pth.tar", other / "model_best.pth.tar")
    assert (one / "test_results.csv").read_bytes() == (other / "test_results.csv").read_bytes()
    timed = ("timing.csv", "timing_summary.csv")
    for path in (one / "result").glob("*.csv"):
        if not path.name.endswith(timed):
            assert path.read_bytes() == (other / "result" / path.name).read_bytes(), path.name
    assert {p.name for p in (one / "result").iterdir()} == {p.name for p in (other / "result").iterdir()}


def resume(folder: Path, out: Path, *words: object):
    return train(folder, out, "--resume", out / "checkpoint.pth.tar", *words)


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not(root, whole, tmp_path):
    train(root, tmp_path / "one", "--epochs", 3, *MEMORY, *COMMON)
    assert_same_run(whole, tmp_path / "one")
    train(root, tmp_path / "two", "--epochs", 3, "--seed", 5, *MEMORY, *COMMON)
    assert not same_weights(whole / "model_best.pth.tar", tmp_path / "two" / "model_best.pth.tar")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("root", ["--epochs", 3]),
        ("root", ["--epochs", 3, "--optim", "Adam", "--ema", 0.9]),
        ("root", ["--epochs", 4, "--swa", 2, "--scheduler", "cosine"]),
        ("root", ["--epochs", 3, "--scheduler", "one-cycle", "--optim", "AdamW", "--weight-decay", 0.01]),
        ("root", ["--epochs", 3, "--adaptive-weights", "--adaptive-weight-update", 0.3, "--pooling", "attention"]),
        ("root", ["--epochs", 3, "--conditional-loss", "--auxiliary-tasks", "--clip-grad", 0.1]),
        ("root", ["--epochs", 2, "--num-splits", 2]),
        ("root", ["--epochs", 3, "--swa", 2, *CRYSTALFORMER, "--sch-params", 5]),
        ("root", ["--epochs", 3, "--scheduler", "inverse_sqrt_nowarmup", "--sch-params", 2, "--ema", 0.9]),
        ("root", ["--epochs", 3, "--swa", 2, "--model", "crystalformer", "--num-layers", 1, "--image-cutoff", 5]),
        ("root", ["--epochs", 2, "--ensemble", 2, "--swa", 1]),
        ("root", ["--epochs", 2, "--folds", 2, "--batch-size", 2, "--val-size", 3]),
        ("root", ["--epochs", 3, "--workers", 1, "--no-normalize", "--test-size", 4]),
        ("vacancies", ["--epochs", 3, "--task", "multi", "--dropout", 0.5, "--class-weights", "balanced"]),
        ("root", ["--epochs", 12, "--patience", 2, "--lr", 0.05]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else value,
)
@pytest.mark.parametrize("step", [1, 2, 5])
def test_interrupted_and_resumed_is_uninterrupted(name, words, step, request, tmp_path, monkeypatch):
    """The steps lie in the middle of an epoch, at the last batch of the first, and at that of the second."""
    folder = request.getfixturevalue(name)
    words = words if "--folds" in words else [*COMMON, *words]
    train(folder, tmp_path / "one", *words)
    number = (signal.SIGINT, signal.SIGTERM)[step % 2]
    with monkeypatch.context() as patch:
        stop_at(patch, step, number)
        ran = run(train_command, folder, "--out-dir", tmp_path / "two", "--disable-cuda", *words)
    assert ran.status == 128 + number, ran.err
    assert not (tmp_path / "two" / "test_results.csv").exists()
    resume(folder, tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_stopped_after_every_single_batch(root, whole, tmp_path):
    """--max-time that is over at once: exit status 75 each time, and the run still arrives at the same weights."""
    words = ["--out-dir", tmp_path, "--max-time", "0s", "--disable-cuda"]
    assert run(train_command, root, "--epochs", 3, *MEMORY, *COMMON, *words).status == 75
    for _ in range(3 * STEPS - 1):
        ran = run(train_command, root, "--resume", tmp_path / "checkpoint.pth.tar", *words)
        assert ran.status == 75
        assert "--max-time" in ran.out
    # what cannot be taken up in its midst, a validation and the end of the run, has the time that it needs
    assert run(train_command, root, "--resume", tmp_path / "checkpoint.pth.tar", *words).status == 0
    assert_same_run(whole, tmp_path)


def test_a_long_epoch_is_saved_on_the_way(root, whole, tmp_path, monkeypatch):
    """Killed in the second epoch: what goes on is the batch, not the epoch."""
    monkeypatch.setattr("cgcnn.experiment.SECONDS_WITHIN_AN_EPOCH", 0.0)
    kept, save = tmp_path / "kept.pth.tar", checkpoint.save

    def keep(path, content):
        save(path, content)
        trainer = content.get("training", {}).get("trainer", {})
        if (trainer.get("epoch"), trainer.get("batch")) == (1, 2):
            shutil.copy(path, kept)

    monkeypatch.setattr(checkpoint, "save", keep)
    out = tmp_path / "out"
    train(root, out, "--epochs", 3, *MEMORY, *COMMON)
    shutil.copy(kept, out / "checkpoint.pth.tar")
    resume(root, out)
    assert_same_run(whole, out)


def evaluations(monkeypatch, number: int, *, at: int) -> list[int]:
    """Have a signal arrive in this process at an evaluation of a batch, counted from 1; the list counts them all."""
    plain, seen = CrystalGraphNetwork.forward, []

    def forward(self, batch):
        if not self.training:
            seen.append(len(batch))
            if len(seen) == at:
                os.kill(os.getpid(), number)
        return plain(self, batch)

    monkeypatch.setattr(CrystalGraphNetwork, "forward", forward)
    return seen


@pytest.mark.parametrize(
    ("words", "at", "stood"),
    [
        ([], 1, (0, 2)),
        (["--ema", 0.9, "--adaptive-weights", "--dropout", 0.3], 3, (1, 2)),
        (["--swa", 1, "--dropout", 0.3], 7, (3, 0)),  # the averaged network
        (["--ensemble", 2], 7, (0, 2)),
        (["--ensemble", 2], 15, (3, 0)),  # the test part, by the second network
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_stop_is_seen_within_a_validation_and_a_test(words, at, stood, root, tmp_path, monkeypatch):
    """Two batches each of training, validation and test; the signal arrives in a first one, and no second follows."""
    words = ["--epochs", 3, "--val-size", 5, "--test-size", 4, "--batch-size", 3, *words]
    train(root, tmp_path / "one", *words)
    with monkeypatch.context() as patch:
        seen = evaluations(patch, signal.SIGTERM, at=at)
        ran = run(train_command, root, "--out-dir", tmp_path / "two", "--disable-cuda", *words)
    assert ran.status == 128 + signal.SIGTERM, ran.err
    assert "saved. Go on with: " in ran.out.splitlines()[-1]
    assert len(seen) == at
    trainer = torch.load(tmp_path / "two" / "checkpoint.pth.tar", weights_only=True)["training"]["trainer"]
    assert (trainer["epoch"], trainer["batch"]) == stood
    resume(root, tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")


def unbuilt(root: Path, folder: Path) -> Path:
    return shutil.copytree(root, folder, ignore=shutil.ignore_patterns(".cgcnn_cache"))


def test_time_that_ends_while_graphs_are_built_keeps_them(root, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FILES_A_TASK", 5)
    data = unbuilt(root, tmp_path / "data")
    words = ["--epochs", 3, "--out-dir", tmp_path / "out", "--disable-cuda", *MEMORY, *COMMON]
    for built in (5, 10, 15):
        ran = run(train_command, data, *words, "--max-time", "0s")
        assert ran.status == 75
        assert ran.out.splitlines()[-1].startswith("the time of --max-time is over: the crystal graphs built so far")
        assert "same command" in ran.out
        (folder,) = (data / ".cgcnn_cache").iterdir()
        assert num_built(folder) == built
        assert not list((tmp_path / "out").rglob("*.*"))
    assert run(train_command, data, *words).status == 0
    assert_same_run(whole, tmp_path / "out")


# A process group of its own that builds graphs one a task, and keeps each at once.
ONE_BY_ONE = """
import os, time
from cgcnn import build, store
os.setsid()
build.FILES_A_TASK, build.SECONDS_ALONE, store.SECONDS_A_FLUSH = 1, 0.0, -1.0
"""


def num_built(store_folder: Path) -> int:
    """Crystals in a store, as it says on disk."""
    return sum(len(Shard.read(folder)) for folder in store_folder.glob("shard-*"))


def store_of(data: Path, process) -> Path:
    """The only store of a data folder, once something is in it."""
    until = time.monotonic() + 60
    while not (found := list(data.glob(f".cgcnn_cache/*/*/{MARKER}"))) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found[0].parents[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_stops_the_building_of_graphs_in_all_processes(number, tmp_path):
    """The signal reaches the whole group, as with Ctrl-C: the workers leave it to the process that collects."""
    data = tmp_path / "data"
    data.mkdir()
    rows = [["cif_id", "energy"], *([f"c{k:03}", k] for k in range(1000))]
    text = cif_text(random_crystal(1, 20))
    for crystal_id, _ in rows[1:]:
        (data / f"{crystal_id}.cif").write_text(text)
    write_rows(data / "id_prop.csv", rows)
    process = script("main.py", data, "--graph-jobs", 2, "--environment", folder=tmp_path, code=ONE_BY_ONE)
    folder = store_of(data, process)
    os.killpg(process.pid, number)
    ran = finished(process)
    assert ran.status == 128 + number, ran.err
    assert ran.err.strip() == ""
    assert ran.out.splitlines()[-1].endswith("Go on with the same command")
    assert 0 < num_built(folder) < 1000


def test_a_second_signal_stops_the_building_of_graphs_at_once(root, tmp_path):
    data = unbuilt(root, tmp_path / "data")
    slow = (
        # a shell that runs the tests in the background has its children ignore it
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "task, calls = build.build_task, []\n"
        "def build_task(*words):\n    calls.append(words)\n    time.sleep(60 if len(calls) > 3 else 0)\n"
        "    return task(*words)\nbuild.build_task = build_task\n"
    )
    words = [data, "--graph-jobs", 1, "--epochs", 1]
    process = script("main.py", *words, folder=tmp_path, code=f"{ONE_BY_ONE}\n{slow}")
    store_of(data, process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    ran = finished(process)
    assert time.monotonic() - begun < 30
    assert (ran.status, ran.err) == (130, "")
    assert ran.out.splitlines()[-1].endswith("Go on with the same command")


def test_the_message_says_the_command_that_goes_on(root, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(root, tmp_path / "my data", ignore=shutil.ignore_patterns(".cgcnn_cache"))
    for out in (".", "an out"):
        words = ["--out-dir", out, "--disable-cuda", "--epochs", 3, *MEMORY, *COMMON]
        ran = run(train_command, "my data", "--max-time", "0s", *words)
        assert ran.status == 75
        command = shlex.split(ran.out.splitlines()[-1].partition("Go on with: ")[2])
        assert command[:2] == ["python", "main.py"]
        ran = run(train_command, *command[2:])
        assert ran.status == 0, ran.err
        assert_same_run(whole, tmp_path / out)


@pytest.mark.parametrize(
    "code",
    [
        AT_STEP.format(n=4, signal="SIGKILL"),
        AT_SAVE.format(n=2),  # the checkpoint of the second epoch
    ],
    ids=["during training", "while a checkpoint is written"],
)
def test_killed_and_resumed_is_uninterrupted(code, root, whole, tmp_path):
    words = ["--epochs", 3, "--out-dir", ".", "--disable-cuda", *MEMORY, *COMMON]
    ran = finished(script("main.py", root, *words, folder=tmp_path, code=code))
    assert ran.status == -signal.SIGKILL, ran.err
    assert torch.load(tmp_path / "checkpoint.pth.tar", weights_only=True)["epoch"] == 1
    assert cgcnn.load_model(tmp_path / "checkpoint.pth.tar").trained.tasks.targets
    train(root, tmp_path, "--resume", tmp_path / "checkpoint.pth.tar")
    assert_same_run(whole, tmp_path)


def test_killed_before_the_first_checkpoint_the_next_run_starts_anew(root, whole, tmp_path):
    words = ["--epochs", 3, "--disable-cuda", *MEMORY, *COMMON]
    ran = finished(script("main.py", root, *words, folder=tmp_path, code=AT_SAVE.format(n=0)))
    assert ran.status == -signal.SIGKILL, ran.err
    assert not (tmp_path / "checkpoint.pth.tar").exists()
    train(root, tmp_path, *words)
    shutil.rmtree(tmp_path / "result" / "previous")
    assert_same_run(whole, tmp_path)


def test_a_checkpoint_takes_the_place_of_the_old_one_in_one_step(begun, tmp_path, monkeypatch):
    path = shutil.copy(begun / "checkpoint.pth.tar", tmp_path)

    def fail(*paths):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(Path(path), {"state_dict": {}})
    assert Path(path).read_bytes() == (begun / "checkpoint.pth.tar").read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pth.tar"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_is_told_to_stop_says_how_to_go_on(number, root, tmp_path):
    words = ["--epochs", 100000, "--disable-cuda", *COMMON]
    process = script("main.py", root, *words, folder=tmp_path)
    until = time.monotonic() + 60
    while not (tmp_path / "checkpoint.pth.tar").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    ran = finished(process)
    assert ran.status == 128 + number
    assert ran.out.splitlines()[-1].endswith(f"python main.py {root} --resume checkpoint.pth.tar")
    assert "Traceback" not in ran.err


# going on with something else


@pytest.fixture(scope="module")
def begun(root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("begun")
    train(root, out, "--epochs", 2, *COMMON)
    return out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--targets", "band_gap"], "other tasks (work_function, band_gap) than this run's (band_gap)"),
        (["--auxiliary-tasks"], "other tasks"),
        (["--conditional-loss"], "other tasks"),
        (["--task1-weight", 0.9], "weights"),
        (["--transforms", "work_function=log"], "transforms"),
        (["--atom-fea-len", 32], "another network"),
        (["--pooling", "attention"], "another network"),
        (["--neighbors", "classic"], "another network"),
        (["--seed", 5], "another split"),
        (["--num-splits", 2], "another split"),
        (["--val-size", 4], "another split"),
        (["--optim", "Adam"], "--optim is SGD"),
        (["--weight-decay", 0.1], "--weight-decay is 0"),
        (["--no-decay-biases"], "--decay-biases is True"),
        (["--task-weights", "band_gap=2"], "--task-weights"),
        (["--no-normalize"], "--normalize is True"),
        (["--ema", 0.9], "--ema is 0"),
        (["--start-epoch", 3], "--start-epoch"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_another_run_is_refused_in_one_line(words, said, root, begun):
    before = (begun / "checkpoint.pth.tar").read_bytes()
    line = refused(
        train_command, root, "--resume", begun / "checkpoint.pth.tar", "--out-dir", begun, "--epochs", 3, *words
    )
    assert said in line
    assert line.count("\n") == 1
    assert (begun / "checkpoint.pth.tar").read_bytes() == before
    assert (begun / "test_results.csv").exists()


def test_other_data_are_refused(root, begun, tmp_path):
    regression = copy_folder("data/sample-regression", tmp_path / "sample")
    words = ["--resume", begun / "checkpoint.pth.tar", "--out-dir", tmp_path, "--epochs", 3]
    assert "other tasks" in refused(train_command, regression, *words)
    rows = read_rows(root / "id_prop.csv")
    fewer = shutil.copytree(root, tmp_path / "fewer")
    write_rows(fewer / "id_prop.csv", rows[:-1])
    assert "other crystals" in refused(train_command, fewer, *words)
    relabelled = shutil.copytree(root, tmp_path / "relabelled")
    write_rows(relabelled / "id_prop.csv", [rows[0], *([row[0], 7, row[2]] for row in rows[1:])])
    assert "other labels" in refused(train_command, relabelled, *words)
    assert "no run to resume" in refused(train_command, root, "--resume", begun / "model_best.pth.tar")


def test_within_an_epoch_the_batches_stay_as_they_are(root, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        run(train_command, root, "--out-dir", tmp_path, "--epochs", 2, "--batch-size", 4)
    line = refused(
        train_command, root, "--resume", tmp_path / "checkpoint.pth.tar", "--out-dir", tmp_path, "--batch-size", 5
    )
    assert "stopped within an epoch" in line


def test_more_epochs_go_on_from_the_last(root, begun, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    resume(root, out, "--epochs", 4)
    train(root, tmp_path / "whole", "--epochs", 4, *COMMON)
    one, two = last_weights(out), last_weights(tmp_path / "whole")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (out / "test_results.csv").read_bytes() == (tmp_path / "whole" / "test_results.csv").read_bytes()
    assert len(table(next((out / "result").glob("*_e4_*_history.csv")))) == 4


def test_more_epochs_average_the_last_of_all(root, tmp_path):
    words = ["--swa", 1, "--epochs"]
    train(root, tmp_path / "one", *words, 3, *COMMON)
    train(root, tmp_path / "two", *words, 2, *COMMON)
    resume(root, tmp_path / "two", "--epochs", 3)
    averages = [
        torch.load(tmp_path / name / "checkpoint.pth.tar", weights_only=True)["training"]["trainer"]["average"]
        for name in ("one", "two")
    ]
    assert all(torch.equal(averages[0][key], averages[1][key]) for key in averages[0])


def test_more_epochs_go_on_with_the_rate_of_all_steps_before(root, tmp_path):
    """Three steps an epoch, of which those that were averaged for the first end count as well."""
    words = [*CRYSTALFORMER, "--sch-params", 5, "--swa", 1]
    train(root, tmp_path, *words, "--epochs", 2, *COMMON)
    resume(root, tmp_path, "--epochs", 4)
    rates = table(next((tmp_path / "result").glob("*_e4_*_history.csv"))).lr
    assert rates.tolist() == pytest.approx([0.003 * (5 / (5 + t)) ** 0.5 for t in (2, 3, 8, 9)])


def test_a_checkpoint_that_does_not_count_its_steps_goes_on(root, tmp_path, monkeypatch):
    words = ["--epochs", 3, *CRYSTALFORMER, "--sch-params", 5, *COMMON]
    train(root, tmp_path / "one", *words)
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        run(train_command, root, "--out-dir", tmp_path / "two", "--disable-cuda", *words)
    path = tmp_path / "two" / "checkpoint.pth.tar"
    content = torch.load(path, weights_only=True)
    del content["training"]["trainer"]["steps"]
    torch.save(content, path)
    resume(root, tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_a_new_rate_is_taken(root, begun, tmp_path):
    shutil.copytree(begun, tmp_path / "out")
    resume(root, tmp_path / "out", "--epochs", 3, "--lr", 0.005)
    history = table(next((tmp_path / "out" / "result").glob("*lr0.005*_history.csv")))
    assert history.lr.tolist() == [0.01, 0.01, 0.005]


def test_resuming_into_another_folder_overwrites_nothing_there(root, begun, tmp_path):
    train(root, tmp_path, "--epochs", 1, *COMMON)
    before = (tmp_path / "checkpoint.pth.tar").read_bytes()
    ran = train(root, tmp_path, "--resume", begun / "checkpoint.pth.tar", "--epochs", 3)
    (moved,) = (tmp_path / "result" / "previous").rglob("checkpoint.pth.tar")
    assert moved.read_bytes() == before
    assert "previous" in ran.out


# losses that are no number


def break_loss(monkeypatch, step: int) -> None:
    plain, count = MultiTaskLoss.__call__, iter(range(10**9))

    def broken(self, outputs, targets):
        total, parts = plain(self, outputs, targets)
        return (total * float("nan") if next(count) == step else total), parts

    monkeypatch.setattr(MultiTaskLoss, "__call__", broken)


def test_nan_names_its_crystals_and_keeps_the_last_good_state(root, whole, tmp_path, monkeypatch):
    seen = []
    plain = training.Trainer._step
    monkeypatch.setattr(training.Trainer, "_step", lambda *args: (seen.append(args[2]), plain(*args)))
    with monkeypatch.context() as patch:
        break_loss(patch, STEPS + 1)
        line = refused(train_command, root, "--out-dir", tmp_path, "--epochs", 3, *MEMORY, *COMMON)
    assert line.count("\n") == 1
    assert "nan in epoch 2" in line
    ids = [row[0] for row in read_rows(root / "id_prop.csv")[1:]]
    named = line.partition("on the crystals ")[2].partition(";")[0].split(", ")
    assert named == [ids[row] for row in seen[STEPS + 1].tolist()]
    assert str(tmp_path / "checkpoint.pth.tar") in line
    assert predict(tmp_path / "checkpoint.pth.tar", root, tmp_path / "p.csv").status == 0
    resume(root, tmp_path)
    (tmp_path / "p.csv").unlink()
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("batch_size", [4, 256])
def test_a_rate_far_too_large_ends_in_one_line(batch_size, root, tmp_path):
    """With one batch an epoch it is the validation that sees it first: such a state is not kept."""
    words = ["--lr", 1e30, "--epochs", 5, "--batch-size", batch_size]
    line = refused(train_command, root, "--out-dir", tmp_path, *words)
    assert line.count("\n") == 1
    assert "--lr" in line
    ids = {row[0] for row in read_rows(root / "id_prop.csv")}
    assert any(crystal_id in line for crystal_id in ids)
    assert not (tmp_path / "checkpoint.pth.tar").exists()


def test_the_checkpoint_holds_plain_data_alone(begun):
    content = torch.load(begun / "checkpoint.pth.tar", weights_only=True)
    assert content["training"]["trainer"]["epoch"] == 2
    assert json.dumps(content["args"])
    assert result_file(begun, "config.toml").exists()


@pytest.mark.parametrize(
    "error", [KeyError("rng"), RuntimeError("size\n mismatch"), TypeError("x"), IndexError("y")], ids=str
)
def test_a_state_of_another_shape_is_told_in_a_line(error):
    with pytest.raises(DataError, match=r"^a\.pt: its run cannot be taken up [^\n]*$"), taken_up("a.pt"):
        raise error


def test_a_run_whose_element_vectors_changed_is_not_taken_up(begun, root, tmp_path):
    out = shutil.copytree(begun, tmp_path / "out")
    folder = shutil.copytree(root, tmp_path / "data")
    (folder / "atom_init.json").write_text(json.dumps({number: [1, number] for number in range(1, 101)}))
    line = refused(train_command, folder, "--resume", out / "checkpoint.pth.tar", "--out-dir", out)
    assert line.count("\n") == 1 and "checkpoint.pth.tar" in line


def test_flags_that_are_none_are_told_in_one_line(begun, root, tmp_path):
    content = torch.load(begun / "checkpoint.pth.tar", weights_only=True)
    content["args"]["auxiliary_tasks"] = {"odd": torch.ones(30, 30)}
    torch.save(content, tmp_path / "odd.pth.tar")
    line = refused(train_command, root, "--resume", tmp_path / "odd.pth.tar", "--out-dir", tmp_path / "out")
    assert line.count("\n") == 1 and len(line) < 700 and "odd.pth.tar: " in line


def test_an_epoch_whose_values_are_no_numbers_is_refused(begun, root, tmp_path):
    content = torch.load(begun / "checkpoint.pth.tar", weights_only=True)
    content["training"]["trainer"]["history"][0]["seconds"] = [1, 2]
    torch.save(content, tmp_path / "odd.pth.tar")
    line = refused(train_command, root, "--resume", tmp_path / "odd.pth.tar", "--out-dir", tmp_path / "out")
    assert line.count("\n") == 1 and "odd.pth.tar: its run cannot be taken up" in line
