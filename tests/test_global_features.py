"""Numbers of whole crystals: electrons of a composition, cell and symmetry, from the flag to predict.py."""

import os

import numpy as np
import pandas as pd
import pytest
from conftest import fcc, make_crystal, random_crystal
from helpers import predict, refused, train
from screening_helpers import collator_of, folder_of, model, saved

from cgcnn import checkpoint, graph
from cgcnn.cli import train_command
from cgcnn.data_graphs import graph_settings
from cgcnn.flags import training_parser
from cgcnn.global_features import formula_valence, global_features, needs_symmetry, num_global_features
from cgcnn.graph import GraphSettings, build_graphs
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError
from cgcnn.symmetry import NUM_GROUPS, SYSTEMS, cell_and_symmetry

ALL = "valence+slab+lattice+symmetry+spacegroup"


def table(*crystals, settings=None):
    return GraphTable.from_graphs(build_graphs(crystals, settings), [crystal.reduced_formula for crystal in crystals])


def test_salt_balances_and_metal_has_an_odd_electron():
    odd, common, balanced, known, balanced_known, elements = formula_valence({11: 1, 17: 1})  # NaCl, 28 electrons
    assert (odd, common, balanced, known, balanced_known, elements) == pytest.approx((0, 0, 1, 0, 1, 0.5))
    assert formula_valence({13: 1})[0] == pytest.approx(1)  # Al, 13 electrons
    odd, common, balanced, *_ = formula_valence({37: 1, 53: 2})  # RbI2: one electron too few
    assert odd == pytest.approx(1) and common == pytest.approx(1 / 3) and balanced == 0


def test_cell_does_not_matter():
    one = make_crystal(4.0, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    two = make_crystal(8.0, ["Na", "Cl"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0.5]])
    features = global_features("valence", table(one, two))
    assert features.shape == (2, num_global_features("valence"))
    assert features[0] == pytest.approx(features[1])


@pytest.mark.parametrize(
    ("sites", "unit"),
    [
        ([{"Li": 0.5}, {"O": 1.0}], {3: 1, 8: 2}),
        ([{"Li": 1 / 3, "Na": 2 / 3}, {"O": 1.0}], {3: 1, 11: 2, 8: 3}),
        ([{"Na": 0.333, "Li": 0.667}, {"O": 1.0}], {3: 2, 11: 1, 8: 3}),
        ([{"Ti": 0.137, "V": 0.263, "Cr": 0.6}, {"O": 1.0}], {22: 0.137, 23: 0.263, 24: 0.6, 8: 1}),
        ([{"Rb": 1.0}, {"I": 1.0}, {"I": 1.0}], {37: 1, 53: 2}),
    ],
)
def test_cell_does_not_matter_in_disorder(sites, unit):
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]][: len(sites)]
    cells = [
        make_crystal(
            np.diag([5.0 * k, 5, 5]), sites * k, [[(x + i) / k, y, z] for i in range(k) for x, y, z in places]
        )
        for k in (1, 2, 3, 10)
    ]
    # alone and together: crystals of one formula share what is computed
    found = [*global_features("valence", table(*cells)), *(global_features("valence", table(c))[0] for c in cells)]
    for features in found:
        assert features == pytest.approx(formula_valence(unit), abs=1e-6)


def test_fractional_amounts_and_many_elements_end_soon():
    assert 0 < formula_valence({3: 0.5, 8: 1})[0] < 1  # 9.5 electrons
    assert np.isfinite(formula_valence(dict.fromkeys(range(22, 30), 0.125))).all()


def test_unknown_kind_is_told():
    with pytest.raises(DataError, match="'colour' is none of"):
        global_features("valence+colour", table(make_crystal(4.0, ["Na"], [[0, 0, 0]])))
    assert global_features("", table(make_crystal(4.0, ["Na"], [[0, 0, 0]]))) is None


def settings_for(kinds: str) -> GraphSettings:
    args = training_parser().parse_args(["DIR", "--global-features", kinds])
    return graph_settings(args)


def test_cell_and_symmetry_stand_in_their_columns(crystals):
    chosen = list(crystals.values())
    found = table(*chosen, settings=GraphSettings(symmetry=True))
    known = np.array([cell_and_symmetry(crystal) for crystal in chosen])
    assert global_features("lattice", found) == pytest.approx(known[:, 1:], rel=1e-6)
    systems, groups = global_features("symmetry", found), global_features("spacegroup", found)
    assert systems.shape == (4, len(SYSTEMS)) and groups.shape == (4, NUM_GROUPS)
    assert [SYSTEMS[k] for k in systems.argmax(axis=1)] == ["cubic", "cubic", "cubic", "triclinic"]
    assert (groups.argmax(axis=1) + 1).tolist() == [225, 225, 227, 1]
    assert (systems.sum(axis=1) == 1).all() and (groups.sum(axis=1) == 1).all()
    joined = global_features("symmetry+valence+lattice", found)
    assert joined.shape[1] == num_global_features("symmetry+valence+lattice") == 7 + 6 + 8
    np.testing.assert_array_equal(joined[:, :7], systems)


