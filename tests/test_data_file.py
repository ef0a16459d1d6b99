"""A JSON file of crystals and labels in place of a data folder: the same results, and every fault told by entry."""

import gzip
import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import cif_text, fcc, make_crystal, random_crystal
from helpers import finished, predict, read_rows, refused, result_file, run, script, table, train, write_rows

from cgcnn import build, data_file, files
from cgcnn.cli import predict_command, sweep_command, train_command
from cgcnn.data_source import open_source
from cgcnn.labels import DataError
from cgcnn.structures import read_crystal

SMALL = ("--epochs", 2, "--atom-fea-len", 8, "--h-fea-len", 8, "--threads", 1)
LONG_AGO = 1_600_000_000


def salt(edge: float):
    return make_crystal(fcc(edge), ["Na", "Cl"], [[0] * 3, [0.5] * 3])


def entries_of(crystals: dict) -> list[dict]:
    """An entry a crystal, with its volume as the label `energy`."""
    return [
        {"id": i, "structure": crystal.to_structure().as_dict(), "energy": abs(np.linalg.det(crystal.lattice))}
        for i, crystal in crystals.items()
    ]


SALTS = {f"c{k:03}": salt(5.2 + k / 20) for k in range(16)}
ENTRIES = json.dumps(entries_of(SALTS))


@pytest.fixture
def entries() -> list[dict]:
    return json.loads(ENTRIES)


@pytest.fixture
def write(tmp_path):
    """A function that writes entries, or a text, as a file of long ago, and returns it."""

    def write_file(content, name: str = "data.json", *, mtime: float = LONG_AGO) -> Path:
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        os.utime(path, (mtime, mtime))
        return path

    return write_file


def unpacked(path: Path) -> Path:
    return path.with_name(f"{path.name}.cgcnn_cache") / "crystals"


