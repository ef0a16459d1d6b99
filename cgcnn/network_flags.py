"""Flags of a network, its graphs and how it learns: name, kind, default, help. Imports nothing heavy."""

from __future__ import annotations

import argparse

from cgcnn.augment import NONE
from cgcnn.flag_kinds import Augmentations, at_least, augmentation, below_one, choice, ratio

NETWORKS = ("cgcnn", "csgcnn", "csgann", "csginn", "ecnet", "crystalformer")


def add_graph(group) -> None:
    """Flags of the crystal graph."""
    add = group.add_argument
    add(
        "--neighbors", choices=("shell", "classic"), default="shell", help="classic: cut tied shells at --max-num-nbr"
    )
    add("--max-num-nbr", type=at_least(1), default=12, metavar="M", help="neighbours an atom (12)")
    add("--radius", type=at_least(0.1), default=8.0, metavar="ANGSTROM", help="cutoff radius (8)")
    add("--dmin", type=at_least(0.0), default=0.0, metavar="ANGSTROM", help="first Gaussian (0)")
    add("--step", type=at_least(0.01), default=0.2, metavar="ANGSTROM", help="between Gaussians (0.2)")


def add_network(group) -> None:
    """Flags of the network."""
    add, switch = group.add_argument, argparse.BooleanOptionalAction
    add(
        "--model",
        choices=NETWORKS,
        default="cgcnn",
        help="how atoms gather neighbours: normalised or plain gated sums, attention, isomorphism; ecnet: elements "
        "from radial histograms, by default with --loss l1 --optim Adam --lr 0.001, no milestones, --batch-size 128 "
        "--epochs 500 (cgcnn)",
    )
    add("--residual", action=switch, default=False, help="a skip around every convolution of csgcnn, csgann, csginn")
    add("--num-heads", type=at_least(1), default=4, metavar="N", help="of the attention of csgann (4)")
    _add_features(group)
    add("--atom-fea-len", type=at_least(1), default=64, metavar="N", help="atom vector in convolutions (64)")
    add("--h-fea-len", type=at_least(1), default=128, metavar="N", help="hidden vector (128)")
    add("--n-conv", type=at_least(0), default=3, metavar="N", help="convolutions (3)")
    add("--n-h", type=at_least(1), default=1, metavar="N", help="hidden layers after pooling (1)")
    poolings = ("mean", "attention", "sum", "max", "set2set")
    add("--pooling", choices=poolings, default="mean", help="atoms to crystal (mean)")
    add("--readout", choices=("per-atom", "classic"), default="per-atom", help="widen atoms before pooling, or after")
    add(
        "--reference",
        choices=("none", "composition"),
        default="none",
        help="what outputs are counted from; composition: a linear model of it, fitted to the training part (none)",
    )
    add(
        "--extensive",
        nargs="*",
        default=[],
        metavar="NAME",
        help="regression targets that grow with the cell: heads count per atom",
    )
    add("--dropout", type=ratio, metavar="P", help="after pooling (default: 0.5 for classification alone, else 0)")


def _add_features(group) -> None:
    """What a network is told of atoms, edges and the whole crystal."""
    add, switch = group.add_argument, argparse.BooleanOptionalAction
    add(
        "--atom-features",
        default="json",
        metavar="KIND[+KIND]",
        help="json: atom_init.json or the CGCNN table; onehot; bits: of the atomic number; properties: of the "
        "elements; missing: which of these an element lacks; joined with + (json)",
    )
    add("--learnable-atoms", action=switch, default=False, help="the vectors of the elements are learned further")
    add("--edge-features", choices=("gaussian", "rbf"), default="gaussian", help="of distances; rbf: rows sum to 1")
    add("--num-rbf", type=at_least(2), default=10, metavar="N", help="centres of rbf (10)")
    add(
        "--learnable-edges",
        action=switch,
        default=False,
        help="edges are updated before every convolution, and rbf learns its centres and widths",
    )
    add(
        "--environment",
        action=switch,
        default=False,
        help="atoms start with angles and distances of their surroundings",
    )
    add(
        "--global-features",
        default="",
        metavar="KIND[+KIND]",
        help="valence: can electrons pair and charges balance; slab: what a layer shows to the vacuum; lattice: the "
        "reduced cell; symmetry: the crystal system; spacegroup: one of 230; joined with + (none)",
    )
    add(
        "--crystal-features",
        default="",
        metavar="TABLE:COLUMN[+COLUMN]",
        help="what else is known of the crystals, numbers or words: columns of this CSV file in the data folder, or "
        "else in the working folder (none)",
    )


