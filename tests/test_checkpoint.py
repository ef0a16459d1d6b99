"""Models as files: what the original code saved, what we save, and what must not be executed."""

import argparse
import csv
import json
import math
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Structure
from torch import nn
from torch.nn import functional

import cgcnn
from cgcnn import checkpoint
from cgcnn.checkpoint import TrainedModel
from cgcnn.cli import predict_command
from cgcnn.features import element_table, read_element_table
from cgcnn.graph import GraphSettings
from cgcnn.labels import DataError
from cgcnn.prediction import GapRule
from cgcnn.tasks import AUXILIARY, CATEGORY, CLASSIFICATION, Normalizer, Task, TaskSet

ORIGINAL = Path(__file__).parents[2] / "shared" / "data" / "cgcnn_original"
needs_shared = pytest.mark.skipif(not ORIGINAL.is_dir(), reason="the published weights (shared data) are not here")
PUBLISHED = [(w, f) for w in ("formation-energy-per-atom", "band-gap") for f in ("sample-regression", "mp60")]


def expected_of(weights: str, folder: str) -> dict[str, float]:
    with open(ORIGINAL / "expected" / f"{weights}.{folder}.csv") as file:
        return {row["cif_id"]: float(row["prediction"]) for row in csv.DictReader(file)}


@needs_shared
@pytest.mark.parametrize(("weights", "folder"), PUBLISHED)
def test_published_weights_predict_what_the_original_code_predicts(weights, folder):
    expected = expected_of(weights, folder)
    assert len(expected) >= 10
    model = cgcnn.load_model(ORIGINAL / "pre-trained" / f"{weights}.pth.tar")
    table = model.predict([ORIGINAL / folder / f"{cif_id}.cif" for cif_id in expected], list(expected))
    assert list(table) == ["cif_id", "prediction"]
    assert dict(zip(table.cif_id, table.prediction, strict=True)) == pytest.approx(expected, abs=1e-4)


@needs_shared
@pytest.mark.parametrize(("weights", "folder"), PUBLISHED)
def test_published_weights_through_predict_py(weights, folder, tmp_path):
    output = tmp_path / "out.csv"
    status = predict_command(
        [str(ORIGINAL / "pre-trained" / f"{weights}.pth.tar"), str(ORIGINAL / folder), "--output", str(output)]
    )
    table = pd.read_csv(output, dtype={"cif_id": str})
    expected = expected_of(weights, folder)
    assert status == 0 and set(table.cif_id) == set(expected)
    assert dict(zip(table.cif_id, table.prediction, strict=True)) == pytest.approx(expected, abs=1e-4)


class Plain(nn.Module):
    """The network of Xie and Grossman on padded graphs, one crystal at a time, with the original names.

    max_num_nbr, radius, dmin, step: of its CIFData; elements: vectors (119, ·) of another atom_init.json.
    """

    def __init__(
        self, atom_fea_len, n_conv, h_fea_len, n_h, classification,
        max_num_nbr=12, radius=8.0, dmin=0.0, step=0.2, elements=None,
    ):  # fmt: skip
        super().__init__()
        F, H = atom_fea_len, h_fea_len
        self.classification = classification
        self.max_num_nbr, self.radius, self.step = max_num_nbr, radius, step
        self.centres = torch.from_numpy(np.arange(dmin, radius + step, step)).float()
        self.elements = element_table() if elements is None else elements
        K = len(self.centres)
        self.embedding = nn.Linear(self.elements.shape[1], F)
        self.convs = nn.ModuleList()
        for _ in range(n_conv):
            layer = nn.Module()
            layer.fc_full, layer.bn1, layer.bn2 = (
                nn.Linear(2 * F + K, 2 * F),
                nn.BatchNorm1d(2 * F),
                nn.BatchNorm1d(F),
            )
            self.convs.append(layer)
        self.conv_to_fc = nn.Linear(F, H)
        if n_h > 1:
            self.fcs = nn.ModuleList(nn.Linear(H, H) for _ in range(n_h - 1))
        self.fc_out = nn.Linear(H, 2 if classification else 1)

    def forward(self, structure: Structure) -> torch.Tensor:
        n, M, radius = len(structure), self.max_num_nbr, self.radius
        neighbours, distances = torch.zeros(n, M, dtype=torch.long), torch.full((n, M), radius + 1)
        for i, found in enumerate(structure.get_all_neighbors(radius)):
            nearest = sorted(found, key=lambda neighbour: neighbour.nn_distance)[:M]
            for k, neighbour in enumerate(nearest):
                neighbours[i, k], distances[i, k] = neighbour.index, neighbour.nn_distance
        bonds = torch.exp(-(((distances[..., None] - self.centres) / self.step) ** 2))
        atoms = self.embedding(self.elements[[site.specie.Z for site in structure]])
        for layer in self.convs:
            centre = atoms[:, None].expand(n, M, -1)
            mixed = layer.fc_full(torch.cat([centre, atoms[neighbours], bonds], dim=2))
            gate, core = layer.bn1(mixed.flatten(0, 1)).view(n, M, -1).chunk(2, dim=2)
            atoms = functional.softplus(atoms + layer.bn2((gate.sigmoid() * functional.softplus(core)).sum(1)))
        crystal = functional.softplus(self.conv_to_fc(functional.softplus(atoms.mean(0, keepdim=True))))
        for hidden in getattr(self, "fcs", []):
            crystal = functional.softplus(hidden(crystal))
        out = self.fc_out(crystal)
        return out.log_softmax(1).exp()[0, 1] if self.classification else out[0, 0]


