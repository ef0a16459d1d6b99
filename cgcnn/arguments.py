"""From the command line, a configuration file, a preset, a saved run or Python keywords to settled flags."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgcnn.augment import amounts
from cgcnn.flag_kinds import as_flag
from cgcnn.flags import SEVERAL_RUNS, Parser, check_parallel, training_parser
from cgcnn.json_config import read_json_config
from cgcnn.labels import DataError
from cgcnn.meaning import ATOM_NETWORKS, meaningless
from cgcnn.naming import find_alloy_model
from cgcnn.presets import PRESETS, model_defaults
from cgcnn.reading import open_file
from cgcnn.spellings import normalise
from cgcnn.split_flags import check_splitting, lay_over, named_split
from cgcnn.target_sets import target_set_flags, target_set_folder

# What a checkpoint has settled: the optimiser's state and the weights learned so far depend on it.
_SETTLED = ("optim", "momentum", "weight_decay", "decay_biases", "adam_betas", "ema", "task_weights", "normalize")
# Flags that take several values in a comparison.
SEVERAL = ("--edge-features", "--atom-features")


def parse_training(argv: Sequence[str], *, strict: bool = True) -> argparse.Namespace:
    """Flags of main.py, in rising order: defaults, the network's, preset, the resumed run's, file, command line.

    Raises DataError for what is no flag, or no value of it, and, if `strict`, for one that would have no effect.
    """
    words = normalise(argv)
    given = _given(words)
    config, saved = {}, {}
    if "config" in given:
        config = explicit([".", *normalise(to_argv(read_config(Path(given["config"]))))], where=given["config"])
        if idle := [as_flag(name) for name in ("config", "evaluate") if name in config]:
            raise DataError(f"{given['config']}: {idle[0]} is for the command line only")
    if "evaluate" in given:
        given["evaluate"], saved = _evaluated_flags(given)
    elif resumed := given.get("resume", config.get("resume")):
        saved = _saved_flags(Path(resumed))
    layers = [saved, config, given]
    start = _uppermost(layers, "init_from")
    if start and not saved:
        layers.insert(0, _network_flags(Path(start), _uppermost(layers, "targets")))
    preset = _uppermost(layers, "preset")
    if preset:
        layers.insert(0, explicit([".", *to_argv(PRESETS[preset])]))
    target_set = _uppermost(layers, "target_set")
    if target_set:
        layers.insert(0, target_set_flags(target_set, _uppermost(layers, "targets")))
    layers.insert(0, model_defaults(*(_uppermost(layers, name) for name in ("model", "epochs", "ema"))))
    flags: dict = {}
    for layer in map(named_split, layers):
        lay_over(flags, layer)
    parser = training_parser()
    parser.set_defaults(**flags)
    args = parser.parse_args(words)
    vars(args).update(split=flags.get("split"), split_type=None, processed_data=False, evaluate=given.get("evaluate"))
    _apply_positional(args)
    if target_set:
        args.data_options[0] = str(target_set_folder(Path(args.data_options[0]), target_set))
        args.units = target_set_flags(target_set, args.targets).get("units", {}) | args.units
    _check(args)
    check_splitting(args, given, strict=strict)
    if strict and (faults := meaningless(args, given)):
        raise DataError("\n".join(faults.values()))
    if saved and args.evaluate is None:
        _check_settled(args, saved)
    return args


def _uppermost(layers: Sequence[Mapping], name: str):
    """The value of a flag on the highest layer that has it."""
    return next((layer[name] for layer in reversed(layers) if name in layer), None)


def explicit(words: Sequence[str], where: str | None = None, parser: Parser | None = None) -> dict:
    """The flags that stand in `words`, without defaults; parser: another than main.py's. Raises DataError."""
    parser = parser or training_parser()
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    try:
        return vars(parser.parse_args(words))
    except DataError as error:
        raise DataError(f"{where}: {' '.join(str(error).split())}" if where else str(error)) from None


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
    """The flags of the run that a checkpoint belongs to; where it writes, how long and on what is not among them."""
    from cgcnn import checkpoint

    content = checkpoint.read(path)
    if not isinstance(content.get("training"), dict) or not isinstance(content.get("args"), dict):
        raise DataError(f"{path}: a model, but no run to resume; use the checkpoint.pth.tar of the run")
    flags = explicit([".", *to_argv(content["args"])], where=str(path))
    other = ("max_time", "out_dir", "config", "data_on_gpu")
    return {name: value for name, value in flags.items() if name not in other}


def _evaluated_flags(given: Mapping[str, object]) -> tuple[str, dict]:
    """The path of the model that --evaluate tests, and the flags that it was trained with.

    Raises DataError for a flag that is about training, or describes another network.
    """
    from cgcnn import checkpoint

    for name in ("resume", "init_from", "train_fraction", *SEVERAL_RUNS):
        if name in given:
            raise DataError(f"--evaluate trains nothing: leave out {as_flag(name)}")
    path = given["evaluate"] or find_alloy_model(Path(given.get("out_dir", ".")) / "result", named_split(given))
    model = checkpoint.load(Path(path))
    if model.is_original:
        raise DataError(f"{path}: original CGCNN weights, which know no split; predict.py takes them")
    flags = explicit([".", *to_argv(model.args)], where=str(path))
    # another table may have the same columns
    for name in ("model", *(name for name in model.config if name != "crystal_features")):
        before = flags.get(name, model.config.get(name))
        if given.get(name, before) != before:
            raise DataError(f"{as_flag(name)} {given[name]}, but the network of {path} has {before}")
    for name in ("units", "transforms", "extensive"):
        chosen = [word.removesuffix(":class") for word in given.get("targets", ())]
        if chosen and name in flags:
            kept = [word for word in flags[name] if word in chosen]
            flags[name] = {word: flags[name][word] for word in kept} if isinstance(flags[name], dict) else kept
    idle = ("init_from", "init_layers", "freeze_body", "reset_heads", "auxiliary_tasks", "task_weights", "patience")
    return str(path), {name: value for name, value in flags.items() if name not in (*idle, "cache_dir", "threads")}