def add_element_network(group) -> None:
    """Flags of ECNet, under their published names."""
    add = group.add_argument
    add("--hidden-channels", type=at_least(1), default=128, metavar="N", help="state of an element (128)")
    add("--n-filters", type=at_least(1), default=64, metavar="N", help="filters of a convolution (64)")
    add("--n-interactions", type=at_least(1), default=3, metavar="N", help="convolutions, side by side (3)")
    add("--n-gaussian", type=at_least(2), default=50, metavar="N", help="Gaussians of the distances (50)")
    add("--cutoff", type=at_least(0.5), default=10.0, metavar="ANGSTROM", help="of the distances (10)")
    add(
        "--envelope",
        choices=("cosine", "published"),
        default="cosine",
        help="cosine goes smoothly to 0 at the cutoff",
    )
    add("--aggregation", choices=("add", "mean"), default="add", help="elements to crystal (add)")
    add(
        "--tower",
        choices=("separate", "shared"),
        default="separate",
        help="layers of each task, or of all but the last",
    )
    add("--tower-h1", type=at_least(1), default=128, metavar="N", help="first layer of a tower (128)")
    add("--tower-h2", type=at_least(1), default=64, metavar="N", help="second layer of a tower (64)")
    add(
        "--use-pbc",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="off: the cell alone, and at most --max-num-nbr neighbours an atom, as published",
    )


def add_crystalformer(group) -> None:
    """Flags of Crystalformer, under their published names."""
    add = group.add_argument
    add("--num-layers", type=at_least(1), default=4, metavar="N", help="blocks of attention (4)")
    add("--model-dim", type=at_least(1), default=128, metavar="N", help="vector of an atom (128)")
    add("--ff-dim", type=at_least(1), default=512, metavar="N", help="second part of a block (512)")
    add("--head-num", type=at_least(1), default=8, metavar="N", help="heads of the attention (8)")
    add("--embedding-dim", nargs="*", type=at_least(1), default=[128], metavar="N", help="layers after pooling (128)")
    add("--norm-type", choices=("no", "bn"), default="no", help="batch norm in these layers (no)")
    add("--scale-real", nargs="+", type=at_least(0.1), default=[1.4], metavar="ANGSTROM", help="Gaussians' r0 (1.4)")
    add("--gauss-lb-real", type=below_one, default=0.5, metavar="B", help="bound of their widths (0.5)")
    add(
        "--value-pe-dist-real", type=at_least(0), default=64, metavar="K", help="functions of distance in values (64)"
    )
    add(
        "--value-pe-dist-max",
        type=float,
        default=-10.0,
        metavar="ANGSTROM",
        help="where they end; negative: in units of --scale-real (-10)",
    )
    add(
        "--domain",
        choices=("real", "multihead", "real-reci"),
        default="real",
        help="sums over images in real space; for half of the heads, or other blocks, in reciprocal space (real)",
    )
    add("--scale-reci", nargs="+", type=at_least(0.1), default=[2.2], metavar="ANGSTROM", help="there (2.2)")
    add("--gauss-lb-reci", type=below_one, default=0.5, metavar="B", help="there (0.5)")
    add("--image-cutoff", type=at_least(0.5), default=6.93, metavar="ANGSTROM", help="end of real sums (6.93)")
    add("--converged", dest="image_cutoff", action="store_const", const=8.0, help="the same as --image-cutoff 8")


