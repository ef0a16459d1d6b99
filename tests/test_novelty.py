"""What a model tells of crystals that are unlike its training set."""

import numpy as np
import pytest
import torch
from conftest import make_crystal
from screening_helpers import SALT, collator_of, fcc, model, salts, saved

from cgcnn import checkpoint, novelty
from cgcnn.labels import DataError
from cgcnn.novelty import training_domain
from cgcnn.screening.ensemble import Ensemble
from cgcnn.screening.stream import read_chunk

TRAINED_ON = salts(60)


@pytest.fixture(scope="module")
def trained():
    return model(trained_on=TRAINED_ON)


def predicted(crystals, *models):
    ensemble = Ensemble(models)
    found, failed = ensemble.predict_chunk(read_chunk(list(crystals.items()), ensemble.settings))
    assert not failed
    return found


def test_training_crystals_and_those_between_them_are_not_flagged(trained):
    found = predicted(TRAINED_ON | {f"new{i}": c for i, c in salts(41, low=5.25, high=5.95).items()}, trained)
    assert found.unlike.count("") >= 0.97 * len(found.unlike)
    assert found.distance[:60] == pytest.approx(np.zeros(60), abs=0.2)
    assert (found.distance[60:] <= 1).mean() > 0.97


def test_an_unseen_element_and_another_structure_are_flagged(trained):
    crystals = {
        "like": TRAINED_ON["c030"],
        "element": make_crystal(fcc(5.6), ["Na", "Br"], SALT),
        "two": make_crystal(fcc(5.6), ["Cs", "I"], SALT),
        "dense": make_crystal(fcc(4.0), ["Na", "Cl"], SALT),
        "chain": make_crystal(np.diag([12.0, 12.0, 2.4]), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.5]]),
    }
    found = predicted(crystals, trained)
    assert found.unlike == ["", "element Br", "element I Cs", "far", "far"]
    assert found.distance[3] > 1 and found.distance[4] > 1


def test_a_disordered_site_shows_all_its_elements(trained):
    mixed = make_crystal(fcc(5.6), [{"Na": 0.5, "K": 0.5}, "Cl"], SALT)
    assert predicted({"x": mixed}, trained).unlike == ["element K"]


def test_of_several_models_the_most_sceptical_counts(trained):
    narrow = model(seed=1, trained_on=salts(30, low=5.2, high=5.3))
    crystals = {"inside": TRAINED_ON["c002"], "outside": TRAINED_ON["c055"]}
    assert predicted(crystals, trained).unlike == ["", ""]
    alone = predicted(crystals, narrow).distance
    for models in ((trained, narrow), (narrow, trained)):
        both = predicted(crystals, *models)
        assert both.unlike == ["", "far"]
        assert both.distance == pytest.approx(np.maximum(predicted(crystals, trained).distance, alone))
    potash = {"x": make_crystal(fcc(5.6), ["K", "Cl"], SALT)}
    other = model(seed=1, trained_on=potash | {"y": make_crystal(fcc(5.7), ["K", "Cl"], SALT)})
    assert predicted(potash, trained, other).unlike == ["element K"] == predicted(potash, other, trained).unlike
    assert predicted(crystals, model(seed=2)).unlike is None
    assert predicted(crystals, model(seed=2), narrow).distance == pytest.approx(alone)


def test_the_threshold_is_what_one_training_crystal_in_a_hundred_exceeds(trained):
    vectors = trained.domain.vectors.float()
    apart = torch.cdist(vectors.double(), vectors.double()).fill_diagonal_(torch.inf).amin(dim=1)
    assert trained.domain.threshold == pytest.approx(np.percentile(apart.numpy(), 99), rel=1e-4)


def test_what_is_kept_is_bounded_and_drawn_with_a_seed(monkeypatch, trained):
    monkeypatch.setattr(novelty, "MAX_KEPT", 20)
    collator, rows = collator_of(TRAINED_ON), torch.arange(60)
    one, same, other = (training_domain(trained.networks[0], collator, rows, seed=seed) for seed in (1, 1, 2))
    assert one.vectors.shape == (20, 12) and one.vectors.dtype == torch.float16
    assert torch.equal(one.vectors, same.vectors) and not torch.equal(one.vectors, other.vectors)
    assert one.elements == (11, 17)


def test_only_the_training_part_counts(trained):
    crystals = TRAINED_ON | {"test": make_crystal(fcc(5.6), ["Na", "Br"], SALT)}
    domain = training_domain(trained.networks[0], collator_of(crystals), torch.arange(60))
    assert domain.elements == (11, 17) and len(domain.vectors) == 60
    assert training_domain(trained.networks[0], collator_of(crystals), torch.arange(1)) is None


def test_crystals_that_are_all_the_same_leave_a_distance_to_measure(trained):
    same = dict.fromkeys("abc", TRAINED_ON["c000"])
    domain = training_domain(trained.networks[0], collator_of(same), torch.arange(3))
    assert np.isfinite(domain.distances(torch.zeros(2, 12))).all()


def test_a_checkpoint_keeps_it_and_older_ones_have_none(trained, tmp_path):
    again = checkpoint.load(saved(trained, tmp_path / "m.pt"))
    crystals = {"a": TRAINED_ON["c010"], "b": make_crystal(fcc(4.0), ["Na", "Cl"], SALT)}
    assert predicted(crystals, again).distance.tolist() == predicted(crystals, trained).distance.tolist()
    content = trained.to_dict()
    del content["domain"]
    checkpoint.save(tmp_path / "old.pt", content)
    assert checkpoint.load(tmp_path / "old.pt").domain is None


@pytest.mark.parametrize(
    ("name", "value"), [("scale", (1, 2)), ("mean", torch.ones(3)), ("vectors", torch.ones(4)), ("threshold", "x")]
)
def test_a_checkpoint_with_another_domain_is_refused(name, value, trained, tmp_path):
    content = trained.to_dict()
    content["domain"] = {**content["domain"], name: value}
    checkpoint.save(tmp_path / "odd.pt", content)
    with pytest.raises(DataError, match=r"odd\.pt: a checkpoint, but of no model that is known here"):
        checkpoint.load(tmp_path / "odd.pt")


@pytest.mark.parametrize("elements", [["x"], [0], [119], [-1], [[1]], None, [float("nan")]], ids=str)
def test_a_checkpoint_with_elements_that_are_none_is_refused(elements, trained, tmp_path):
    content = trained.to_dict()
    content["domain"] = {**content["domain"], "elements": elements}
    checkpoint.save(tmp_path / "odd.pt", content)
    with pytest.raises(DataError, match=r"odd\.pt: a checkpoint, but of no model that is known here"):
        checkpoint.load(tmp_path / "odd.pt")
