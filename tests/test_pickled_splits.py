"""Folders of pickled train, val and test parts: their split, labels and faults, from the command line."""

import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import fcc
from helpers import predict, read_rows, refused, result_file, run, table, train, write_rows
from pymatgen.core import Lattice, Structure

from cgcnn.arguments import parse_training, read_config
from cgcnn.cli import predict_command, train_command
from cgcnn.data_source import open_source
from cgcnn.labels import DataError
from cgcnn.structures import read_crystal

SMALL = ("--model", "cgcnn", "--epochs", 2, "--atom-fea-len", 8, "--h-fea-len", 8, "--threads", 1)
SALT = [[0, 0, 0], [0.5, 0.5, 0.5]]


def record(k: int, **values) -> dict:
    """A strained salt, every third of it disordered, with its volume and a gap."""
    lattice = Lattice(fcc(5.2 + k / 20))
    sodium = {"Na": 0.5, "K": 0.5} if k % 3 == 0 else "Na+"
    structure = Structure(lattice, [sodium, "Cl"], SALT)
    given = {
        "structure": structure,
        "material_id": f"m{k:02}",
        "energy": lattice.volume,
        "bandgap": np.float64(k / 4),
    }
    return {key: value for key, value in (given | values).items() if value != "absent"}


def parts_of(count: int = 20) -> dict[str, list[dict]]:
    records = [record(k) for k in range(count)]
    return {"train": records[: count - 8], "val": records[count - 8 : count - 4], "test": records[count - 4 :]}


def write(folder: Path, parts: dict) -> Path:
    for part, records in parts.items():
        path = folder / part / "raw" / "raw_data.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(records))
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "set", parts_of())


def test_the_folders_are_the_split_and_bandgap_is_band_gap(data, tmp_path):
    out = tmp_path / "out"
    ran = train(data, out, *SMALL, "--targets", "energy", "bandgap")
    assert "20 crystals" in ran.out and "12 train, 4 validation, 4 test" in ran.out
    split = dict(read_rows(result_file(out, "split1_ids.csv"))[1:])
    assert split == {f"m{k:02}": "train" if k < 12 else "val" if k < 16 else "test" for k in range(20)}
    rows = table(out / "test_results.csv").set_index("cif_id")
    assert list(rows.columns) == ["energy_target", "energy_pred", "bandgap_target", "bandgap_pred"]
    assert rows.bandgap_target.to_dict() == pytest.approx({f"m{k}": k / 4 for k in range(16, 20)})


def test_the_same_crystals_and_labels_as_a_folder_of_structure_files(data, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    rows = []
    for part, records in parts_of().items():
        for each in records:
            name = each["material_id"]
            (folder / f"{name}.json").write_text(json.dumps(each["structure"].as_dict()))
            rows.append((name, repr(each["energy"]), repr(float(each["bandgap"])), part))
    write_rows(folder / "id_prop.csv", [("cif_id", "energy", "band_gap"), *(row[:3] for row in rows)])
    write_rows(tmp_path / "split.csv", [("cif_id", "split"), *((row[0], row[3]) for row in rows)])
    train(data, tmp_path / "one", *SMALL)
    train(folder, tmp_path / "other", *SMALL, "--split-file", tmp_path / "split.csv")
    first, second = ((tmp_path / name / "test_results.csv").read_bytes() for name in ("one", "other"))
    assert first == second


def test_missing_labels_are_masked_and_the_crystal_kept(tmp_path):
    parts = parts_of()
    parts["train"][0]["energy"] = None
    parts["train"][1]["energy"] = math.nan
    parts["train"][2] = record(2, energy="absent")
    parts["train"][3]["energy"] = "na"
    for each in parts["test"]:
        del each["energy"]
    data = write(tmp_path / "set", parts)
    labels = open_source(data).labels()
    energy = dict(zip(labels.ids, labels.values[:, labels.names.index("energy")], strict=True))
    missing = {"m00", "m01", "m02", "m03", "m16", "m17", "m18", "m19"}
    assert {i for i, value in energy.items() if math.isnan(value)} == missing
    ran = train(data, tmp_path / "out", *SMALL, "--targets", "energy", "band_gap")
    assert "12 train, 4 validation, 4 test" in ran.out


def test_other_spellings_of_a_record(tmp_path):
    records = [
        {"final_structure": record(0)["structure"], "file_id": 7, "y": np.float32(1.5)},
        {"structure": record(1)["structure"], "material_id": "mp-1", "id": "row", "y": np.array([2.5])},
        {"structure": record(2)["structure"], "id": "c", "y": np.array(3.5), "tensor": np.eye(3), "tags": ["a"]},
        {"structure": record(3)["structure"], "y": True, "band_gap": 1.0, "about": {"nested": 1}},
        {"structure": record(4)["structure"].as_dict(), "y": 5, "bandgap": 2.0},
        (record(5)["structure"]),
    ]
    source = open_source(write(tmp_path / "set", {"train": records}))
    labels = source.labels()
    assert labels.ids == ["7", "mp-1", "c", "train_3", "train_4", "train_5"] and labels.names == ["y", "band_gap"]
    assert labels.values[:, 0].tolist()[:5] == [1.5, 2.5, 3.5, 1, 5] and np.isnan(labels.values[5, 0])
    assert labels.values[3:5, 1].tolist() == [1, 2]
    assert not source.faults and len(source.files) == 6


def test_disordered_sites_are_kept(data):
    crystal = read_crystal(open_source(data).files["m00"])
    assert crystal.occupancies.tolist() == [0.5, 0.5, 1.0] and sorted(crystal.numbers.tolist()) == [11, 17, 19]


def test_an_id_in_two_parts_is_told_with_file_and_entry(tmp_path):
    parts = parts_of()
    parts["test"][1] = record(2)
    data = write(tmp_path / "set", parts)
    told = refused(train_command, data, *SMALL)
    val = f"{data}/test/raw/raw_data.pkl, entry 2 (m02)"
    assert f"{val}: its id stands in {data}/train/raw/raw_data.pkl, entry 3 (m02), too" in told


def test_faults_name_the_file_and_the_entry(tmp_path):
    parts = parts_of()
    parts["val"][1]["structure"] = None
    parts["train"][0]["energy"] = "high"
    parts["train"][4]["structure"] = Structure(Lattice.cubic(4), ["X"], [[0, 0, 0]])
    data = write(tmp_path / "set", parts)
    told = refused(train_command, data, *SMALL)
    assert f"{data}/val/raw/raw_data.pkl, entry 2 (m13): no structure" in told
    assert f"{data}/train/raw/raw_data.pkl, entry 1 (m00): energy 'high' is not a finite number" in told
    assert f"{data}/train/raw/raw_data.pkl, entry 5 (m04): " in told


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(3), "a list of dicts with a 'structure' is expected"),
        (pickle.dumps([]), "no entries"),
        (b"\x80", "not a pickle of crystals"),
        (pickle.dumps([{"structure": os.system}]), "refused: it names"),
    ],
)
def test_a_pickle_at_fault_is_one_line(tmp_path, content, reason):
    data = write(tmp_path / "set", parts_of())
    path = data / "train" / "raw" / "raw_data.pkl"
    path.write_bytes(content)
    told = refused(train_command, data, *SMALL)
    assert told.startswith(f"error: {path}: {reason}") and told.count("\n") == 1


