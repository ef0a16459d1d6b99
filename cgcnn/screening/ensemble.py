"""Several models, of several networks each, as one: the mean of all networks and how far they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from cgcnn.batch import Collator
from cgcnn.checkpoint import TrainedModel
from cgcnn.crystal_features import FLAG, CrystalTable, columns_of, joined
from cgcnn.features import missing_elements
from cgcnn.global_features import global_features
from cgcnn.graph import GraphSettings
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError
from cgcnn.novelty import FAR
from cgcnn.prediction import combine, deviations, in_units, no_predictions
from cgcnn.screening.contributions import atom_scores, site_elements
from cgcnn.screening.predictions import AtomScores, ElementStates, Prediction
from cgcnn.screening.stream import Chunk
from cgcnn.tasks import AUXILIARY, Task, TaskSet

MAX_EDGES, MAX_EDGES_GPU = 16_384, 1_000_000  # in a batch; one takes about 1 kB


@dataclass
class _Outputs:
    """What one network says, batch by batch."""

    heads: list[dict[str, Tensor]] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)
    crystal: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    scores: list[dict[str, Tensor]] = field(default_factory=list)
    elements: list[ElementStates] = field(default_factory=list)


class Ensemble:
    """Models that predict the same tasks; every network of every model counts once.

    settings: the graph settings that differ among them; `predict_chunk` takes a table of graphs for each.
    """

    def __init__(self, models: Sequence[TrainedModel], names: Sequence[str] = (), *, batch_size: int = 256) -> None:
        """names: of the models, for the DataError that is raised where they do not fit together."""
        self.models, self.batch_size = list(models), batch_size
        first = self.models[0]
        for name, model in zip(names[1:], self.models[1:], strict=False):
            if _shown(model.tasks) != _shown(first.tasks):
                raise DataError(
                    f"{name}: predicts {_described(model.tasks)}, and {names[0]} {_described(first.tasks)}; "
                    "models that are averaged predict the same"
                )
            if model.rule != first.rule:
                raise DataError(f"{name}: another --metal-threshold or --min-bandgap than that of {names[0]}")
        self.tasks = TaskSet(tuple(task for task in first.tasks if task.role != AUXILIARY))
        self.rule, self.unnamed = first.rule, first.unnamed
        self.settings: list[GraphSettings] = list(dict.fromkeys(model.graph for model in self.models))
        self.crystal_features: list[tuple[str, ...]] = [
            tuple(model.config.get("crystal_features", ())) for model in self.models
        ]
        self.features: CrystalTable | None = None

    def with_features(self, table: CrystalTable | None, advice: str = f"{FLAG} TABLE.csv") -> Ensemble:
        """The same, with what the models know of crystals beside their structure; advice: how to give a table.

        Raises DataError for a table that lacks a column, that no model asks for, or that is lacking itself.
        """
        columns = list(dict.fromkeys(column for names in self.crystal_features for column in columns_of(names)))
        if table is None and columns:
            raise DataError(f"the model needs {', '.join(columns)} of every crystal: {advice} with these columns")
        if table is not None:
            if not columns:
                raise DataError(f"{FLAG}: the model takes none")
            table.check(columns)
        self.features = table
        return self

    @property
    def num_networks(self) -> int:
        return sum(len(model.networks) for model in self.models)

    @property
    def knows_its_training_set(self) -> bool:
        """Whether any model tells crystals that are unlike what it was trained on."""
        return any(model.domain is not None for model in self.models)

    @property
    def has_elements(self) -> bool:
        """Whether the first network has states of elements, in place of vectors of atoms."""
        return not self.models[0].networks[0].has_atoms

    @property
    def has_atoms(self) -> bool:
        """Whether every network has vectors of atoms."""
        return all(model.networks[0].has_atoms for model in self.models)

    def _without_vector(self, table: GraphTable) -> dict[int, str]:
        """Row → the reason, of crystals with an element that one of the models has no vector for."""
        found = {}
        for model in self.models:
            for number in missing_elements(model.elements, torch.from_numpy(table.columns["numbers"])):
                for position in np.flatnonzero(table.columns["numbers"] == number):
                    row = int(np.searchsorted(table.start["species"], position, side="right")) - 1
                    found.setdefault(row, f"no element vector for atomic number {number}")
        return found

    def _without_features(self, ids: Sequence[str]) -> dict[int, str]:
        """Row → the reason, of crystals that lack what one of the models has to know of them."""
        found: dict[int, str] = {}
        if self.features is not None:
            row_of = {crystal_id: row for row, crystal_id in enumerate(ids)}
            for names in filter(None, self.crystal_features):
                _, failed = self.features.encode(names, ids)
                found = {row_of[crystal_id]: reason for crystal_id, reason in failed.items()} | found
        return found

    def _of_crystals(
        self, model: TrainedModel, table: GraphTable, ids: Sequence[str], rows: np.ndarray
    ) -> np.ndarray | None:
        """What a network takes of whole crystals (n, G), None for nothing; ids, rows: of those that are predicted."""
        known = global_features(model.config.get("global_features", ""), table)
        if not (names := model.config.get("crystal_features", ())):
            return known
        found = np.zeros((len(table), len(names)), dtype=np.float32)
        found[rows] = self.features.values(names, ids)
        return joined(known, found)

    def predict_chunk(
        self, chunk: Chunk, *, with_atoms: bool = False, with_elements: bool = False
    ) -> tuple[Prediction, dict[str, str]]:
        """Predictions of the crystals that can be used, in their order; id → reason, of the others.

        chunk: as `read_chunk` makes it for `settings`. with_atoms: with the scores of the atoms.
        with_elements: with the states of the elements, where the first network has some.
        """
        if not chunk.ids:
            return self._nothing(), chunk.failed
        lacking = self._without_features(chunk.ids) | self._without_vector(chunk.tables[0])
        rows = np.array([row for row in range(len(chunk.ids)) if row not in lacking], dtype=np.int64)
        failed = chunk.failed | {chunk.ids[row]: reason for row, reason in lacking.items()}
        if not len(rows):
            return self._nothing(), failed
        more = {"with_atoms": with_atoms, "with_elements": with_elements}
        return self.predict([chunk.ids[row] for row in rows], chunk.tables, rows, **more), failed

    @torch.no_grad()
    def predict(
        self,
        ids: list[str],
        tables: Sequence[GraphTable],
        rows: np.ndarray,
        *,
        with_atoms: bool = False,
        with_elements: bool = False,
    ) -> Prediction:
        """Predictions of n crystals, at least one: their rows (n,) in the table of each of `settings`."""
        table_of = dict(zip(self.settings, tables, strict=True))
        members, outputs = [], []
        for model in self.models:
            table = table_of[model.graph]
            collator = Collator(table, global_features=self._of_crystals(model, table, ids, rows))
            of_model = self._run(model, collator, torch.from_numpy(rows), with_atoms, with_elements)
            members += [in_units(_joined(one.heads), self.tasks, model.normalizers) for one in of_model]
            outputs.append(of_model)
        distance, unlike = self._novelty(outputs, table_of, rows)
        return Prediction(
            ids,
            combine(members, self.tasks, self.rule),
            deviations(members, self.tasks),
            distance,
            unlike,
            torch.cat(outputs[0][0].vectors).numpy(),
            self._atoms(outputs, tables[0], rows) if with_atoms else None,
            _joined_states(outputs[0][0].elements) if with_elements else None,
        )

    def _run(
        self, model: TrainedModel, collator: Collator, rows: Tensor, with_atoms: bool, with_elements: bool
    ) -> list[_Outputs]:
        found = [_Outputs() for _ in model.networks]
        device = next(model.networks[0].parameters()).device
        for part in self._batches(collator.length["edges"][rows], device):
            batch = collator[rows[part]].to(device)
            for network, out in zip(model.networks, found, strict=True):
                network.eval()
                atoms, crystals = network.embed(batch)
                outputs = network.read_out(batch, atoms, crystals)
                out.heads.append({name: value.cpu() for name, value in outputs.items()})
                out.vectors.append(crystals.cpu())
                first = sum(map(len, out.vectors[:-1]))
                if with_elements and network is self.models[0].networks[0]:
                    pairs = batch.pairs
                    kept = (pairs.crystal + first, pairs.numbers, pairs.amounts, atoms)
                    out.elements.append(ElementStates(*(value.cpu().numpy() for value in kept)))
                if with_atoms:
                    weights, scores = atom_scores(network, batch, atoms)
                    out.crystal.append((batch.crystal + first).cpu())
                    out.weights.append(weights.cpu())
                    out.scores.append({name: value.cpu() for name, value in scores.items()})
        return found

    def _batches(self, edges: Tensor, device: torch.device) -> list[slice]:
        """Parts of rows with these numbers of edges (n,): so many crystals and edges as memory should hold."""
        most = MAX_EDGES if device.type == "cpu" else MAX_EDGES_GPU
        parts, start, held = [], 0, 0
        for k, count in enumerate(edges.tolist()):
            if k > start and (k - start == self.batch_size or held + count > most):
                parts.append(slice(start, k))
                start, held = k, 0
            held += count
        return [*parts, slice(start, len(edges))]

    def _novelty(
        self, outputs: Sequence[Sequence[_Outputs]], table_of: dict[GraphSettings, GraphTable], rows: np.ndarray
    ) -> tuple[np.ndarray | None, list[str] | None]:
        """The largest distance over the models, and the first reason that one of them has."""
        distance, unseen = None, [""] * len(rows)
        for model, of_model in zip(self.models, outputs, strict=True):
            if model.domain is None:
                continue
            found = model.domain.distances(torch.cat(of_model[0].vectors))
            distance = found if distance is None else np.maximum(distance, found)
            elements = model.domain.unseen(table_of[model.graph], rows)
            unseen = [before or now for before, now in zip(unseen, elements, strict=True)]
        if distance is None:
            return None, None
        far = (distance > 1).tolist()
        return distance, [f"element {u}" if u else FAR * f for u, f in zip(unseen, far, strict=True)]

    def _atoms(self, outputs: Sequence[Sequence[_Outputs]], table: GraphTable, rows: np.ndarray) -> AtomScores:
        """Means over the networks: of the weights a, and of the scores s weighted by them, so that ⟨a⟩·s = ⟨a s⟩.

        An atom that no network gives any weight, as pooling by the maximum can do, has the plain mean of its scores.
        """
        weights, scores = [], []
        for model, of_model in zip(self.models, outputs, strict=True):
            for one in of_model:
                weights.append(torch.cat(one.weights).double())
                joined = _joined(one.scores)
                regressions = [task.name for task in self.tasks if task.is_regression]
                scores.append({n: model.normalizers[n].denorm(joined[n].double()) for n in regressions})
        shares = torch.stack(weights)  # (networks, N)
        shares = torch.where(shares.sum(0) > 0, shares, 1.0)
        shares = shares / shares.sum(0)
        means = {name: (shares * torch.stack([s[name] for s in scores])).sum(0).numpy() for name in scores[0]}
        elements = [element for row in rows for element in site_elements(table.graph(row))]
        crystal, weight = torch.cat(outputs[0][0].crystal).numpy(), torch.stack(weights).mean(0).numpy()
        return AtomScores(crystal, elements, weight, means)

    def _nothing(self) -> Prediction:
        knows = self.knows_its_training_set
        regressions = {task.name: np.zeros(0) for task in self.tasks if task.is_regression}
        return Prediction(
            [],
            no_predictions(self.tasks),
            {task.name: np.zeros(0) for task in self.tasks} if self.num_networks > 1 else {},
            np.zeros(0) if knows else None,
            [] if knows else None,
            np.zeros((0, self.vector_length), dtype=np.float32),
            AtomScores(np.zeros(0, dtype=int), [], np.zeros(0), regressions),
            ElementStates(*(np.zeros(0, dtype=int),) * 3, np.zeros((0, self.vector_length), dtype=np.float32)),
        )

    @property
    def vector_length(self) -> int:
        """H of the first network."""
        return self.models[0].networks[0].vector_length


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _joined_states(parts: Sequence[ElementStates]) -> ElementStates:
    return ElementStates(*(np.concatenate([vars(part)[f.name] for part in parts]) for f in fields(ElementStates)))


def _shown(tasks: TaskSet) -> list[tuple]:
    return sorted((t.name, t.kind, t.role, t.unit, t.classes) for t in tasks if t.role != AUXILIARY)


def _described(tasks: TaskSet) -> str:
    def described(task: Task) -> str:
        return f"{task.name} ({task.unit or ('a number' if task.is_regression else ', '.join(task.classes))})"

    return ", ".join(described(task) for task in tasks if task.role != AUXILIARY)
