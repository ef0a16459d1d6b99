"""Growing shares of the training part: nested, repeatable, and what they say."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers import copy_folder, result_file, run, table, train

from cgcnn.cli import train_command
from cgcnn.learning_curve import power_law, verdict
from cgcnn.splits import Split


def test_a_smaller_share_is_part_of_a_larger_one():
    split = Split(train=list(range(40)), val=[40], test=[41])
    parts = [set(split.shortened(share, 7).train) for share in (0.01, 0.25, 0.5, 1.0)]
    assert [len(part) for part in parts] == [1, 10, 20, 40]
    assert all(small < large for small, large in pairwise(parts))
    assert split.shortened(0.5, 7) == split.shortened(0.5, 7) != split.shortened(0.5, 8)
    assert split.shortened(0.5, 7).test == [41]


def test_the_power_of_a_power_law_is_found():
    sizes = np.array([100.0, 200.0, 800.0])
    scale, power, deviation = power_law(sizes, 3 * sizes**-0.4)
    assert (scale, power) == pytest.approx((3, 0.4)) and deviation == pytest.approx(0, abs=1e-6)
    assert "twice the labels would give about" in verdict("gap", sizes, 3 * sizes**-0.4)


@pytest.mark.parametrize(
    ("errors", "said"),
    [([0.5, 0.52, 0.49], "no fall beyond the scatter"), ([0.5, 0.6], "does not fall"), ([0.5], "one share")],
)
def test_a_curve_without_a_fall_is_said_to_be_one(errors, said):
    assert said in verdict("gap", np.array([10.0, 20.0, 40.0][: len(errors)]), np.array(errors))


def test_a_curve_is_written_and_goes_on_where_it_stopped(tmp_path):
    data = copy_folder("data/sample-regression", tmp_path / "data")
    words = ("--learning-curve", 0.5, 0.25, 1, "--epochs", 1, "--num-splits", 2)
    stopped = run(train_command, data, "--out-dir", tmp_path, *words, "--max-time", "0s")
    assert stopped.status == 75 and "the same command goes on" in stopped.out
    ran = train(data, tmp_path, *words)
    curve = table(next((tmp_path / "result").glob("*_learning_curve.csv")))
    assert list(curve["share"]) == [0.25, 0.5, 1.0] and curve["train"].is_monotonic_increasing
    assert {"target_MAE", "target_MAE_std"} <= set(curve)
    assert list((tmp_path / "result").glob("*_learning_curve.png"))
    again = train(data, tmp_path, *words)
    assert "=== " not in again.out and "=== 1 of" in ran.out
    pd.testing.assert_frame_equal(curve, table(next((tmp_path / "result").glob("*_learning_curve.csv"))))


def test_the_curve_of_other_shares_is_moved_aside(tmp_path):
    data = copy_folder("data/sample-regression", tmp_path / "data")
    train(data, tmp_path, "--learning-curve", 0.5, 1, "--epochs", 1)
    again = train(data, tmp_path, "--learning-curve", 0.25, 1, "--epochs", 1)
    (old,) = (tmp_path / "result" / "previous").glob("*/*_learning_curve.csv")
    assert f"1 files of an earlier run moved to {old.parent}" in again.out
    assert list(table(old)["share"]) == [0.5, 1]


def test_a_run_killed_while_it_wrote_its_tables_is_done_again(tmp_path):
    data = copy_folder("data/sample-regression", tmp_path / "data")
    words = ("--learning-curve", 0.5, 1, "--epochs", 1)
    train(data, tmp_path, *words)
    (half,) = (tmp_path / "result").glob("*_learning_curve/0.5/result/*_baselines.csv")
    half.unlink()
    again = train(data, tmp_path, *words)
    assert "=== 0.5 of" in again.out and "=== 1 of" not in again.out
    assert half.exists()


def test_each_share_is_repeated_by_its_own_command(tmp_path):
    data = copy_folder("data/sample-regression", tmp_path / "data")
    train(data, tmp_path / "curve", "--learning-curve", 0.5, 1, "--epochs", 1)
    train(data, tmp_path / "alone", "--train-fraction", 0.5, "--epochs", 1)
    curve = table(next((tmp_path / "curve" / "result").glob("*_learning_curve.csv")))
    alone = table(result_file(tmp_path / "alone", "metrics.csv"))
    assert curve["target_MAE"][0] == pytest.approx(alone["target_MAE"][0])
