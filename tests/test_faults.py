"""What the user may get wrong: one clear line that names file and row, exit status 2, nothing lost, no traceback."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import FCC, predict, read_rows, refused, root_folder, train, write_cif, write_rows

from cgcnn.cli import predict_command, train_command

QUICK = ["--epochs", 1, "--disable-cuda"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return root_folder(tmp_path_factory.mktemp("root") / "data")


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory) -> Path:
    """The output folder of a run on root_dir."""
    out = tmp_path_factory.mktemp("trained")
    train(root, out, "--epochs", 1)
    return out


@pytest.fixture
def folder(root, tmp_path) -> Path:
    """A copy of the data, to be spoilt."""
    return shutil.copytree(root, tmp_path / "data", ignore=shutil.ignore_patterns(".cgcnn_cache"))


@pytest.fixture
def refused_training(trained, tmp_path) -> Callable[..., str]:
    """main.py on bad input beside the files of an earlier run, which must all be there afterwards."""
    out = shutil.copytree(trained, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def refuse(folder: Path, *words: object) -> str:
        line = refused(train_command, folder, *QUICK, "--out-dir", out, *words)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        return line

    return refuse


def change(folder: Path, row: int, cells: list | None, name: str = "id_prop.csv") -> None:
    """Replace a row of a table, counted from 1 as an editor does, or leave it out."""
    rows = read_rows(folder / name)
    rows[row - 1 : row] = [] if cells is None else [cells]
    write_rows(folder / name, rows)


# id_prop.csv


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["Ni_fcc", "5.15"], "row 3: 2 columns, 3 expected"),
        (["Ni_fcc", "5.15", "0", "1"], "row 3: 4 columns, 3 expected"),
        (["Au_fcc", "5.15", "0"], "row 3: id 'Au_fcc' stands in row 2 already"),
        (["", "5.15", "0"], "row 3: no id"),
        (["Ni_fcc", "high", "0"], "row 3: work_function 'high' is not a finite number"),
        (["Ni_fcc", "5.15", "1,2"], "row 3: band_gap '1,2'"),
        (["Ni_fcc", "inf", "0"], "row 3: work_function 'inf'"),
    ],
)
def test_a_bad_row_is_named(cells, said, folder, refused_training):
    change(folder, 3, cells)
    line = refused_training(folder)
    assert f"id_prop.csv, {said}" in line
    assert line.count("\n") == 1


def test_all_bad_rows_are_named_at_once(folder, refused_training):
    for row in (3, 5, 8):
        change(folder, row, [f"x{row}", "?", "0"])
    (folder / "Au_fcc.cif").write_text("no crystal")
    lines = refused_training(folder).splitlines()
    assert [f"row {row}" in line for row, line in zip((3, 5, 8), lines, strict=False)] == [True] * 3
    named = [line.partition(": ")[2].partition(": ")[0].rpartition("/")[2] for line in lines[3:]]
    assert named == ["x3.cif", "x5.cif", "x8.cif", "Au_fcc.cif"]


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


def make_folder(folder: Path) -> None:
    (folder / "id_prop.csv").unlink()
    (folder / "id_prop.csv").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (write("id_prop.csv", b""), "empty"),
        (write("id_prop.csv", b"\n , \n"), "empty"),
        (write("id_prop.csv", b"cif_id,gap\n"), "no rows below the header"),
        (write("id_prop.csv", b"Au_fcc\nNi_fcc\n"), "row 1: an id and at least one label"),
        (write("id_prop.csv", b"Au_fcc,\xff\xfe\n"), "UTF-8"),
        (write("id_prop.csv", b"cif_id,gap,gap\nAu_fcc,1,2\n"), "row 1"),
        (lambda folder: (folder / "id_prop.csv").unlink(), "no such file"),
        (make_folder, "directory"),
    ],
    ids=["empty", "blank", "header alone", "ids alone", "bytes", "names twice", "missing", "folder"],
)
def test_a_table_that_is_none(spoil, said, folder, refused_training):
    spoil(folder)
    line = refused_training(folder)
    assert f"{folder / 'id_prop.csv'}" in line
    assert said in line
    assert line.count("\n") == 1


def test_a_folder_that_is_none(tmp_path, refused_training):
    assert f"{tmp_path / 'none'}: no such folder" in refused_training(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'}: neither a data folder nor a data file" in refused_training(tmp_path / "file")


def test_a_task_without_labels(folder, refused_training):
    rows = read_rows(folder / "id_prop.csv")
    write_rows(folder / "id_prop.csv", [rows[0], *([row[0], row[1], ""] for row in rows[1:])])
    assert "id_prop.csv: no label for band_gap in any row" in refused_training(folder)


def test_a_task_without_labels_in_the_training_part(folder, tmp_path, refused_training):
    ids = [row[0] for row in read_rows(folder / "id_prop.csv")[1:]]
    write_rows(
        folder / "id_prop.csv", [["cif_id", "a", "b"], *([i, 1, 2 if k < 4 else ""] for k, i in enumerate(ids))]
    )
    parts = ["test", "test", "val", "val", *["train"] * 12]
    write_rows(tmp_path / "split.csv", [["cif_id", "split"], *zip(ids, parts, strict=True)])
    line = refused_training(folder, "--split-file", tmp_path / "split.csv")
    assert "no crystal of the training part has a label for b" in line


# crystals


def test_every_bad_crystal_is_reported_at_once(folder, refused_training):
    change(folder, 2, ["nowhere", 1, 2])
    (folder / "Ni_fcc.cif").write_text("")
    (folder / "Sr_fcc.cif").write_text("data_x\n_cell_length_a 3\n")
    write_cif(folder / "Cs_bcc.cif", [])
    write_cif(folder / "Mo_bcc.cif", [("Xx", place) for place in FCC])
    (folder / "V_bcc.cif").write_bytes(bytes(range(256)))
    text = refused_training(folder)
    lines = text.splitlines()
    assert "6 of 16 crystals cannot be used" in lines[0]
    for name in ("nowhere", "Ni_fcc", "Sr_fcc", "Cs_bcc", "Mo_bcc", "V_bcc"):
        (line,) = [line for line in lines if str(folder / f"{name}.cif") in line]
        assert len(line) < 400
    assert "unknown element" in text.partition("Mo_bcc.cif")[2].splitlines()[0] or "Xx" in text
    assert "--on-bad-structure skip" in lines[0]


def test_a_folder_where_no_crystal_can_be_used(folder, refused_training):
    for path in folder.glob("*.cif"):
        path.unlink()
    assert "none of the 16 crystals" in refused_training(folder, "--on-bad-structure", "skip")


def test_two_files_of_one_crystal(folder, refused_training):
    shutil.copy(folder / "Ni_fcc.cif", folder / "Ni_fcc.CIF")
    line = refused_training(folder)
    assert "two files for Ni_fcc" in line
    assert line.count("\n") == 1


def test_an_element_without_a_vector(folder, refused_training):
    (folder / "atom_init.json").write_text('{"28": [0, 1], "79": [1, 0]}')
    line = refused_training(folder)
    assert "Sr_fcc: no element vector for atomic number 38" in line
    (folder / "atom_init.json").write_text("[1, 2")
    assert str(folder / "atom_init.json") in refused_training(folder)


# other tables


def test_conditional_loss_needs_its_table(folder, refused_training):
    write_rows(folder / "all.csv", [["cif_id", "category"], ["Au_fcc", "2"]])
    assert "all.csv: no category 0 or 1" in refused_training(folder, "--conditional-loss")
    (folder / "all.csv").unlink()
    assert f"{folder / 'all.csv'}: no such file" in refused_training(folder, "--conditional-loss")


def test_conditional_loss_needs_a_gap(folder, refused_training):
    assert "band gap" in refused_training(folder, "--conditional-loss", "--targets", "work_function")


def test_a_target_may_not_have_the_name_of_the_category(folder, refused_training):
    change(folder, 1, ["cif_id", "material_type", "band_gap"])
    assert "material_type" in refused_training(folder, "--conditional-loss")


def test_a_bad_auxiliary_table_names_its_row(folder, refused_training):
    rows = read_rows(folder / "ax.csv")
    change(folder, 4, [*rows[3][:-1], "much"], "ax.csv")
    assert "ax.csv, row 4: 'much'" in refused_training(folder, "--auxiliary-tasks")
    write_rows(folder / "ax.csv", [["cif_id", "x"], ["Au_fcc", 1]])
    assert "ax.csv, row 2: 2 columns" in refused_training(folder, "--auxiliary-tasks")


# flags that the data contradict


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--train-ratio", 0.5, "--train-size", 3], "exclude each other"),
        (["--val-ratio", 0], "0 validation"),
        (["--val-size", 8, "--test-size", 8], "0 training"),
        (["--train-size", 15, "--val-size", 3], "but there are 16"),
        (["--folds", 1], "--folds 1"),
        (["--folds", 17], "--folds 17"),
        (["--folds", 2, "--val-ratio", 0], "val part of the split is empty"),
        (["--transforms", "band_gap=log"], "positive"),
        (["--transforms", "band_gap=square"], "none, log, scaling"),
        (["--transforms", "gap=log"], "no task 'gap'"),
        (["--task-weights", "gap=1"], "there are work_function, band_gap"),
        (["--task-weights", "work_function=0", "band_gap=0"], "weight 0"),
        (["--targets", "gap"], "no column 'gap'"),
        (["--task", "classification"], "is not a whole number from 0 to 999"),
        (["--task", "multi", "--targets", "band_gap"], "class"),
        (["--run-name", "a/b"], "--run-name"),
        (["--preset", "none"], "--preset"),
        (["--batch-size", 1], "one atom"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_flags_that_do_not_fit(words, said, root, trained, tmp_path):
    out = shutil.copytree(trained, tmp_path / "out")
    line = refused(train_command, root, *QUICK, "--out-dir", out, *words)
    assert said in line
    assert line.count("\n") == 1
    # a batch of one atom is met in training, after the earlier files were moved
    kept = out if "one atom" not in line else next((out / "result" / "previous").iterdir())
    assert (kept / "model_best.pth.tar").read_bytes() == (trained / "model_best.pth.tar").read_bytes()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "no such file"),
        ([], ""),
        ([["id", "part"], ["Au_fcc", "train"]], "row 1: the header"),
        ([["cif_id", "split"], ["Au_fcc", "training"]], "row 2: 'training' is not train, val or test"),
        ([["cif_id", "split"], ["Au_fcc"]], "row 2"),
        ([["cif_id", "split"], ["Au_fcc", "train"], ["Au_fcc", "val"]], "row 3: id 'Au_fcc' stands twice"),
        ([["cif_id", "split"], ["Au_fcc", "train"], ["other", "val"]], "the val part of the split is empty"),
        ([["cif_id", "split"], ["Au_fcc", "val"]], "the train part of the split is empty"),
    ],
    ids=["missing", "empty", "header", "part", "ragged", "twice", "no val", "no train"],
)
def test_faults_of_a_split_file(rows, said, root, tmp_path, refused_training):
    path = tmp_path / "split.csv"
    if rows is not None:
        write_rows(path, rows)
    line = refused_training(root, "--split-file", path)
    assert str(path) in line
    assert said.lower() in line.lower()
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"epochs = [1", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        (b"epoch_count = 3", "--epoch-count"),
        (b"epochs = 'x'", "--epochs"),
        (b"normalize = 'no'", "--normalize"),
        (b"train_ratio = 0.5\ntrain_size = 3", "exclude each other"),
        (b"[model]\nname = 'cgcnn'\nlayers = 3", "--model"),
    ],
)
def test_faults_of_a_configuration_file(text, said, root, tmp_path, refused_training):
    path = tmp_path / "flags.toml"
    path.write_bytes(text)
    line = refused_training(root, "--config", path)
    assert said in line
    assert str(path) in line or "exclude" in line
    assert line.count("\n") == 1


def test_a_configuration_file_that_is_none(root, tmp_path, refused_training):
    assert str(tmp_path / "no.toml") in refused_training(root, "--config", tmp_path / "no.toml")
    assert str(tmp_path) in refused_training(root, "--config", tmp_path)


# checkpoints


class Malicious:
    """A pickle that makes a file when it is loaded by a reader that trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def malicious(path: Path, whole: bytes) -> None:
    torch.save({"state_dict": {}, "x": Malicious(path.parent / "executed")}, path)


