"""From the command line, a configuration file, a preset, a saved run or Python keywords to settled flags."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cgcnn.augment import amounts
from cgcnn.flags import EXIT_BAD_INPUT, PARTS, PRESETS, Parser, training_parser
from cgcnn.labels import DataError
from cgcnn.meaning import meaningless

if TYPE_CHECKING:
    from cgcnn.results import RunResult

# Seed spellings with an underscore or another case that are the same flag.
_ALIASES = {
    "--optimizer": "--optim",
    "--lr-sch": "--scheduler",
    "--loss-func": "--loss",
    "--n-epochs": "--epochs",
}
# What a checkpoint has settled: the optimiser's state and the weights learned so far depend on it.
_SETTLED = ("optim", "momentum", "weight_decay", "ema", "task_weights", "normalize")
# Flags that take several values in a comparison.
SEVERAL = ("--edge-features", "--atom-features")
# flag → what it settles, and the flags that would then be ignored
_SPLITTING = {
    "folds": ("the training and test parts", ("train_ratio", "train_size", "test_ratio", "test_size")),
    "split_file": ("the parts", (*(f"{part}_{of}" for part in PARTS for of in ("ratio", "size")), "group_by")),
}


def parse_training(argv: Sequence[str], *, strict: bool = True) -> argparse.Namespace:
    """Flags of main.py, in rising order: defaults, preset, the resumed run's, configuration file, command line.

    Raises DataError for what is no flag, or no value of it, and, if `strict`, for one that would have no effect.
    """
    words = normalise(argv)
    given = _given(words)
    config, saved = {}, {}
    if "config" in given:
        config = explicit([".", *to_argv(read_config(Path(given["config"])))], where=given["config"])
    if resumed := given.get("resume", config.get("resume")):
        saved = _saved_flags(Path(resumed))
    layers = [saved, config, given]
    start = next((layer["init_from"] for layer in reversed(layers) if "init_from" in layer), None)
    if start and not saved:
        layers.insert(0, _network_flags(Path(start)))
    preset = next((layer["preset"] for layer in reversed(layers) if "preset" in layer), None)
    if preset:
        layers.insert(0, explicit([".", *to_argv(PRESETS[preset])]))
    flags: dict = {}
    for layer in layers:
        for part in PARTS:  # a ratio takes the place of a size given on a lower layer, and the other way round
            ratio, size = f"{part}_ratio", f"{part}_size"
            if ratio in layer and size in layer and layer[size] is not None:
                raise DataError(f"--{part}-ratio and --{part}-size exclude each other")
            if size in layer and layer[size] is not None:
                flags.pop(ratio, None)
            elif ratio in layer:
                flags.pop(size, None)
        flags.update({name: value for name, value in layer.items() if name != "data_options"})
    parser = training_parser()
    parser.set_defaults(**flags)
    args = parser.parse_args(words)
    _apply_positional(args)
    _check(args)
    _check_splitting(args, given)
    if strict and (faults := meaningless(args, given)):
        raise DataError("\n".join(faults.values()))
    if saved:
        _check_settled(args, saved)
    return args


def explicit(words: Sequence[str], where: str | None = None, parser: Parser | None = None) -> dict:
    """The flags that stand in `words`, without defaults; parser: another than main.py's. Raises DataError."""
    parser = parser or training_parser()
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    try:
        return vars(parser.parse_args(words))
    except DataError as error:
        raise DataError(f"{where}: {error}" if where else str(error)) from None


def _given(words: Sequence[str]) -> dict:
    """The flags of the command line; several values where one run takes one are told as such."""
    try:
        return explicit(words)
    except DataError as error:
        for flag, one, other in zip(words, words[1:], words[2:], strict=False):
            if flag in SEVERAL and str(error).startswith(f"unrecognized arguments: {other}"):
                raise DataError(f"{flag} {one} {other}: several values need --compare MODEL …") from None
        raise


def _saved_flags(path: Path) -> dict:
    """The flags of the run that a checkpoint belongs to; where it writes and how long is not among them."""
    from cgcnn import checkpoint

    content = checkpoint.read(path)
    if not isinstance(content.get("training"), dict) or not isinstance(content.get("args"), dict):
        raise DataError(f"{path}: a model, but no run to resume; use the checkpoint.pth.tar of the run")
    flags = explicit([".", *to_argv(content["args"])], where=str(path))
    return {name: value for name, value in flags.items() if name not in ("max_time", "out_dir", "config")}


def _network_flags(path: Path) -> dict:
    """The flags of a model's network and graphs: what starts from its weights has them, unless told otherwise."""
    from cgcnn import checkpoint

    model = checkpoint.load(path)
    flags = {name: value for name, value in model.config.items() if name != "dropout"}
    flags |= {"neighbors": model.graph.neighbours, "max_num_nbr": model.graph.max_num_nbr, "model": model.name}
    flags["atom_features"] = model.args.get("atom_features", "json")
    return explicit([".", *to_argv(flags)], where=str(path))


def to_argv(flags: Mapping[str, object]) -> list[str]:
    """Flags as a mapping (a configuration file, Python keywords) → the words of a command line; None: not given."""
    words: list[str] = []
    for name, value in flags.items():
        flag = "--T-max" if name.lower() in ("t_max", "t-max") else _flag(name)
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, Mapping):
            words += [flag, *(f"{key}={item}" for key, item in value.items())]
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        else:
            words += [f"{flag}={value}"]
    return words


def read_config(path: Path) -> dict:
    """A TOML file of flags. Raises DataError where it cannot be read."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a TOML file ({error})") from None


def run_script(function: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Call a script's function; what the user did wrong becomes one line each on stderr and an exit status."""
    try:
        return function(sys.argv[1:] if argv is None else argv)
    except DataError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


