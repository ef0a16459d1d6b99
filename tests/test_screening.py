"""predict.py: streams, stops, goes on, says how sure it is, and makes a shortlist."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import cif_text, fcc, make_crystal
from helpers import finished, predict, read_rows, refused, run, script, table, train, write_rows
from screening_helpers import GAP, KIND, SALT, WORK_FUNCTION, folder_of, model, salts, saved

import cgcnn
from cgcnn.cli import predict_command
from cgcnn.interrupt import StopRequest
from cgcnn.prediction import GapRule
from cgcnn.screening import command as screening
from cgcnn.screening import growing
from cgcnn.tasks import CLASSIFICATION, Task

CRYSTALS = salts(20)
NAMES = {"t.csv", "t_failed.csv", "e.npz", "a.csv"}
MORE = ["--embeddings", "--atom-contributions"]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(screening, "CHUNK", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """20 salts; c004 is broken, and lost is listed without a file."""
    made = folder_of(CRYSTALS, tmp_path_factory.mktemp("data") / "cifs")
    (made / "c004.cif").write_text("no crystal")
    rows = [[f"c{k:03}", 4 + k / 10, k / 7] for k in range(0, 20, 2)]
    write_rows(made / "id_prop.csv", [["cif_id", "work_function", "band_gap"], *rows, ["lost", 1, 1]])
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    made = tmp_path_factory.mktemp("models")
    trained_on = salts(30, low=5.2, high=5.6)
    return [saved(model(seed=seed, trained_on=trained_on), made / f"m{seed}.pt") for seed in (1, 2)]


@pytest.fixture
def outputs(tmp_path):
    """A function that runs predict.py with everything it can write → name of each file → its bytes."""

    def outputs(models, folder, *words, status=3, where=tmp_path / "out"):
        where.mkdir(exist_ok=True)
        files = ["--output", where / "t.csv", *MORE[:1], where / "e.npz", *MORE[1:], where / "a.csv"]
        ran = run(predict_command, *models, folder, *files, "--disable-cuda", "--batch-size", 3, *words)
        assert ran.status == status, ran.err or ran.out
        return {path.name: path.read_bytes() for path in where.iterdir() if path.is_file()}

    return outputs


# what is written


def test_the_table_of_several_models(models, folder, tmp_path):
    ran = run(predict_command, *models, folder, "--output", tmp_path / "t.csv")
    assert ran.status == 3 and "mean and standard deviation of 2 networks of 2 models" in ran.out
    found = table(tmp_path / "t.csv")
    columns = [f"{name}_{what}" for name in ("work_function", "band_gap") for what in ("target", "pred", "std")]
    assert list(found) == ["cif_id", *columns, "unlike_training", "distance_to_training"]
    listed = [f"c{k:03}" for k in range(0, 20, 2) if k != 4]
    assert found.cif_id.tolist() == listed + [f"c{k:03}" for k in range(1, 20, 2)]
    assert found.band_gap_target[:3].tolist() == pytest.approx([0, 2 / 7, 6 / 7])
    assert found.band_gap_target[len(listed) :].isna().all()
    failed = table(tmp_path / "t_failed.csv")
    assert failed.cif_id.tolist() == ["lost", "c004"]
    alone = [cgcnn.load_model(path).predict([CRYSTALS["c006"]]).band_gap_pred[0] for path in models]
    assert found.set_index("cif_id").band_gap_pred["c006"] == pytest.approx(np.mean(alone), rel=1e-6)
    assert found.set_index("cif_id").band_gap_std["c006"] == pytest.approx(np.std(alone), rel=1e-5)


def test_a_notebook_gets_the_same_from_several_models(models, folder, tmp_path):
    whole = cgcnn.load_model(models).predict(list(CRYSTALS.values()), list(CRYSTALS)).set_index("cif_id")
    assert run(predict_command, *models, folder, "--output", tmp_path / "t.csv").status == 3
    written = table(tmp_path / "t.csv").set_index("cif_id")
    assert list(whole) == [column for column in written if not column.endswith("_target")]
    numbers = [column for column in whole if column != "unlike_training"]
    same = whole.loc[written.index]
    assert same[numbers].to_numpy() == pytest.approx(written[numbers].to_numpy(), rel=1e-5, abs=1e-6)
    assert same.unlike_training.tolist() == written.unlike_training.fillna("").tolist()
    with pytest.raises(Exception, match="predict the same"):
        cgcnn.load_model([models[0], saved(model(GAP), tmp_path / "other.pt")])


def test_what_is_unlike_the_training_set_is_said(models, tmp_path):
    odd = {"far": salts(1, low=4.0)["c000"], "br": make_crystal(fcc(5.5), ["Na", "Br"], SALT)}
    made = folder_of(salts(3, low=5.3, high=5.4) | odd, tmp_path / "cifs")
    ran = predict(models[0], made, tmp_path / "t.csv")
    assert "2 of them are unlike the training set" in ran.out
    found = table(tmp_path / "t.csv", keep_default_na=False).set_index("cif_id")
    assert found.unlike_training.to_dict() == {"br": "element Br", "c000": "", "c001": "", "c002": "", "far": "far"}
    assert found.distance_to_training["far"] > 1 > found.distance_to_training["c001"]


def test_a_model_that_does_not_know_its_training_set_has_no_such_columns(folder, tmp_path):
    path = saved(model(Task("target"), unnamed=True), tmp_path / "old.pt")
    assert predict(path, folder, tmp_path / "t.csv").status == 3
    assert list(table(tmp_path / "t.csv")) == ["cif_id", "target", "prediction"]
    several = saved(model(Task("target"), unnamed=True, networks=2), tmp_path / "several.pt")
    assert predict(several, folder, tmp_path / "t.csv").status == 3
    assert list(table(tmp_path / "t.csv")) == ["cif_id", "target", "prediction", "prediction_std"]


def test_embeddings_and_atoms(models, folder, outputs, tmp_path):
    outputs(models, folder)
    found = table(tmp_path / "out" / "t.csv")
    with np.load(tmp_path / "out" / "e.npz", allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == found.cif_id.tolist()
        assert arrays["vectors"].shape == (19, 12) and arrays["vectors"].dtype == np.float32
        assert len(np.unique(arrays["vectors"], axis=0)) == 19
    atoms = table(tmp_path / "out" / "a.csv")
    assert list(atoms) == ["cif_id", "atom", "element", "attention", "work_function_score", "band_gap_score"]
    assert atoms.cif_id.tolist() == np.repeat(found.cif_id, 2).tolist()
    assert atoms.element.tolist() == ["Na", "Cl"] * 19 and atoms.atom.tolist() == [0, 1] * 19
    summed = (atoms.attention * atoms.band_gap_score).groupby(atoms.cif_id, sort=False).sum()
    assert summed.to_numpy() == pytest.approx(found.band_gap_pred.to_numpy(), abs=1e-5)


def test_other_processes_and_other_chunks_write_the_same(models, folder, outputs, tmp_path):
    alone = outputs(models, folder, "--workers", 0)
    assert set(alone) == NAMES
    assert outputs(models, folder, "--workers", 2, where=tmp_path / "two") == alone
    other = outputs(models, folder, "--batch-size", 7, where=tmp_path / "seven")
    pd.testing.assert_frame_equal(table(tmp_path / "seven" / "t.csv"), table(tmp_path / "out" / "t.csv"), rtol=1e-4)
    assert other["t_failed.csv"] == alone["t_failed.csv"]


# stopped and taken up


@pytest.mark.parametrize("kill_at", range(1, 60, 4))
def test_what_was_killed_goes_on_to_the_same_bytes(kill_at, models, folder, outputs, tmp_path, monkeypatch):
    whole = outputs(models, folder)
    calls = 0

    def fsync(descriptor):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(growing.os, "fsync", fsync)
        try:
            outputs(models, folder, where=tmp_path / "killed")
        except Killed:
            assert not (tmp_path / "killed" / "t.csv").exists()
    assert outputs(models, folder, "--resume-output", where=tmp_path / "killed") == whole | {
        "t.csv.progress": (tmp_path / "killed" / "t.csv.progress").read_bytes()
    }


def test_a_process_that_is_killed_with_9_goes_on_to_the_same_bytes(models, folder, outputs, tmp_path):
    whole = outputs(models, folder)
    where = tmp_path / "killed"
    where.mkdir()
    code = (
        "import os, signal\nfrom cgcnn.screening import command, growing\ncommand.CHUNK = 3\n"
        "append, calls = growing.GrowingFiles.append, []\n"
        "def killed(self, chunk):\n    calls.append(chunk)\n"
        "    if len(calls) == 4:\n        open(self.part('--output'), 'ab').write(b'half a ro')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n    append(self, chunk)\n"
        "growing.GrowingFiles.append = killed\n"
    )
    words = [*models, folder, "--output", "t.csv", MORE[0], "e.npz", MORE[1], "a.csv", "-b", 3]
    ran = finished(script("predict.py", *words, "--workers", 1, folder=where, code=code))
    assert ran.status == -signal.SIGKILL
    assert (where / "t.csv.part").read_bytes().endswith(b"half a ro")
    assert not (where / "t.csv").exists()
    again = "import cgcnn.screening.command\ncgcnn.screening.command.CHUNK = 3"
    ran = finished(script("predict.py", *words, "--resume-output", folder=where, code=again))
    assert ran.status == 3 and "6 of 20 crystals are done already" in ran.out, ran.err
    assert {name: (where / name).read_bytes() for name in NAMES} == whole


def test_ctrl_c_saves_and_says_how_to_go_on(models, folder, outputs, tmp_path, monkeypatch):
    whole = outputs(models, folder)
    predict_chunk, calls = screening.Ensemble.predict_chunk, []

    def interrupted(self, *words, **options):
        calls.append(words)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return predict_chunk(self, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(screening.Ensemble, "predict_chunk", interrupted)
        where = tmp_path / "stopped"
        outputs(models, folder, status=130, where=where)
    assert not (where / "t.csv").exists()
    outputs(models, folder, "--resume-output", where=where)
    assert {name: (where / name).read_bytes() for name in NAMES} == whole


def test_labels_that_are_no_classes_stay_out_after_a_stop(outputs, tmp_path, monkeypatch):
    """One label that is no class, in a chunk that is done, blanks the column in those that follow, too."""
    path = saved(model(Task("kind", CLASSIFICATION, classes=("0", "1"))), tmp_path / "m.pt")
    data = folder_of(salts(8), tmp_path / "data")
    write_rows(data / "id_prop.csv", [["cif_id", "kind"], ["c000", 0.5], *([f"c{k:03}", 1] for k in range(1, 8))])
    whole = outputs([path], data, status=0)
    append, calls = growing.GrowingFiles.append, []

    def killed(self, chunk):
        calls.append(chunk)
        if len(calls) == 3:
            raise Killed
        append(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(growing.GrowingFiles, "append", killed)
        with pytest.raises(Killed):
            outputs([path], data, where=tmp_path / "killed")
    assert outputs([path], data, "--resume-output", status=0, where=tmp_path / "killed")["t.csv"] == whole["t.csv"]


class Stopped(StopRequest):
    """SIGTERM has come."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = signal.SIGTERM


