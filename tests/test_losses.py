"""Losses and weights against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional

from cgcnn.losses import (
    AdaptiveWeights,
    MultiTaskLoss,
    balanced_class_weights,
    conditional_weights,
    has_trained_category,
    task_weights,
)
from cgcnn.tasks import AUXILIARY, CATEGORY, CLASSIFICATION, Normalizer, Task, TaskSet

NAN = math.nan
WORK, GAP = Task("work_function", weight=0.5), Task("band_gap", weight=0.25)
KIND = Task("material_type", CLASSIFICATION, CATEGORY, weight=0.6, classes=("metal", "semiconductor"))
AUX = Task("aux", role=AUXILIARY, weight=0.1)


def loss_of(*tasks: Task, normalizers=None, **options) -> MultiTaskLoss:
    task_set = TaskSet(tasks)
    normalizers = normalizers or {task.name: Normalizer() for task in tasks if task.is_regression}
    return MultiTaskLoss(task_set, normalizers, task_weights(task_set, options.pop("given", {})), **options)


def tensor(*values, grad: bool = True) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).requires_grad_(grad)


def test_mean_over_the_labelled():
    outputs = {"y": tensor(1, 2, 5, 4)}
    total, _ = loss_of(Task("y"), loss="l1")(outputs, torch.tensor([[0.0], [0.0], [NAN], [0.0]]))
    assert total.item() == pytest.approx(7 / 3)
    total.backward()
    assert outputs["y"].grad.tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])


def test_weighted_sum_of_task_means_on_the_learned_scale():
    loss = loss_of(WORK, GAP, normalizers={"work_function": Normalizer(4, 2), "band_gap": Normalizer(1, 0.5)})
    outputs = {"work_function": tensor(0, 1, 1), "band_gap": tensor(2, 0, 0)}
    targets = torch.tensor([[6.0, NAN], [4.0, 1.5], [NAN, NAN]])  # scaled: 1, 0, –; –, 1, –
    total, sums = loss(outputs, targets)
    assert {name: part.tolist() for name, part in sums.items()} == {"work_function": [2, 2], "band_gap": [1, 1]}
    assert total.item() == pytest.approx(0.5 * 1 + 0.25 * 1)
    total.backward()
    assert outputs["work_function"].grad.tolist() == pytest.approx([-0.5, 0.5, 0])
    assert outputs["band_gap"].grad.tolist() == pytest.approx([0, -0.5, 0])


def test_a_batch_without_labels_of_a_task_has_no_gradient_and_no_nan():
    loss = loss_of(WORK, KIND)
    outputs = {"work_function": tensor(3, 4), "material_type": tensor([1, 2], [3, 4])}
    total, sums = loss(outputs, torch.full((2, 2), NAN))
    total.backward()
    assert total.item() == 0
    assert all(part.tolist() == [0, 0] for part in sums.values())
    assert all((value.grad == 0).all() for value in outputs.values())


@pytest.mark.parametrize(("name", "expected"), [("mse", (0.25 + 9) / 2), ("l1", 1.75), ("huber", (0.125 + 2.5) / 2)])
def test_losses_of_regressions(name, expected):
    total, _ = loss_of(Task("y"), loss=name)({"y": tensor(0.5, 3)}, torch.zeros(2, 1))
    assert total.item() == pytest.approx(expected)


def test_logarithms_are_learned_where_asked():
    loss = loss_of(Task("y", transform="log"), normalizers={"y": Normalizer(1.0, 2.0, "log")})
    assert loss({"y": tensor(0.0)}, torch.tensor([[1000.0]]))[0].item() == pytest.approx(1)  # (3 − 1)/2 against 0


def test_classes_are_learned_from_logits():
    logits = tensor([2, -1], [0, 3], [5, 5])
    labels = torch.tensor([[0.0], [0.0], [NAN]])
    by_hand = (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(3))) / 2
    total, sums = loss_of(KIND)({"material_type": logits}, labels)
    assert sums["material_type"].tolist() == pytest.approx([2 * by_hand, 2])
    assert total.item() == pytest.approx(0.6 * by_hand)


def test_class_weights():
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), tensor(0, 1, 2, 2, 2, NAN)
    task = Task("c", CLASSIFICATION, classes=("0", "1", "2"))
    weight = torch.tensor([2.0, 1.0, 0.5])
    loss = loss_of(task, class_weights={"c": weight})
    expected = functional.cross_entropy(logits[:5], labels[:5].long(), weight=weight)
    total, sums = loss({"c": logits}, labels[:, None])
    assert total.item() == pytest.approx(expected.item())
    plain = functional.cross_entropy(logits[:5], labels[:5].long(), reduction="sum")
    assert sums["c"].tolist() == pytest.approx([plain.item(), 5])  # what is shown knows no weights
    assert loss({"c": logits}, torch.full((6, 1), NAN))[0].item() == 0


def test_balanced_class_weights():
    weights = balanced_class_weights(torch.tensor([0.0, 0.0, 0.0, 1.0, NAN]), 3)
    assert weights.tolist() == pytest.approx([4 / 3 / 2, 4 / 1 / 2, 0])
    assert (3 * weights[0] + weights[1]).item() / 4 == pytest.approx(1)


def test_conditional_weights():
    logits = torch.log(torch.tensor([[0.9, 0.1], [0.25, 0.75]]))
    # ratio 3 : 1, mean weight 2 → 1.5 p_metal + 0.5 p_semi
    assert conditional_weights(logits, 3, 1).tolist() == pytest.approx([1.4, 0.75])
    assert conditional_weights(logits, 0.3, 0.1).tolist() == pytest.approx([1.4, 0.75])
    assert conditional_weights(logits, 7, 7).tolist() == pytest.approx([1, 1])


def conditional_case():
    outputs = {
        "work_function": tensor(1, 2),
        "band_gap": tensor(1, 2),
        "material_type": tensor([math.log(9), 0], [0, math.log(3)]),
    }
    return outputs, torch.tensor([[0.0, 0.0, NAN], [0.0, 0.0, NAN]])


def test_conditional_loss_weighs_each_gap_alone():
    outputs, targets = conditional_case()
    loss = loss_of(WORK, GAP, KIND, metal_weight=1.5, semiconductor_weight=0.5)
    total, sums = loss(outputs, targets)
    gap = (1.4 * 1 + 0.75 * 4) / 2
    assert sums["band_gap"].tolist() == [5, 2]  # what is shown knows no weights
    assert sums["work_function"].tolist() == [5, 2]
    assert total.item() == pytest.approx(0.5 * 2.5 + 0.25 * gap)
    total.backward()
    assert (outputs["material_type"].grad == 0).all()  # no label, and no way from the gap to the category head


def test_equal_conditional_weights_are_the_plain_loss():
    outputs, targets = conditional_case()
    plain = loss_of(WORK, GAP, KIND)(outputs, targets)[0]
    equal = loss_of(WORK, GAP, KIND, metal_weight=0.7, semiconductor_weight=0.7)(outputs, targets)[0]
    assert equal.item() == pytest.approx(plain.item())
    assert not loss_of(WORK, GAP, metal_weight=1.0, semiconductor_weight=2.0).is_conditional


def test_a_weight_of_zero_keeps_the_output_but_has_no_gradient():
    loss = loss_of(WORK, AUX, given={"aux": 0.0})
    outputs = {"work_function": tensor(1), "aux": tensor(5)}
    total, sums = loss(outputs, torch.zeros(1, 2))
    total.backward()
    assert sums["aux"].tolist() == [25, 1] and total.item() == pytest.approx(0.5)
    assert outputs["aux"].grad is None


def test_adaptive_weights_of_two_tasks_are_the_published_rule():
    rule = AdaptiveWeights(0.1)
    weights = rule.step({"a": 0.5, "b": 0.5, "aux": 0.1}, {"a": 1.0, "b": 3.0})
    assert weights == pytest.approx({"a": 0.9 * 0.5 + 0.1 * 3 / 4, "b": 0.9 * 0.5 + 0.1 * 1 / 4, "aux": 0.1})
    h1, h2 = 0.9 * 1 + 0.1 * 2, 0.9 * 3 + 0.1 * 1
    again = rule.step(weights, {"a": 2.0, "b": 1.0})
    assert again["a"] == pytest.approx(0.9 * weights["a"] + 0.1 * h2 / (h1 + h2))
    assert again["a"] + again["b"] == pytest.approx(1)
    assert rule.history == pytest.approx({"a": h1, "b": h2})


def test_adaptive_weights_of_three_tasks():
    weights = AdaptiveWeights(0.5).step({"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 1.0, "b": 2.0, "c": 4.0})
    moved = [0.5 + 0.5 * 4 / 7, 0.5 + 0.5 * 2 / 7, 1 + 0.5 * 1 / 7]
    assert list(weights.values()) == pytest.approx([w / sum(moved) for w in moved])


def test_adaptive_weights_survive_a_loss_of_zero():
    weights = AdaptiveWeights(0.1).step({"a": 0.5, "b": 0.5}, {"a": 0.0, "b": 1.0})
    assert weights == pytest.approx({"a": 0.55, "b": 0.45})


def test_adaptive_weights_leave_a_weight_of_zero_alone():
    rule = AdaptiveWeights(0.1)
    weights = rule.step({"a": 0.5, "x": 0.0, "b": 0.5}, {"a": 1.0, "x": 0.1, "b": 3.0})
    assert weights == pytest.approx({"a": 0.9 * 0.5 + 0.1 * 3 / 4, "x": 0.0, "b": 0.9 * 0.5 + 0.1 * 1 / 4})
    assert rule.step({"x": 0.0}, {"x": 1.0}) == {"x": 0.0}


def test_adaptive_weights_leave_out_a_task_without_a_loss():
    rule = AdaptiveWeights(0.1)
    first = rule.step({"a": 0.5, "b": 0.5, "c": 0.2}, {"a": 1.0, "b": 3.0, "c": NAN})
    assert first == pytest.approx({"a": 0.9 * 0.5 + 0.1 * 3 / 4, "b": 0.9 * 0.5 + 0.1 * 1 / 4, "c": 0.2})
    second = rule.step(first, {"a": 1.0, "b": NAN, "c": 2.0})
    moved = {"a": 0.9 * first["a"] + 0.1 * 2 / 3, "c": 0.9 * 0.2 + 0.1 * 1 / 3}
    assert second == pytest.approx({name: w / sum(moved.values()) for name, w in moved.items()} | {"b": first["b"]})
    assert rule.history == pytest.approx({"a": 1.0, "b": 3.0, "c": 2.0})


def test_weights_by_name_replace_those_of_the_tasks():
    tasks = TaskSet((WORK, GAP, KIND))
    assert task_weights(tasks, {"band_gap": 2}) == {"work_function": 0.5, "band_gap": 2.0, "material_type": 0.6}
    assert has_trained_category(tasks, task_weights(tasks, {}))
    assert not has_trained_category(tasks, task_weights(tasks, {"material_type": 0}))
    assert not has_trained_category(TaskSet((WORK,)), {"work_function": 1.0})


def test_the_weighted_loss_is_the_sum_of_its_parts():
    y, t = torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.2, 0.5, 0.0])
    tasks = TaskSet((Task("a"),))
    normalizers = {"a": Normalizer(0.0, 1.0)}
    values = {}
    for name in ("mse", "l1", "huber"):
        loss, _ = MultiTaskLoss(tasks, normalizers, {"a": 1.0}, loss=name)({"a": y}, t[:, None])
        values[name] = loss.item()
    for weights in ((0.4, 0.4, 0.2), (0, 1, 0), (1, 2, 3)):
        made = MultiTaskLoss(tasks, normalizers, {"a": 1.0}, loss="weighted", loss_weights=weights)
        expected = sum(w * value for w, value in zip(weights, values.values(), strict=True))
        assert made({"a": y}, t[:, None])[0].item() == pytest.approx(expected)
