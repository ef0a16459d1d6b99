"""Models as files: saved whole or not at all, loaded without executing anything, original CGCNN weights too."""

from __future__ import annotations

import io
import math
import pickle
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cgcnn.features import MAX_NUMBER, GaussianExpansion, element_table, read_element_table
from cgcnn.files import replacing
from cgcnn.graph import GraphSettings
from cgcnn.labels import DataError
from cgcnn.model import build_model
from cgcnn.novelty import TrainingDomain
from cgcnn.prediction import GapRule
from cgcnn.reading import open_file
from cgcnn.reference import FirstGuess
from cgcnn.tasks import CLASSIFICATION, Normalizer, Task, TaskSet

FORMAT = "cgcnn"
VERSION = 1
_LARGEST = 1e9  # of a number that describes graphs


@dataclass
class TrainedModel:
    """All that predicts: networks (several make an ensemble), tasks, scales, metal rule, graph settings."""

    name: str
    config: dict
    tasks: TaskSet
    elements: Tensor
    normalizers: dict[str, Normalizer]
    graph: GraphSettings
    rule: GapRule | None = None
    unnamed: bool = False  # one target without a name: tables have the columns target and prediction
    is_original: bool = False  # weights of the original code, which bring no element vectors
    args: dict = field(default_factory=dict)
    networks: list[nn.Module] = field(default_factory=list)
    domain: TrainingDomain | None = None  # what it was trained on; None where the file does not say
    split: int | None = None  # which split of its run it was trained on, from 1; None where the file does not say
    guesses: dict[str, FirstGuess] = field(default_factory=dict)  # of new networks; those with a state have their own

    def build(self) -> nn.Module:
        """A new network of this kind, with weights drawn at random."""
        network = build_model(self.name, self.config, self.tasks, self.elements)
        network.reference.write(self.guesses)
        return network

    def with_states(self, states: list[Mapping[str, Tensor]]) -> TrainedModel:
        """The same with a network a state, in evaluation mode."""
        self.networks = []
        for state in states:
            with torch.random.fork_rng(devices=[]):  # a run must not depend on how often it is saved
                network = self.build()
            network.load_state_dict(state)
            self.networks.append(network.eval())
        return self

    def to_dict(self) -> dict:
        """Plain types and tensors; `state_dict` is the first network, `members` all of them if several."""
        states = [network.state_dict() for network in self.networks]
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.name,
            "config": self.config,
            "tasks": self.tasks.to_list(),
            "elements": self.elements,
            "normalizers": {name: n.state_dict() for name, n in self.normalizers.items()},
            "graph": asdict(self.graph),
            "rule": self.rule and self.rule.to_dict(),
            "unnamed": self.unnamed,
            "args": self.args,
            "split": self.split,
            "domain": self.domain and self.domain.to_dict(),
            "state_dict": states[0] if states else {},
            "members": states if len(states) > 1 else [],
        }

    @classmethod
    def from_dict(cls, saved: Mapping) -> TrainedModel:
        model = cls(
            name=saved["model"],
            config=dict(saved["config"]),
            tasks=TaskSet.from_list(saved["tasks"]),
            elements=_checked_elements(saved["elements"]),
            normalizers={name: Normalizer.from_state(s) for name, s in saved["normalizers"].items()},
            graph=_graph_settings(saved["graph"]),
            rule=GapRule(**{k: float(v) for k, v in saved["rule"].items()}) if saved["rule"] else None,
            unnamed=saved["unnamed"],
            args=dict(saved["args"]),
            split=saved.get("split"),
            domain=TrainingDomain.from_dict(saved["domain"]) if saved.get("domain") else None,
        )
        if without := [t.name for t in model.tasks if t.is_regression and t.name not in model.normalizers]:
            raise ValueError(f"no normaliser for {without[0]}")
        states = saved["members"] or [saved["state_dict"]]
        if not all(isinstance(state, Mapping) for state in states):
            raise TypeError("a state_dict that is none")
        return model.with_states(states)


def save(path: Path, content: Mapping) -> None:
    """Write plain types and tensors; what stood at `path` stays until the new file is on disk."""
    whole = io.BytesIO()  # what torch says of a file that cannot be written is no OSError, and does not say why
    torch.save(dict(content), whole)
    with replacing(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def read(path: Path) -> dict:
    """The content of a checkpoint file. Raises DataError where it is none; executes no pickled code."""
    path = Path(path)
    try:
        with open_file(path) as file:
            file.read(1)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'cannot be read'}") from None
    try:
        with torch.serialization.safe_globals([Namespace, *_numpy_scalars()]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise DataError(f"{path}: holds pickled code, which is not executed; not a checkpoint") from None
        raise DataError(f"{path}: not a checkpoint") from None
    except Exception:  # torch's readers raise many kinds for files that are something else, or cut short
        raise DataError(f"{path}: not a checkpoint, or not a whole one") from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise DataError(f"{path}: not a checkpoint (no state_dict)")
    return content


def load(path: Path, elements: Path | None = None) -> TrainedModel:
    """The model in one of our files, or in an original CGCNN `.pth.tar`. Raises DataError where it is neither.

    elements: the atom_init.json of original weights, which bring no element vectors; by default those of CGCNN.
    """
    content = read(path)
    try:
        if content.get("format") == FORMAT:
            return TrainedModel.from_dict(content)
        return _from_original(content, elements)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, DataError) and elements is not None and str(error).startswith(str(elements)):
            raise  # about the element vectors, not about the model
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: a checkpoint, but of no model that is known here ({reason})") from None


