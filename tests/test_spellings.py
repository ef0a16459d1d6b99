"""How the published scripts spell their flags, and what main.py makes of it."""

import pytest

from cgcnn.arguments import parse_training
from cgcnn.labels import DataError
from cgcnn.spellings import normalise
from cgcnn.sweep.axes import read_axis


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--batch_size 128 --weight_decay=1e-4", "--batch-size 128 --weight-decay=1e-4"),
        ("--optimizer Adam", "--optim Adam"),
        ("--task etot emix eform --epochs 5", "--targets etot emix eform --epochs 5"),
        ("--task=etot emix", "--targets etot emix"),
        ("--task regression", "--task regression"),
        ("--task multi", "--task multi"),
        ("--task", "--task"),
        ("--is_validate True", "--is-validate"),
        ("--is_validate False --epochs 5", "--no-is-validate --epochs 5"),
        ("--is_validate --epochs 5", "--is-validate --epochs 5"),
        ("--processed_data=true", "--processed-data"),
        ("--use_pbc False", "--no-use-pbc"),
        ("--run-name True", "--run-name True"),
        ("--targets True", "--targets True"),
        ("--keep-towers", "--no-reset-heads"),
        ("--keep-towers False", "--reset-heads"),
        ("--drop-towers", "--drop-towers"),
        ("--drop-towers False", "--no-drop-towers"),
    ],
)
def test_a_spelling_and_its_meaning(typed, meant):
    assert normalise(["d", *typed.split()]) == ["d", *meant.split()]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--keep-towers --drop-towers", "--keep-towers and --drop-towers exclude each other"),
        ("--task etot emix --targets etot", "--task etot emix means --targets: leave out one of them"),
    ],
)
def test_what_contradicts_itself(typed, said):
    with pytest.raises(DataError) as caught:
        normalise(["d", *typed.split()])
    assert str(caught.value) == said


SEED = (
    "d --task etot emix --batch_size 64 --is_validate True --weight_decay 1e-4 --split_type 1 --processed_data True"
)


def test_a_published_command():
    args = parse_training(SEED.split())
    assert (args.targets, args.task) == (["etot", "emix"], "regression")
    assert (args.batch_size, args.weight_decay, args.split, args.is_validate) == (64, 1e-4, "a1", True)


def test_fine_tune_is_init_from(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        parse_training(["d", "--fine_tune", str(tmp_path / "nowhere.pt")])
    with pytest.raises(DataError, match="--reset-heads needs --init-from"):
        parse_training(["d", "--drop-towers"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--transform log", {"*": "log"}),
        ("--transform etot=n emix=scaling", {"etot": "n", "emix": "scaling"}),
        ("--transforms n etot=none", {"*": "n", "etot": "none"}),
    ],
)
def test_transforms_of_all_or_by_name(typed, meant):
    assert parse_training(["d", *typed.split()]).transforms == meant


@pytest.mark.parametrize("word", ["sqrt", "etot=sqrt", "=log", "etot="])
def test_no_transform(word):
    with pytest.raises(DataError, match="is not KIND or NAME=KIND, with one of none, log, scaling, n"):
        parse_training(["d", "--transform", word])


@pytest.mark.parametrize(
    ("name", "value", "axis", "settled"),
    [
        ("split", "a2", "split", "a2"),
        ("split_type", "2", "split-type", 2),
        ("drop-towers", "on", "reset-heads", True),
        ("processed_data", "True", "processed-data", True),
        ("transform", "log", "transforms", {"*": "log"}),
        ("fine-tune", "m.pt", "init-from", "m.pt"),
    ],
)
def test_spellings_as_axes_of_a_sweep(name, value, axis, settled):
    found = read_axis(name, [value])
    assert (found.name, found.values) == (axis, (settled,))