def train_command(argv: Sequence[str] | None = None) -> int:
    """main.py."""
    return run_script(_train, argv)


def train(args: argparse.Namespace) -> RunResult:
    """One run, or those of a learning curve."""
    if args.learning_curve:
        from cgcnn.learning_curve import learning_curve

        return learning_curve(args)
    from cgcnn.experiment import run

    return run(args)


def predict_command(argv: Sequence[str] | None = None) -> int:
    """predict.py."""
    return run_script(_predict, argv)


def sweep_command(argv: Sequence[str] | None = None) -> int:
    """grid_search.py."""
    return run_script(_sweep, argv)


def _train(argv: Sequence[str]) -> int:
    if any(word.partition("=")[0] == "--compare" for word in normalise(argv)):
        return _compare(argv)
    return train(parse_training(argv)).exit_status


def _compare(argv: Sequence[str]) -> int:
    from cgcnn.sweep.compare import parse_comparison

    flags = parse_comparison(argv)
    from cgcnn.sweep.comparison import Comparison  # torch and optuna only after the flags are right

    return Comparison(flags, argv).run()


def _predict(argv: Sequence[str]) -> int:
    from cgcnn.screening.flags import parse_prediction
    from cgcnn.workers import warm_up

    args = parse_prediction(normalise(argv))
    warm_up(Path(args.cifpath), args.workers)
    from cgcnn.screening.command import predict_files  # torch only after the flags are right

    return predict_files(args)


def _sweep(argv: Sequence[str]) -> int:
    from cgcnn.sweep.flags import parse_sweep

    flags = parse_sweep(argv)
    from cgcnn.sweep.command import Sweep  # torch and optuna only after the flags are right

    return Sweep(flags, argv).run()


def normalise(argv: Sequence[str]) -> list[str]:
    """Seed spellings to ours: underscores for dashes, and the second names of a flag."""
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("_", "-")
            flag = _ALIASES.get(flag, flag)
        words.append(flag + equals + value)
    return words


def _apply_positional(args: argparse.Namespace) -> None:
    """The original code's CIFData arguments after the folder: max_num_nbr radius dmin step random_seed."""
    names = ("max_num_nbr", "radius", "dmin", "step", "seed")
    extra = args.data_options[1:]
    if len(extra) > len(names):
        raise DataError(f"too many arguments after the data folder: {' '.join(extra)}")
    words = to_argv(dict(zip(names, extra, strict=False)))
    given = explicit([".", *words], where="after the data folder")
    vars(args).update({name: given[name] for name in names[: len(extra)]})


def _check_settled(args: argparse.Namespace, saved: Mapping[str, object]) -> None:
    """Raises DataError for a flag that differs from the resumed run's and cannot change within a run."""
    for name in _SETTLED:
        before = saved.get(name, training_parser().get_default(name))
        if getattr(args, name) != before:
            raise DataError(
                f"{_flag(name)} is {before} in the run of {args.resume}, and cannot change when it is resumed"
            )


def _check_splitting(args: argparse.Namespace, given: Mapping[str, object]) -> None:
    """Raises DataError for a flag of the command line that would be ignored; written configurations hold them all."""
    for name, (parts, others) in _SPLITTING.items():
        ignored = [_flag(other) for other in others if given.get(other, "none") != "none"]
        if getattr(args, name) and ignored:
            raise DataError(f"{_flag(name)} {getattr(args, name)} settles {parts}: leave out {', '.join(ignored)}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check(args: argparse.Namespace) -> None:
    """What single flags cannot know of each other."""
    if args.conditional_loss and args.metal_weight + args.semiconductor_weight <= 0:
        raise DataError("--metal-weight and --semiconductor-weight are both 0")
    chosen = [word.removesuffix(":class") for word in args.targets or ()]
    if twice := [name for k, name in enumerate(chosen) if name in chosen[:k]]:
        raise DataError(f"--targets: {twice[0]} stands twice")
    for name in ("freeze_body", "reset_heads", "init_layers"):
        value = getattr(args, name)
        if value is not None and value is not False and not args.init_from:
            raise DataError(f"{_flag(name)} needs --init-from")
    if args.freeze_body and args.init_layers is not None:
        raise DataError("--freeze-body freezes a whole body: leave out --init-layers")
    if args.compare:
        raise DataError("--compare is several runs: give it to main.py itself, on the command line")
    if args.compare_also:
        raise DataError("--compare-also needs --compare")
    if args.learning_curve and (args.resume or args.train_fraction != 1):
        raise DataError("--learning-curve makes its own runs: leave out --resume and --train-fraction")
    if args.model == "csgann" and args.atom_fea_len % args.num_heads:
        raise DataError(f"--num-heads {args.num_heads} cannot share --atom-fea-len {args.atom_fea_len} evenly")
    if not sum(args.loss_weights) > 0:
        raise DataError("--loss-weights are all 0")
    if args.pooling == "sum" and "supercell" in amounts(args.augment):
        raise DataError(
            "--augment supercell cannot go with --pooling sum: its outputs grow with the cell, labels do not"
        )
    if args.ema and args.swa:
        raise DataError("--ema and --swa exclude each other")
    if args.swa >= args.epochs:
        raise DataError(f"--swa {args.swa} must be less than --epochs {args.epochs}")
    if args.folds and (args.num_splits > 1 or args.split_file):
        raise DataError("--folds makes its own splits: leave out --num-splits and --split-file")
    if args.start_epoch >= args.epochs:
        raise DataError(f"--start-epoch {args.start_epoch} leaves no epoch of --epochs {args.epochs}")
