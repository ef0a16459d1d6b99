"""Flags of main.py: spellings, defaults, layers, files of flags, refusals."""

import argparse
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import refused, result_file, root_folder, run, same_weights, train
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from cgcnn import flags, presets
from cgcnn.arguments import parse_training, to_argv
from cgcnn.cli import train_command
from cgcnn.flag_kinds import Pairs
from cgcnn.labels import DataError
from cgcnn.settings import flags_as_plain, write_config

# As the two descriptions and their pages print them, behind `python main.py`.
PRINTED = [
    "./root_dir",
    "./root_dir --scheduler step --pooling attention --epochs 120 --lr 0.011 --weight-decay 0.0 --task2-weight 0.5 "
    "--auxiliary-tasks --aux-task3-weight 0.05",
    "root_dir --num-splits 1 --epochs 120",
    "root_dir --auxiliary-tasks --aux-task1-weight 0.1 --aux-task2-weight 0.1 --aux-task3-weight 0",
    "root_dir --conditional-loss --classification-weight 0.2 --metal-weight 0.95 --semiconductor-weight 1.05 "
    "--metal-threshold 0.7 --min-bandgap 0.015",
    "root_dir --adaptive-weights --adaptive-weight-update 0.01 --task1-weight 0.5 --task2-weight 0.5",
    "root_dir --optim Adam",
    "root_dir --task regression --targets work_function band_gap is_metal:class --task-weights work_function=0.2",
    "root_dir --normalize --disable-cuda -j 0 --start-epoch 0 -b 256 --learning-rate 0.01 --lr-milestones 100",
    "root_dir --scheduler cosine --T-max 80 --eta-min 0 --momentum 0.9 --wd 0 -p 10",
    "root_dir --train-ratio 0.8 --val-ratio 0.1 --test-ratio 0.1",
    "root_dir --train-size 80 --val-size 10 --test-size 10",
    "root_dir --atom-fea-len 64 --h-fea-len 128 --n-conv 3 --n-h 1 --pooling mean --workers 0 --print-freq 10",
    "data/sample-regression --task regression --epochs 30",
    "data/sample-classification --task classification --epochs 30",
    "vacancy_data --task multi --cls-weight 0.5 --epochs 50 --batch-size 128 --lr 0.001",
]
DEFAULTS = {
    "task": "regression",
    "task1_weight": 0.5,
    "task2_weight": 0.5,
    "adaptive_weight_update": 0.01,
    "classification_weight": 0.6,
    "cls_weight": 0.5,
    "min_bandgap": 0.015,
    "metal_threshold": 0.5,
    "aux_task1_weight": 0.1,
    "normalize": True,
    "workers": 0,
    "epochs": 80,
    "start_epoch": 0,
    "batch_size": 256,
    "lr": 0.01,
    "lr_milestones": [100],
    "scheduler": "step",
    "T_max": None,
    "eta_min": 0,
    "momentum": 0.9,
    "weight_decay": 0,
    "print_freq": 10,
    "val_ratio": 0.1,
    "test_ratio": 0.1,
    "optim": "SGD",
    "atom_fea_len": 64,
    "h_fea_len": 128,
    "n_conv": 3,
    "n_h": 1,
    "pooling": "mean",
    "num_splits": 1,
    "neighbors": "shell",
    "out_dir": ".",
}


def parsed(text: str) -> dict:
    return vars(parse_training(shlex.split(text)))


@pytest.mark.parametrize("text", PRINTED)
def test_printed_commands_parse_with_dashes_and_with_underscores(text):
    words = [w.replace("-", "_").replace("__", "--", 1) if w.startswith("--") else w for w in shlex.split(text)]
    assert vars(parse_training(words)) == parsed(text)


