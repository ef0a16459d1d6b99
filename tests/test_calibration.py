"""Intervals: how often they hold the truth, what they need, and which table says so."""

from pathlib import Path

import numpy as np
import pytest

from cgcnn.labels import DataError
from cgcnn.screening.calibration import Interval, conformal_interval, read_intervals
from cgcnn.tasks import CLASSIFICATION, Task, TaskSet

GAPS = TaskSet((Task("work_function"), Task("band_gap"), Task("kind", CLASSIFICATION, classes=("0", "1"))))


def intervals(path: Path, text: str, tasks: TaskSet = GAPS, **options):
    path.write_text(text)
    return read_intervals(path, tasks, **{"coverage": 0.8, "with_deviations": False, **options})


def table(count: int, header: str, row: str) -> str:
    return "\n".join([header, *(row.format(k=k) for k in range(count))]) + "\n"


@pytest.mark.parametrize(
    ("count", "coverage", "place"), [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (19, 0.95, 19), (99, 0.9, 90)]
)
def test_the_quantile_is_that_of_a_finite_sample(count, coverage, place):
    """⌈(n + 1)·coverage⌉-th smallest error: for ten crystals all of them are needed to promise nine in ten."""
    errors = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    signs = np.where(np.arange(count) % 2, 1, -1)
    assert conformal_interval(signs * errors, np.zeros(count), coverage=coverage).quantile == place


def test_too_few_crystals_cannot_promise_it():
    with pytest.raises(ValueError, match=r"8 rows, 9 are needed for a coverage of 0\.9"):
        conformal_interval(np.ones(8), np.zeros(8), coverage=0.9)
    with pytest.raises(ValueError, match="99 are needed"):
        conformal_interval(np.ones(98), np.zeros(98), coverage=0.99)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
@pytest.mark.parametrize("normalised", [False, True])
def test_intervals_hold_as_many_truths_as_they_say(coverage, normalised):
    """400 draws of 60 + 60 crystals with a wrong model and uneven noise: within half a percent, three deviations."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(400):
        x = rng.uniform(0, 3, 120)
        truth = x**2 + rng.standard_t(3, 120) * (0.1 + x)
        prediction, deviation = 2 * x, (0.1 + x) * rng.uniform(0.5, 2, 120)
        new = slice(60, None)
        sigma = deviation if normalised else None
        interval = conformal_interval(
            truth[:60], prediction[:60], None if sigma is None else sigma[:60], coverage=coverage
        )
        low, high = interval(prediction[new], None if sigma is None else sigma[new])
        held.append(((low <= truth[new]) & (truth[new] <= high)).mean())
    assert np.mean(held) == pytest.approx(np.ceil(61 * coverage) / 61, abs=0.012)


def test_normalised_intervals_are_wide_where_the_networks_disagree_and_narrower_in_the_mean():
    rng = np.random.default_rng(2)
    sigma = rng.choice([0.05, 2.0], 2000, p=[0.8, 0.2])
    truth = sigma * rng.normal(size=2000)
    zero = np.zeros(2000)
    even = conformal_interval(truth, zero)
    uneven = conformal_interval(truth, zero, sigma)
    widths = np.subtract(*uneven(zero, sigma)[::-1])
    assert widths[sigma > 1].mean() > 2 * widths[sigma < 1].mean()
    assert widths.mean() < 0.8 * np.subtract(*even(zero)[::-1]).mean()


def test_networks_that_agree_by_chance_do_not_give_a_width_of_nothing():
    truth, sigma = np.full(50, 0.3), np.full(50, 0.1)
    sigma[:10] = 0
    low, high = conformal_interval(truth, np.zeros(50), sigma)(np.zeros(1), np.zeros(1))
    assert np.isfinite([low, high]).all() and high > 0
    assert conformal_interval(truth, np.zeros(50), np.zeros(50)).offset is None


def test_columns_are_found_by_the_names_of_the_tasks(tmp_path):
    header = "cif_id,band_gap_target,band_gap_pred,band_gap_std,kind_target,kind_pred,unlike_training"
    found = intervals(tmp_path / "v.csv", table(10, header, "c{k},{k},0,0.5,1,0,element Pu"))
    assert found == {"band_gap": Interval(8.0, None, 10, floor=0.0)}
    (interval,) = intervals(
        tmp_path / "v.csv", table(10, header, "c{k},{k},0,0.5,1,0,"), with_deviations=True
    ).values()
    assert (interval.quantile, interval.offset) == (8.0, 0.5)
    assert str(interval) == "± 8 · (std + 0.5)"


@pytest.mark.parametrize("header", ["cif_id,target,prediction", "", "id,target,prediction,prediction_std"])
def test_tables_of_a_single_target(header, tmp_path):
    row = "c{k},{k},0" + ",1" * header.count("_std")
    text = table(10, header, row).lstrip("\n")
    alone = TaskSet((Task("energy"),))
    assert intervals(tmp_path / "v.csv", text, alone)["energy"] == Interval(8.0, None, 10)
    with pytest.raises(DataError, match="no columns work_function_target"):
        intervals(tmp_path / "v.csv", text)


def test_crystals_without_a_label_do_not_count(tmp_path):
    text = table(10, "cif_id,band_gap_target,band_gap_pred", "c{k},{k},0") + "x,,1\ny,nan,2\n"
    assert intervals(tmp_path / "v.csv", text)["band_gap"].count == 10


def test_a_gap_is_not_negative_unless_the_labels_are(tmp_path):
    header = "cif_id,band_gap_target,band_gap_pred"
    low, high = intervals(tmp_path / "v.csv", table(10, header, "c{k},{k},0"))["band_gap"](np.array([1.0, 20.0]))
    assert low.tolist() == [0, 12] and high.tolist() == [9, 28]
    found = intervals(tmp_path / "v.csv", table(10, header, "c{k},-{k},0"))["band_gap"]
    assert found(np.array([1.0]))[0] == -7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cif_id,band_gap_target,band_gap_pred\na,1,x\n", "v.csv, row 2: band_gap_pred 'x' is not a finite number"),
        ("cif_id,band_gap_target,band_gap_pred\na,1\n", "v.csv, row 2: 2 columns, 3 expected"),
        ("cif_id,band_gap_target,band_gap_pred\na,1,1\n", "1 rows, 4 are needed for a coverage of 0.8"),
        ("cif_id,energy_pred\na,1\n", "no columns work_function_target and work_function_pred or band_gap_target"),
        ("", "empty"),
    ],
)
def test_what_cannot_calibrate(text, said, tmp_path):
    with pytest.raises(DataError, match=r"v\.csv") as error:
        intervals(tmp_path / "v.csv", text)
    assert said in str(error.value)


def test_classes_have_no_intervals(tmp_path):
    with pytest.raises(DataError, match="classes only"):
        intervals(tmp_path / "v.csv", "cif_id,kind_target,kind_pred\na,1,1\n", TaskSet((GAPS["kind"],)))