def plain_network(**sizes) -> Plain:
    torch.manual_seed(1)
    model = Plain(**sizes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
    nn.init.normal_(model.fc_out.weight, std=0.1)
    return model.eval()


SIZES = {"atom_fea_len": 12, "n_conv": 2, "h_fea_len": 20}
MEAN, STD = -1.25, 0.75


def original_content(model: Plain, **changes) -> dict:
    content = {
        "epoch": 30,
        "state_dict": model.state_dict(),
        "best_mae_error": np.float64(0.123),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9).state_dict(),
        "normalizer": {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)},
        "args": {**SIZES, "n_h": 1, "task": "regression", "data_options": ["folder", "12"], "cuda": False},
    }
    return content | changes


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    """Dense, sparse with fewer than twelve neighbours within 8 Å, and without any; no two distances alike."""
    rng = np.random.default_rng(0)
    dense = Structure(np.diag([4.0, 4.4, 4.9]), ["Na", "Cl", "O"], rng.random((3, 3)))
    sparse = Structure(np.diag([9.1, 9.7, 10.3]), ["Ga", "As"], [[0.1, 0.2, 0.3], [0.3, 0.35, 0.45]])
    alone = Structure(np.diag([15.0, 16.0, 17.0]), ["Xe"], [[0, 0, 0]])
    numbers = [[len(found) for found in s.get_all_neighbors(8)] for s in (dense, sparse, alone)]
    assert min(numbers[0]) >= 12 and 0 < max(numbers[1]) < 12 and numbers[2] == [0]
    return [dense, sparse, alone]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("classification", [False, True])
@pytest.mark.parametrize("n_h", [1, 2])
def test_original_files_predict_what_the_original_network_predicts(n_h, classification, zipped, structures, tmp_path):
    model = plain_network(**SIZES, n_h=n_h, classification=classification)
    if classification:  # probabilities near a half, where they tell most
        model.fc_out.bias.data[1] -= torch.logit(model(structures[0])).detach()
    path = tmp_path / "model_best.pth.tar"
    torch.save(original_content(model), path, _use_new_zipfile_serialization=zipped)
    found = cgcnn.load_model(path).predict(structures)
    with torch.no_grad():
        expected = torch.stack([model(structure) for structure in structures])
    if not classification:
        expected = expected * STD + MEAN
    assert expected.std() > 1e-3
    assert found.prediction.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_arguments_as_a_namespace(structures, tmp_path):
    model = plain_network(**SIZES, n_h=1, classification=False)
    content = original_content(model, args=argparse.Namespace(**SIZES, n_h=1, task="regression"))
    torch.save(content, tmp_path / "a.pth.tar")
    loaded = cgcnn.load_model(tmp_path / "a.pth.tar")
    assert loaded.trained.args["h_fea_len"] == 20
    assert loaded.predict(structures[:1]).prediction[0] == pytest.approx(model(structures[0]).item() * STD + MEAN)


