"""Axes of a sweep: what a user types becomes flags of main.py, or one line that says why not."""

import pytest

from cgcnn.arguments import to_argv
from cgcnn.labels import DataError
from cgcnn.sweep.axes import PUBLISHED, Axis, Range, describe, flags_of, published_axes, read_axes


def test_words_become_values_of_the_flags():
    words = ["pooling=mean,attention", "lr=0.005,0.011", "conditional-loss=on,off", "n_conv=2,3", "optimizer=adam"]
    assert read_axes(words) == [
        Axis("pooling", ("mean", "attention")),
        Axis("lr", (0.005, 0.011)),
        Axis("conditional-loss", (True, False)),
        Axis("n-conv", (2, 3)),
        Axis("optim", ("Adam",)),
    ]


def test_flags_of_several_words_take_them_with_blanks_between():
    (axis,) = read_axes(["lr-milestones=50 100,80"])
    assert axis.values == ([50, 100], [80])
    assert to_argv(flags_of({"lr-milestones": [50, 100]})) == ["--lr-milestones", "50", "100"]
    (axis,) = read_axes(["task-weights=a=0.1 b=1,a=0.5"])
    assert axis.values == ({"a": 0.1, "b": 1.0}, {"a": 0.5})


def test_a_ratio_sets_both_weights_around_one():
    (axis,) = read_axes(["sc-metal-ratio=1.0,1.1"])
    assert axis.values == (1.0, 1.1)
    flags = flags_of({"sc-metal-ratio": 1.1})
    assert flags["semiconductor_weight"] == pytest.approx(2.2 / 2.1)
    assert flags["semiconductor_weight"] / flags["metal_weight"] == pytest.approx(1.1)
    assert sum(flags.values()) == pytest.approx(2)


def test_a_file_says_the_same(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        "pooling = ['mean', 'attention']\nconditional-loss = [true, false]\nlr-milestones = [[50, 100], [80]]\n"
        "lr = 0.01\nn_conv = '2..5'\nT-max = [10, 20]\n"
    )
    assert read_axes(["seed=1,2"], str(path)) == [
        Axis("pooling", ("mean", "attention")),
        Axis("conditional-loss", (True, False)),
        Axis("lr-milestones", ([50, 100], [80])),
        Axis("lr", (0.01,)),
        Axis("n-conv", range=Range(2, 5)),
        Axis("T-max", (10, 20)),
        Axis("seed", (1, 2)),
    ]


def test_ranges():
    words = ["lr=0.001..0.03:log", "n-conv=2..5", "sc-metal-ratio=0.5..2"]
    ranges = [axis.range for axis in read_axes(words)]
    assert ranges == [Range(0.001, 0.03, is_log=True), Range(2, 5), Range(0.5, 2.0)]
    assert [str(range_) for range_ in ranges] == ["0.001..0.03:log", "2..5", "0.5..2.0"]
    assert isinstance(ranges[1].low, int)


def test_a_value_given_twice_is_one():
    assert read_axes(["lr=0.01,0.010,1e-2"])[0].values == (0.01,)


def test_the_published_sweep_and_flags_that_take_its_place():
    axes = published_axes([])
    assert {axis.name: axis.values[0] for axis in axes} == PUBLISHED
    names = [axis.name for axis in published_axes(["lr", "metal_weight"])]
    assert "lr" not in names and "sc-metal-ratio" not in names and len(names) == len(PUBLISHED) - 2


def test_a_combination_is_shown_as_it_is_typed():
    values = {"pooling": "mean", "conditional-loss": False, "lr": 0.011, "lr-milestones": [50, 100]}
    assert describe(values) == "pooling=mean conditional-loss=off lr=0.011 lr-milestones=50 100"
    assert describe(values, ["lr"]) == "lr=0.011"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("poolng=mean", "--grid poolng: no such axis; is it pooling?"),
        ("colour=red", "--grid colour: no such axis; an axis is a flag of main.py"),
        ("pooling=mean,max9", "invalid choice: 'max9'"),
        ("lr=abc", "--grid lr=abc: --lr/--learning-rate: 'abc' is not a number"),
        ("lr=", "'' is not a number"),
        ("lr", "'lr' is not NAME=VALUE"),
        ("epochs=0", "0 is not 1 or more"),
        ("conditional-loss=maybe", "'maybe' is neither on nor off"),
        ("sc-metal-ratio=-1", "'-1' is not a number from 0"),
        ("resume=x", "cannot be an axis"),
        ("out-dir=x", "cannot be an axis"),
        ("help=x", "cannot be an axis"),
        ("lr=0.1..0.01", "from a smaller to a larger"),
        ("lr=0..0.1:log", "starts above 0"),
        ("pooling=1..2", "invalid choice"),
        ("lr-milestones=1..2", "a flag that takes one number"),
    ],
)
def test_bad_words_are_one_line(word, said):
    with pytest.raises(DataError) as caught:
        read_axes([word])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lr=0.1", "learning-rate=0.2"], "lr stands twice"),
        (["sc-metal-ratio=1", "metal-weight=1"], "exclude each other"),
    ],
)
def test_axes_that_cannot_stand_together(words, said):
    with pytest.raises(DataError, match=said):
        read_axes(words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr = ", "not a TOML file"),
        ("lr = []", "lr: no values"),
        ("lr = ['fast']", "'fast' is not a number"),
        ("[lr]\na = 1", "lr: not a value or a list of values"),
        ("colour = 'red'", "colour: no such axis"),
        ("conditional-loss = 3", "neither on nor off"),
    ],
)
def test_a_bad_file_is_one_line_with_its_name(tmp_path, text, said):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_axes([], str(path))
    assert str(caught.value).startswith(str(path))
