"""Which flags divide the crystals: layers, spellings, and what cannot stand together."""

import pytest

from cgcnn.arguments import parse_training
from cgcnn.labels import DataError


def split_of(words: str) -> str | None:
    return parse_training(["d", *words.split()]).split


@pytest.mark.parametrize("name", ["a0", "a1", "a2", "a3", "b0", "b1", "b2"])
def test_a_name_is_a_type_and_a_family(name):
    typed = f"--split-type {name[1]}" + (" --processed-data" if name[0] == "a" else "")
    assert split_of(typed) == split_of(f"--split {name}") == split_of(f"{typed} --split {name}") == name


def test_only_the_name_is_kept():
    args = parse_training(["d", "--split-type", "2", "--processed-data"])
    assert (args.split, args.split_type, args.processed_data) == ("a2", None, False)
    assert split_of("") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--split-type 3", "--split-type 3 without --processed-data would be b3, and there is none"),
        ("--split-type 4 --processed-data", "invalid choice: 4"),
        (
            "--split a1 --split-type 1",
            "--split a1 and --split-type 1 without --processed-data, which is b1, disagree",
        ),
        ("--split b1 --processed-data", "--split b1 is without --processed-data"),
        ("--processed-data", "there is none"),
        ("--split a1 --split-file s.csv", "--split a1 settles the parts: leave out --split-file"),
        ("--split a1 --folds 3", "leave out --folds"),
        ("--split a1 --group-by formula", "leave out --group-by"),
        ("--split-type 0 --test-ratio 0.2 --train-size 5", "leave out --train-size, --test-ratio"),
        ("--no-is-validate --val-ratio 0.2", "--no-is-validate leaves no validation part: leave out --val-ratio"),
        ("--is_validate False --val-size 3", "leave out --val-size"),
        ("--no-is-validate --patience 5", "--patience 5 watches the validation part"),
    ],
)
def test_what_cannot_stand_together(words, said):
    with pytest.raises(DataError) as caught:
        split_of(words)
    assert said in str(caught.value)


def test_the_validation_part_of_a_named_split_may_be_chosen():
    assert parse_training(["d", "--split", "a1", "--val-ratio", "0.2"]).val_ratio == 0.2


@pytest.mark.parametrize(
    ("written", "words", "found"),
    [
        ("split = 'a2'", "", ("a2", None, 0)),
        ("split_type = 2\nprocessed_data = true", "", ("a2", None, 0)),
        ("split = 'a2'", "--split-type 1", ("b1", None, 0)),
        ("split = 'a2'", "--split-file s.csv", (None, "s.csv", 0)),
        ("split = 'a2'", "--folds 3", (None, None, 3)),
        ("folds = 3", "--split a1", ("a1", None, 0)),
        ("split_file = 's.csv'\ngroup_by = 'formula'", "--split a1", ("a1", None, 0)),
    ],
)
def test_the_command_line_is_above_a_configuration(tmp_path, written, words, found):
    path = tmp_path / "run.toml"
    path.write_text(written)
    args = parse_training(["d", "--config", str(path), *words.split()])
    assert (args.split, args.split_file, args.folds) == found
    assert args.group_by == "none"