def _network_flags(path: Path, targets: Sequence[str] | None) -> dict:
    """The flags of a model's network and graphs: what starts from its weights has them, unless told otherwise.

    Of the targets that grow with the cell, those among `targets`, if these are given.
    """
    from cgcnn import checkpoint

    model = checkpoint.load(path)
    flags = {name: value for name, value in model.config.items() if name != "dropout"}
    flags |= {"neighbors": model.graph.neighbours, "max_num_nbr": model.graph.max_num_nbr, "model": model.name}
    flags["atom_features"] = model.args.get("atom_features", "json")
    flags["crystal_features"] = model.args.get("crystal_features", "")  # the table: the network knows its names only
    flags["extensive"] = [name for name in flags.get("extensive", ()) if not targets or name in targets]
    return explicit([".", *to_argv(flags)], where=str(path))


def to_argv(flags: Mapping[str, object]) -> list[str]:
    """Flags as a mapping (a configuration file, Python keywords) → the words of a command line; None: not given."""
    words: list[str] = []
    for name, value in flags.items():
        flag = "--T-max" if name.lower() in ("t_max", "t-max") else as_flag(name)
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
    """A file of flags in TOML, or in JSON (*.json). Raises DataError where it cannot be read."""
    if path.suffix.lower() == ".json":
        return read_json_config(path)
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open_file(path) as file:
            return tomllib.load(file)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise DataError(f"{path}: not a TOML file (too many brackets inside each other)") from None
    except ValueError as error:  # a syntax error, bytes that are no text, a number of thousands of digits
        raise DataError(f"{path}: not a TOML file ({str(error).partition(';')[0]})") from None


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
                f"{as_flag(name)} is {before} in the run of {args.resume}, and cannot change when it is resumed"
            )


def _check(args: argparse.Namespace) -> None:
    """What single flags cannot know of each other."""
    check_parallel(args)
    if args.conditional_loss and args.metal_weight + args.semiconductor_weight <= 0:
        raise DataError("--metal-weight and --semiconductor-weight are both 0")
    chosen = [word.removesuffix(":class") for word in args.targets or ()]
    if twice := [name for k, name in enumerate(chosen) if name in chosen[:k]]:
        raise DataError(f"--targets: {twice[0]} stands twice")
    for name in ("freeze_body", "reset_heads", "init_layers"):
        value = getattr(args, name)
        if value is not None and value is not False and not args.init_from:
            raise DataError(f"{as_flag(name)} needs --init-from")
    if args.freeze_body and args.init_layers is not None:
        raise DataError("--freeze-body freezes a whole body: leave out --init-layers")
    if args.compare:
        raise DataError("--compare is several runs: give it to main.py itself, on the command line")
    if args.compare_also:
        raise DataError("--compare-also needs --compare")
    if args.learning_curve and (args.resume or args.train_fraction != 1):
        raise DataError("--learning-curve makes its own runs: leave out --resume and --train-fraction")
    if args.transfer_study:
        settled = ("split", "split_type", "init_from", "resume", "learning_curve", "folds", "split_file")
        if ignored := [as_flag(name) for name in settled if getattr(args, name) not in (None, 0)]:
            raise DataError(f"--transfer-study makes its own runs: leave out {', '.join(ignored)}")
    if args.model == "csgann" and args.atom_fea_len % args.num_heads:
        raise DataError(f"--num-heads {args.num_heads} cannot share --atom-fea-len {args.atom_fea_len} evenly")
    if not sum(args.loss_weights) > 0:
        raise DataError("--loss-weights are all 0")
    if args.pooling == "sum" and "supercell" in amounts(args.augment):
        raise DataError(
            "--augment supercell cannot go with --pooling sum: its outputs grow with the cell, labels do not"
        )
    if args.extensive and "supercell" in amounts(args.augment):
        raise DataError(
            "--augment supercell cannot go with --extensive: its outputs grow with the cell, labels do not"
        )
    if args.extensive and args.pooling == "sum" and args.model in ATOM_NETWORKS:
        raise DataError("--extensive cannot go with --pooling sum: the size of the cell would count twice")
    if args.ema and args.swa:
        raise DataError("--ema and --swa exclude each other")
    if args.swa >= args.epochs:
        raise DataError(f"--swa {args.swa} must be less than --epochs {args.epochs}")
    if args.folds and (args.num_splits > 1 or args.split_file):
        raise DataError("--folds makes its own splits: leave out --num-splits and --split-file")
    if args.start_epoch >= args.epochs:
        raise DataError(f"--start-epoch {args.start_epoch} leaves no epoch of --epochs {args.epochs}")