def test_the_command_that_goes_on_is_printed(models, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(screening, "StopRequest", Stopped)
    words = ["-b", 3, "--sort", "-band_gap", "--top", 3]
    ran = run(predict_command, models[0], folder, "--output", tmp_path / "t.csv", *words)
    assert ran.status == 143
    line = ran.out.splitlines()[-1]
    assert line.endswith(
        f"Go on with: python predict.py {models[0]} {folder} --output {tmp_path / 't.csv'} "
        "-b 3 --sort=-band_gap --top 3 --resume-output"
    )


def test_resuming_what_is_finished_predicts_nothing(models, folder, outputs, monkeypatch):
    whole = outputs(models, folder, "--resume-output")
    predicted = []
    monkeypatch.setattr(screening, "read_chunks", lambda *_, **__: predicted.append(1) or iter(()))
    words = ["--where", "band_gap > -100", "--top", 2]
    again = outputs(models, folder, "--resume-output", *words)
    assert not predicted and again.pop("t_shortlist.csv").count(b"\n") == 3
    assert again == whole


def test_a_new_file_in_a_finished_folder_begins_anew(models, folder, outputs, tmp_path):
    data = shutil.copytree(folder, tmp_path / "data")
    before = outputs(models, data, "--resume-output")
    (data / "new.cif").write_text(cif_text(CRYSTALS["c000"]))
    after = outputs(models, data, "--resume-output")
    assert b"new," in after["t.csv"] and before["t.csv"] != after["t.csv"]
    (moved,) = (tmp_path / "out" / "result" / "previous").rglob("t.csv")
    assert moved.read_bytes() == before["t.csv"]


@pytest.mark.parametrize("other", ["--coverage=0.5", "--batch-size=2", "model", "folder"])
def test_another_command_does_not_go_on_with_it(other, models, folder, outputs, tmp_path):
    cal = tmp_path / "cal.csv"
    write_rows(cal, [["cif_id", "band_gap_target", "band_gap_pred"], *([k, k, 0] for k in range(20))])
    outputs(models, folder, "--resume-output", "--calibrate", cal)
    words = ["--resume-output", "--calibrate", cal, *([other] if other.startswith("-") else [])]
    if other == "folder":
        folder = shutil.copytree(folder, tmp_path / "copy")
    out = tmp_path / "out"
    files = ["--output", out / "t.csv", MORE[0], out / "e.npz", MORE[1], out / "a.csv", "-b", 3]
    used = models[:1] if other == "model" else models
    line = refused(predict_command, *used, folder, *files, *words)
    assert "t.csv.progress: begun with another" in line and line.count("\n") == 1


# intervals


def test_calibrated_columns(models, folder, tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"v{k}", t, t + rng.normal(), rng.uniform(0.1, 0.2)] for k, t in enumerate(rng.uniform(0, 3, 40))]
    cal = tmp_path / "cal.csv"
    write_rows(cal, [["cif_id", "band_gap_target", "band_gap_pred", "band_gap_std"], *rows])
    ran = run(predict_command, *models, folder, "--output", tmp_path / "t.csv", "--calibrate", cal, "--coverage", 0.8)
    assert f"eV holds 80 % of crystals like the 40 of {cal}" in ran.out and "work_function:" not in ran.out
    found = table(tmp_path / "t.csv")
    assert list(found)[3:9] == [
        "work_function_std",
        *(f"band_gap_{what}" for what in ("target", "pred", "std", "low", "high")),
    ]
    half = found.band_gap_high - found.band_gap_pred
    errors = np.sort([abs(t - p) / (s + np.mean([r[3] for r in rows])) for _, t, p, s in rows])
    q = errors[int(np.ceil(41 * 0.8)) - 1]
    assert half.to_numpy() == pytest.approx(q * (found.band_gap_std + np.mean([r[3] for r in rows])), rel=1e-4)
    assert (found.band_gap_low >= 0).all()
    single = run(predict_command, models[0], folder, "--output", tmp_path / "t.csv", "--calibrate", cal)
    assert single.status == 3
    assert table(tmp_path / "t.csv").eval("band_gap_high - band_gap_pred").std() < 1e-6


