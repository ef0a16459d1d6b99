"""Tasks and the scale on which they are learned."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cgcnn import flag_kinds, tasks
from cgcnn.flags import training_parser
from cgcnn.tasks import CATEGORY, CLASSIFICATION, TRANSFORMS, Normalizer, Task, TaskSet, class_labels

NAN = math.nan


# --- normaliser ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    labels=st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=30),
    transform=st.sampled_from(sorted(TRANSFORMS)),
    standardise=st.booleans(),
)
def test_back_and_forth(labels, transform, standardise):
    labels = torch.tensor(labels, dtype=torch.float64)
    normalizer = Normalizer.fit(labels, transform, standardise=standardise)
    torch.testing.assert_close(normalizer.denorm(normalizer.norm(labels)), labels, rtol=1e-6, atol=1e-9)
    again = Normalizer.from_state(normalizer.state_dict())
    torch.testing.assert_close(again.norm(labels), normalizer.norm(labels))


def test_standardised_means_mean_0_and_deviation_1():
    normalizer = Normalizer.fit(torch.tensor([1.0, 3.0]))
    assert (normalizer.mean, normalizer.std) == (2.0, 1.0)
    assert normalizer.norm(torch.tensor([1.0, 3.0, 4.0])).tolist() == [-1, 1, 2]
    assert normalizer.denorm(torch.tensor([0.0, 0.5])).tolist() == [2, 2.5]


@pytest.mark.parametrize(
    ("transform", "labels", "learned"),
    [("none", [0.5, 20.0], [0.5, 20.0]), ("log", [0.01, 1000.0], [-2, 3]), ("scaling", [0.002, -1.0], [2, -1000])],
)
def test_transforms(transform, labels, learned):
    labels = torch.tensor(labels)
    raw = Normalizer.fit(labels, transform, standardise=False)
    torch.testing.assert_close(raw.norm(labels), torch.tensor(learned, dtype=torch.float32))
    scaled = Normalizer.fit(labels, transform)
    assert scaled.mean == pytest.approx(sum(learned) / 2)
    assert scaled.std == pytest.approx(abs(learned[0] - learned[1]) / 2)
    torch.testing.assert_close(scaled.norm(labels).abs(), torch.ones(2))


def test_missing_labels_stay_missing_and_do_not_count():
    labels = torch.tensor([NAN, 2.0, NAN, 4.0])
    normalizer = Normalizer.fit(labels)
    assert (normalizer.mean, normalizer.std) == (3.0, 1.0)
    torch.testing.assert_close(normalizer.norm(labels), torch.tensor([NAN, -1.0, NAN, 1.0]), equal_nan=True)
    nothing = Normalizer.fit(torch.tensor([NAN, NAN]))
    assert (nothing.mean, nothing.std) == (0.0, 1.0)


@pytest.mark.parametrize("labels", [[5.0], [0.1] * 7, [1e6 + 0.1] * 3])
def test_constant_labels_are_only_shifted(labels):
    normalizer = Normalizer.fit(torch.tensor(labels))
    assert normalizer.std == 1.0
    assert normalizer.norm(torch.tensor(labels)).abs().max() < 1e-6


@pytest.mark.parametrize("label", [0.0, -1.0])
def test_a_logarithm_needs_positive_labels(label):
    with pytest.raises(ValueError, match="'log' needs positive labels"):
        Normalizer.fit(torch.tensor([1.0, label, NAN]), "log")


def test_the_state_of_an_original_checkpoint():
    normalizer = Normalizer.from_state({"mean": torch.tensor(1.5), "std": torch.tensor(2.0)})
    assert normalizer == Normalizer(1.5, 2.0, "none")


# --- tasks --------------------------------------------------------------------------------------------


def test_outputs():
    assert Task("energy").num_outputs == 1
    assert Task("kind", CLASSIFICATION, classes=["a", "b", "c"]).num_outputs == 3
    with pytest.raises(ValueError, match="transform of energy must be one of none, log, scaling"):
        Task("energy", transform="cube")


def test_columns_go_by_name():
    tasks = TaskSet((Task("a"), Task("b", CLASSIFICATION, classes=("0", "1")), Task("c", CLASSIFICATION, CATEGORY)))
    assert [tasks.column(name) for name in "cab"] == [2, 0, 1]
    assert len(tasks) == 3
    assert "b" in tasks
    assert "d" not in tasks
    assert [task.name for task in tasks] == ["a", "b", "c"]
    assert [task.name for task in tasks.targets] == ["a", "b"]
    assert tasks.category is tasks["c"]
    assert TaskSet((Task("a"),)).category is None
    assert TaskSet.from_list(tasks.to_list()) == tasks
    with pytest.raises(ValueError, match="two tasks are named 'a'"):
        TaskSet((Task("a"), Task("b"), Task("a")))


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (["work_function", "band_gap"], "band_gap"),
        (["band_gap", "work_function"], "band_gap"),
        (["Eg_direct_Gap", "energy"], "Eg_direct_Gap"),
        (["gap_hse", "energy", "band_gap"], "band_gap"),
        (["work_function", "bulk_modulus"], None),
        (["p", "q", "r"], None),
        (["target_1", "target_2", "target_3"], "target_2"),  # a table without header
        (["target_3", "target_2"], "target_2"),
        (["target_1", "target_2:class", "target_3"], None),
        (["p"], None),
        (["band_gap"], "band_gap"),
        (["p", "gap:class"], None),
        (["p", "gap:class", "q"], None),
    ],
)
def test_which_target_is_the_band_gap(names, gap):
    tasks = [
        Task(name.removesuffix(":class"), CLASSIFICATION if name.endswith(":class") else "regression")
        for name in names
    ]
    auxiliary = Task("aux_gap", role="auxiliary")
    found = TaskSet((*tasks, auxiliary)).gap
    assert (found and found.name) == gap


@pytest.mark.parametrize(
    ("values", "count"),
    [([0, 1, 1], 2), ([0, NAN], 2), ([NAN], 2), ([], 2), ([0, 3], 4), ([2.0, 1.0], 3), ([999], 1000)],
)
def test_classes_are_the_whole_numbers_up_to_the_largest(values, count):
    assert class_labels(values) == tuple(str(k) for k in range(count))


@pytest.mark.parametrize("value", [0.5, -1, 1000])
def test_a_class_that_is_none(value):
    with pytest.raises(ValueError, match=f"class {value:g} is not a whole number from 0 to 999"):
        class_labels([0, value])


def test_n_standardises_whatever_the_other_tasks_do():
    labels = torch.tensor([1.0, 3.0])
    assert Normalizer.fit(labels, "n", standardise=False) == Normalizer.fit(labels, "none", standardise=True)
    assert Normalizer.fit(labels, "none", standardise=False).mean == 0


def test_the_flag_takes_every_transform():
    for kind in TRANSFORMS:
        assert training_parser().parse_args(["d", "--transforms", f"a={kind}"]).transforms == {"a": kind}
    assert tasks.EVERY == flag_kinds.EVERY
