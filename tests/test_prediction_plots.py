"""Panels of predictions: what they say agrees with the numbers, and none of them misleads."""

from functools import partial

import numpy as np
import pytest

from cgcnn import plots, prediction_plots
from cgcnn.predicted import Guesses, Predicted, guesses
from cgcnn.tasks import CLASSIFICATION, Task

GAP = Task("band_gap", unit="eV")
PANELS = (prediction_plots.parity, prediction_plots.residuals, prediction_plots.error_over_target)


def predicted(target, prediction, task: Task = GAP, split=None) -> Predicted:
    target, prediction = np.asarray(target, dtype=float), np.asarray(prediction, dtype=float)
    ids = np.array([f"c{k}" for k in range(len(target))])
    return Predicted(task, ids, target, prediction, np.ones(len(ids)) if split is None else np.asarray(split))


def many(count: int) -> Predicted:
    """Half of them metals, as in a set of band gaps."""
    rng = np.random.default_rng(0)
    target = np.where(rng.random(count) < 0.5, 0.0, rng.gamma(2, 1, count))
    return predicted(target, target + rng.normal(0, 0.3, count))


def classes(label, guess, names=("metal", "semiconductor"), **more) -> Guesses:
    label, guess = np.asarray(label), np.asarray(guess)
    score = np.eye(len(names))[guess] * 0.8 + 0.1
    return Guesses("kind", "kind", tuple(names), label, guess, score, **more)


def draw(panel, **of):
    return plots.figure(partial(panel, **of)).axes[0]


def texts(ax) -> str:
    return "\n".join(text.get_text() for text in ax.texts)


def test_a_parity_plot_has_one_scale_and_says_how_good_it_is():
    one = predicted([0.0, 1.0, 4.0], [0.5, 1.0, 3.0])
    ax = draw(prediction_plots.parity, predicted=one)
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_aspect() == 1
    assert ax.get_xlim()[0] < 0 < 4 < ax.get_xlim()[1]
    assert texts(ax) == "MAE 0.500 eV\nR² 0.856\nn = 3"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("target band gap (eV)", "predicted band gap (eV)")


def test_an_unnamed_task_has_no_name_and_no_unit():
    ax = draw(prediction_plots.parity, predicted=predicted([0, 1], [0, 1], Task("target")))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("target", "predicted")


def test_pooled_splits_are_told():
    one = predicted([0, 1, 0, 1], [0, 1, 1, 2], split=[1, 1, 2, 2])
    assert "pooled over 2 splits" in texts(draw(prediction_plots.parity, predicted=one))
    assert "pooled over 2 splits" in draw(prediction_plots.residuals, predicted=one).get_title()


def test_the_numbers_stand_where_fewer_points_are():
    above = predicted(np.zeros(20), np.linspace(0, 10, 20))
    below = predicted(np.linspace(0, 10, 20), np.zeros(20))
    assert draw(prediction_plots.parity, predicted=above).texts[0].get_ha() == "right"
    assert draw(prediction_plots.parity, predicted=below).texts[0].get_ha() == "left"


def test_few_points_have_no_density():
    assert len(plots.figure(partial(prediction_plots.parity, predicted=many(20))).axes) == 1
    assert len(plots.figure(partial(prediction_plots.parity, predicted=many(200))).axes) == 2  # and its scale


def test_every_residual_is_in_a_bar_or_told_to_be_beyond():
    error = np.concatenate([np.linspace(-1, 1, 99), [80.0]])
    ax = draw(prediction_plots.residuals, predicted=predicted(np.zeros(100), error))
    assert sum(bar.get_height() for bar in ax.patches) == 99
    assert "n = 100, 1 beyond the axis" in ax.get_title()
    assert ax.get_xlim()[0] == -ax.get_xlim()[1]
    assert f"mean {plots.number(error.mean())}" in ax.get_title()


def test_metals_are_one_bin_of_the_median():
    one = many(400)
    centres, middle = prediction_plots._binned_median(one.target, one.error)
    metals = one.target == 0
    assert centres[0] == 0 and (centres[1:] > 0).all()
    assert middle[0] == pytest.approx(np.median(one.error[metals]))
    assert (np.diff(centres) > 0).all()


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("count", [20_000])
def test_many_points_stay_a_small_file(panel, count):
    assert len(plots.svg(plots.figure(partial(panel, predicted=many(count))), "f", "d")) < 300_000


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize(
    "target, prediction",
    [
        ([1.5], [1.5]),
        ([0.0, 0.0], [0.0, 0.0]),
        (np.ones(60), np.ones(60)),
        (np.ones(60), np.linspace(0, 1, 60)),
        (np.zeros(60), np.full(60, 5e-324)),
        (np.linspace(1, 1 + 1e-15, 60), np.ones(60)),
    ],
    ids=["one", "all 0", "all the same", "one target", "nothing", "rounding"],
)
def test_poor_data_are_drawn_all_the_same(panel, target, prediction):
    assert plots.svg(plots.figure(partial(panel, predicted=predicted(target, prediction))), "f", "d")


def test_a_confusion_matrix_counts_crystals():
    ax = draw(prediction_plots.confusion, guessed=classes([0, 0, 0, 1], [0, 0, 1, 1], rule="a rule"))
    assert texts(ax) == "2\n67%\n1\n33%\n0\n0%\n1\n100%"
    assert ax.get_title() == "accuracy 0.750, n = 4"
    assert ax.get_xlabel() == "predicted (a rule)"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["metal", "semiconductor"]


@pytest.mark.filterwarnings("error")
def test_a_class_without_crystals_has_no_colour():
    ax = draw(prediction_plots.confusion, guessed=classes([0, 0], [0, 1]))
    shown = ax.images[0].get_array()
    assert shown.mask.tolist() == [[False, False], [True, True]]
    assert texts(ax) == "1\n50%\n1\n50%\n0\n0"


def test_a_class_has_its_roc_curve():
    one = predicted(
        [0, 0, 1, 1, 1],
        [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8], [0.1, 0.9]],
        Task("metallic", CLASSIFICATION, classes=("0", "1")),
    )
    ax = draw(prediction_plots.roc, guessed=guesses(one))
    (entry,) = ax.get_legend().get_texts()
    assert entry.get_text() == f"class 1: AUC {one.metrics()['AUC']:.3f}"


def test_of_several_classes_each_stands_against_the_rest():
    label = np.arange(30) % 3
    ax = draw(prediction_plots.roc, guessed=classes(label, label[::-1], names="012"))
    assert [text.get_text()[:8] for text in ax.get_legend().get_texts()] == ["class 0:", "class 1:", "class 2:"]


def test_one_class_alone_has_no_roc():
    assert not prediction_plots.has_roc(classes([1, 1], [0, 1]))
    assert prediction_plots.has_roc(classes([0, 1], [0, 1]))


def test_more_classes_than_colours_are_told():
    label = np.arange(60) % 15
    guessed = classes(label, label, names=[str(k) for k in range(15)])
    assert "6 of 15 classes" in draw(prediction_plots.roc, guessed=guessed).get_legend().get_title().get_text()
    assert not draw(prediction_plots.confusion, guessed=guessed).texts