def test_a_run_of_main_py_leaves_what_calibrates_its_model(tmp_path):
    data = folder_of(salts(60), tmp_path / "data")
    write_rows(data / "id_prop.csv", [["cif_id", "band_gap"], *([f"c{k:03}", k / 20] for k in range(60))])
    train(data, tmp_path, "--epochs", 1, "--ensemble", 2, "--val-ratio", 0.3, "--batch-size", 16)
    (validation,) = (tmp_path / "result" / "predictions").glob("*_validation.csv")
    found = table(validation)
    columns = ["target", "pred", "std"]
    assert list(found)[:4] == ["cif_id", *(f"band_gap_{what}" for what in columns)] and len(found) == 18
    split = table(next((tmp_path / "result").glob("*_ids.csv")))
    assert set(found.cif_id) == set(split.cif_id[split.split == "val"])
    ran = predict(tmp_path / "model_best.pth.tar", data, tmp_path / "t.csv", "--calibrate", validation)
    assert ran.status == 0, ran.err
    whole = table(tmp_path / "t.csv").set_index("cif_id").loc[found.cif_id]
    assert whole.band_gap_std.to_numpy() == pytest.approx(found.band_gap_std.to_numpy(), rel=1e-3, abs=1e-6)
    held = (whole.band_gap_low <= whole.band_gap_target) & (whole.band_gap_target <= whole.band_gap_high)
    assert held.sum() >= 17  # all, but for the last digit of the widest
    # another run of the same name moves it aside
    train(data, tmp_path, "--epochs", 1, "--ensemble", 2, "--val-ratio", 0.3, "--batch-size", 16)
    assert list((tmp_path / "result" / "previous").rglob(validation.name))


