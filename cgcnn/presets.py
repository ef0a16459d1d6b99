"""Sets of flags: those of --preset, and how each network learns unless it is told otherwise."""

from __future__ import annotations

# Flags that a preset sets; what the user gives wins.
PRESETS: dict[str, dict] = {
    # For a few hundred to a few thousand labels; README.md says what each part of it is worth.
    "accurate": {
        "atom_features": "json+properties",
        "environment": True,
        "global_features": "valence+slab",
        "auxiliary_tasks": True,
        "aux_task1_weight": 0.0,
        "aux_task2_weight": 0.2,
        "aux_task3_weight": 0.0,
        "loss": "l1",
        "optim": "AdamW",
        "lr": 0.006,
        "weight_decay": 0.01,
        "scheduler": "one-cycle",
        "batch_size": 32,
        "epochs": 120,
        "ensemble": 5,
    },
    # For a few hundred alloys of some elements.
    "alloys": {"model": "ecnet", "reference": "composition", "ema": 0.99},
}
# How a network learns unless it is told otherwise: below a preset, and what the user gives wins.
MODEL_DEFAULTS: dict[str, dict] = {
    "ecnet": {
        "loss": "l1",
        "optim": "Adam",
        "lr": 0.001,
        "scheduler": "step",
        "lr_milestones": [],
        "batch_size": 128,
        "epochs": 500,
    },
    "crystalformer": {
        "loss": "l1",
        "optim": "AdamW",
        "lr": 0.0005,
        "adam_betas": [0.9, 0.98],
        "weight_decay": 1e-5,
        "decay_biases": False,
        "clip_grad": 1.0,
        "scheduler": "inverse_sqrt_nowarmup",
        "swa": 50,
        "batch_size": 128,
        "epochs": 500,
    },
}


def model_defaults(model: str | None, epochs: int | None, ema: float | None) -> dict:
    """How a network learns by default, beside the --epochs and --ema that are asked for.

    At most a tenth of the epochs are averaged for --swa, and none beside --ema.
    """
    defaults = dict(MODEL_DEFAULTS.get(model, {}))
    if "swa" in defaults:
        tenth = (epochs or defaults["epochs"]) // 10
        defaults["swa"] = 0 if ema else min(defaults["swa"], tenth)
    return defaults