@pytest.mark.parametrize(
    ("args", "graph"),
    [
        ({"data_options": ["folder", "8"]}, {"max_num_nbr": 8}),
        ({"data_options": ["folder", "10", "6"]}, {"max_num_nbr": 10, "radius": 6.0}),
        (
            {"data_options": ["folder", "9", "7.0", "0.5", "0.25", "123"]},
            {"max_num_nbr": 9, "radius": 7.0, "dmin": 0.5, "step": 0.25},
        ),
        (
            {"data_options": ["folder"], "max_num_nbr": 7, "radius": 5, "dmin": 0, "step": 0.1},
            {"max_num_nbr": 7, "radius": 5.0, "step": 0.1},
        ),
        ({"data_options": ["folder", "8"], "max_num_nbr": 12, "step": 0.1}, {"max_num_nbr": 8, "step": 0.1}),
        ({"data_options": ["set.json", "regression", "band_gap"]}, {}),  # of the published weights: no CIFData
        ({"max_num_nbr": None, "radius": "far"}, {}),
    ],
)
def test_original_files_bring_the_graphs_that_they_were_trained_on(args, graph, structures, tmp_path):
    model = plain_network(**SIZES, n_h=1, classification=False, **graph)
    torch.save(original_content(model, args=argparse.Namespace(**SIZES, **args)), tmp_path / "a.pth.tar")
    found = cgcnn.load_model(tmp_path / "a.pth.tar").predict(structures).prediction
    with torch.no_grad():
        expected = [model(structure).item() * STD + MEAN for structure in structures]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"data_options": ["folder", "12", "6"]}, "31 Gaussians of a distance, its weights take 41"),
        ({"data_options": ["folder", "12", "8", "1"]}, "36 Gaussians of a distance, its weights take 41"),
        ({"step": 0}, "known"),
        ({"radius": float("inf")}, "known"),
        ({"data_options": ["folder", "0"]}, "known"),
    ],
)
def test_arguments_that_do_not_fit_the_weights_are_refused(args, said, tmp_path):
    content = original_content(plain_network(**SIZES, n_h=1, classification=False), args=SIZES | args)
    torch.save(content, tmp_path / "a.pth.tar")
    line = one_line(tmp_path / "a.pth.tar")
    assert said in line
    assert "of no model that is known here" in line


@pytest.fixture
def other_elements(tmp_path) -> tuple[Path, dict]:
    """A folder with a CIF and an atom_init.json of five numbers an element, and original weights made with it."""
    vectors = {number: [number / 10, 1.0, number % 3, 0.5, -1.0] for number in (8, 11, 17)}
    folder = tmp_path / "crystals"
    folder.mkdir()
    (folder / "atom_init.json").write_text(json.dumps(vectors))
    Structure(np.diag([4.0, 4.4, 4.9]), ["Na", "Cl", "O"], [[0, 0, 0], [0.5, 0.4, 0.3], [0.2, 0.7, 0.8]]).to(
        folder / "x.cif"
    )
    model = plain_network(
        **SIZES, n_h=1, classification=False, elements=read_element_table(folder / "atom_init.json")
    )
    torch.save(original_content(model), tmp_path / "a.pth.tar")
    with torch.no_grad():
        return folder, model(Structure.from_file(folder / "x.cif")).item() * STD + MEAN


@pytest.mark.parametrize("name", [".", "x.cif"])
def test_original_files_take_the_element_vectors_beside_the_crystals(name, other_elements, tmp_path):
    folder, expected = other_elements
    output = tmp_path / "out.csv"
    assert predict_command([str(tmp_path / "a.pth.tar"), str(folder / name), "--output", str(output)]) == 0
    assert pd.read_csv(output).prediction.tolist() == pytest.approx([expected], abs=1e-5)
    own = cgcnn.load_model(tmp_path / "a.pth.tar", elements=folder / "atom_init.json")
    assert own.predict([folder / "x.cif"]).prediction.tolist() == pytest.approx([expected], abs=1e-5)


def test_element_vectors_of_another_width_are_refused(other_elements, tmp_path, capfd):
    folder, _ = other_elements
    assert "5 numbers; put its atom_init.json beside the CIFs" in one_line(tmp_path / "a.pth.tar")
    table = folder / "atom_init.json"
    table.write_text('{"8": [0, 1], "11": [1, 0], "17": [1, 1]}')
    assert predict_command([str(tmp_path / "a.pth.tar"), str(folder), "--output", str(tmp_path / "p.csv")]) == 2
    assert capfd.readouterr().err == f"error: {table}: vectors of 2 numbers, the model takes 5\n"
    table.write_text("[1, 2")
    assert predict_command([str(tmp_path / "a.pth.tar"), str(folder), "--output", str(tmp_path / "p.csv")]) == 2
    assert f"error: {table}: not a table" in capfd.readouterr().err


