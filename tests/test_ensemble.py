"""Several networks as one: means, deviations, models that fit together, and what atoms have to do with it."""

import numpy as np
import pytest
from conftest import make_crystal, random_crystal
from screening_helpers import GAP, KIND, SALT, WORK_FUNCTION, model, salts

from cgcnn.graph import GraphSettings, build_graph
from cgcnn.labels import DataError
from cgcnn.prediction import GapRule
from cgcnn.screening import ensemble, stream
from cgcnn.screening.contributions import adds_up, site_elements
from cgcnn.screening.ensemble import Ensemble
from cgcnn.screening.stream import read_chunk
from cgcnn.tasks import AUXILIARY, CLASSIFICATION, Normalizer, Task

CRYSTALS = salts(5) | {"low": random_crystal(3, 7, length=6.0), "lone": make_crystal(2.9, ["Li"], [[0, 0, 0]])}


def predicted(*models, crystals=CRYSTALS, **options):
    ensemble = Ensemble(models)
    found, failed = ensemble.predict_chunk(read_chunk(list(crystals.items()), ensemble.settings), **options)
    assert not failed and found.ids == list(crystals)
    return found


def test_every_network_of_every_model_counts_once():
    one, three = model(seed=1), model(seed=2, networks=3)
    singles = [predicted(one)]
    for network in list(three.networks):
        three.networks, kept = [network], three.networks
        singles.append(predicted(three))
        three.networks = kept
    assert all(single.deviations == {} for single in singles)
    both = predicted(one, three)
    for name in ("work_function", "band_gap"):
        values = np.stack([single.values[name] for single in singles])
        assert both.values[name] == pytest.approx(values.mean(axis=0))
        assert both.deviations[name] == pytest.approx(values.std(axis=0))
        assert (both.deviations[name] > 0).all()
    assert np.array_equal(both.vectors, singles[0].vectors) and both.vectors.shape == (7, 12)


def test_probabilities_are_averaged_and_disagreement_is_that_on_the_predicted_class():
    phase = Task("phase", CLASSIFICATION, classes=("0", "1", "2"))
    models = [model(phase, seed=seed) for seed in (1, 2, 3)]
    singles = np.stack([predicted(one).values["phase"] for one in models])
    both = predicted(*models)
    mean = both.values["phase"]
    assert mean == pytest.approx(singles.mean(axis=0))
    chosen = mean.argmax(axis=1)
    assert both.deviations["phase"] == pytest.approx(singles[:, np.arange(7), chosen].std(axis=0))


def test_the_metal_rule_comes_after_the_mean_and_leaves_the_deviation():
    models = [model(GAP, KIND, seed=seed, rule=GapRule(0.0, 0.0)) for seed in (1, 2)]
    free = [model(GAP, KIND, seed=seed) for seed in (1, 2)]
    assert (predicted(*models).values["band_gap"] == 0).all()
    assert predicted(*models).deviations["band_gap"] == pytest.approx(predicted(*free).deviations["band_gap"])


def test_graphs_are_built_once_for_each_setting(monkeypatch):
    built = []
    monkeypatch.setattr(
        stream, "graphs_or_errors", lambda crystals, s: built.append(s) or [build_graph(c, s) for c in crystals]
    )
    small = GraphSettings(radius=5.0, max_num_nbr=4)
    models = [model(seed=1), model(seed=2, graph=small, config={"radius": 5.0}), model(seed=3)]
    both = predicted(*models)
    assert built == [GraphSettings(), small]
    alone = np.stack([predicted(one).values["band_gap"] for one in models])
    assert both.values["band_gap"] == pytest.approx(alone.mean(axis=0))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (model(GAP), r"two\.pt: predicts band_gap \(eV\), and one\.pt work_function \(eV\), band_gap \(eV\)"),
        (model(Task("work_function", unit="J"), GAP), "predict the same"),
        (model(WORK_FUNCTION, GAP, rule=GapRule(0.7)), r"two\.pt: another --metal-threshold or --min-bandgap"),
    ],
)
def test_models_that_do_not_fit_together(other, said):
    with pytest.raises(DataError, match=said) as error:
        Ensemble([model(), other], ["one.pt", "two.pt"])
    assert "\n" not in str(error.value)


def test_auxiliary_tasks_and_the_order_of_tasks_may_differ():
    other = model(Task("aux", role=AUXILIARY), GAP, WORK_FUNCTION, seed=2)
    both = predicted(model(seed=1), other)
    mean = (predicted(model(seed=1)).values["band_gap"] + predicted(other).values["band_gap"]) / 2
    assert both.values["band_gap"] == pytest.approx(mean) and set(both.values) == {"work_function", "band_gap"}


