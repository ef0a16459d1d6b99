"""From outputs to units: the metal rule, scales, ensembles, batches."""

import math

import numpy as np
import pytest
import torch

from cgcnn.batch import Collator
from cgcnn.crystal import Crystal
from cgcnn.features import element_table
from cgcnn.graph import build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.network import CrystalGraphNetwork, NetworkConfig
from cgcnn.prediction import GapRule, combine, in_units, loader, predict_rows, raw_outputs
from cgcnn.tasks import CATEGORY, CLASSIFICATION, Normalizer, Task, TaskSet

KIND = Task("material_type", CLASSIFICATION, CATEGORY, classes=("metal", "semiconductor"))
TASKS = TaskSet((Task("work_function"), Task("band_gap"), KIND))
NORMALIZERS = {"work_function": Normalizer(4.0, 2.0), "band_gap": Normalizer(1.0, 0.5)}


def cubic(number: int, a: float) -> Crystal:
    return Crystal(a * np.eye(3), np.zeros((1, 3)), np.array([number], np.uint8), np.ones(1), np.zeros(1, np.int32))


@pytest.fixture(scope="module")
def collator() -> Collator:
    graphs = [build_graph(cubic(number, 2.5 + number / 30)) for number in range(11, 31)]
    return Collator(GraphTable.from_graphs(graphs, [""] * len(graphs)))


def network(seed: int) -> CrystalGraphNetwork:
    torch.manual_seed(seed)
    return CrystalGraphNetwork(NetworkConfig(8, 8, dropout=0.5), TASKS, element_table())


def test_gap_rule():
    rule = GapRule(metal_threshold=0.6, min_bandgap=0.02)
    gap, p_metal = torch.tensor([1.0, 1.0, 1.0, -0.3, 0.01, -0.3]), torch.tensor([0.2, 0.6, 0.61, 0.1, 0.6, 0.9])
    assert rule(gap, p_metal).tolist() == pytest.approx([1, 1, 0, 0.02, 0.02, 0])
    assert rule(torch.tensor([math.nan]), torch.tensor([0.1])).isnan().all()
    assert GapRule(**rule.to_dict()) == rule


def test_units_and_probabilities():
    outputs = {
        "work_function": torch.tensor([0.0, 1.0]),
        "band_gap": torch.tensor([2.0, -2.0]),
        "material_type": torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]),
    }
    found = in_units(outputs, TASKS, NORMALIZERS)
    assert found["work_function"].tolist() == [4, 6] and found["band_gap"].tolist() == [2, 0]
    torch.testing.assert_close(found["material_type"], torch.tensor([[0.25, 0.75], [0.5, 0.5]]).double())
    assert all(value.dtype == torch.float64 for value in found.values())


def test_an_ensemble_is_the_mean_in_units_and_the_rule_comes_last():
    log = TaskSet((Task("k", transform="log"),))
    members = [in_units({"k": torch.tensor([x])}, log, {"k": Normalizer(transform="log")}) for x in (1.0, 3.0)]
    assert combine(members, log, None)["k"] == pytest.approx([505])
    members = [
        {
            "work_function": torch.tensor([w]),
            "band_gap": torch.tensor([g]),
            "material_type": torch.tensor([[p, 1 - p]]),
        }
        for w, g, p in ((4.0, 1.0, 0.2), (5.0, 2.0, 0.7))
    ]
    found = combine(members, TASKS, GapRule())
    assert (found["work_function"], found["band_gap"]) == (pytest.approx([4.5]), pytest.approx([1.5]))
    assert found["material_type"] == pytest.approx(np.array([[0.45, 0.55]]))
    assert combine(members, TASKS, GapRule(metal_threshold=0.4))["band_gap"] == [0]
    assert combine(members, TASKS, None)["band_gap"] == pytest.approx([1.5])


def test_a_rule_without_category_or_gap_does_nothing():
    tasks = TaskSet((Task("work_function"),))
    assert combine([{"work_function": torch.tensor([-1.0])}], tasks, GapRule())["work_function"] == [-1]


def test_predictions_of_several_networks(collator):
    models, rows = [network(0), network(1)], torch.tensor([3, 0, 19, 7])
    alone = [predict_rows([model], collator, rows, TASKS, NORMALIZERS) for model in models]
    both = predict_rows(models, collator, rows, TASKS, NORMALIZERS)
    for task in TASKS:
        assert both[task.name] == pytest.approx((alone[0][task.name] + alone[1][task.name]) / 2)
        assert not np.allclose(alone[0][task.name], alone[1][task.name])
    assert both["material_type"].sum(1) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("batch_size", [1, 3, 20, 100])
def test_the_batch_size_does_not_matter(collator, batch_size):
    rows = torch.arange(20)
    expected = predict_rows([network(0)], collator, rows, TASKS, NORMALIZERS)
    found = predict_rows([network(0)], collator, rows, TASKS, NORMALIZERS, batch_size=batch_size)
    for task in TASKS:
        assert found[task.name] == pytest.approx(expected[task.name], abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_leaves_a_network_as_it_was(collator, training):
    model = network(0).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = raw_outputs(model, collator, torch.arange(20), batch_size=8)
    second = raw_outputs(model, collator, torch.arange(20), batch_size=8)
    assert model.training == training
    assert all(torch.equal(first[name], second[name]) for name in first)  # no dropout
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not first["band_gap"].requires_grad


def test_a_prediction_can_be_stopped_at_every_batch(collator):
    class Stop(Exception):  # noqa: N818
        pass

    def stop() -> None:
        left.pop()
        if not left:
            raise Stop

    left = [None] * 100
    predict_rows(
        [network(0), network(1)], collator, torch.arange(20), TASKS, NORMALIZERS, batch_size=8, check_stop=stop
    )
    assert len(left) == 100 - 2 * 3
    left = [None] * 5  # in the second network
    with pytest.raises(Stop):
        predict_rows(
            [network(0), network(1)], collator, torch.arange(20), TASKS, NORMALIZERS, batch_size=8, check_stop=stop
        )


def test_no_crystals_no_predictions():
    found = predict_rows([network(0)], None, torch.arange(0), TASKS, NORMALIZERS)
    assert {name: value.shape for name, value in found.items()} == {
        "work_function": (0,),
        "band_gap": (0,),
        "material_type": (0, 2),
    }


def test_batches_come_in_order_without_drawing_random_numbers(collator):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    batches = [batch.rows.tolist() for batch in loader(collator, [torch.tensor([2, 1]), torch.tensor([5])])]
    assert batches == [[2, 1], [5]]
    assert torch.equal(torch.get_rng_state(), state)
