"""Metrics against scikit-learn's, and where they are not defined."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cgcnn.metrics import (
    classification_metrics,
    column_name,
    regression_metrics,
    task_metrics,
    trivial_metrics,
)
from cgcnn.tasks import CLASSIFICATION, Task

NAN = np.nan
RNG = np.random.default_rng(0)


def with_gaps(target: np.ndarray) -> np.ndarray:
    target = target.astype(float)
    target[::7] = NAN
    return target


def test_regression_is_scikit_learns_over_the_labelled():
    target, prediction = with_gaps(RNG.normal(size=50)), RNG.normal(size=50)
    prediction[::7] = NAN  # what has no label may be anything
    known = ~np.isnan(target)
    t, p = target[known], prediction[known]
    assert regression_metrics(target, prediction) == pytest.approx(
        {
            "MAE": reference.mean_absolute_error(t, p),
            "RMSE": reference.root_mean_squared_error(t, p),
            "R^2": reference.r2_score(t, p),
        }
    )


@pytest.mark.parametrize("target", [[1.0], [2.0, 2.0], [NAN, 3.0]])
def test_r2_needs_labels_that_differ(target):
    found = regression_metrics(np.array(target), np.zeros(len(target)))
    assert np.isnan(found["R^2"]) and found["MAE"] > 0


@pytest.mark.parametrize("target", [[], [NAN, NAN]])
def test_no_labels_no_numbers(target):
    target = np.array(target)
    assert np.isnan(list(regression_metrics(target, np.zeros(len(target))).values())).all()
    assert np.isnan(list(classification_metrics(target, np.zeros((len(target), 2))).values())).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_is_scikit_learns_over_the_labelled(classes):
    target = with_gaps(RNG.integers(classes, size=80))
    probability = RNG.dirichlet(np.ones(classes), size=80)
    probability[::7] = NAN
    known = ~np.isnan(target)
    t, p = target[known].astype(int), probability[known]
    guess = p.argmax(1)
    average = "binary" if classes == 2 else "macro"
    auc = reference.roc_auc_score(t, p[:, 1]) if classes == 2 else reference.roc_auc_score(t, p, multi_class="ovr")
    assert classification_metrics(target, probability) == pytest.approx(
        {
            "ACC": reference.accuracy_score(t, guess),
            "F1": reference.f1_score(t, guess, average=average),
            "AUC": auc,
            "Loss": reference.log_loss(t, p),
        }
    )


def test_one_class_only_has_no_auc():
    found = classification_metrics(np.zeros(3), np.array([[0.9, 0.1], [0.4, 0.6], [1.0, 0.0]]))
    assert np.isnan(found["AUC"]) and found["ACC"] == pytest.approx(2 / 3) and found["F1"] == 0


def test_a_certain_error_costs_a_finite_loss():
    assert 20 < classification_metrics(np.array([1.0]), np.array([[1.0, 0.0]]))["Loss"] < 40


def test_task_metrics_go_by_kind():
    target = np.array([0.0, 1.0])
    assert "MAE" in task_metrics(Task("y"), target, target)
    assert task_metrics(Task("c", CLASSIFICATION, classes=("0", "1")), target, np.eye(2))["ACC"] == 1


def test_the_predictor_without_structure():
    training, target = np.array([1.0, 3.0, NAN]), np.array([2.0, 4.0, NAN])
    found = trivial_metrics(Task("y"), training, target)
    assert found["MAE"] == pytest.approx(1) and found["R^2"] == pytest.approx(-1)
    shares = trivial_metrics(
        Task("c", CLASSIFICATION, classes=("0", "1")), np.array([0.0, 0, 0, 1, NAN]), np.array([0.0, 1, NAN])
    )
    assert shares["ACC"] == 0.5 and shares["AUC"] == 0.5
    assert shares["Loss"] == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)
    assert np.isnan(trivial_metrics(Task("y"), np.array([NAN]), target)["MAE"])


def test_columns_have_the_names_of_the_original_tables():
    assert column_name(Task("work_function"), "MAE") == "WorkFunc_MAE"
    assert column_name(Task("band_gap"), "R^2") == "BandGap_R^2"
    assert column_name(Task("material_type"), "ACC") == "MaterialType_ACC"
    assert column_name(Task("hardness"), "MAE") == "hardness_MAE"
