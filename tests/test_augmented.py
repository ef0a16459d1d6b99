"""Batches of changed crystals: what they depend on, that only training steps see them, and runs with --augment."""

import json
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import fcc, make_crystal, random_crystal
from helpers import refused, result_file, run, same_weights, train
from test_resume import assert_same_run, resume, stop_at

from cgcnn import augment, checkpoint, graph
from cgcnn.arguments import parse_training
from cgcnn.augment import Kind
from cgcnn.augmented import AugmentedCollator
from cgcnn.batch import Collator
from cgcnn.cli import train_command
from cgcnn.graph import GraphSettings, build_graph, build_graphs
from cgcnn.graph_table import GraphTable
from cgcnn.prediction import loader

SETTINGS = GraphSettings(environment=True)
MIXED = make_crystal(fcc(5.0), [{"Fe": 0.3, "Ni": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CRYSTALS = [random_crystal(k, 1 + k % 4) for k in range(7)] + [MIXED]
FIELDS = (
    "numbers",
    "occupancies",
    "site",
    "crystal",
    "num_atoms",
    "centres",
    "neighbours",
    "distances",
    "environment",
)
ALL = {"supercell": 2.0, "strain": 0.02, "perturb": 0.05, "rotate": None, "translate": None}


def graph_table(settings: GraphSettings = SETTINGS) -> GraphTable:
    return GraphTable.from_graphs(build_graphs(CRYSTALS, settings), [""] * len(CRYSTALS))


def collator(kinds: dict, *, seed: int = 1, epoch: int = 0, settings: GraphSettings = SETTINGS) -> AugmentedCollator:
    table = graph_table(settings)
    numbers = np.arange(2.0 * len(CRYSTALS)).reshape(-1, 2)
    return AugmentedCollator(table, settings, Collator(table, numbers, numbers + 100), kinds, seed, epoch)


def assert_same_batch(one, other) -> None:
    for name in (*FIELDS, "rows", "targets", "global_features"):
        # a table holds occupancies in single precision, of which the surroundings are made anew
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6, msg=name)


def test_a_table_gives_back_its_crystals():
    table = graph_table()
    for row, crystal in enumerate(CRYSTALS):
        found = table.crystal(row)
        for name in ("lattice", "frac_coords", "numbers", "site"):
            np.testing.assert_array_equal(getattr(found, name), getattr(crystal, name))
        np.testing.assert_allclose(found.occupancies, crystal.occupancies, rtol=1e-6)


def test_without_a_change_a_batch_is_the_plain_one():
    rows = torch.tensor([7, 3, 0, 5])
    changed = collator({})
    assert_same_batch(changed[rows], changed.plain[rows])


def test_histograms_are_of_the_changed_crystals():
    settings, rows = GraphSettings(4.0, histogram=40), torch.tensor([7, 3, 0, 5])
    still, changed = collator({}, settings=settings), collator({"strain": 0.05, "perturb": 0.1}, settings=settings)
    torch.testing.assert_close(still[rows].pairs.dense(41), still.plain[rows].pairs.dense(41))
    moved = changed[rows].pairs
    graphs = build_graphs([changed._crystals(row)[0] for row in rows.tolist()], settings)
    expected = Collator(GraphTable.from_graphs(graphs, [""] * 4))[torch.arange(4)].pairs
    torch.testing.assert_close(moved.dense(41), expected.dense(41))
    assert not torch.equal(moved.dense(41), still[rows].pairs.dense(41))


def test_symmetry_is_not_searched_for_again(monkeypatch):
    """Of a changed crystal nobody asks for it, and it is slow; a crystal that stays as it is may have it."""
    changed, rows = collator({"perturb": 0.0}, settings=replace(SETTINGS, symmetry=True)), torch.tensor([7, 3, 0, 5])
    monkeypatch.setattr(graph, "cell_and_symmetry", lambda crystal: 1 / 0)
    assert_same_batch(changed[rows], changed.plain[rows])


@pytest.mark.parametrize("kinds", [{"perturb": 0.05}, {"strain": 0.02}, ALL], ids=lambda kinds: "+".join(kinds))
def test_a_batch_has_the_graphs_of_changed_crystals_and_the_numbers_of_the_plain_ones(kinds):
    rows, changed = torch.tensor([7, 3, 0, 5]), collator(kinds)
    batch, plain = changed[rows], changed.plain[rows]
    for name in ("rows", "targets", "global_features"):
        assert torch.equal(getattr(batch, name), getattr(plain, name))
    graphs = changed.graphs(rows.tolist())
    assert torch.equal(batch.distances, torch.from_numpy(np.concatenate([each.distances for each in graphs])))
    assert torch.equal(batch.environment, torch.from_numpy(np.concatenate([each.environment for each in graphs])))
    for each in graphs:  # with the surroundings that the crystals have that they name
        again = build_graph(GraphTable.from_graphs([each], [""]).crystal(0), SETTINGS)
        np.testing.assert_allclose(again.environment, each.environment, rtol=1e-5, atol=1e-6)
    assert len(batch.distances) != len(plain.distances) or not torch.equal(batch.distances, plain.distances)
    if "supercell" not in kinds:  # the shell of eighteen in the salt of row 7 stays whole
        assert torch.equal(batch.centres, plain.centres) and torch.equal(batch.neighbours, plain.neighbours)


def test_every_atom_keeps_its_neighbours_at_other_distances():
    """Twelve of the fourteen neighbours in a bcc metal would be left if they were chosen by distance again."""
    iron = make_crystal(2.87, ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    still, rng = [iron, *CRYSTALS], np.random.default_rng(0)
    moved = [augment.translate(augment.strain(augment.perturb(c, 0.05, rng), 0.02, rng), rng) for c in still]
    before, graphs = build_graphs(still, SETTINGS), build_graphs(still, SETTINGS, moved=moved)
    assert graphs[0].degree.tolist() == [14, 14] and build_graph(moved[0]).degree.tolist() == [12, 12]
    for one, other, crystal, new in zip(before, graphs, still, moved, strict=True):
        np.testing.assert_array_equal(one.degree, other.degree)
        np.testing.assert_array_equal(one.neighbours, other.neighbours)
        images = np.indices((9, 9, 9)).reshape(3, -1).T - 4
        centre = np.repeat(np.arange(crystal.num_sites), one.degree)
        for edge in range(len(one.distances)):
            i, j = centre[edge], one.neighbours[edge]
            steps = [c.frac_coords[j] + images - c.frac_coords[i] for c in (crystal, new)]
            lengths = [np.linalg.norm(s @ c.lattice, axis=1) for s, c in zip(steps, (crystal, new), strict=True)]
            same = np.abs(lengths[0] - one.distances[edge]) < 1e-4  # equal distances may be several images
            assert np.abs(lengths[1][same] - other.distances[edge]).min() < 1e-5
        assert crystal.num_sites == 1 or np.abs(one.distances - other.distances).max() > 0.01


def test_a_smaller_change_is_a_smaller_change_of_the_graph(types):
    for amount in (1e-2, 1e-4, 1e-6):
        moved = [augment.perturb(crystal, amount, np.random.default_rng(0)) for crystal in types]
        for one, other in zip(build_graphs(types), build_graphs(types, moved=moved), strict=True):
            np.testing.assert_allclose(other.distances, one.distances, rtol=0, atol=12 * amount + 1e-6)


def test_a_crystal_depends_on_seed_epoch_and_row_only(monkeypatch):
    one = collator(ALL)
    (alone,), (_, among, _) = one.graphs([3]), one.graphs([5, 3, 0])
    np.testing.assert_array_equal(alone.distances, among.distances)
    others = [one.in_epoch(1), collator(ALL, seed=2), collator(ALL, seed=-1)]
    found = [other.graphs([3])[0].frac_coords[0].tolist() for other in (one, *others)]
    assert len(set(map(tuple, found))) == 4
    assert one.graphs([3])[0].frac_coords[0].tolist() == found[0]
    np.testing.assert_array_equal(one.in_epoch(1).in_epoch(0).graphs([3])[0].distances, alone.distances)
    monkeypatch.setattr(GraphTable, "crystal", lambda self, row: CRYSTALS[3])
    twin, other = one.graphs([3, 5])  # one crystal in two rows
    assert twin.frac_coords.shape != other.frac_coords.shape or not np.allclose(twin.frac_coords, other.frac_coords)


def test_workers_change_nothing():
    batches, changed = [torch.tensor([0, 1, 2]), torch.tensor([3, 4]), torch.tensor([7, 5, 6])], collator(ALL)
    for one, other in zip(loader(changed, batches), loader(changed, batches, workers=2), strict=True):
        assert_same_batch(one, other)


def collapse(crystal, rng):
    """Every second crystal becomes too dense to have a graph."""
    return replace(crystal, lattice=crystal.lattice * 1e-4) if rng.integers(2) else crystal


def test_a_crystal_without_a_graph_stays_as_it_is(monkeypatch):
    monkeypatch.setitem(augment.KINDS, "collapse", Kind(collapse))
    rows = torch.arange(len(CRYSTALS))
    changed = collator({"perturb": 0.05, "collapse": None})
    moved = collator({"perturb": 0.05})
    found, plain, noisy = (each.graphs(rows.tolist()) for each in (changed, collator({}), moved))
    kept = [np.array_equal(one.distances, other.distances) for one, other in zip(found, plain, strict=True)]
    went = [np.array_equal(one.distances, other.distances) for one, other in zip(found, noisy, strict=True)]
    many = [crystal.num_sites > 1 for crystal in CRYSTALS]
    assert any(kept[k] and not went[k] for k, more in enumerate(many) if more)
    assert any(went[k] and not kept[k] for k, more in enumerate(many) if more)
    assert all(k or w for k, w in zip(kept, went, strict=True))


# Runs: 10 training crystals in batches of 4, 4 and 2: three steps an epoch.
SMALL = ["--val-size", 4, "--test-size", 4, "--batch-size", 4, "--atom-fea-len", 8, "--h-fea-len", 8, "--threads", 1]
SMALL += ["--environment", "--global-features", "valence+slab"]
WILD = ["--augment", "perturb=0.3", "strain=0.1", "supercell", "rotate", "translate"]


@pytest.fixture
def folder(data_folder):
    return data_folder(crystals={f"r{k:02}": random_crystal(k, 2 + k % 3) for k in range(18)})


@pytest.fixture
def batches_seen(monkeypatch) -> list:
    """The (epoch, rows) of every augmented batch that is made."""
    plain, seen = AugmentedCollator.__getitem__, []

    def noted(self, rows):
        seen.append((self.epoch, rows.tolist()))
        return plain(self, rows)

    monkeypatch.setattr(AugmentedCollator, "__getitem__", noted)
    return seen


def test_only_training_steps_see_changed_crystals(folder, tmp_path, batches_seen):
    """Not the statistics of inputs, the averaged weights' norms, validation, test; and each crystal once an epoch."""
    train(folder, tmp_path / "one", *SMALL, "--epochs", 3, "--swa", 2, *WILD)
    split = pd.read_csv(result_file(tmp_path / "one", "split1_ids.csv"), index_col="cif_id")["split"]
    names = sorted(split.index)
    assert [epoch for epoch, _ in batches_seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for epoch in range(3):
        rows = [row for at, part in batches_seen for row in part if at == epoch]
        assert sorted(names[row] for row in rows) == sorted(split.index[split == "train"])
    train(folder, tmp_path / "two", *SMALL, "--epochs", 3, "--swa", 2)
    one, two = (checkpoint.load(tmp_path / name / "model_best.pth.tar").networks[0] for name in ("one", "two"))
    for name in ("environment_mean", "environment_std", "global_mean", "global_std"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert not same_weights(tmp_path / "one" / "model_best.pth.tar", tmp_path / "two" / "model_best.pth.tar")


def test_a_network_that_does_not_learn_predicts_the_same(folder, tmp_path):
    """Frozen: at a rate of 0 alone, the norms would still take statistics from the batches of the steps."""
    train(folder, tmp_path / "start", *SMALL, "--epochs", 1)
    still = ["--init-from", tmp_path / "start" / "model_best.pth.tar", "--freeze-body", "--lr", 0, "--epochs", 2]
    for name, words in (("plain", []), ("wild", WILD)):
        train(folder, tmp_path / name, *SMALL, *still, *words)
    plain, wild = tmp_path / "plain", tmp_path / "wild"
    assert (plain / "test_results.csv").read_bytes() == (wild / "test_results.csv").read_bytes()
    for ending in ("validation.csv", "metrics.csv"):
        assert result_file(plain, ending).read_bytes() == result_file(wild, ending).read_bytes()
    losses = [pd.read_csv(result_file(out, "history.csv")) for out in (plain, wild)]
    plain_loss, wild_loss = (table["energy_train_loss"].to_numpy() for table in losses)
    assert plain_loss[1] == pytest.approx(plain_loss[0], rel=1e-5)  # the same crystals in every epoch
    assert abs(wild_loss - plain_loss[0]).min() > 1e-4 and abs(wild_loss[1] - wild_loss[0]) > 1e-4


def test_same_seed_same_run(folder, tmp_path):
    words, model = [*SMALL, "--epochs", 2, *WILD], "model_best.pth.tar"
    for name, more in (("one", []), ("two", []), ("helped", ["--workers", 1]), ("other", ["--seed", 7])):
        train(folder, tmp_path / name, *words, *more)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert same_weights(tmp_path / "one" / model, tmp_path / "helped" / model)
    assert not same_weights(tmp_path / "one" / model, tmp_path / "other" / model)


@pytest.mark.parametrize("words", [["--ema", 0.9], ["--ensemble", 2, "--workers", 1]], ids=lambda words: words[0])
@pytest.mark.parametrize("step", [1, 5])
def test_resumed_is_uninterrupted(folder, tmp_path, monkeypatch, words, step):
    words = [*SMALL, "--epochs", 3, *WILD, *words]
    train(folder, tmp_path / "one", *words)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        ran = run(train_command, folder, "--out-dir", tmp_path / "two", "--disable-cuda", *words)
    assert ran.status == 128 + signal.SIGTERM
    resume(folder, tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_the_networks_of_an_ensemble_see_different_crystals(folder, tmp_path, monkeypatch):
    seeds, plain = [], AugmentedCollator.in_epoch
    monkeypatch.setattr(AugmentedCollator, "in_epoch", lambda self, n: seeds.append(self.seed) or plain(self, n))
    train(folder, tmp_path / "one", *SMALL, "--epochs", 1, "--ensemble", 2, "--num-splits", 2, "--augment", "strain")
    assert len(set(seeds)) == len(seeds) == 4


@pytest.mark.parametrize("model", ["cgcnn", "csgcnn", "csgann", "csginn"])
@pytest.mark.parametrize("pooling", ["attention", "set2set"])
def test_every_network_trains_with_it_and_the_configuration_repeats_it(folder, tmp_path, model, pooling):
    ran = train(folder, tmp_path / "one", *SMALL, "--epochs", 1, "--model", model, "--pooling", pooling, *WILD)
    assert ran.out.count("--augment rotate translate: these graphs do not see it") == 1
    path = result_file(tmp_path / "one", "config.toml")
    words = ["supercell=2", "strain=0.1", "perturb=0.3", "rotate", "translate"]
    assert sorted(parse_training([str(folder), "--config", str(path)]).augment) == sorted(words)
    train(folder, tmp_path / "two", "--config", path)
    assert same_weights(tmp_path / "one" / "model_best.pth.tar", tmp_path / "two" / "model_best.pth.tar")
    resumed = [str(folder), "--resume", str(tmp_path / "one" / "checkpoint.pth.tar")]
    assert sorted(parse_training(resumed).augment) == sorted(words)
    assert parse_training([*resumed, "--augment", "none"]).augment == ["none"]


def test_what_these_graphs_do_not_see_is_told_once(folder, tmp_path):
    ran = train(folder, tmp_path / "one", *SMALL, "--epochs", 1, "--augment", "rotate", "translate")
    assert ran.out.count("--augment rotate translate: these graphs do not see it, no prediction changes\n") == 1


def test_crystals_of_one_atom_are_counted_in_the_training_part(data_folder, tmp_path):
    folder = data_folder(crystals={f"r{k:02}": random_crystal(k, 1 + k % 2) for k in range(18)})
    for name, words in (("one", ["perturb"]), ("two", ["perturb", "strain"])):
        ran = train(folder, tmp_path / name, *SMALL[:-3], "--epochs", 1, "--augment", *words)
        parts = pd.read_csv(result_file(tmp_path / name, "split1_ids.csv"), index_col="cif_id")["split"]
        count = sum(k % 2 == 0 and parts[f"r{k:02}"] == "train" for k in range(18))
        assert (f"{count} of 10 training crystals have one atom in their cell" in ran.out) == (name == "one")


def test_a_sweep_has_it_as_an_axis():
    from cgcnn.sweep.axes import describe, flags_of, read_axes

    (axis,) = read_axes(["augment=none,perturb strain=0.01,perturb=0.03 strain=0.01"])
    assert axis.values == (["none"], ["perturb=0.03", "strain=0.01"])
    assert describe({"augment": axis.values[1]}) == "augment=perturb=0.03 strain=0.01"
    assert json.loads(json.dumps(flags_of({"augment": axis.values[1]}))) == {
        "augment": ["perturb=0.03", "strain=0.01"]
    }


def test_a_sum_over_the_cell_cannot_repeat_it(folder, tmp_path):
    line = refused(train_command, folder, "--out-dir", tmp_path, "--pooling", "sum", "--augment", "supercell=3")
    assert line.startswith("error: --augment supercell cannot go with --pooling sum") and line.count("\n") == 1
    train(folder, tmp_path / "out", *SMALL, "--epochs", 1, "--pooling", "sum", "--augment", "strain")