def malicious_legacy(path: Path, whole: bytes) -> None:
    content = {"state_dict": {}, "x": Malicious(path.parent / "executed")}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def malicious_pickle(path: Path, whole: bytes) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Malicious(path.parent / "executed")}))


def archive(path: Path, whole: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "b")


FAULTS = {
    "missing": lambda path, whole: None,
    "folder": lambda path, whole: path.mkdir(),
    "empty": lambda path, whole: path.write_bytes(b""),
    "text": lambda path, whole: path.write_text("cif_id,target\nx,1\n"),
    "zip": archive,
    "cut to half": lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    "cut short": lambda path, whole: path.write_bytes(whole[:2000]),
    "last bytes lost": lambda path, whole: path.write_bytes(whole[:-100]),
    "a list": lambda path, whole: torch.save([1, 2], path),
    "no network": lambda path, whole: torch.save({"state_dict": {}}, path),
    "other types": lambda path, whole: torch.save({"state_dict": 5, "training": 3, "args": [1]}, path),
    "of later": lambda path, whole: torch.save(
        {"state_dict": {}, "format": "cgcnn", "training": {}, "args": {"foo": 2}}, path
    ),
    "malicious": malicious,
    "malicious, old format": malicious_legacy,
    "malicious pickle": malicious_pickle,
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_checkpoint(name, root, trained, tmp_path, refused_training):
    path = tmp_path / "model.pt"
    FAULTS[name](path, (trained / "checkpoint.pth.tar").read_bytes())
    output = tmp_path / "p.csv"
    output.write_text("mine\n")
    for line in (
        refused_training(root, "--resume", path),
        refused(predict_command, path, root, "--output", output),
    ):
        assert line.startswith(f"error: {path}: ")
        assert line.count("\n") == 1
        assert len(line) < 300
    assert output.read_text() == "mine\n"
    assert not (tmp_path / "executed").exists()
    if "malicious" in name:
        assert "pickle" in line or "not a checkpoint" in line


# where the files go


def test_an_output_folder_that_cannot_be(root, tmp_path):
    (tmp_path / "file").write_text("mine\n")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        line = refused(train_command, root, *QUICK, "--out-dir", out)
        assert str(out) in line
        assert line.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine\n"


def test_a_prediction_that_cannot_be_written(root, trained, tmp_path):
    (tmp_path / "file").write_text("mine\n")
    (tmp_path / "folder").mkdir()
    for output in (tmp_path / "folder", tmp_path / "file" / "p.csv", Path("/proc/none/p.csv")):
        line = refused(predict_command, trained / "model_best.pth.tar", root, "--output", output)
        assert str(output) in line
    assert (tmp_path / "file").read_text() == "mine\n"
    assert (tmp_path / "folder").is_dir()


# predict.py


@pytest.mark.parametrize("content", [b"", b"a,b\n1\n", b"Au_fcc,x\nNi_fcc,y\n"], ids=["empty", "ragged", "words"])
def test_prediction_beside_a_bad_table(content, folder, trained, tmp_path):
    (folder / "id_prop.csv").write_bytes(content)
    line = refused(predict_command, trained / "model_best.pth.tar", folder, "--output", tmp_path / "p.csv")
    assert str(folder / "id_prop.csv") in line
    assert not (tmp_path / "p.csv").exists()


def test_prediction_of_nothing(trained, tmp_path):
    model = trained / "model_best.pth.tar"
    assert "no such file or folder" in refused(predict_command, model, tmp_path / "none")
    (tmp_path / "bare").mkdir()
    assert "no structure files" in refused(predict_command, model, tmp_path / "bare")


def test_one_file_that_is_no_crystal(trained, tmp_path):
    (tmp_path / "a.cif").write_text("nothing")
    (tmp_path / "b.xyz").write_text("nothing")
    for name in ("a.cif", "b.xyz"):
        ran = predict(trained / "model_best.pth.tar", tmp_path / name, tmp_path / "p.csv")
        assert ran.status == 3
        assert read_rows(tmp_path / "p_failed.csv")[1][0] == name[0]


def test_python_prediction_names_what_cannot_be_used(trained, tmp_path):
    import cgcnn
    from cgcnn.labels import DataError

    model = cgcnn.load_model(trained / "model_best.pth.tar")
    (tmp_path / "a.cif").write_text("nothing")
    with pytest.raises(DataError, match="mine"):
        model.predict([tmp_path / "a.cif"], ["mine"])
    with pytest.raises(DataError, match="1 structures, but 2 ids"):
        model.predict([tmp_path / "a.cif"], ["a", "b"])


# parts of a split without labels


@pytest.fixture
def split_of(folder, tmp_path) -> Callable[..., Path]:
    """A function that gives crystal k of `folder` the labels labels(part, k), and returns the split: 2, 2 and 12."""

    def write(names: list[str], labels: Callable[[str, int], list]) -> Path:
        ids = [row[0] for row in read_rows(folder / "id_prop.csv")[1:]]
        parts = ["test", "test", "val", "val", *["train"] * 12]
        rows = [[i, *labels(part, k)] for k, (i, part) in enumerate(zip(ids, parts, strict=True))]
        write_rows(folder / "id_prop.csv", [["cif_id", *names], *rows])
        write_rows(tmp_path / "split.csv", [["cif_id", "split"], *zip(ids, parts, strict=True)])
        return tmp_path / "split.csv"

    return write


@pytest.mark.parametrize(
    ("in_val", "words", "counted"),
    [
        (["", ""], [], "a, b"),
        (["", ""], ["--targets", "b:class"], "b"),
        (["", 1], ["--task-weights", "b=0"], "a"),
    ],
)
def test_no_label_in_the_validation_part(in_val, words, counted, folder, split_of, refused_training):
    path = split_of(["a", "b"], lambda part, k: in_val if part == "val" else [k, k % 2])
    line = refused_training(folder, "--split-file", path, *words)
    assert line == f"error: no crystal of the validation part has a label for any target ({counted})\n"


def test_a_label_of_one_target_is_enough_for_validation(folder, split_of, tmp_path):
    path = split_of(["a", "b"], lambda part, k: ["", 1] if part == "val" else [k, k % 2])
    train(folder, tmp_path / "out", "--epochs", 1, "--split-file", path)


@pytest.mark.parametrize("words", [[], ["--targets", "a", "b:class"], ["--targets", "b:class"]], ids=str)
def test_no_label_of_a_target_of_any_kind_in_the_training_part(words, folder, split_of, refused_training):
    path = split_of(["a", "b"], lambda part, k: [k, "" if part == "train" else k % 2])
    line = refused_training(folder, "--split-file", path, *words)
    assert line == "error: no crystal of the training part has a label for b\n"


def test_no_category_in_the_training_part(folder, split_of, refused_training):
    path = split_of(["work_function", "band_gap"], lambda part, k: [k, k % 2])
    rows = read_rows(path)[1:]
    write_rows(folder / "all.csv", [["cif_id", "type"], *([i, 1 if part == "val" else ""] for i, part in rows)])
    line = refused_training(folder, "--split-file", path, "--conditional-loss")
    assert line == "error: --conditional-loss: no crystal of the training part has a category 0 or 1\n"


def test_a_conditional_loss_needs_a_column_named_gap(folder, split_of, refused_training):
    split_of(["work_function", "bulk_modulus"], lambda part, k: [k, k % 2])
    line = refused_training(folder, "--conditional-loss")
    assert line.endswith("with gap in its name; there are work_function, bulk_modulus\n")


def test_a_slip_in_the_first_row_loses_no_crystal(folder, refused_training):
    rows = read_rows(folder / "id_prop.csv")[1:]
    write_rows(folder / "id_prop.csv", [[rows[0][0], "4.8x", "O"], *rows[1:]])
    lines = refused_training(folder).splitlines()
    assert ["id_prop.csv, row 1:" in line for line in lines] == [True, True]


def test_a_table_of_tabs(folder, refused_training):
    rows = read_rows(folder / "id_prop.csv")
    (folder / "id_prop.csv").write_text("".join("\t".join(row) + "\n" for row in rows))
    line = refused_training(folder)
    assert f"{folder / 'id_prop.csv'}, row 1: " in line
    assert "separated by tabs? commas are expected" in line


# names of files, and what is none


def test_a_folder_whose_name_is_not_utf8_is_data_like_another(folder, tmp_path):
    odd = folder.rename(tmp_path / os.fsdecode(b"odd\xe4"))
    out = tmp_path / "out"
    train(odd, out, "--epochs", 1)
    model = out / "model_best.pth.tar"
    assert predict(model, odd, tmp_path / "p.csv").status == 0
    single = (odd / "Ni_fcc.cif").rename(odd / os.fsdecode(b"Ni\xe4.cif"))
    assert predict(model, single, tmp_path / "one.csv").status == 0
    assert read_rows(tmp_path / "one.csv")[1][0] == r"Ni\udce4"


def test_every_bad_file_beside_good_ones_is_named(folder, trained, tmp_path):
    os.mkfifo(folder / "fifo.cif")
    (folder / "loop.cif").symlink_to("loop.cif")
    (folder / "zero.cif").symlink_to("/dev/zero")
    (folder / os.fsdecode(b"\xff\x1b.cif")).write_text("nothing")
    ran = predict(trained / "model_best.pth.tar", folder, tmp_path / "p.csv")
    assert ran.status == 3
    assert len(read_rows(tmp_path / "p.csv")) == 17
    failed = dict(read_rows(tmp_path / "p_failed.csv")[1:])
    assert failed.keys() == {"fifo", "loop", "zero", r"\udcff\x1b"}
    assert "pipe, socket or device" in failed["fifo"] and "pipe" in failed["zero"] and "links" in failed["loop"]


def test_a_fifo_in_place_of_a_table_or_model_is_refused(folder, trained, tmp_path, refused_training):
    os.mkfifo(tmp_path / "fifo.csv")
    for words in (["--split-file", tmp_path / "fifo.csv"], ["--config", tmp_path / "fifo.csv"]):
        assert "fifo.csv: neither a file nor a folder" in refused_training(folder, *words)
    assert "fifo.csv: neither a file" in refused(predict_command, tmp_path / "fifo.csv", folder)


@pytest.mark.parametrize("name", ["flags.toml", "flags.json"])
def test_a_configuration_file_of_deep_brackets(name, root, tmp_path, refused_training):
    (tmp_path / name).write_text(("epochs = " if name == "flags.toml" else "") + "[" * 100_000)
    line = refused_training(root, "--config", tmp_path / name)
    assert f"{name}: not a " in line and "too many brackets inside each other" in line
    (tmp_path / name).write_text(("epochs = " if name == "flags.toml" else "") + "9" * 5000)
    assert f"{name}: not a " in (line := refused_training(root, "--config", tmp_path / name)) and "sys." not in line