def test_our_files_bring_their_own_element_vectors(other_elements, structures, tmp_path):
    path, _ = ours(tmp_path)
    plain, other = (cgcnn.load_model(path, elements=e) for e in (None, other_elements[0] / "atom_init.json"))
    pd.testing.assert_frame_equal(other.predict(structures), plain.predict(structures))


@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)])
@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_numpy_scalars_under_the_names_of_old_and_new_numpy(number, module, tmp_path):
    path = tmp_path / "a.pth.tar"
    model = plain_network(**SIZES, n_h=1, classification=False)
    content = original_content(model, best_mae_error=number)
    torch.save(content, path, pickle_protocol=2, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    own = np.float64().__reduce__()[0].__module__
    assert f"c{own}\nscalar".encode() in data
    path.write_bytes(data.replace(f"c{own}\nscalar".encode(), f"c{module}\nscalar".encode()))
    assert checkpoint.read(path)["best_mae_error"] == number
    checkpoint.load(path)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
@pytest.mark.parametrize("call", [(os.mkdir, "marker"), (exec, "import os; os.mkdir('marker')"), (eval, "print")])
def test_pickled_code_is_not_executed(call, form, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    content = original_content(plain_network(**SIZES, n_h=1, classification=False), best_mae_error=Call(*call))
    path = tmp_path / "bad.pth.tar"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content["best_mae_error"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(DataError, match=r"bad\.pth\.tar: .*not (executed|a checkpoint)") as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "marker").exists()
    assert predict_command([str(path), str(tmp_path)]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def ours(tmp_path: Path, num_networks: int = 1) -> tuple[Path, TrainedModel]:
    kind = Task("kind", CLASSIFICATION, CATEGORY, classes=("metal", "semiconductor"))
    tasks = TaskSet((Task("k.b", unit="GPa", transform="log"), Task("band_gap"), kind, Task("aux", role=AUXILIARY)))
    torch.manual_seed(3)
    model = TrainedModel(
        name="cgcnn",
        config={"atom_fea_len": 10, "h_fea_len": 14, "n_h": 2, "pooling": "attention", "radius": 6.0},
        tasks=tasks,
        elements=element_table() * 0.5,
        normalizers={"k.b": Normalizer(1.5, 0.5, "log"), "band_gap": Normalizer(1, 2), "aux": Normalizer()},
        graph=GraphSettings(radius=6.0, max_num_nbr=9),
        rule=GapRule(0.45, 0.3),
        args={"epochs": 3, "targets": ["k.b"], "lr": 0.01, "config": None},
    )
    model.networks = [model.build().eval() for _ in range(num_networks)]
    path = tmp_path / "ours_trained_model.pt"
    checkpoint.save(path, model.to_dict())
    return path, model


@pytest.mark.parametrize("num_networks", [1, 3])
def test_our_files_bring_everything_back(num_networks, structures, tmp_path):
    path, model = ours(tmp_path, num_networks)
    loaded = cgcnn.load_model(path)
    again = loaded.trained
    for name in ("name", "config", "tasks", "normalizers", "graph", "rule", "unnamed", "is_original", "args"):
        assert getattr(again, name) == getattr(model, name), name
    torch.testing.assert_close(again.elements, model.elements, equal_nan=True)
    assert len(again.networks) == num_networks and not any(network.training for network in again.networks)
    from cgcnn.inference import Model

    table, expected = loaded.predict(structures), Model(model).predict(structures)
    pd.testing.assert_frame_equal(table, expected)
    columns = ["cif_id", "k.b_pred", "band_gap_pred", "kind_pred", "metal_prob", "semiconductor_prob"]
    assert [column for column in table if not column.endswith("_std")] == columns
    assert (table["k.b_pred"] > 0).all()
    ruled = table.band_gap_pred.where(table.metal_prob > 0.45, table.band_gap_pred.clip(lower=0.3))
    assert ruled.tolist() == table.band_gap_pred.tolist()
    assert all(table.band_gap_pred[table.metal_prob > 0.45] == 0)


def test_an_ensemble_is_more_than_its_first_member(structures, tmp_path):
    path, _ = ours(tmp_path, 3)
    whole = cgcnn.load_model(path)
    first = cgcnn.load_model(path)
    first.trained.networks = first.trained.networks[:1]
    assert not np.allclose(whole.predict(structures)["k.b_pred"], first.predict(structures)["k.b_pred"])


def one_line(path: Path) -> str:
    with pytest.raises(DataError) as error:
        checkpoint.load(path)
    text = str(error.value)
    assert "\n" not in text and path.name in text
    return text


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_was_cut_short(share, zipped, tmp_path):
    path, model = ours(tmp_path)
    torch.save(model.to_dict(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "checkpoint" in one_line(path)


@pytest.mark.parametrize(
    "data", [b"", b"cif_id,split\n", bytes(1000), b"PK\x03\x04nothing", struct.pack("<Q", 2**60)]
)
def test_a_file_that_is_something_else(data, tmp_path):
    (tmp_path / "a.pth.tar").write_bytes(data)
    assert "checkpoint" in one_line(tmp_path / "a.pth.tar")


def test_a_path_that_is_no_file(tmp_path):
    assert "no such file" in one_line(tmp_path / "missing.pt")
    one_line(tmp_path)


def without(content: dict, *names: str) -> dict:
    return {key: value for key, value in content.items() if key not in names}


@pytest.mark.parametrize(
    "break_it",
    [
        lambda c: [1, 2],
        lambda c: without(c, "state_dict"),
        lambda c: without(c, "normalizer"),
        lambda c: c | {"state_dict": {}},
        lambda c: c | {"state_dict": without(c["state_dict"], "convs.1.bn1.weight")},
        lambda c: c | {"state_dict": c["state_dict"] | {"other.weight": torch.zeros(3)}},
        lambda c: c | {"normalizer": {"mean": torch.tensor(float("nan")), "std": torch.tensor(1.0)}},
        lambda c: c | {"state_dict": c["state_dict"] | {"embedding.weight": torch.zeros(12, 50)}},
        lambda c: c | {"format": "cgcnn"},
    ],
)
def test_a_checkpoint_of_something_else(break_it, tmp_path):
    content = original_content(plain_network(**SIZES, n_h=1, classification=False))
    torch.save(break_it(content), tmp_path / "a.pth.tar")
    assert "checkpoint" in one_line(tmp_path / "a.pth.tar")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path, model = ours(tmp_path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoint.save(path, {"state_dict": lambda: None})
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]
    checkpoint.save(path, model.to_dict() | {"args": {"epochs": 4}})
    assert checkpoint.load(path).args == {"epochs": 4}


@pytest.mark.parametrize(
    ("name", "value"),
    [("histogram", "x"), ("radius", None), ("radius", math.nan), ("radius", 10**400), ("images", 1), ("tie", [1])],
    ids=str,
)
def test_graph_settings_of_another_kind_are_refused(name, value, tmp_path):
    content = ours(tmp_path)[1].to_dict()
    content["graph"][name] = value
    torch.save(content, tmp_path / "a.pth.tar")
    assert "of no model that is known here" in one_line(tmp_path / "a.pth.tar")


def test_weights_of_another_shape_are_refused(tmp_path):
    content = original_content(plain_network(**SIZES, n_h=1, classification=False))
    content["state_dict"]["convs.0.fc_full.weight"] = torch.tensor(1.0)
    torch.save(content, tmp_path / "a.pth.tar")
    assert "of no model that is known here" in one_line(tmp_path / "a.pth.tar")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["normalizers"]["band_gap"].update(transform="mean"),
        lambda content: content["tasks"][0].update(kind="mean"),
        lambda content: content["tasks"][0].update(role=None),
        lambda content: content["tasks"][0].update(name=3),
        lambda content: content["normalizers"].pop("aux"),
        lambda content: content["config"].update(global_features="gaussian"),
        lambda content: content["rule"].update(min_bandgap="x"),
        lambda content: content.update(elements=torch.ones(3)),
        lambda content: content.update(state_dict=torch.ones(2)),
    ],
    ids=["transform", "kind", "role", "name", "no normaliser", "features", "rule", "elements", "state"],
)
def test_tasks_of_another_kind_are_refused(change, tmp_path):
    content = ours(tmp_path)[1].to_dict()
    change(content)
    torch.save(content, tmp_path / "a.pth.tar")
    assert "of no model that is known here" in one_line(tmp_path / "a.pth.tar")
