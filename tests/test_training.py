"""The training loop on a handful of crystals: its average, its patience, the losses that it keeps."""

import copy
import math

import numpy as np
import pytest
import torch

from cgcnn.batch import Collator
from cgcnn.crystal import Crystal
from cgcnn.features import element_table
from cgcnn.fitting import FitSettings
from cgcnn.graph import build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.losses import AdaptiveWeights, MultiTaskLoss, task_weights
from cgcnn.network import CrystalGraphNetwork, NetworkConfig
from cgcnn.schedules import Schedule
from cgcnn.tasks import CLASSIFICATION, Normalizer, Task, TaskSet
from cgcnn.training import Trainer

NAN = math.nan
COUNT = 11
TASKS = TaskSet((Task("a", weight=0.5), Task("b", weight=0.5), Task("kind", CLASSIFICATION, classes=("0", "1"))))


def crystal(number: int) -> Crystal:
    cell = (2.5 + number / 30) * np.eye(3)
    return Crystal(cell, np.zeros((1, 3)), np.array([number], np.uint8), np.ones(1), np.zeros(1, np.int32))


def labels() -> np.ndarray:
    """(11, 3): every label of a, three of b, seven of kind."""
    values = np.random.default_rng(0).normal(size=(COUNT, 3))
    values[:, 2] = values[:, 2] > 0
    values[3:, 1] = values[:4, 2] = NAN
    return values


def trainer(*, targets: np.ndarray | None = None, epochs: int = 3, given=None, score=None, **options) -> Trainer:
    """options: of FitSettings, and what else a Trainer takes. Batches of 4, 4 and 3."""
    torch.manual_seed(0)
    graphs = [build_graph(crystal(number)) for number in range(11, 11 + COUNT)]
    table = GraphTable.from_graphs(graphs, [""] * COUNT)
    normalizers = {task.name: Normalizer() for task in TASKS if task.is_regression}
    own = {name: options.pop(name) for name in ("adaptive", "on_batch", "epoch") if name in options}
    return Trainer(
        CrystalGraphNetwork(NetworkConfig(8, 8), TASKS, element_table()),
        MultiTaskLoss(TASKS, normalizers, task_weights(TASKS, given or {})),
        Collator(table, labels() if targets is None else targets),
        torch.arange(COUNT),
        FitSettings(Schedule(epochs=epochs), **{"batch_size": 4, **options}),
        score or (lambda model: (0.0, {})),
        [str(k) for k in range(COUNT)],
        **own,
    )


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_moving_average_forgets_the_random_start(decay):
    """Its first steps are averaged with a decay of (1 + n)/(10 + n), n the number of steps before."""
    states = []
    fit = trainer(ema=decay, on_batch=lambda fit: states.append(copy.deepcopy(fit.model.state_dict())))
    fit.run()
    expected = states[0]
    for n, state in enumerate(states[1:], start=1):
        keep = min(decay, (1 + n) / (10 + n))
        expected = {
            name: keep * expected[name] + (1 - keep) * value if value.is_floating_point() else value
            for name, value in state.items()
        }
    found = fit.average.module.state_dict()
    assert len(states) == 9
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_the_averaged_network_is_not_given_one_atom_alone():
    fit = trainer(epochs=2, swa=1, batch_size=5)  # 5, 5 and 1 crystals of one atom
    fit.run()
    assert all(value.isfinite().all() for value in fit.best_state.values())


@pytest.mark.parametrize("start", [0, 5])
def test_patience_counts_from_the_first_epoch(start):
    fit = trainer(epochs=30, patience=3, epoch=start)
    fit.run()
    assert (fit.best_epoch, len(fit.history)) == (start, 4)


def test_losses_are_means_over_the_labelled_samples_of_an_epoch():
    fit = trainer(epochs=1)
    plain, seen = fit.loss, []

    def noted(outputs, targets):
        seen.append(({name: value.detach() for name, value in outputs.items()}, targets))
        return plain(outputs, targets)

    noted.weights = plain.weights
    fit.loss = noted
    fit.run()
    outputs = {name: torch.cat([out[name] for out, _ in seen]) for name in ("a", "b", "kind")}
    targets = torch.cat([targets for _, targets in seen])
    known = ~targets.isnan()
    assert known.sum(0).tolist() == [COUNT, 3, 7]
    kind = torch.nn.functional.cross_entropy(outputs["kind"][known[:, 2]], targets[known[:, 2], 2].long())
    by_hand = {n: (outputs[n] - targets[:, k])[known[:, k]].square().mean().item() for k, n in enumerate("ab")}
    assert fit.history[0].losses == pytest.approx(by_hand | {"kind": kind.item()})


def test_a_task_without_labels_has_no_loss_and_no_adaptive_weight():
    targets = labels()
    targets[:, 1] = NAN
    fit = trainer(targets=targets, adaptive=AdaptiveWeights(0.3), given={"a": 0.25, "b": 0.5, "kind": 0.75})
    fit.run()
    assert all(math.isnan(epoch.losses["b"]) for epoch in fit.history)
    assert fit.loss.weights["b"] == 0.5
    assert fit.loss.weights["a"] + fit.loss.weights["kind"] == pytest.approx(1)
    assert set(fit.adaptive.history) == {"a", "kind"}


def test_the_losses_so_far_survive_a_stop():
    class Stop(Exception):  # noqa: N818
        pass

    def stop(fit: Trainer) -> None:
        if fit.batch == 2:
            raise Stop

    whole, first, second = trainer(), trainer(on_batch=stop), trainer()
    whole.run()
    with pytest.raises(Stop):
        first.run()
    assert first.losses()["a"] > 0
    second.load_state_dict(first.state_dict())
    assert second.losses() == pytest.approx(first.losses(), nan_ok=True)
    second.run()
    assert [epoch.losses for epoch in second.history] == [epoch.losses for epoch in whole.history]


def test_without_a_validation_score_the_last_epoch_is_kept():
    fitted = trainer(epochs=3, score=lambda model: (NAN, {}))
    fitted.run()
    assert fitted.best_epoch == 2
    assert all(torch.equal(fitted.best_state[name], value) for name, value in fitted.model.state_dict().items())