def test_defaults_are_the_published_ones():
    args = parsed("root_dir")
    assert {name: args[name] for name in DEFAULTS} == DEFAULTS
    assert not any(args[name] for name in ("adaptive_weights", "conditional_loss", "auxiliary_tasks", "disable_cuda"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("--optimizer adam", "--optim Adam"),
        ("--optimizer=AdamW", "--optim AdamW"),
        ("--lr-sch cosine", "--scheduler cosine"),
        ("--lr_sch one-cycle", "--scheduler one-cycle"),
        ("--loss-func l1", "--loss l1"),
        ("--loss_func L1", "--loss l1"),
        ("--loss_func Smooth_L1", "--loss huber"),
        ("--loss smooth-l1", "--loss huber"),
        ("--optimizer adamw", "--optim AdamW"),
        ("--lr-sch inverse_sqrt_nowarmup", "--scheduler inverse_sqrt_nowarmup"),
        ("--lr_sch inverse-sqrt-nowarmup", "--scheduler inverse_sqrt_nowarmup"),
        ("--lr_sch const", "--scheduler const"),
        ("--scheduler one_cycle", "--scheduler one-cycle"),
        ("--lr_sch const --swa_epochs 9", "--scheduler const --swa 9"),
        ("--optimizer adam --adam_betas 0.9 0.98", "--optim Adam --adam-betas 0.9 0.98"),
        (
            "--lr_sch inverse_sqrt_nowarmup --sch_params 4e3 --no_decay_biases",
            "--scheduler inverse-sqrt-nowarmup --sch-params 4000 --no-decay-biases",
        ),
        ("--wd 0.1", "--weight-decay 0.1"),
        ("--learning-rate 0.3", "--lr 0.3"),
        ("--learning_rate=0.3", "--lr 0.3"),
        ("-b 7", "--batch-size 7"),
        ("-j 2", "--workers 2"),
        ("-p 3", "--print-freq 3"),
        ("--T_max 9", "--T-max 9"),
        ("--run_name=a_b", "--run-name a_b"),
    ],
)
def test_second_spellings(one, other):
    assert parsed(f"d {one}") == parsed(f"d {other}") != parsed("d")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("11h", 39600),
        ("30m", 1800),
        ("90s", 90),
        ("1.5h", 5400),
        ("2d", 172800),
        ("2:30", 9000),
        ("2:30:05", 9005),
        ("1-12:00:00", 129600),
    ],
)
def test_times(text, seconds):
    assert parsed(f"d --max-time {text}")["max_time"] == seconds


@pytest.mark.parametrize("text", ["", "11", "h", "-1h", "1:2", "soon", "1h30m"])
def test_what_is_no_time(text):
    assert "--max-time" in refused(train_command, "d", f"--max-time={text}")


def test_classic_options_after_the_folder():
    args = parsed("d 16 6 0.5 0.1 7")
    assert [args[name] for name in ("max_num_nbr", "radius", "dmin", "step", "seed")] == [16, 6.0, 0.5, 0.1, 7]
    assert parsed("d 16")["radius"] == 8.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "DIR"),
        ("d --foo", "--foo"),
        ("d --epoch 3", "--epoch"),
        ("d --epochs", "--epochs"),
        ("d --epochs x", "'x'"),
        ("d --epochs 0", "--epochs"),
        ("d --epochs 2.5", "'2.5'"),
        ("d --lr -1", "--lr"),
        ("d --lr nan", "--lr"),
        ("d --batch-size 0", "--batch-size"),
        ("d --optim Rprop", "SGD, Adam, AdamW"),
        ("d --pooling median", "attention"),
        ("d --scheduler linear", "step, cosine, one-cycle, inverse_sqrt_nowarmup, const"),
        ("d --loss l2", "'l2' is not one of mse, l1, huber, weighted"),
        ("d --optim Adam --adam-betas 0.9", "--adam-betas"),
        ("d --optim Adam --adam-betas 0.9 1", "--adam-betas"),
        ("d --scheduler inverse_sqrt_nowarmup --sch-params 0", "--sch-params"),
        ("d --task", "--task"),
        ("d --val-ratio 1.5", "--val-ratio"),
        ("d --metal-threshold 2", "--metal-threshold"),
        ("d --task-weights work_function", "NAME=VALUE"),
        ("d --task-weights work_function=x", "'x'"),
        ("d --train-ratio 0.8 --train-size 5", "--train-ratio and --train-size exclude each other"),
        ("d --val-ratio 0.8 --val-size 5", "--val-ratio and --val-size exclude each other"),
        ("d --test_size 5 --test_ratio 0.2", "--test-ratio and --test-size exclude each other"),
        ("d --ema 0.9 --swa 2", "--ema and --swa"),
        ("d --swa 80", "--swa"),
        ("d --folds 3 --num-splits 2", "--folds"),
        (
            "d --folds 3 --test-size 2 --train-ratio 0.5",
            "3 settles the training and test parts: leave out --train-ratio, --test-size",
        ),
        ("d --folds 3 --train_size 2", "leave out --train-size"),
        ("d --folds 3 --test-ratio 0", "leave out --test-ratio"),
        ("d --split-file s.csv --val-size 0", "--split-file s.csv settles the parts: leave out --val-size"),
        ("d --split-file s.csv --test-ratio 0.1 --group-by formula", "leave out --test-ratio, --group-by"),
        ("d --split-file s.csv --train-size 1 --val-ratio 0.1", "leave out --train-size, --val-ratio"),
        ("d --start-epoch 80", "--start-epoch"),
        ("d --targets a a:class", "a stands twice"),
        ("d --conditional-loss --metal-weight 0 --semiconductor-weight 0", "both 0"),
        ("d 0", "--max-num-nbr"),
        ("d 12 -8", "--radius"),
        ("d 12 8 0 0", "--step"),
        ("d abc", "'abc'"),
        ("d 12 8 0 0.2 7 9", "too many"),
    ],
)
def test_bad_flags_get_one_line(words, said):
    line = refused(train_command, *shlex.split(words))
    assert said in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("name", ["evaluate", "config"])