def test_symmetry_is_searched_for_only_where_it_is_asked_for(crystals, monkeypatch):
    def forbidden(crystal):
        raise AssertionError("nobody asked")

    assert [needs_symmetry(kinds) for kinds in ("", "valence+slab", "lattice", "slab+symmetry")] == [0, 0, 1, 1]
    plain, asked = settings_for("valence+slab"), settings_for("valence+spacegroup")
    assert plain == GraphSettings() and asked == GraphSettings(symmetry=True)
    assert plain.key() != asked.key() and asked.key() == settings_for("lattice").key()
    monkeypatch.setattr(graph, "cell_and_symmetry", forbidden)
    build_graphs(list(crystals.values()), plain)
    with pytest.raises(AssertionError, match="nobody asked"):
        build_graphs(list(crystals.values()), asked)


def test_a_group_that_training_did_not_have_moves_nothing():
    """Its weights have learned nothing: they must not act at prediction."""
    salts = {f"c{k}": make_crystal(fcc(5 + k / 5), ["Na", "Cl"], [[0] * 3, [0.5] * 3]) for k in range(4)}
    network = model(config={"global_features": "spacegroup"}).networks[0]
    collator = collator_of(salts)
    seen = np.eye(NUM_GROUPS, dtype=np.float32)[[224, 224, 224, 220]]
    collator.global_features = network.global_mean.new_tensor(seen)
    rows = network.global_mean.new_tensor([0, 1, 2, 3]).long()
    network.fit_statistics([collator[rows]])

    def predicted(group: int):
        collator.global_features = network.global_mean.new_tensor(np.eye(NUM_GROUPS)[[group - 1]])
        return network(collator[rows[:1]])["band_gap"].item()

    assert predicted(1) == predicted(62) == predicted(230)
    assert len({predicted(225), predicted(221), predicted(1)}) == 3


def mixed(count: int) -> dict:
    salts = {f"s{k}": make_crystal(fcc(5.2 + k / 10), ["Na", "Cl"], [[0] * 3, [0.5] * 3]) for k in range(count)}
    return salts | {f"r{k}": random_crystal(k, 3) for k in range(count)}


SMALL = ("--epochs", 2, "--atom-fea-len", 8, "--h-fea-len", 8, "--threads", 1)


def test_trained_on_all_kinds_and_predicted_from_new_files(data_folder, tmp_path):
    structures = mixed(8)
    out = tmp_path / "out"
    train(data_folder(crystals=structures), out, *SMALL, "--global-features", ALL)
    assert checkpoint.load(out / "model_best.pth.tar").graph.symmetry
    new = structures | {"turned": turned(structures["r1"])}
    assert predict(out / "model_best.pth.tar", folder_of(new, tmp_path / "new"), tmp_path / "new.csv").status == 0
    found = pd.read_csv(tmp_path / "new.csv", index_col=0)["energy_pred"]
    tested = pd.read_csv(out / "test_results.csv", index_col=0)["energy_pred"]
    assert len(tested) > 0 and found[tested.index].tolist() == pytest.approx(tested.tolist(), rel=1e-5)
    assert found["turned"] == pytest.approx(found["r1"], rel=1e-5)


def turned(crystal):
    """The same crystal from another origin, in another cell."""
    cell, places = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]), crystal.frac_coords + np.array([0.2, 0.1, 0.7])
    symbols = [{8: "O", 22: "Ti", 56: "Ba", 3: "Li", 16: "S"}[number] for number in crystal.numbers.tolist()]
    return make_crystal(cell @ crystal.lattice, symbols, places @ np.linalg.inv(cell))


def test_graphs_without_symmetry_are_not_built_again(data_folder, tmp_path):
    folder = data_folder(crystals=mixed(4))
    for path in folder.glob("*.cif"):  # a file of this second would be read again
        os.utime(path, (1_600_000_000, 1_600_000_000))
    train(folder, tmp_path / "one", *SMALL)
    stamps = {path: path.stat().st_mtime_ns for path in (folder / ".cgcnn_cache").rglob("*.bin")}
    train(folder, tmp_path / "two", *SMALL, "--global-features", "lattice")
    train(folder, tmp_path / "one", *SMALL, "--global-features", "valence")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list((folder / ".cgcnn_cache").glob("graphs-*"))) == 2


@pytest.mark.parametrize("kinds", ["colour", "valence+colour", "lattice+lattice", "symmetry,lattice", "+"])
def test_an_unknown_kind_is_one_line_before_any_work(data_folder, tmp_path, kinds):
    folder = data_folder()
    line = refused(train_command, folder, "--out-dir", tmp_path / "out", "--global-features", kinds)
    assert line.startswith(f"error: --global-features {kinds}: ") and line.count("\n") == 1
    assert not (folder / ".cgcnn_cache").exists() or not list((folder / ".cgcnn_cache").iterdir())


def test_a_checkpoint_from_before_symmetry_loads(tmp_path):
    path = saved(model(), tmp_path / "old.pth.tar")
    content = checkpoint.read(path)
    del content["graph"]["symmetry"]
    checkpoint.save(path, content)
    assert checkpoint.load(path).graph == GraphSettings()