# shortlist


def test_a_shortlist(models, folder, tmp_path):
    words = ["--where", "band_gap > -100 and work_function < 100", "--top", 4, "--sort", "-band_gap"]
    ran = run(predict_command, *models, folder, "--output", tmp_path / "t.csv", *words)
    assert ran.status == 3
    whole = table(tmp_path / "t.csv").sort_values("band_gap_pred", ascending=False)
    kept = read_rows(tmp_path / "t_shortlist.csv")
    assert [row[0] for row in kept[1:]] == whole.cif_id.tolist()[:4]
    assert kept[1] in read_rows(tmp_path / "t.csv")
    lines = ran.out.splitlines()
    place = next(k for k, line in enumerate(lines) if line.startswith("4 crystals of 19 that meet --where"))
    assert lines[place].endswith(f"largest band_gap first: {tmp_path / 't_shortlist.csv'}")
    assert [line.split()[0] for line in lines[place + 1 : place + 6]] == ["cif_id", *(row[0] for row in kept[1:])]
    assert "band_gap_target" not in ran.out
    run(predict_command, *models, folder, "--output", tmp_path / "t.csv", *words)
    assert list((tmp_path / "result" / "previous").rglob("t_shortlist.csv"))


def test_columns_of_a_class_can_be_asked_for(folder, tmp_path):
    path = saved(model(GAP, KIND, rule=GapRule()), tmp_path / "m.pt")
    ran = predict(path, folder, tmp_path / "t.csv", "--where", "metal_prob >= 0 and material_type < 2")
    assert ran.status == 3 and "19 crystals: " in ran.out
    unnamed = saved(model(Task("target"), unnamed=True), tmp_path / "u.pt")
    ran = predict(unnamed, folder, tmp_path / "t.csv", "--where", "prediction > -100", "--top", 3)
    assert "3 crystals of 19" in ran.out