def test_a_configuration_file_cannot_say_what_is_only_heard_on_the_command_line(tmp_path, name):
    path = tmp_path / "c.toml"
    path.write_text(f"{name} = 'x'")
    assert refused(train_command, "d", "--config", path) == f"error: {path}: --{name} is for the command line only\n"


def test_layers_preset_resumed_config_command(tmp_path, monkeypatch):
    folder = root_folder(tmp_path / "data")
    train(folder, tmp_path, "--epochs", 1, "--batch-size", 11, "--lr", 0.02, "--clip-grad", 2, "--print-freq", 2)
    monkeypatch.setitem(presets.PRESETS, "test", {"batch_size": 10, "lr": 0.01, "print_freq": 1, "patience": 1})
    config = tmp_path / "flags.toml"
    config.write_text('lr = 0.03\nclip-grad = 3\npreset = "test"\nval_size = 4\nlr_milestones = [5, 6]\n')
    saved = tmp_path / "checkpoint.pth.tar"
    assert parsed("d --preset test")["lr"] == 0.01
    assert parsed(f"d --preset test --resume {saved} --epochs 3")["lr"] == 0.02
    args = parsed(f"d --config {config} --clip-grad 4 --epochs 3 --test-size 2")
    assert (args["batch_size"], args["lr"], args["clip_grad"], args["patience"]) == (10, 0.03, 4, 1)
    assert (args["val_size"], args["test_size"], args["lr_milestones"]) == (4, 2, [5, 6])
    args = parsed(f"d --config {config} --resume {saved} --epochs 3 --val-ratio 0.3")
    assert (args["batch_size"], args["print_freq"], args["lr"], args["clip_grad"]) == (11, 2, 0.03, 3)
    assert (args["val_ratio"], args["val_size"]) == (0.3, None)


def test_flags_survive_the_way_through_a_mapping():
    text = (
        "d --targets a b:class --task-weights a=0.2 b=1 --units a=eV/atom --transforms a=log --T-max 7 "
        "--no-normalize --lr-milestones 3 4 --adaptive-weights --val-size 3 --run-name x_y --dropout 0.1"
    )
    args = parsed(text)
    given = {k: v for k, v in args.items() if k != "data_options" and not (k == "val_ratio" and args["val_size"])}
    assert vars(parse_training(["d", *to_argv(given)])) == args


def test_only_sizes_that_are_given_beside_them_contradict_folds_and_a_split_file(tmp_path):
    config = tmp_path / "c.toml"
    write_config(config, parse_training(["d", "--folds", "3", "--val-size", "4", "--group-by", "formula"]))
    args = parsed(f"d --config {config}")
    assert (args["folds"], args["val_size"], args["group_by"]) == (3, 4, "formula")
    assert "--test-size" in refused(train_command, "d", "--config", config, "--test-size", 5)
    write_config(config, parse_training(["d", "--val-size", "4", "--test-ratio", "0.3"]))
    assert parsed(f"d --config {config} --split-file s.csv")["split_file"] == "s.csv"
    assert parsed(f"d --config {config} --folds 3")["folds"] == 3
    assert parsed("d --split-file s.csv --num-splits 2 --group-by none")["num_splits"] == 2
    assert parsed("d --split-file= --val-size 3")["val_size"] == 3