def test_a_changed_entry_rebuilds_that_crystal_only(data):
    before = {i: os.stat(file).st_mtime_ns for i, file in open_source(data).files.items()}
    parts = parts_of()
    parts["train"][3] = record(3, structure=record(7)["structure"])
    write(data, parts)
    os.utime(data / "train" / "raw" / "raw_data.pkl")
    after = {i: os.stat(file).st_mtime_ns for i, file in open_source(data).files.items()}
    assert {i for i in after if after[i] != before[i]} == {"m03"}


def test_a_split_of_the_user_wins_and_a_size_is_refused(data, tmp_path):
    told = refused(train_command, data, *SMALL, "--val-ratio", 0.1, "--group-by", "formula")
    assert "leave out --val-ratio, --group-by, or divide it anew" in told
    ran = train(data, tmp_path / "folds", *SMALL, "--folds", 2)
    assert f"{data}: divided anew by --folds, not by its own folders" in ran.out and "2 splits" in ran.out
    write_rows(tmp_path / "s.csv", [("cif_id", "split"), ("m19", "train"), ("m18", "val"), ("m00", "test")])
    ran = train(data, tmp_path / "file", *SMALL, "--split-file", tmp_path / "s.csv", "--targets", "energy")
    assert "divided anew by --split-file" in ran.out and "1 train, 1 validation, 1 test" in ran.out


def test_without_validation_its_part_is_trained_on(data, tmp_path):
    ran = train(data, tmp_path / "out", *SMALL, "--no-is-validate")
    assert "its 4 validation crystals are trained on" in ran.out and "16 train, 0 validation, 4 test" in ran.out


def test_a_part_that_is_not_there(data, tmp_path):
    path = data / "val" / "raw" / "raw_data.pkl"
    path.unlink()
    assert f"{path}: no such file" in refused(train_command, data, *SMALL)
    train(data, tmp_path / "out", *SMALL, "--no-is-validate")


def test_predict_takes_the_folder_and_a_part_with_labels_beside(data, tmp_path):
    train(data, tmp_path / "out", *SMALL, "--targets", "bandgap")
    model = tmp_path / "out" / "model_best.pth.tar"
    assert predict(model, data, tmp_path / "all.csv").status == 0
    rows = table(tmp_path / "all.csv").set_index("cif_id")
    assert len(rows) == 20 and rows.bandgap_target["m19"] == pytest.approx(19 / 4)
    assert predict(model, data / "test" / "raw" / "raw_data.pkl", tmp_path / "test.csv").status == 0
    part = table(tmp_path / "test.csv").set_index("cif_id")
    assert list(part.index) == ["m16", "m17", "m18", "m19"]
    assert part.bandgap_pred.to_numpy() == pytest.approx(rows.bandgap_pred[part.index].to_numpy(), rel=1e-5)