def test_an_element_that_one_model_has_no_vector_for():
    lacking = model(seed=2)
    lacking.elements = lacking.elements.clone()
    lacking.elements[17] = np.nan
    ensemble = Ensemble([model(seed=1), lacking])
    crystals = {"a": CRYSTALS["c000"], "b": CRYSTALS["lone"], "c": CRYSTALS["c001"]}
    found, failed = ensemble.predict_chunk(read_chunk(list(crystals.items()), ensemble.settings))
    assert found.ids == ["b"] and len(found.values["band_gap"]) == 1
    assert failed == dict.fromkeys("ac", "no element vector for atomic number 17")
    nothing, failed = ensemble.predict_chunk(read_chunk([("a", CRYSTALS["c000"])], ensemble.settings))
    assert nothing.ids == [] and nothing.deviations["band_gap"].shape == (0,) and set(failed) == {"a"}


def weighted_sums(found, name: str) -> np.ndarray:
    atoms = found.atoms
    return np.bincount(atoms.crystal, weights=atoms.weight * atoms.scores[name])


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("networks", [1, 3])
def test_scores_of_atoms_add_up_to_the_prediction(pooling, networks):
    """Where nothing but a linear head follows the pooling, for one network and for the mean of several."""
    made = model(networks=networks, config={"pooling": pooling})
    assert all(adds_up(network, made.normalizers) for network in made.networks)
    found = predicted(made, model(seed=9, config={"pooling": pooling}), with_atoms=True)
    assert np.bincount(found.atoms.crystal).tolist() == [2] * 5 + [7, 1]
    assert np.bincount(found.atoms.crystal, weights=found.atoms.weight) == pytest.approx(np.ones(7))
    for name in ("work_function", "band_gap"):
        assert weighted_sums(found, name) == pytest.approx(found.values[name], abs=1e-5)
    if pooling == "mean":
        assert found.atoms.weight[:2].tolist() == [0.5, 0.5]
    assert predicted(made).atoms is None


@pytest.mark.parametrize(
    "config",
    [
        {"n_h": 2},
        {"readout": "classic"},
        {"global_features": "valence"},
        *({"pooling": p} for p in ("max", "set2set", "sum")),
    ],
)
def test_where_layers_follow_the_pooling_the_scores_do_not_add_up(config):
    """The score of an atom is then the prediction for a crystal of such atoms: right where all atoms are alike."""
    made = model(config=config)
    assert not adds_up(made.networks[0], made.normalizers)
    found = predicted(made, with_atoms=True)
    assert np.abs(weighted_sums(found, "band_gap") - found.values["band_gap"]).max() > 1e-5
    assert found.atoms.scores["band_gap"][-1] == pytest.approx(found.values["band_gap"][-1], abs=1e-5)


def test_a_logarithm_does_not_add_up():
    made = model(GAP)
    assert not adds_up(made.networks[0], {"band_gap": Normalizer(1.0, 0.5, "log")})


def test_elements_of_a_site():
    mixed = make_crystal(5.0, [{"Ni": 0.8, "Co": 0.15}, "O"], SALT)
    assert site_elements(build_graph(mixed)) == ["Ni0.8Co0.15", "O"]


@pytest.mark.parametrize(("batch_size", "most"), [(2, 10**9), (256, 60), (256, 1), (3, 60)])
def test_batches_hold_no_more_crystals_and_edges_than_they_may(batch_size, most, monkeypatch):
    expected = predicted(model(), with_atoms=True)
    monkeypatch.setattr(ensemble, "MAX_EDGES", most)
    made, seen = model(), []
    embed = made.networks[0].embed
    monkeypatch.setattr(made.networks[0], "embed", lambda batch: seen.append(batch) or embed(batch))
    whole = Ensemble([made], batch_size=batch_size)
    found, _ = whole.predict_chunk(read_chunk(list(CRYSTALS.items()), whole.settings), with_atoms=True)
    assert sum(map(len, seen)) == 7
    assert all(len(batch) <= batch_size for batch in seen)
    assert all(len(batch) == 1 or len(batch.distances) <= most for batch in seen)
    assert len(seen) >= 3
    for name in ("work_function", "band_gap"):
        assert found.values[name] == pytest.approx(expected.values[name], abs=1e-5)
        assert found.atoms.scores[name] == pytest.approx(expected.atoms.scores[name], abs=1e-5)
    assert found.atoms.crystal.tolist() == expected.atoms.crystal.tolist()