def add_learning(group) -> None:
    """Flags of how it learns."""
    add = group.add_argument
    number = at_least(0.0)
    add("--epochs", type=at_least(1), default=80, metavar="N", help="(80)")
    add("-b", "--batch-size", type=at_least(1), default=256, metavar="N", help="(256)")
    add(
        "--max-edges-per-batch",
        type=at_least(0),
        default=0,
        metavar="E",
        help="end a batch before it has more edges, so that memory does not hang on the largest cells (0: off)",
    )
    add(
        "--precision",
        choices=("float32", "bf16"),
        default="float32",
        help="bf16: products of layers in bfloat16 while training; weights, sums and losses stay float32",
    )
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compile the network (minutes at the start; for long runs on a GPU)",
    )
    add(
        "--data-on-gpu",
        action=argparse.BooleanOptionalAction,
        help="keep the graphs in the memory of the GPU (default: where they take less than half of it)",
    )
    add("--optim", type=choice("SGD", "Adam", "AdamW"), default="SGD", metavar="SGD|Adam|AdamW", help="(SGD)")
    add("--lr", "--learning-rate", type=number, default=0.01, metavar="LR", help="(0.01)")
    add("--momentum", type=number, default=0.9, metavar="M", help="of SGD (0.9)")
    add(
        "--adam-betas",
        nargs=2,
        type=below_one,
        default=[0.9, 0.999],
        metavar=("B1", "B2"),
        help="of Adam and AdamW: how slowly the means of gradients and of their squares forget (0.9 0.999)",
    )
    add("--weight-decay", "--wd", type=number, default=0.0, metavar="W", help="(0)")
    add(
        "--decay-biases",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="off: no decay of biases and of the scales of normalisations",
    )
    _add_schedule(group)
    add("--clip-grad", type=number, default=0.0, metavar="NORM", help="largest gradient norm (0: off)")
    add(
        "--patience",
        type=at_least(0),
        default=0,
        metavar="EPOCHS",
        help="stop after so many without progress (0: off)",
    )
    add("--ema", type=below_one, default=0.0, metavar="DECAY", help="average the weights, e.g. 0.999 (0: off)")
    add(
        "--swa",
        type=at_least(0),
        default=0,
        metavar="EPOCHS",
        help="average the steps of the last epochs, and test this network beside that of the best epoch (0: off)",
    )
    add("--ensemble", type=at_least(1), default=1, metavar="N", help="networks trained and averaged (1)")
    add(
        "--augment",
        nargs="+",
        type=augmentation,
        default=[NONE],
        action=Augmentations,
        metavar="KIND[=AMOUNT]",
        help="training crystals change in every epoch: perturb=0.03 displaces atoms (Å, deviation of a coordinate), "
        "strain=0.02, supercell=2 (of up to so many cells), rotate, translate (none)",
    )


def _add_schedule(group) -> None:
    """How the learning rate changes."""
    add = group.add_argument
    schedules = ("step", "cosine", "one-cycle", "inverse_sqrt_nowarmup", "const")
    add(
        "--scheduler",
        type=choice(*schedules),
        choices=schedules,
        default="step",
        help="inverse_sqrt_nowarmup: rate × √(T/(T+t)) after t steps (step)",
    )
    add("--sch-params", type=at_least(1.0), default=4000.0, metavar="T", help="of inverse_sqrt_nowarmup (4000)")
    add(
        "--lr-milestones",
        nargs="*",
        type=at_least(1),
        default=[100],
        metavar="EPOCH",
        help="of step: rate × 0.1 (100)",
    )
    add("--T-max", type=at_least(1), metavar="EPOCHS", help="of cosine (default: epochs)")
    add("--eta-min", type=at_least(0.0), default=0.0, metavar="LR", help="of cosine (0)")
