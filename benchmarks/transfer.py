"""Does a network that starts from another model need fewer labels? Elastic moduli from few crystals, both ways.

    python -m benchmarks.transfer MP_5000 MP_ELASTIC SPLIT.csv RESULTS.csv --crystals 200 --seeds 0 1 2

Trains a model of formation energy and band gap on the first folder once, then bulk and shear modulus on the second
from so many training crystals: from nothing, from the first layers of that model, from all of it, and from it with a
frozen body. The validation and test part are those of the split file. Each run is a line of RESULTS.csv as soon as it
ends; what is there is not repeated.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd

import cgcnn

# The features of --preset accurate, and a schedule that does without a tuned number of epochs.
NETWORK = {
    "atom_features": "json+properties",
    "environment": True,
    "global_features": "valence",
    "loss": "l1",
    "optim": "AdamW",
    "lr": 0.003,
    "weight_decay": 0.01,
    "scheduler": "one-cycle",
    "batch_size": 32,
}
MODULI = ["log10_bulk_modulus", "log10_shear_modulus"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder with formation_energy and band_gap")
    parser.add_argument("folder", help="folder with the moduli")
    parser.add_argument("split_file", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--crystals", nargs="+", type=int, default=[200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--source-epochs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "cgcnn-transfer")
    args = parser.parse_args()
    model = _source_model(args)
    train = (pd.read_csv(args.split_file)["split"] == "train").sum()
    starts = {
        "from nothing": {},
        "from its embedding": {"init_from": model, "init_layers": 0},
        "from its embedding and first convolution": {"init_from": model, "init_layers": 1},
        "from its embedding and two convolutions": {"init_from": model, "init_layers": 2},
        "from all of it": {"init_from": model},
        "from all of it, rate 0.001": {"init_from": model, "lr": 0.001},
        "from all of it, frozen body": {"init_from": model, "freeze_body": True},
    }
    for seed in args.seeds:
        for crystals in args.crystals:
            for name, flags in starts.items():
                _run(args, name, seed, crystals, flags | {"train_fraction": crystals / train})
    table = pd.read_csv(args.results)
    print(table.groupby(["start", "crystals"], sort=False).agg(["mean", lambda x: x.std(ddof=0)]).to_string())


def _source_model(args: argparse.Namespace) -> Path:
    folder = args.scratch / "source"
    checkpoint, model = folder / "checkpoint.pth.tar", folder / "model_best.pth.tar"
    if not list((folder / "result").glob("*_trained_model.pt")):
        flags = {**NETWORK, "targets": ["formation_energy", "band_gap"], "epochs": args.source_epochs, "seed": 0}
        flags = {"resume": checkpoint} if checkpoint.exists() else flags
        cgcnn.fit(args.source, out_dir=folder, threads=args.threads, **flags)
    return model


def _run(args: argparse.Namespace, name: str, seed: int, crystals: int, flags: dict) -> None:
    done = (
        pd.read_csv(args.results)
        if args.results.exists()
        else pd.DataFrame({"start": [], "crystals": [], "seed": []})
    )
    if ((done["start"] == name) & (done["seed"] == seed) & (done["crystals"] == crystals)).any():
        return
    result = cgcnn.fit(
        args.folder,
        **{
            **NETWORK,
            "targets": MODULI,
            "epochs": args.epochs,
            "split_file": args.split_file,
            "seed": seed,
            "threads": args.threads,
            "out_dir": args.scratch / f"{name.replace(' ', '_')}-{crystals}-{seed}",
            **flags,
        },
    )
    row = result.metrics.iloc[0]
    errors = {f"{part}{task}": row[f"{part}{task}_MAE"] for part in ("Val_", "") for task in MODULI}
    line = pd.DataFrame([{"start": name, "crystals": crystals, "seed": seed, **errors}])
    pd.concat([done, line]).to_csv(args.results, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
