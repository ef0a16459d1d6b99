"""A JSON file of flags, ours or the published default.json of Crystalformer (Taniai et al., ICLR 2024)."""

from __future__ import annotations

import json
from pathlib import Path

from cgcnn.labels import DataError
from cgcnn.reading import read_bytes

_NAMES = {"num_workers": "workers", "clip_norm": "clip_grad", "pretrained_model": "init_from"}
# What the published file names and is part of the network or of every run here, with the values that mean so.
_FIXED: dict[str, tuple] = {
    "encoder_name": ("latticeformer",),
    "clip_grad": (0,),  # of each number; clip_norm is that of the whole gradient
    "lattice_range": (2,),  # of the box that the sphere of --image-cutoff takes the place of
    "adaptive_cutoff_sigma": (-3.5,),
    "minimum_range": (True,),
    "k_dim": (0,),
    "v_dim": (0,),
    "t_fixup_init": (True,),
    "t_activation": ("relu",),
    "gauss_state": ("q",),
    "normalize_gauss": (True,),
    "positive_func": ("elu=0.1",),
    "use_cgcnn_feat": (False,),
    "value_pe_dist_reci": (0,),
    "value_pe_wave_real": (0,),
    "value_pe_wave_reci": (0,),
    "value_pe_width_scale": (1,),
    "value_pe_headed": (True,),
    "value_pe_condproj": ("no",),
    "exclude_self": (False,),
    "norm_func_mode": (0,),
    "pooling": ("avr",),
    "pre_pooling_op": ("no",),
    "dropout": (0,),
    "freeze_bn_epochs": (0,),
    "train_filter_max": (0,),
    "train_filter_min": (0,),
    "train_percent_check": (1,),
    "val_percent_check": (1,),
    "model_checkpoint_save_top_k": (1,),
    "normalize_targets": ("scale_bias", "yes", True),
    "scale_grad": (0,),
}
_OF_THE_MACHINE = ("use_cuda_code", "use_low_memory", "ddp", "reproduciblity_state")


def read_json_config(path: Path) -> dict:
    """Flag → value. Raises DataError for a file that cannot be read or holds no flags, and for a published setting
    that has no counterpart here."""
    try:
        content = json.loads(read_bytes(path).decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise DataError(f"{path}: not a JSON file (too many brackets inside each other)") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({str(error).partition(';')[0]})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: an object of flags is expected")
    if "encoder_name" not in content:
        return content
    flags: dict = {"model": "crystalformer"}
    for name, value in content.items():
        if name in _FIXED and value not in _FIXED[name]:
            only = " or ".join(json.dumps(each) for each in _FIXED[name])
            raise DataError(f"{path}: {name} {json.dumps(value)} has no counterpart here, only {only}")
        if name in _FIXED or name in _OF_THE_MACHINE or value is None:
            continue
        flags[_NAMES.get(name, name)] = value.split() if name == "targets" and isinstance(value, str) else value
    return flags