def test_predict_refuses_an_id_in_two_parts(data, tmp_path):
    train(data, tmp_path / "out", *SMALL, "--targets", "energy")
    write(data, {"val": [record(0)]})
    model = tmp_path / "out" / "model_best.pth.tar"
    assert "its id stands in" in refused(predict_command, model, data, "--output", tmp_path / "a.csv")


def test_the_run_is_repeated_tested_again_and_continued(data, tmp_path):
    train(data, tmp_path / "out", *SMALL)
    config = result_file(tmp_path / "out", "config.toml")
    train(data, tmp_path / "again", "--config", config)
    first, second = ((tmp_path / name / "test_results.csv").read_bytes() for name in ("out", "again"))
    assert first == second
    ran = train(data, tmp_path / "out", "--evaluate", tmp_path / "out" / "model_best.pth.tar")
    assert "on 4 test crystals, 12 train, 4 validation" in ran.out
    train(data, tmp_path / "out", "--resume", tmp_path / "out" / "checkpoint.pth.tar", "--epochs", 3)


def test_target_set_names_the_folder_and_a_published_one_sets_flags(tmp_path):
    records = {part: [each | {"shear": each["energy"]} for each in some] for part, some in parts_of().items()}
    write(tmp_path / "data" / "jarvis__megnet-shear", records)
    flags = ("--target_set", "jarvis__megnet-shear")
    words = (*flags, "--save_path", tmp_path / "out", "--experiment_name", "demo", *SMALL)
    ran = run(train_command, tmp_path / "data", *words)
    assert ran.status == 0, ran.err
    assert (
        "--target-set jarvis__megnet-shear: 12 train, 4 val, 4 test; published with 4664 train, 392 val, 393 test"
        in (ran.out)
    )
    assert "shear (log10(GPa))" in ran.out and "energy" not in ran.out
    config = read_config(result_file(tmp_path / "out", "demo_config.toml"))
    assert (config["epochs"], config["batch_size"], config["targets"]) == (2, 128, ["shear"])
    inside = tmp_path / "data" / "jarvis__megnet-shear"
    for folder in (tmp_path / "data", inside):
        args = parse_training([str(folder), *flags])
        assert args.data_options[0] == str(inside) and (args.epochs, args.batch_size) == (500, 128)


def test_what_the_user_gives_wins_over_the_set(tmp_path):
    write(tmp_path / "jarvis__megnet", {"train": [record(0)]})
    words = [str(tmp_path), "--target-set", "jarvis__megnet"]
    args = parse_training([*words, "--targets", "bandgap", "--units", "bandgap=meV", "--batch-size", "7"])
    assert args.units == {"bandgap": "meV"} and (args.epochs, args.batch_size) == (500, 7)
    assert parse_training([*words, "--preset", "alloys"]).epochs == 500
    assert parse_training(words).units == {"e_form": "eV/atom", "bandgap": "eV"}


def test_a_set_that_is_not_there_is_told_with_its_paths(tmp_path):
    told = refused(train_command, tmp_path, "--target-set", "dft_3d_2021-ehull")
    assert str(tmp_path / "dft_3d_2021-ehull" / "train" / "raw" / "raw_data.pkl") in told and told.count("\n") == 1


def test_a_json_file_of_flags(tmp_path):
    path = tmp_path / "flags.json"
    path.write_text(
        json.dumps({"n_epochs": 7, "batch_size": 9, "lr": 1e-3, "targets": ["a", "b"], "is_validate": True})
    )
    for words in (["--config", path], ["-p", path], ["--param", path]):
        args = parse_training([str(tmp_path), *map(str, words)])
        assert (args.epochs, args.batch_size, args.lr, args.targets) == (7, 9, 1e-3, ["a", "b"])
    assert parse_training([str(tmp_path), "-p", "5"]).print_freq == 5
    path.write_text('{"n_epochs": 7, "no_such": 1}')
    with pytest.raises(DataError, match=r"flags\.json: .*--no-such"):
        parse_training([str(tmp_path), "--config", str(path)])
    for text in ("{", "[1]"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"flags\.json: "):
            parse_training([str(tmp_path), "--config", str(path)])


def test_a_setting_of_the_published_file_without_counterpart_is_told(tmp_path):
    path = tmp_path / "default.json"
    published = {"encoder_name": "latticeformer", "n_epochs": 3, "clip_norm": 1.0, "clip_grad": 0.0, "ddp": False}
    path.write_text(json.dumps(published | {"targets": "bandgap", "target_set": None, "lattice_range": 2}))
    args = parse_training([str(tmp_path), "-p", str(path)], strict=False)
    assert (args.model, args.epochs, args.clip_grad, args.targets) == ("crystalformer", 3, 1.0, ["bandgap"])
    path.write_text(json.dumps(published | {"lattice_range": 3}))
    with pytest.raises(DataError, match="lattice_range 3 has no counterpart here, only 2"):
        parse_training([str(tmp_path), "-p", str(path)])