def values_of(action: argparse.Action) -> st.SearchStrategy[list[str]]:
    """Words that give a flag any value that it takes."""
    name = action.option_strings[-1]
    names = st.text("ab_%é =", min_size=1, max_size=4).map(lambda text: f"x{text}")
    if isinstance(action, argparse.BooleanOptionalAction):
        return st.sampled_from([[option] for option in action.option_strings])
    if isinstance(action, Pairs):
        value = names if is_value(action.type, "x=y") else st.floats(0, 10).map(str)
        return st.dictionaries(names.map(lambda text: text.replace("=", "")), value, max_size=2).map(
            lambda pairs: [name, *(f"{key}={item}" for key, item in pairs.items())]
        )
    if action.nargs == "*":
        value = st.integers(1, 99).map(str) if action.default else names
        return st.lists(value, max_size=2, unique=True).map(lambda several: [name, *several])
    if action.choices:
        value = st.sampled_from(list(action.choices))
    elif action.type is None:
        value = st.just("") | names
    else:
        value = st.sampled_from(["SGD", "adam", "1", "7", "0.25", "1e-07", "0", "123456789.123456789", "3h"])
        value = value.filter(lambda text: is_value(action.type, text))
    return value.map(lambda text: [f"{name}={text}"])


def is_value(kind: Callable, text: str) -> bool:
    try:
        kind(text)
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return True


# Where a run's flags come from, where it writes, how long it takes and on what machine are no part of it.
NOT_KEPT = ("config", "resume", "out_dir", "max_time", "target_set", "data_on_gpu")
# These need a model, or make runs of their own.
STARTS = ("init_from", "init_layers", "freeze_body", "reset_heads", "learning_curve")
ACTIONS = {
    a.dest: a for a in flags.training_parser()._actions if a.dest not in (*NOT_KEPT, *STARTS, "help", "data_options")
}


@settings(deadline=None, max_examples=150)
@given(
    given=st.lists(st.sampled_from(sorted(ACTIONS)), max_size=8, unique=True).flatmap(
        lambda names: st.tuples(*(values_of(ACTIONS[name]) for name in names))
    ),
    preset=st.booleans(),
)
def test_what_is_written_of_a_run_gives_back_its_flags(given, preset):
    words = [word for several in given for word in several]
    try:
        args = parse_training(["d", *(["--preset", "accurate"] if preset else []), *words])
    except DataError:  # flags that contradict each other
        reject()
    with tempfile.TemporaryDirectory() as folder:
        config, saved = Path(folder, "c.toml"), Path(folder, "saved.pth.tar")
        write_config(config, args)
        torch.save({"state_dict": {}, "training": {}, "args": flags_as_plain(args)}, saved)
        for again in (["d", "--config", str(config)], ["d", "--resume", str(saved)]):
            found = vars(parse_training(again))
            assert {k: v for k, v in found.items() if k not in NOT_KEPT} == {
                k: v for k, v in vars(args).items() if k not in NOT_KEPT
            }