def stamps(path: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the structure files, which change where one is written."""
    found = {file.name: file.stat() for file in unpacked(path).glob("c*.json")}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def labels_of(path: Path) -> dict[str, list[float]]:
    source = open_source(path)
    assert not source.faults
    found = source.labels()
    return {name: column.tolist() for name, column in zip(found.names, found.values.T, strict=True)}


# --- the same as a folder ---------------------------------------------------------------------------------


def test_a_file_gives_what_its_folder_gives(data_folder, write, entries, tmp_path):
    folder = data_folder("cif_id,energy\n" + "".join(f"{e['id']},{e['energy']!r}\n" for e in entries), crystals=SALTS)
    for entry in entries:
        folder.joinpath(f"{entry['id']}.cif").unlink()
        folder.joinpath(f"{entry['id']}.json").write_text(json.dumps(entry["structure"]))
    out = [tmp_path / "one", tmp_path / "other"]
    for place, data in zip(out, (folder, write(entries)), strict=True):
        train(data, place, *SMALL)
    one, other = (read_rows(place / "test_results.csv") for place in out)
    assert one == other and len(one) > 1
    splits = [read_rows(result_file(place, "split1_ids.csv")) for place in out]
    assert splits[0] == splits[1]


@pytest.mark.parametrize(
    "kind", ["list", "other id", "object", "lines", "gzip", "lines in gzip", "cif", "jarvis", "text", "targets"]
)
def test_spellings_of_one_data_set(write, entries, kind):
    name = {"lines": "d.jsonl", "gzip": "d.json.gz", "lines in gzip": "d.jsonl.gz"}.get(kind, "d.json")
    content = entries
    for entry, crystal in zip(entries, SALTS.values(), strict=True):
        structure = crystal.to_structure()
        if kind == "other id":
            entry["material_id"] = entry.pop("id")
        elif kind == "cif":
            entry |= {"structure": None, "cif": cif_text(crystal)}
        elif kind == "text":
            entry["structure"] = json.dumps(entry["structure"])
        elif kind == "jarvis":
            del entry["structure"]
            atoms = {"lattice_mat": structure.lattice.matrix.tolist(), "elements": ["Na", "Cl"]}
            atoms |= {"coords": structure.cart_coords.tolist(), "cartesian": True}
            entry |= {"jid": entry.pop("id"), "atoms": atoms}
        elif kind == "targets":
            entry |= {"targets": {"energy": entry.pop("energy")}, "nsites": 2}
    if kind == "object":
        content = {entry.pop("id"): entry for entry in entries}
    if kind.startswith("lines"):
        content = "\n".join(map(json.dumps, entries))
    source = open_source(write(content, name))
    assert list(source.files) == list(SALTS) and not source.faults
    assert labels_of(source.path) == {"energy": [abs(np.linalg.det(c.lattice)) for c in SALTS.values()]}
    for crystal_id, file in source.files.items():
        found, known = read_crystal(file), SALTS[crystal_id]
        assert abs(np.linalg.det(found.lattice)) == pytest.approx(abs(np.linalg.det(known.lattice)))
        assert found.numbers.tolist() == known.numbers.tolist()
        assert found.frac_coords == pytest.approx(known.frac_coords, abs=1e-9)


def test_labels_are_numbers_truths_and_gaps(write, entries):
    for k, entry in enumerate(entries):
        entry |= {"gap": 1.5, "is_metal": k % 2 == 0, "formula": "NaCl", "tags": ["x"], "note": None, "symbol": "12"}
    entries[0]["gap"], entries[1]["gap"], entries[3]["gap"], entries[4]["gap"] = None, math.nan, "2.5", " n/a "
    del entries[2]["gap"]
    found = labels_of(write(entries))
    assert list(found) == ["energy", "gap", "is_metal"]
    assert np.isnan(found["gap"][:3]).all() and found["gap"][3] == 2.5 and np.isnan(found["gap"][4])
    assert found["is_metal"][:3] == [1, 0, 1]


def test_labels_of_several_kinds_are_chosen_and_classified(write, entries, tmp_path):
    for k, entry in enumerate(entries):
        entry |= {"is_odd": bool(k % 2), "nsites": 2}
    train(write(entries), tmp_path / "out", *SMALL, "--targets", "energy", "is_odd:class")
    assert "is_odd_prob" in table(tmp_path / "out" / "test_results.csv").columns


def test_accurate_features_and_auxiliary_labels_need_no_folder(write, entries, tmp_path):
    ran = train(
        write(entries), tmp_path / "out", *SMALL, "--auxiliary-tasks", "--global-features", "lattice+symmetry"
    )
    assert "data.json: without an ax.csv; electronegativity_variance" in ran.out


def test_own_element_vectors_lie_beside_the_file(write, entries, tmp_path):
    (tmp_path / "atom_init.json").write_text('{"11": [1, 2]}')
    assert "no element vector for atomic number 17" in refused(train_command, write(entries), *SMALL)


def test_conditional_loss_needs_a_folder(write, entries, tmp_path):
    line = refused(train_command, write(entries), "--conditional-loss", "--out-dir", tmp_path / "out")
    assert "--conditional-loss needs a data folder with an all.csv" in line and line.count("\n") == 1


# --- what is kept -----------------------------------------------------------------------------------------


def test_an_unchanged_file_is_not_read(write, entries, monkeypatch):
    path = write(entries)
    open_source(path)
    monkeypatch.setattr(data_file, "opened", None)
    monkeypatch.setattr(data_file, "_same_content", None)
    assert list(open_source(path).files) == list(SALTS)


def test_a_file_that_was_only_touched_is_compared_and_no_more(write, entries, monkeypatch):
    path = write(entries)
    open_source(path)
    before = stamps(path)
    os.utime(path, (LONG_AGO + 5, LONG_AGO + 5))
    monkeypatch.setattr(data_file, "_Unpacking", None)
    assert list(open_source(path).files) == list(SALTS)
    assert stamps(path) == before
    monkeypatch.setattr(data_file, "_same_content", None)  # from now on the new time is known
    open_source(path)


def test_a_changed_entry_builds_one_graph_and_a_changed_label_none(write, entries, tmp_path, monkeypatch):
    built = []
    original = build.graphs_or_errors

    def counting(crystals, settings):
        built.append(len(crystals))
        return original(crystals, settings)

    monkeypatch.setattr(build, "graphs_or_errors", counting)
    path = write(entries)
    train(path, tmp_path / "out", *SMALL)
    before = stamps(path)
    entries[3]["structure"]["lattice"]["matrix"][0][0] += 0.1
    entries[5]["energy"] = 7.25
    del entries[7]
    write(entries, mtime=LONG_AGO + 5)
    train(path, tmp_path / "out", *SMALL)
    after = stamps(path)
    assert {name for name in before if after.get(name) != before[name]} == {"c003.json", "c007.json"}
    assert "c007.json" not in after and sum(built) == 16 + 1
    assert labels_of(path)["energy"][5] == 7.25 and len(labels_of(path)["energy"]) == 15


def test_the_same_size_and_time_hide_nothing_from_verify_cache(write, entries):
    path = write(entries)
    open_source(path)
    entries[0]["id"] = "c999"
    write(entries)
    assert "c999" not in open_source(path).files
    assert "c999" in open_source(path, verify=True).files
    file = unpacked(path) / "c001.json"
    text = file.read_text()
    file.write_text("x" * len(text))
    open_source(path, verify=True)
    assert file.read_text() == text


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest", "table"])
def test_what_was_damaged_is_unpacked_again(write, entries, damage):
    path = write(entries)
    known = open_source(path).files
    folder = unpacked(path)
    target = {"manifest": folder.parent / "manifest.json", "table": folder / "id_prop.csv"}.get(
        damage, folder / "c004.json"
    )
    target.write_bytes(target.read_bytes()[:40]) if damage in ("cut", "manifest") else target.unlink()
    assert open_source(path).files == known
    assert read_crystal(folder / "c004.json").num_sites == 2 and labels_of(path)


def test_killed_while_it_unpacks_it_goes_on(write, entries, tmp_path):
    path = write(entries)
    code = (
        "import os, signal\nfrom cgcnn import data_file\n"
        "inner, count = data_file._Unpacking._write, []\n"
        "def write(self, name, content):\n    inner(self, name, content)\n    count.append(1)\n"
        "    len(count) == 5 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "data_file._Unpacking._write = write\n"
    )
    ran = finished(script("main.py", path, "--out-dir", tmp_path / "out", *SMALL, folder=tmp_path, code=code))
    assert ran.status == -signal.SIGKILL
    assert len(stamps(path)) == 5 and not (unpacked(path).parent / "manifest.json").exists()
    before = stamps(path)
    assert len(open_source(path).files) == 16
    assert before.items() <= stamps(path).items()


def test_a_change_that_was_killed_half_way_and_taken_back(write, entries, monkeypatch):
    """Some files hold the new state then: the old manifest must not be believed."""
    old = json.dumps(entries)
    path = write(old)
    open_source(path)
    for entry in entries:  # in the same number of letters
        entry["structure"]["lattice"]["matrix"][0][1] = entry["structure"]["lattice"]["matrix"][0][2]
        entry["structure"]["sites"].reverse()
    write(entries, mtime=LONG_AGO + 5)

    def stopped():
        if stopped.calls == 3:
            raise KeyboardInterrupt
        stopped.calls += 1

    stopped.calls = 0
    with pytest.raises(KeyboardInterrupt):
        open_source(path, check_stop=stopped)
    write(old)
    for file in open_source(path).files.values():
        assert read_crystal(file).numbers.tolist() == [11, 17]


def test_a_folder_that_cannot_be_written(write, entries, tmp_path, monkeypatch):
    path = write(entries)
    monkeypatch.setattr(files, "is_writable", lambda folder: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(open_source(path).files) == 16
    assert not unpacked(path).exists() and list((tmp_path / "cache" / "cgcnn").glob("data.json-*/crystals/c000.json"))


def test_cache_dir_holds_files_and_graphs(write, entries, tmp_path):
    train(write(entries), tmp_path / "out", *SMALL, "--cache-dir", tmp_path / "kept")
    (place,) = (tmp_path / "kept").iterdir()
    assert {"crystals", "manifest.json"} < {path.name for path in place.iterdir()}
    assert not (tmp_path / "data.json.cgcnn_cache").exists()


def test_files_of_one_stem_do_not_meet(write, entries):
    one, other = write(entries[:3], "data.json"), write("\n".join(map(json.dumps, entries[3:])), "data.jsonl")
    assert len(open_source(one).files) == 3 and len(open_source(other).files) == 13


# --- ids that are no names of files -----------------------------------------------------------------------


ODD = [
    "a/b",
    "..",
    "../x",
    "A",
    "a",
    "x" * 300,
    "β-Sn",
    "C:\\d",
    "sp ace",
    ".hidden",
    'q"u,o',
    "17",
    "atom_init",
    "-",
]


def test_any_id_is_kept_whatever_it_would_be_as_a_file(write, entries, tmp_path):
    for entry, odd in zip(entries, ODD, strict=False):
        entry["id"] = odd
    entries[11]["id"] = 17
    path = write(entries)
    source = open_source(path)
    assert list(source.files)[: len(ODD)] == ODD
    names = [Path(file).name for file in source.files.values()]
    assert len({name.lower() for name in names}) == len(names) == 16
    assert {Path(file).parent for file in source.files.values()} == {unpacked(path)}
    assert all(len(name.encode()) < 120 and name.isascii() for name in names) and "A.json" in names
    train(path, tmp_path / "out", *SMALL)
    assert predict(tmp_path / "out" / "model_best.pth.tar", path, tmp_path / "p.csv").status == 0
    assert [row[0] for row in read_rows(tmp_path / "p.csv")[1:]] == list(source.files)


def test_a_blank_id_is_none(write, entries):
    for k, entry in enumerate(entries):
        entry |= {"id": " ", "jid": f"j{k}"}
    assert list(open_source(write(entries)).files) == [f"j{k}" for k in range(16)]


@pytest.mark.parametrize("bad", ["a\x00b", "a\nb", "\ud800", "\x1b[31m"])
def test_an_id_that_cannot_be_printed_is_refused(write, entries, bad):
    entries[4]["id"] = bad
    line = refused(train_command, write(entries), *SMALL)
    assert line.count("\n") == 1 and "data.json, entry 5: its id" in line and "cannot be printed" in line


# --- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.json", "", "data.json: no entries"),
        ("data.json", "[]", "data.json: no entries"),
        ("data.jsonl", "\n", "data.jsonl: no entries"),
        ("data.json", "hello", "data.json: not JSON, in entry 1: line 1, column 1: '[' or '{' expected"),
        ("data.json", ENTRIES[:-5], "data.json: not JSON, in entry 16: line 1, column "),
        (
            "data.json",
            "[1, 2, 3]",
            "data.json: none of its 3 entries can be used; entry 1: a number, where an object",
        ),
        ("data.json", '{"a": 1}', "data.json: none of its 1 entries can be used; entry 1 ('a'): a number"),
        ("data.jsonl", '{"id": "a"}\n{"id": ', "data.jsonl: not JSON, in entry 2: line 2, column"),
    ],
)
def test_files_that_are_none(write, name, content, message):
    line = refused(train_command, write(content, name))
    assert message in line and line.count("\n") == 1


def test_files_that_cannot_be_read(write, tmp_path, entries):
    (tmp_path / "data.json.gz").write_bytes(gzip.compress(ENTRIES.encode())[:-100])
    assert "data.json.gz: not a whole gzip file" in refused(train_command, tmp_path / "data.json.gz")
    (tmp_path / "latin.json").write_bytes('[{"id": "é"}]'.encode("latin-1"))
    assert "latin.json: not a text file in UTF-8" in refused(train_command, tmp_path / "latin.json")
    assert "neither a data folder nor a data file" in refused(train_command, write("a,b", "id_prop.csv"))
    for entry in entries:
        del entry["energy"]
    assert "data.json: no entry has a number for a label" in refused(train_command, write(entries))


def spoil(entries: list) -> None:
    entries[1]["energy"] = "metallic"
    del entries[2]["structure"]
    entries[4]["id"] = "c003"
    entries[5] = 7
    del entries[6]["id"]
    entries[7]["structure"]["sites"][0]["species"][0]["element"] = "Qq"
    entries[8]["energy"] = 1e999
    entries[9]["structure"] = {"sites": []}
    entries[10]["energy"] = [1]
    entries[11] |= {"structure": None, "cif": "data_x\nno crystal"}


def test_all_faults_are_told_at_once_with_entry_and_reason(write, entries):
    spoil(entries)
    path = write(entries)
    expected = [
        f"error: {path}, entry 2 (c001): energy 'metallic' is not a finite number",
        f"error: {path}, entry 5 (c003): its id stands in entry 4 already",
        f"error: {path}, entry 6: a number, where an object with a structure is expected",
        f"error: {path}, entry 7: no id (id, material_id, cif_id, file_id, jid or name)",
        f"error: {path}, entry 9 (c008): energy inf is not a finite number",
        f"error: {path}, entry 11 (c010): energy a list is not a finite number",
        f"error: {path}: 4 of 13 crystals cannot be used (--on-bad-structure skip goes on without them)",
        f"error: {path}, entry 3 (c002): no structure, cif or atoms",
        f"error: {path}, entry 8 (c007): unknown element 'Qq'",
        f"error: {path}, entry 10 (c009): the JSON holds no pymatgen Structure",
        f"error: {path}, entry 12 (c011): no crystal can be read from this CIF",
    ]
    for _ in range(2):  # the second start knows them from the first
        lines = refused(train_command, path, *SMALL).splitlines()
        assert len(lines) == len(expected)
        assert all(line.startswith(known) for line, known in zip(lines, expected, strict=True)), lines


def test_bad_structures_are_left_out_and_bad_labels_are_not(write, entries, tmp_path):
    spoil(entries)
    flags = ("--on-bad-structure", "skip", "--out-dir", tmp_path / "out", *SMALL)
    assert len(refused(train_command, write(entries), *flags).splitlines()) == 6
    good = json.loads(ENTRIES)
    for k in (2, 7, 9, 11):
        good[k] = entries[k]
    ran = train(write(good, mtime=LONG_AGO + 5), tmp_path / "out", *flags[:2], *SMALL)
    assert "12 crystals" in ran.out and "4 of 16 crystals are left out" in ran.out
    assert {row[0] for row in read_rows(result_file(tmp_path / "out", "failed.csv"))[1:]} == {
        "c002",
        "c007",
        "c009",
        "c011",
    }


def test_an_entry_without_structure_and_label_lacks_both(write):
    path = write([{"id": "a"}, {"id": "b", "note": "x"}])
    assert refused(train_command, path, *SMALL).splitlines() == [
        f"error: {path}: no entry has a number for a label",
        f"error: {path}, entry 1 (a): no structure, cif or atoms",
        f"error: {path}, entry 2 (b): no structure, cif or atoms",
    ]


@pytest.mark.parametrize("odd", ["energy ", " ", "a\x00b"])
def test_a_label_name_that_is_none_is_told_with_the_file(write, entries, odd):
    for entry in entries:
        entry[odd] = 1.0
    line = refused(train_command, path := write(entries), *SMALL)
    assert line.startswith(f"error: {path}, the label name {odd.strip()!r} is blank, cannot be printed, or stands")
    assert "cache" not in line


@pytest.mark.parametrize(
    "change",
    [
        {"lattice_mat": [[1, 2, 3]] * 2},
        {"coords": [[0, 0], [0, 0.5], [0.5, 0.5]]},  # six numbers, but no two places
        {"coords": [[0, 0, 10**400], [0.5] * 3]},
        {"elements": ["Na"]},
        {"elements": None},
    ],
)
def test_atoms_that_are_none_are_told_as_such(write, entries, change):
    entries[3]["atoms"] = {"lattice_mat": fcc(5).tolist(), "elements": ["Na", "Cl"], "coords": [[0] * 3, [0.5] * 3]}
    del entries[3]["structure"]
    assert len(open_source(write(entries)).files) == 16
    entries[3]["atoms"] |= change
    source = open_source(write(entries, mtime=LONG_AGO + 5))
    assert source.lacking == {"c003": "its atoms have no lattice_mat (3, 3), elements (N) and coords (N, 3)"}


def test_a_text_in_braces_is_told_as_it_is(write, entries):
    entries[0] |= {"id": "{name}", "energy": "{0}"}
    assert "entry 1 ({name}): energy '{0}' is not a finite number" in refused(train_command, write(entries))


def test_many_faults_are_counted(write, entries):
    many = [{**entries[0], "id": f"n{k}", "energy": "bad" if k else 1.0} for k in range(300)]
    lines = refused(train_command, write(many)).splitlines()
    assert len(lines) == 101 and lines[-1].endswith("… and 199 more")


# --- prediction and sweeps --------------------------------------------------------------------------------


@pytest.fixture
def trained(write, entries, tmp_path) -> Path:
    train(write(entries), tmp_path / "out", *SMALL, "--global-features", "lattice")
    return tmp_path / "out" / "model_best.pth.tar"


def test_predictions_stand_beside_the_labels(trained, write, entries, tmp_path):
    entries[2]["energy"] = None
    del entries[4]["structure"]
    assert predict(trained, write(entries, "new.json"), tmp_path / "p.csv").status == 3
    found = pd.read_csv(tmp_path / "p.csv", index_col=0)
    assert list(found.index) == [i for i in SALTS if i != "c004"]
    assert found.loc["c001", "energy_target"] == pytest.approx(entries[1]["energy"]) and found["energy_pred"].all()
    assert math.isnan(found.loc["c002", "energy_target"])
    assert read_rows(tmp_path / "p_failed.csv")[1:] == [["c004", "no structure, cif or atoms"]]


def test_a_file_without_labels_is_predicted(trained, write, entries, tmp_path):
    for entry in entries:
        del entry["energy"]
    assert predict(trained, write(entries, "new.json"), tmp_path / "p.csv").status == 0
    assert len(read_rows(tmp_path / "p.csv")) == 17
    entries[0]["id"] = entries[1]["id"]
    assert "its id stands in entry 1 already" in refused(
        predict_command, trained, write(entries, "other.json"), "--output", tmp_path / "q.csv"
    )


def test_what_is_predicted_is_unpacked_where_it_is_said(trained, write, entries, tmp_path):
    path = write(entries, "new.json")
    assert predict(trained, path, tmp_path / "p.csv", "--cache-dir", tmp_path / "kept").status == 0
    assert list(tmp_path.glob("kept/new.json-*/crystals/c000.json")) and not unpacked(path).exists()


def test_one_structure_in_a_json_file_is_still_one_crystal(trained, tmp_path):
    structure = random_crystal(1, 3).to_structure()
    for content in (structure.as_dict(), {"structure": structure.as_dict()}):
        (tmp_path / "one.json").write_text(json.dumps(content))
        assert predict(trained, tmp_path / "one.json", tmp_path / "p.csv").status == 0
        assert [row[0] for row in read_rows(tmp_path / "p.csv")] == ["cif_id", "one"]
    assert not list(tmp_path.glob("one.json.cgcnn_cache"))


def test_sweep_over_a_data_file(write, entries, tmp_path):
    flags = ("--grid", "lr=0.01", "--epochs", 1, "--atom-fea-len", 8, "--disable-cuda")
    ran = run(sweep_command, write(entries), "--out-dir", tmp_path / "sweep", *flags)
    assert ran.status == 0, ran.err or ran.out
    assert "sweep data.json: 1 combination" in ran.out
    assert (tmp_path / "sweep" / "result" / "sweep_data.json").is_dir()


def test_from_python(write, entries, tmp_path):
    import cgcnn

    result = cgcnn.fit(write(entries), epochs=1, out_dir=str(tmp_path / "out"), disable_cuda=True)
    assert len(result.metrics) > 0


def test_splits_and_groups(write, entries, tmp_path):
    path = write(entries)
    parts = ["train"] * 10 + ["val"] * 3 + ["test"] * 3
    write_rows(tmp_path / "split.csv", [["cif_id", "split"], *zip(SALTS, parts, strict=True)])
    train(path, tmp_path / "out", *SMALL, "--split-file", tmp_path / "split.csv")
    assert [row[0] for row in read_rows(tmp_path / "out" / "test_results.csv")[1:]] == list(SALTS)[13:]
    grouped = refused(train_command, path, *SMALL, "--group-by", "formula")
    assert "val and test part of the split is empty" in grouped  # they are all NaCl


def test_two_at_once_unpack_once(write, entries, tmp_path, monkeypatch):
    path, log = write(entries), tmp_path / "log"
    inner = data_file._Unpacking.run

    def logging(self):
        with open(log, "a") as file:
            file.write("unpacked\n")
        time.sleep(0.5)
        return inner(self)

    monkeypatch.setattr(data_file._Unpacking, "run", logging)
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=open_source, args=(path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert log.read_text() == "unpacked\n" and len(stamps(path)) == 16


def test_a_source_says_where_a_crystal_stands(write, entries, data_folder):
    source = open_source(write(entries))
    assert source.where("c003").endswith("data.json, entry 4 (c003)") and source.table == source.path
    folder = open_source(data_folder(name="folder"))
    assert folder.where("NaCl").endswith("NaCl.cif") and folder.where("none").endswith("none.cif")
    with pytest.raises(DataError, match="no such folder or data file"):
        open_source(Path("nowhere.json"))


def test_a_label_that_is_too_large_is_named_with_its_entry(entries, write):
    entries[2]["energy"] = 1e308
    assert "data.json, entry 3 (c002): energy 1e+308 is not a finite number" in "\n".join(
        open_source(write(entries)).faults
    )


def test_the_name_of_a_label_is_told_in_one_line(entries, write):
    entries[0]["a\nb"], entries[1]["a\nb"] = 1.0, "x"
    assert any(
        line.endswith(r"entry 2 (c001): a\nb 'x' is not a finite number")
        for line in open_source(write(entries)).faults
    )


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", '{"version": 2}', "\ufeff{}", ""], ids=["deep", "list", "few", "mark", "none"]
)
def test_a_manifest_that_is_none_is_made_anew(text, write):
    path = write(ENTRIES)
    known = open_source(path).files
    unpacked(path).with_name("manifest.json").write_text(text, encoding="utf-8")
    assert open_source(path).files == known
