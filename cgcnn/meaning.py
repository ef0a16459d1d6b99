"""Flags that mean something only beside another one: what has no effect is refused. Imports nothing heavy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable

from cgcnn.flag_kinds import as_flag, shown
from cgcnn.flags import training_parser

_CSG = ("csgcnn", "csgann", "csginn")
ATOM_NETWORKS = ("cgcnn", *_CSG)
_ECNET, _FORMER = ("ecnet",), ("crystalformer",)
_Need = tuple[str, tuple, str]
_ATOMS = "ecnet and crystalformer have no edges with vectors of their own"
_IN_FORMER = ("model", _FORMER, "it is a part of Crystalformer")
_RECIPROCAL = "no head sums in reciprocal space"
# flag → the flags that decide whether it acts, the values with which it does, and why only with these
_NEEDS: dict[str, tuple[_Need, ...]] = {
    "graph_jobs": (("parallel", ("loky",), "a cluster has its own workers"),),
    "scheduler_address": (("parallel", ("dask",), "it is where a Dask cluster is asked"),),
    "residual": (("model", _CSG, "the convolution of cgcnn adds what it starts from already"),),
    "num_heads": (("model", ("csgann",), "no other network has attention heads"),),
    "num_rbf": (("model", ATOM_NETWORKS, _ATOMS), ("edge_features", ("rbf",), "it is the number of its centres")),
    "dmin": (("model", ATOM_NETWORKS, _ATOMS), ("edge_features", ("gaussian",), "it places Gaussians")),
    "step": (("model", ATOM_NETWORKS, _ATOMS), ("edge_features", ("gaussian",), "it places Gaussians")),
    "max_edges_per_batch": (("model", (*ATOM_NETWORKS, *_FORMER), "ecnet sees histograms, whatever the cell"),),
    "loss_weights": (("loss", ("weighted",), "they are its parts"),),
    "adam_betas": (("optim", ("Adam", "AdamW"), "SGD has --momentum"),),
    "sch_params": (("scheduler", ("inverse_sqrt_nowarmup",), "it is its number of steps"),),
    "radius": (("model", ATOM_NETWORKS, "ecnet has --cutoff, crystalformer --image-cutoff"),),
    "dropout": (("model", ATOM_NETWORKS, "ecnet and crystalformer have none"),),
    "atom_features": (("model", ATOM_NETWORKS, "ecnet and crystalformer learn the vectors of the elements"),),
    "learnable_atoms": (
        ("model", ATOM_NETWORKS, "ecnet and crystalformer learn the vectors of the elements already"),
    ),
    "atom_fea_len": (("model", ATOM_NETWORKS, "ecnet has --hidden-channels, crystalformer --model-dim"),),
    "h_fea_len": (("model", ATOM_NETWORKS, "ecnet has --tower-h1 and --tower-h2, crystalformer --embedding-dim"),),
    "n_conv": (("model", ATOM_NETWORKS, "ecnet has --n-interactions, crystalformer --num-layers"),),
    "n_h": (("model", ATOM_NETWORKS, "ecnet has --tower-h1 and --tower-h2, crystalformer --embedding-dim"),),
    "pooling": (("model", ATOM_NETWORKS, "ecnet has --aggregation, crystalformer the mean"),),
    **dict.fromkeys(
        ("edge_features", "learnable_edges", "environment", "readout"), (("model", ATOM_NETWORKS, _ATOMS),)
    ),
    **dict.fromkeys(
        (
            *("hidden_channels", "n_filters", "n_interactions", "n_gaussian", "cutoff", "envelope", "aggregation"),
            *("tower", "tower_h1", "tower_h2", "use_pbc"),
        ),
        (("model", _ECNET, "it is a part of ECNet"),),
    ),
    **dict.fromkeys(
        (
            *("num_layers", "model_dim", "ff_dim", "head_num", "embedding_dim", "norm_type", "scale_real", "domain"),
            *("gauss_lb_real", "value_pe_dist_real", "value_pe_dist_max", "image_cutoff"),
        ),
        (_IN_FORMER,),
    ),
    **dict.fromkeys(
        ("max_num_nbr", "neighbors"), (("model", (*ATOM_NETWORKS, *_ECNET), "crystalformer takes all images"),)
    ),
    **dict.fromkeys(
        ("scale_reci", "gauss_lb_reci"), (_IN_FORMER, ("domain", ("multihead", "real-reci"), _RECIPROCAL))
    ),
}
# network → its own needs
_OF_ALL_PAIRS = (("use_pbc", (False,), "the histograms of ecnet are of all pairs"),)
_NEEDS_OF = {"ecnet": dict.fromkeys(("max_num_nbr", "neighbors"), _OF_ALL_PAIRS)}


def acts(args: Namespace, name: str) -> bool:
    """Whether the flag of this name has an effect in a run of these settled flags, whatever its value."""
    return _lacking(args, name) is None


def _lacking(args: Namespace, name: str) -> _Need | None:
    """The first need of a flag that these settled flags do not meet."""
    needs = _NEEDS.get(name, ()) + _NEEDS_OF.get(args.model, {}).get(name, ())
    return next((need for need in needs if getattr(args, need[0]) not in need[1]), None)


def meaningless(args: Namespace, given: Iterable[str]) -> dict[str, str]:
    """Those of the flags `given` that have no effect in a run of these settled flags: name → why, one line."""
    found, parser = {}, training_parser()
    for name in given:
        need = _lacking(args, name)
        if need is None or getattr(args, name) == parser.get_default(name):
            continue
        other, values, why = need
        chosen, now = " or ".join(map(shown, values)), f"{as_flag(other)} {shown(getattr(args, other))}"
        found[name] = f"{as_flag(name)} means nothing with {now}, only with {chosen}: {why}"
    return found