@pytest.mark.parametrize(
    ("config", "words", "name", "value"),
    [
        ("preset = 'accurate'", "--global-features=", "global_features", ""),
        ("run_name = 'x'", "--run-name=", "run_name", ""),
        ("task_weights = {a = 1.0}", "--task-weights", "task_weights", {}),
        ("units = {a = 'eV'}", "--units", "units", {}),
        ("transforms = {a = 'log'}", "--transforms", "transforms", {}),
        ("targets = ['a']", "--targets", "targets", []),
        ("lr_milestones = [3]", "--lr-milestones", "lr_milestones", []),
        ("lr_milestones = []", "", "lr_milestones", []),
    ],
)
def test_nothing_is_a_value_too(config, words, name, value, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(config)
    args = parse_training(["d", "--config", str(path), *words.split()])
    assert getattr(args, name) == value
    write_config(tmp_path / "again.toml", args)
    assert parsed(f"d --config {tmp_path / 'again.toml'}")[name] == value
    # and so from Python
    mapping = to_argv({"config": path, name: value})
    assert getattr(parse_training(["d", *mapping]), name) == value


@pytest.mark.parametrize("name", ["data", "my data", "it's", "two\nlines"])
def test_the_command_in_the_config_is_the_one_that_repeats_the_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("out dir") / "result" / "c.toml"
    path.parent.mkdir(parents=True)
    args = parse_training([name, "--epochs", "3"])
    write_config(path, args)
    comment = path.read_text().splitlines()[0]
    words = shlex.split(comment, comments=False)
    assert words[:3] == ["#", "python", "main.py"]
    again = parse_training(words[3:])
    assert again.epochs == 3
    assert again.data_options == [name.replace("\n", "?")]


@pytest.mark.parametrize(
    "words",
    [
        ["--val-size", 3, "--test-size", 3, "--optim", "adam", "--pooling", "attention", "--batch-size", 4],
        ["--targets", "band_gap", "work_function", "--task-weights", "band_gap=0.7", "--units", "band_gap=meV"],
        ["--conditional-loss", "--auxiliary-tasks", "--adaptive-weights", "--no-normalize", "--num-splits", 2],
    ],
)
def test_the_written_config_repeats_the_run(words, tmp_path):
    folder = root_folder(tmp_path / "data")
    one, two = tmp_path / "one", tmp_path / "two"
    train(folder, one, "--epochs", 2, "--seed", 5, *words)
    config = result_file(one, "config.toml")
    train(folder, two, "--config", config)
    assert (one / "test_results.csv").read_bytes() == (two / "test_results.csv").read_bytes()
    assert same_weights(one / "model_best.pth.tar", two / "model_best.pth.tar")
    assert result_file(two, "config.toml").name == config.name
    lines, again = (path.read_text().splitlines() for path in (config, result_file(two, "config.toml")))
    assert lines[0] == f"# python main.py {folder} --config {config}"
    assert again[1:] == lines[1:]


def test_positional_options_are_part_of_the_config(tmp_path):
    folder = root_folder(tmp_path / "data")
    ran = run(train_command, folder, 8, 5, "--epochs", 1, "--out-dir", tmp_path / "one")
    assert ran.status == 0, ran.err
    train(folder, tmp_path / "two", "--config", result_file(tmp_path / "one", "config.toml"))
    one, two = (tmp_path / name / "test_results.csv" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_ratio_takes_the_place_of_a_size_of_a_lower_layer(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("train_size = 5\nval_size = 3\n")
    args = parsed(f"d --config {config} --val-ratio 0.2")
    assert (args["train_size"], args["val_size"], args["val_ratio"]) == (5, None, 0.2)


def test_a_network_learns_by_its_own_defaults_unless_told_otherwise(tmp_path):
    args = parsed("d --model ecnet")
    names = ("loss", "optim", "lr", "scheduler", "lr_milestones", "batch_size", "epochs")
    assert [args[name] for name in names] == ["l1", "Adam", 0.001, "step", [], 128, 500]
    assert parsed("d --model ecnet --lr 0.01 --loss mse")["lr"] == 0.01
    assert parsed("d --model ecnet --preset accurate")["lr"] == presets.PRESETS["accurate"]["lr"]
    config = tmp_path / "run.toml"
    config.write_text("model = 'ecnet'\nlr = 0.02\n")
    args = parsed(f"d --config {config}")
    assert (args["lr"], args["batch_size"]) == (0.02, 128)
    assert parsed("d --model csgcnn")["batch_size"] == DEFAULTS["batch_size"]
    assert all(hasattr(parse_training(["d"]), name) for own in presets.MODEL_DEFAULTS.values() for name in own)


@pytest.mark.parametrize(
    ("words", "swa"),
    [
        ("", 50),
        ("--epochs 800", 50),
        ("--epochs 60", 6),
        ("--epochs 9", 0),
        ("--epochs 60 --swa 7", 7),
        ("--ema 0.9", 0),
    ],
)
def test_epochs_that_a_network_averages_by_default(words, swa):
    assert parsed(f"d --model crystalformer {words}")["swa"] == swa


def test_a_run_from_a_model_of_a_network_has_its_defaults(tmp_path):
    folder = root_folder(tmp_path / "data")
    train(folder, tmp_path, "--model", "ecnet", "--epochs", 1, "--cutoff", 5, "--hidden-channels", 8)
    args = parsed(f"d --fine-tune {tmp_path / 'model_best.pth.tar'} --epochs 3")
    assert (args["model"], args["hidden_channels"], args["cutoff"]) == ("ecnet", 8, 5)
    assert (args["lr"], args["loss"], args["epochs"]) == (0.001, "l1", 3)