# what is refused, before anything is written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "gap > 1"], "error: --where 'gap > 1': no column 'gap'; there are work_function, band_gap, "),
        (["--where", "band_gap = 1"], "error: --where 'band_gap = 1': not an expression; == compares"),
        (["--top", "3"], "error: --top: the best by what?"),
        (["--sort", "-band_gap"], "error: --sort needs --top"),
        (["--coverage", "0.5"], "error: --coverage needs --calibrate"),
        (["--calibrate", "none.csv"], "error: none.csv: no such file"),
        (["--calibrate", "none.csv", "--coverage", "1"], "neither 0 nor 1 can be promised"),
        (["--embeddings", "e.csv"], "error: --embeddings e.csv: a name that ends in .npz is expected"),
        (["--atom-contributions", "t.csv"], "t.csv: two outputs have this name"),
        (["--atom-contributions", "."], "error: --atom-contributions .: a folder"),
    ],
)
def test_one_line_and_nothing_written(words, said, models, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused(predict_command, models[0], folder, "--output", "t.csv", *words)
    assert said in line and line.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_models_and_folders_that_are_none(models, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("no model")
    other = saved(model(WORK_FUNCTION), tmp_path / "other.pt")
    output = ["--output", tmp_path / "t.csv"]
    for words, said in (
        ([models[0], tmp_path / "empty"], "empty: no structure files"),
        ([models[0], tmp_path / "none"], "none: no such file or folder"),
        ([models[0], tmp_path / "text.pt", folder], "text.pt: not a checkpoint"),
        ([models[0], other, folder], f"{other}: predicts work_function (eV), and {models[0]} work_function (eV), "),
        ([folder, models[0]], f"{folder}: "),
    ):
        line = refused(predict_command, *words, *output)
        assert said in line and line.count("\n") == 1
    assert not (tmp_path / "t.csv").exists()


def test_models_may_stand_on_either_side_of_flags(models, folder, tmp_path):
    ran = run(predict_command, models[0], "--output", tmp_path / "t.csv", models[1], folder)
    assert ran.status == 3 and "of 2 models" in ran.out
