"""Numbers and words of crystals from a table: what they become, what is refused, and their way to predict.py."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import random_crystal
from helpers import predict, refused, result_file, run, train
from screening_helpers import model, salts, saved
from test_ecnet import CRYSTALS, network, settings_of
from test_network import batch_of

import cgcnn
from cgcnn import checkpoint
from cgcnn.cli import predict_command, sweep_command, train_command
from cgcnn.crystal_features import MAX_WORDS, CrystalTable, columns_of, described, split_flag
from cgcnn.labels import DataError

TABLE = "id,phase,temperature\nCu,fcc,300\ndiamond,bcc,77.5\nNaCl,fcc,-4e2\nlow,hcp,0\n"
OF_ECNET = {"hidden-channels": 8, "n-filters": 4, "cutoff": 5, "tower-h1": 8, "tower-h2": 8, "n-interactions": 1}
SMALL = {
    "cgcnn": ["--epochs=2", "--threads=1", "--atom-fea-len=8", "--h-fea-len=8"],
    "ecnet": ["--epochs=2", "--threads=1", "--model=ecnet", *(f"--{flag}={n}" for flag, n in OF_ECNET.items())],
}
BOTH = "known.csv:phase+temperature"


def table(tmp_path, text=TABLE) -> CrystalTable:
    path = tmp_path / "known.csv"
    path.write_text(text, encoding="utf-8")
    return CrystalTable.read(path)


def known_of(ids, *, phases=("bcc", "fcc")) -> str:
    """A table of a phase and a temperature for each of the ids."""
    rows = [f"{i},{phases[k % len(phases)]},{300 + 10 * k}" for k, i in enumerate(ids)]
    return "\n".join(["cif_id,phase,temperature", *rows, ""])


def folder_with_features(data_folder, count=16, *, phases=("bcc", "fcc"), name="data"):
    """Cells of one composition whose energies are those of their temperature and phase alone."""
    ids = [f"c{k:03}" for k in range(count)]
    labels = "cif_id,energy\n" + "".join(f"{i},{k % 2 + k / count}\n" for k, i in enumerate(ids))
    crystals = salts(count)
    return data_folder(labels, crystals=crystals, files={"known.csv": known_of(ids, phases=phases)}, name=name)


def test_numbers_are_one_feature_and_words_one_each(tmp_path):
    found = table(tmp_path)
    ids = ["NaCl", "low", "Cu"]
    names = found.learn(["temperature", "phase"], ids)
    assert names == ("temperature", "phase=fcc", "phase=hcp") and columns_of(names) == ["temperature", "phase"]
    assert described(names) == "temperature, phase (fcc, hcp)"
    values, failed = found.encode(names, ids)
    assert values.dtype == np.float32 and values.tolist() == [[-400, 1, 0], [0, 0, 1], [300, 1, 0]] and not failed


def test_sodium_is_a_word_and_a_mixed_column_is_of_words(tmp_path):
    found = table(tmp_path, "id,dopant,facet,code\na,Na,111,1\nb,none,10-10,Na\nc,K,0001,2\n")
    assert found.learn(["dopant"], "abc") == ("dopant=K", "dopant=Na", "dopant=none")
    assert found.learn(["facet"], "abc") == ("facet=0001", "facet=10-10", "facet=111")
    assert found.learn(["code"], "abc") == ("code",)  # among numbers it is a blank
    assert "code is blank" in found.encode(("code",), "abc")[1]["b"]


def test_what_a_crystal_lacks_is_told_with_its_row(tmp_path):
    text = "id,phase,T\na,fcc,1\nb,,2\nc,bcc,nan\nd,fcc,inf\ne,fcc,1e39\nf,hcp,1\n"
    values, failed = table(tmp_path, text).encode(("phase=bcc", "phase=fcc", "T"), list("abcdefg"))
    path = tmp_path / "known.csv"
    assert failed == {
        "b": f"{path}, row 3 (b): phase is blank",
        "c": f"{path}, row 4 (c): T is blank",
        "d": f"{path}, row 5 (d): T 'inf' is not a finite number",
        "e": f"{path}, row 6 (e): T '1e39' is not a finite number",
        "f": f"{path}, row 7 (f): phase 'hcp' is none of bcc, fcc, which the model knows",
        "g": f"{path}: no row for 'g'",
    }
    assert values[0].tolist() == [0, 1, 1] and not values[1:].any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,a\nx,1\ny\n", "row 3: 1 columns, 2 expected"),
        ("id,a\nx,1\n,2\n", "row 3: no id"),
        ("id,a\nx,1\nx,2\n", "row 3: id 'x' stands in row 2 already"),
        ("id,a,a\nx,1,2\n", "row 1: a column name is blank or stands twice"),
        ("id\nx\n", "row 1: an id and at least one column expected"),
    ],
)
def test_a_table_at_fault_is_one_line(tmp_path, text, said):
    with pytest.raises(DataError) as error:
        table(tmp_path, text)
    assert str(error.value) == f"{tmp_path / 'known.csv'}, {said}"


def test_too_many_words_name_the_first_that_is_no_number(tmp_path):
    rows = "".join(f"c{k},{300 + k if k != 7 else '30O'}\n" for k in range(MAX_WORDS + 1))
    with pytest.raises(DataError, match=r"row 9 \(c7\): T '30O' is no number, and of 51 different words"):
        table(tmp_path, f"id,T\n{rows}").learn(["T"], [f"c{k}" for k in range(MAX_WORDS + 1)])


def test_a_data_frame_has_its_ids_in_front_or_as_its_index():
    frame = pd.DataFrame({"cif_id": ["a", "b"], "phase": [" fcc", None], "code": [111.0, np.nan]})
    for one in (frame, frame.set_index("cif_id")):
        found = CrystalTable.from_frame(one)
        assert found.columns == ["phase", "code"]
        assert found.rows == {"a": (None, ["fcc", "111"]), "b": (None, ["", ""])}
    with pytest.raises(DataError, match="id 'a' stands twice"):
        CrystalTable.from_frame(pd.concat([frame, frame]))


@pytest.mark.parametrize("text", ["known.csv", "known.csv:", ":phase", "t.csv:a+", "t.csv:a+a", "t.csv:a=b"])
def test_a_flag_that_names_no_columns_is_refused(text):
    with pytest.raises(DataError, match=f"--crystal-features {re.escape(text)}: "):
        split_flag(text)
    assert split_flag("C:/x.csv:a+b c") == ("C:/x.csv", ["a", "b c"])


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("nope.csv:phase", "nope.csv is neither in"),
        ("known.csv:colour", "no column 'colour'; there are phase, temperature"),
        ("id_prop.csv:energy", "energy is what is to be predicted"),
    ],
)
def test_a_flag_that_does_not_fit_the_folder_is_one_line(data_folder, tmp_path, flag, said):
    folder = folder_with_features(data_folder)
    line = refused(train_command, folder, "--out-dir", tmp_path / "out", "--crystal-features", flag)
    assert said in line and line.count("\n") == 1


def test_crystals_without_a_feature_are_listed_or_left_out(data_folder, tmp_path):
    folder = folder_with_features(data_folder)
    lines = (folder / "known.csv").read_text().splitlines()
    (folder / "known.csv").write_text("\n".join([*lines[:3], "c002,,320", *lines[5:]]) + "\n")
    words = (folder, "--out-dir", tmp_path / "out", *SMALL["cgcnn"], "--crystal-features", BOTH)
    said = refused(train_command, *words)
    assert f"2 of 16 crystals of {folder / 'id_prop.csv'} lack a feature" in said
    assert "known.csv, row 4 (c002): phase is blank" in said and "known.csv: no row for 'c003'" in said
    ran = run(train_command, *words, "--on-bad-structure", "skip")
    assert ran.status == 0 and "2 of 16 crystals are left out" in ran.out
    failed = pd.read_csv(result_file(tmp_path / "out", "failed.csv"), index_col=0)
    assert failed.index.tolist() == ["c002", "c003"]


@pytest.mark.parametrize("kind", ["cgcnn", "ecnet"])
def test_statistics_are_those_of_the_training_part(data_folder, tmp_path, kind):
    folder, out = folder_with_features(data_folder), tmp_path / "out"
    train(folder, out, *SMALL[kind], "--global-features", "lattice", "--crystal-features", BOTH)
    state = checkpoint.read(out / "model_best.pth.tar")["state_dict"]
    part = pd.read_csv(result_file(out, "split1_ids.csv"), index_col=0)["split"]
    known = pd.read_csv(folder / "known.csv", index_col=0)["temperature"]
    trained = known[part[part == "train"].index]
    assert len(trained) == 14 and trained.std(ddof=0) != pytest.approx(known.std(ddof=0), rel=1e-3)
    assert state["global_mean"].shape == (8 + 3,)  # lattice, two phases, temperature
    assert state["global_mean"][-1].item() == pytest.approx(trained.mean(), rel=1e-5)
    assert state["global_std"][-1].item() == pytest.approx(trained.std(ddof=0), rel=1e-5)


def test_the_unit_of_a_column_does_not_matter():
    batch = batch_of(CRYSTALS, settings_of())
    values = torch.arange(5.0)[:, None]
    found = []
    for factor in (1.0, 1e-9, 1e9):
        model = network(crystal_features=("pressure",))
        object.__setattr__(batch, "global_features", factor * values)
        model.fit_statistics([batch])
        found.append(model(batch)["etot"])
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])
    object.__setattr__(batch, "global_features", 1e9 * values.flip(0))
    assert (model(batch)["etot"] - found[2]).abs().max() > 1e-4


def test_states_of_elements_know_of_their_crystal():
    model, batch = network(crystal_features=("phase=bcc", "phase=fcc")), batch_of(CRYSTALS, settings_of())
    object.__setattr__(batch, "global_features", torch.eye(2)[[0, 1, 0, 1, 0]])
    model.fit_statistics([batch])
    states, crystals = model.embed(batch)
    object.__setattr__(batch, "global_features", torch.eye(2)[[1, 1, 0, 1, 0]])
    others, other_crystals = model.embed(batch)
    changed = (states - others).abs().amax(dim=1) > 1e-4
    assert changed.tolist() == (batch.pairs.crystal == 0).tolist()
    assert ((crystals - other_crystals).abs().amax(dim=1) > 1e-4).tolist() == [True, False, False, False, False]
    assert not {"global_mean", "join.weight"} & set(network().state_dict())


@pytest.mark.parametrize("kind", ["cgcnn", "ecnet"])
def test_trained_with_words_and_numbers_and_predicted_from_new_files(data_folder, tmp_path, kind):
    folder, out = folder_with_features(data_folder), tmp_path / "out"
    words = ("--crystal-features", BOTH, "--global-features", "lattice", "--ensemble", 2)
    ran = train(folder, out, *SMALL[kind], *words)
    assert f"crystal features of {folder / 'known.csv'}: phase (bcc, fcc), temperature" in ran.out
    path = out / "model_best.pth.tar"
    content = checkpoint.read(path)
    assert content["config"]["crystal_features"] == ["phase=bcc", "phase=fcc", "temperature"]
    tested = pd.read_csv(out / "test_results.csv", index_col=0)["energy_pred"]
    assert predict(path, folder, tmp_path / "new.csv", "--crystal-features", "known.csv").status == 0
    found = pd.read_csv(tmp_path / "new.csv", index_col=0)["energy_pred"]
    assert len(tested) and found[tested.index].tolist() == pytest.approx(tested.tolist(), rel=1e-5)

    frame = pd.read_csv(folder / "known.csv")
    ids = tested.index.tolist()
    loaded = cgcnn.load_model(path)
    table = loaded.predict([folder / f"{i}.cif" for i in ids], ids, crystal_features=frame)
    assert table["energy_pred"].tolist() == pytest.approx(tested.tolist(), rel=1e-5)
    with pytest.raises(DataError, match="needs phase, temperature of every crystal: predict"):
        loaded.predict([folder / "c000.cif"])

    other = tmp_path / "other.csv"
    other.write_text("id,temperature,phase\nc000,300,fcc\nc001,310,hcp\nc002,,fcc\n")
    ran = predict(path, folder, tmp_path / "some.csv", "--crystal-features", other)
    assert ran.status == 3
    some = pd.read_csv(tmp_path / "some.csv", index_col=0)["energy_pred"]
    assert some.index.tolist() == ["c000"] and some["c000"] != pytest.approx(found["c000"], rel=1e-5)
    reasons = pd.read_csv(tmp_path / "some_failed.csv", index_col=0)["reason"]
    assert "phase 'hcp' is none of bcc, fcc" in reasons["c001"] and "temperature is blank" in reasons["c002"]
    assert len(reasons) == 15


def test_predict_without_the_table_names_the_columns(data_folder, tmp_path):
    folder = data_folder()
    needs = saved(model(config={"crystal_features": ["phase=fcc", "T"]}), tmp_path / "needs.pt")
    plain = saved(model(), tmp_path / "plain.pt")
    line = refused(predict_command, needs, folder, "--output", tmp_path / "x.csv")
    assert "the model needs phase, T of every crystal: --crystal-features TABLE.csv" in line and line.count("\n") == 1
    (folder / "known.csv").write_text("id,T\nNaCl,1\n")
    words = ("--output", tmp_path / "x.csv", "--crystal-features", "known.csv")
    assert "known.csv: no column 'phase'; there are T" in refused(predict_command, needs, folder, *words)
    assert "--crystal-features: the model takes none" in refused(predict_command, plain, folder, *words)


def test_models_of_different_features_are_averaged(data_folder, tmp_path):
    folder = data_folder(files={"known.csv": TABLE})
    configs = [{}, {"crystal_features": ["temperature"]}, {"crystal_features": ["phase=fcc", "phase=bcc"]}]
    paths = [saved(model(seed=k, config=c), tmp_path / f"{k}.pt") for k, c in enumerate(configs)]
    words = ("--output", tmp_path / "all.csv", "--crystal-features", "known.csv", "--resume-output")
    assert run(predict_command, *paths, folder, *words).status == 3
    together = pd.read_csv(tmp_path / "all.csv", index_col=0)["band_gap_pred"]
    alone = []
    for k, path in enumerate(paths):
        ran = run(predict_command, path, folder, "--output", tmp_path / f"{k}.csv", *(words[2:4] if k else ()))
        assert ran.status == (3 if k == 2 else 0)
        alone.append(pd.read_csv(tmp_path / f"{k}.csv", index_col=0)["band_gap_pred"][together.index])
    assert sorted(together.index) == ["Cu", "NaCl", "diamond"]
    assert together.tolist() == pytest.approx(np.mean(alone, axis=0).tolist(), rel=1e-5)
    (folder / "known.csv").write_text(TABLE.replace("77.5", "78"))
    assert "begun with another --crystal-features" in refused(predict_command, *paths, folder, *words)


def test_a_start_from_a_model_keeps_its_words(data_folder, tmp_path):
    folder = folder_with_features(data_folder)
    train(folder, tmp_path / "one", *SMALL["ecnet"], "--crystal-features", BOTH)
    start = ("--epochs", 1, "--threads", 1, "--init-from", tmp_path / "one" / "model_best.pth.tar")
    fewer = folder_with_features(data_folder, phases=("fcc",), name="fewer")
    said = train(fewer, tmp_path / "two", *start).out
    assert "phase (bcc, fcc), temperature" in said and "new: nothing" in said
    others = folder_with_features(data_folder, phases=("fcc", "hcp"), name="others")
    said = train(others, tmp_path / "three", *start).out
    assert "phase (fcc, hcp), temperature" in said and "new: join" in said
    (others / "known.csv").unlink()
    line = refused(train_command, others, "--out-dir", tmp_path / "four", *start)
    assert "known.csv is neither in" in line and "--crystal-features '' goes without" in line
    assert "join" not in train(others, tmp_path / "four", *start, "--crystal-features", "").out


def test_a_run_with_features_is_resumed_repeated_and_evaluated(data_folder, tmp_path):
    folder, out = folder_with_features(data_folder), tmp_path / "out"
    train(folder, out, *SMALL["cgcnn"], "--crystal-features", BOTH, "--augment", "perturb=0.02")
    before = pd.read_csv(out / "test_results.csv")
    again = tmp_path / "again"
    train(folder, again, "--config", result_file(out, "config.toml"))
    assert pd.read_csv(again / "test_results.csv").equals(before)
    resumed = train(folder, tmp_path / "longer", "--resume", out / "checkpoint.pth.tar", "--epochs", 3)
    assert "phase (bcc, fcc), temperature" in resumed.out
    ran = run(train_command, folder, "--evaluate", out / "model_best.pth.tar", "--out-dir", again)
    assert ran.status == 0, ran.err


def test_a_table_that_has_changed_since_is_no_run_to_resume(data_folder, tmp_path):
    folder = folder_with_features(data_folder)
    out = tmp_path / "out"
    train(folder, out, *SMALL["cgcnn"], "--crystal-features", BOTH)
    text = (folder / "known.csv").read_text()
    (folder / "known.csv").write_text(text.replace(",300\n", ",900\n"))
    checkpoint_path = out / "checkpoint.pth.tar"
    said = refused(train_command, folder, "--resume", checkpoint_path, "--epochs", 3, "--out-dir", out)
    assert "a checkpoint of other --crystal-features" in said
    (folder / "known.csv").write_text(text)
    train(folder, out, "--resume", checkpoint_path, "--epochs", 3)


def test_an_older_checkpoint_without_the_setting_is_resumed(data_folder, tmp_path):
    folder, out = data_folder(crystals={f"r{k}": random_crystal(k, 3) for k in range(12)}), tmp_path / "out"
    train(folder, out, *SMALL["cgcnn"])
    path = out / "checkpoint.pth.tar"
    content = checkpoint.read(path)
    for name in ("crystal_features", "extensive"):
        del content["config"][name]
    del content["args"]["crystal_features"]
    checkpoint.save(path, content)
    train(folder, out, "--resume", path, "--epochs", 3)


def test_a_sweep_has_it_as_an_axis(data_folder, tmp_path, stand_in_trials):
    folder = folder_with_features(data_folder)
    words = (folder, "--out-dir", tmp_path, "--grid", "crystal-features=,known.csv:phase", "--epochs", 1)
    ran = run(sweep_command, *words)
    assert ran.status == 0 and "2 combinations" in ran.out, ran