def _from_original(content: Mapping, elements: Path | None) -> TrainedModel:
    """Weights of the original single-task code: its graphs (padded), its readout, its normaliser."""
    state = dict(content["state_dict"])
    args = content.get("args") or {}
    args = dict(args if isinstance(args, Mapping) else vars(args))
    embedding, hidden = state["embedding.weight"], state["conv_to_fc.weight"]
    nbr_fea_len = state["convs.0.fc_full.weight"].shape[1] - 2 * embedding.shape[0]
    max_num_nbr, radius, dmin, step = _graph_arguments(args, nbr_fea_len)
    is_classification = state["fc_out.weight"].shape[0] > 1
    config = {
        "atom_fea_len": embedding.shape[0],
        "h_fea_len": hidden.shape[0],
        "n_conv": sum(key.endswith("fc_full.weight") for key in state),
        "n_h": 1 + sum(key.startswith("fcs.") and key.endswith("weight") for key in state),
        "pooling": "mean",
        "readout": "classic",
        "dropout": 0.5 if is_classification else 0.0,
        "dmin": dmin,
        "radius": radius,
        "step": step,
    }
    if is_classification:
        task = Task("target", CLASSIFICATION, classes=tuple(map(str, range(state["fc_out.weight"].shape[0]))))
    else:
        task = Task("target")
    renamed = {
        key.replace("fc_out.", "heads.0.") if key.startswith("fc_out.") else f"body.{key}": value
        for key, value in state.items()
    }
    model = TrainedModel(
        name="cgcnn",
        config=config,
        tasks=TaskSet((task,)),
        elements=_original_elements(elements, embedding.shape[1]),
        normalizers={} if is_classification else {"target": Normalizer.from_state(content["normalizer"])},
        graph=GraphSettings(radius, int(max_num_nbr), neighbours="classic", padded=True),
        unnamed=True,
        is_original=True,
        args={key: value for key, value in args.items() if isinstance(value, int | float | str | bool)},
    )
    if any(not math.isfinite(n.mean) or not math.isfinite(n.std) for n in model.normalizers.values()):
        raise ValueError("its normaliser is not finite")
    return model.with_states([renamed])


def _graph_arguments(args: Mapping, nbr_fea_len: int) -> tuple[float, float, float, float]:
    """max_num_nbr, radius, dmin and step of the CIFData that the weights were trained on.

    Its arguments are data_options, after the folder; some forks have flags of these names. What neither says is the
    original's default, and the radius is where the Gaussians end. Raises ValueError where they do not fit.
    """
    given = dict.fromkeys(("max_num_nbr", "radius", "dmin", "step"))
    given |= {name: _number(args.get(name)) for name in given}
    options = [_number(word) for word in (args.get("data_options") or ())[1:]]
    if None not in options:  # those of the published weights are of another data set class
        given |= zip(given, options, strict=False)
    defaults = {"max_num_nbr": 12.0, "dmin": 0.0, "step": 0.2}
    known = defaults | {name: value for name, value in given.items() if value is not None}
    dmin, step = known["dmin"], known["step"]
    radius = known.get("radius", round(dmin + (nbr_fea_len - 1) * step, 6))  # centres at both ends
    count = GaussianExpansion(dmin=dmin, radius=radius, step=step).num_features
    if count != nbr_fea_len:
        settings = f"radius {radius:g}, dmin {dmin:g} and step {step:g}"
        raise ValueError(f"{settings} give {count} Gaussians of a distance, its weights take {nbr_fea_len}")
    return known["max_num_nbr"], radius, dmin, step


def _number(value: object) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _original_elements(path: Path | None, width: int) -> Tensor:
    """The element vectors (119, width) of an atom_init.json, or those of CGCNN."""
    elements = element_table() if path is None else read_element_table(path)
    if elements.shape[1] == width:
        return elements
    if path is None:
        raise ValueError(f"its element vectors have {width} numbers; put its atom_init.json beside the CIFs")
    raise DataError(f"{path}: vectors of {elements.shape[1]} numbers, the model takes {width}")


def _checked_elements(saved: object) -> Tensor:
    if not isinstance(saved, Tensor) or saved.ndim != 2 or len(saved) != MAX_NUMBER + 1:
        raise TypeError(f"its element vectors are no table of {MAX_NUMBER + 1} rows")
    return saved


def _graph_settings(saved: Mapping) -> GraphSettings:
    """Raises TypeError for a setting of another type, ValueError for a huge number: the first graph would fail."""
    settings = GraphSettings(**saved)
    for name, default in asdict(GraphSettings()).items():
        value = getattr(settings, name)
        if type(value) is not type(default) and not (isinstance(default, float) and type(value) is int):
            raise TypeError(f"{name} of its graphs is {value!r}")
        if not isinstance(value, str) and abs(value) > _LARGEST:
            raise ValueError(f"{name} of its graphs is larger than {_LARGEST:g}")
    return settings


def _numpy_scalars() -> list:
    """What a pickled numpy number needs, under the names of old and new numpy: data types, no code."""
    scalar = np.float64().__reduce__()[0]  # it lies elsewhere before numpy 2
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *kinds,
    ]
