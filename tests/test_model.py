"""The classes of the original code in their classic shapes, from a folder to a training step."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Structure
from torch import nn

from cgcnn.data import (
    AtomCustomJSONInitializer,
    CIFData,
    GaussianDistance,
    collate_pool,
    get_train_val_test_loader,
)
from cgcnn.features import element_table
from cgcnn.labels import DataError
from cgcnn.model import MODELS, ConvLayer, CrystalGraphConvNet, CrystalGraphConvNetMulti, build_model
from cgcnn.tasks import Task, TaskSet

ROOT = Path(__file__).parents[1]
ORIGINAL = ROOT.parent / "shared" / "data" / "cgcnn_original"
needs_shared = pytest.mark.skipif(not ORIGINAL.is_dir(), reason="the published weights (shared data) are not here")
ORIGINAL_NAMES = {
    "embedding": 2,
    **{f"convs.{k}.fc_full": 2 for k in range(3)},
    **{f"convs.{k}.bn{n}": 5 for k in range(3) for n in (1, 2)},
    "conv_to_fc": 2,
    "fcs.0": 2,
    "fc_out": 2,
}


def write_folder(folder: Path, rows: list[str], *, a: float = 9.0) -> Path:
    """Crystals of two atoms, of which one has fewer than twelve neighbours within 8 Å."""
    structure = Structure(a * np.eye(3), ["Na", "Cl"], [[0, 0, 0], [0.3, 0.2, 0.1]])
    for row in rows:
        structure.to(folder / f"{row.split(',')[0]}.cif")
    (folder / "id_prop.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_items_have_the_classic_shapes():
    data = CIFData(ROOT / "data" / "sample-regression")
    assert len(data) == len(data.id_prop_data) > 10
    for k in range(5):
        (atom_fea, nbr_fea, nbr_fea_idx), target, cif_id = data[k]
        n = len(atom_fea)
        assert (atom_fea.shape, nbr_fea.shape, nbr_fea_idx.shape) == ((n, 92), (n, 12, 41), (n, 12))
        assert (atom_fea.dtype, nbr_fea.dtype, nbr_fea_idx.dtype) == (torch.float32, torch.float32, torch.int64)
        assert target.shape == (1,) and target.dtype == torch.float32
        assert (ROOT / "data" / "sample-regression" / f"{cif_id}.cif").exists()


def test_every_row_comes_once_in_an_order_that_the_seed_decides():
    folder = ROOT / "data" / "sample-regression"
    with open(folder / "id_prop.csv") as file:
        rows = {row[0]: float(row[1]) for row in csv.reader(file)}
    data = CIFData(folder)
    order = [cif_id for cif_id, _ in data.id_prop_data]
    assert sorted(order) == sorted(rows) and order != list(rows)
    assert [cif_id for cif_id, _ in CIFData(folder).id_prop_data] == order
    assert [cif_id for cif_id, _ in CIFData(folder, random_seed=1).id_prop_data] != order
    assert [(item[2], item[1].item()) for item in (data[0], data[7])] == [
        (i, pytest.approx(rows[i])) for i in (order[0], order[7])
    ]


def test_a_third_column_comes_with_the_target():
    data = CIFData(ROOT / "vacancy_data")
    with open(ROOT / "vacancy_data" / "id_prop.csv") as file:
        rows = {row["cif_id"]: row for row in csv.DictReader(file)}
    _, target, cif_id = data[3]
    assert target.tolist() == pytest.approx(
        [float(rows[cif_id]["formation_energy"]), float(rows[cif_id]["defect_label"])]
    )


def test_neighbours_are_pymatgens_and_missing_ones_are_padding(tmp_path):
    data = CIFData(write_folder(tmp_path, ["x,1"]), max_num_nbr=30, radius=9.5, dmin=1, step=0.5)
    (atom_fea, nbr_fea, nbr_fea_idx), _, _ = data[0]
    centres = torch.arange(1, 10, 0.5)
    structure = Structure.from_file(tmp_path / "x.cif")
    torch.testing.assert_close(atom_fea, element_table()[[site.specie.Z for site in structure]])
    for i, found in enumerate(structure.get_all_neighbors(9.5)):
        found = sorted(found, key=lambda n: n.nn_distance)
        assert 0 < len(found) < 30
        distances = [n.nn_distance for n in found] + [10.5] * (30 - len(found))
        expected = torch.exp(-(((torch.tensor(distances).float()[:, None] - centres) / 0.5) ** 2))
        torch.testing.assert_close(nbr_fea[i, :, : len(centres)], expected, rtol=1e-4, atol=1e-5)
        assert sorted(nbr_fea_idx[i, : len(found)].tolist()) == sorted(n.index for n in found)
        assert (nbr_fea_idx[i, len(found) :] == 0).all()


def test_a_folders_own_element_table_wins(tmp_path):
    write_folder(tmp_path, ["x,1"])
    vectors = {str(z): [float(z), 1.0, 0.0] for z in (11, 17)}
    (tmp_path / "atom_init.json").write_text(json.dumps(vectors))
    assert CIFData(tmp_path)[0][0][0].tolist() == [[11, 1, 0], [17, 1, 0]]
    table = AtomCustomJSONInitializer(tmp_path / "atom_init.json")
    assert table.get_atom_fea(17).tolist() == [17, 1, 0]
    (tmp_path / "atom_init.json").write_text(json.dumps({"11": [1.0]}))
    with pytest.raises(DataError, match=r"x\.cif: no element vector for atomic number 17"):
        CIFData(tmp_path)[0]


def test_a_disordered_site_is_the_weighted_mean(tmp_path):
    structure = Structure(3 * np.eye(3), [{"Fe": 0.25, "Ni": 0.75}], [[0, 0, 0]])
    structure.to(tmp_path / "x.cif")
    (tmp_path / "id_prop.csv").write_text("x,1\n")
    table = element_table()
    torch.testing.assert_close(CIFData(tmp_path)[0][0][0], (0.25 * table[26] + 0.75 * table[28])[None])


def test_faults_of_a_folder_name_their_file(tmp_path):
    with pytest.raises(DataError, match=r"id_prop\.csv"):
        CIFData(tmp_path)
    write_folder(tmp_path, ["x,1"])
    (tmp_path / "id_prop.csv").write_text("x,1\ny,2\n")
    with pytest.raises(DataError, match="'y'"):
        CIFData(tmp_path)
    (tmp_path / "y.cif").write_text("nothing")
    data = CIFData(tmp_path)
    bad = [cif_id for cif_id, _ in data.id_prop_data].index("y")
    with pytest.raises(DataError, match=r"y\.cif: "):
        data[bad]
    assert data[1 - bad][2] == "x"


def test_gaussians_of_any_shape():
    distances = np.array([[0.0, 1.0], [2.5, 9.0]])
    expected = np.exp(-((distances[..., None] - np.arange(0, 8.2, 0.2)) ** 2) / 0.2**2)
    np.testing.assert_allclose(GaussianDistance(0, 8, 0.2).expand(distances), expected, atol=1e-5)


def test_crystals_of_a_batch_stand_side_by_side():
    data = CIFData(ROOT / "vacancy_data")
    items = [data[k] for k in (0, 1, 2)]
    (atom_fea, nbr_fea, nbr_fea_idx, crystal_atom_idx), target, cif_ids = collate_pool(items)
    assert cif_ids == [item[2] for item in items] and target.shape == (3, 2)
    assert torch.cat(crystal_atom_idx).tolist() == list(range(len(atom_fea)))
    for (atoms, edges, index), positions in zip((item[0] for item in items), crystal_atom_idx, strict=True):
        assert torch.equal(atom_fea[positions], atoms) and torch.equal(nbr_fea[positions], edges)
        assert torch.equal(nbr_fea_idx[positions], index + positions[0])


def ids_of(loader) -> list[str]:
    return [cif_id for _, _, ids in loader for cif_id in ids]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, (24, 2, 2)),
        ({"train_ratio": 0.5, "val_ratio": 0.25}, (14, 7, 2)),
        ({"train_size": 9, "val_size": 4}, (9, 4, 2)),
    ],
)
def test_loaders_take_the_first_and_the_last_rows(options, sizes):
    data = CIFData(ROOT / "data" / "sample-regression")
    order = [cif_id for cif_id, _ in data.id_prop_data]
    assert len(order) == 28
    found = [ids_of(part) for part in get_train_val_test_loader(data, batch_size=5, return_test=True, **options)]
    train, val, test = sizes
    assert [sorted(part) for part in found] == [
        sorted(order[:train]),
        sorted(order[-val - test : -test]),
        sorted(order[-test:]),
    ]
    assert found[0] != order[:train]  # drawn at random
    assert len(get_train_val_test_loader(data, collate_pool, 5, **options)) == 2


def test_loaders_refuse_parts_that_do_not_fit():
    data = CIFData(ROOT / "data" / "sample-regression")
    with pytest.raises(DataError, match="28"):
        get_train_val_test_loader(data, train_size=27, val_size=4)


def single_loss(model, out, target):
    return nn.functional.mse_loss(out, target)


def class_loss(model, out, target):
    return nn.functional.nll_loss(out, (target > 1).long().flatten())


@pytest.mark.parametrize(("classification", "loss_of"), [(False, single_loss), (True, class_loss)])
def test_the_single_task_network_learns(classification, loss_of):
    torch.manual_seed(0)
    data = CIFData(ROOT / "data" / "sample-regression")
    loader, _ = get_train_val_test_loader(data, collate_pool, 24)
    model = CrystalGraphConvNet(92, 41, 16, 2, 32, 2, classification)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        for graph, target, _ in loader:
            out = model(*graph)
            loss = loss_of(model, out, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert out.shape == (24, 2 if classification else 1)
    if classification:
        torch.testing.assert_close(out.exp().sum(1), torch.ones(24))
    assert all(p.grad is not None for p in model.parameters())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_the_network_for_both_learns(pooling):
    torch.manual_seed(0)
    data = CIFData(ROOT / "vacancy_data")
    loader, _ = get_train_val_test_loader(data, collate_pool, 16)
    model = CrystalGraphConvNetMulti(92, 41, 16, 2, 32, num_classes=3, pooling=pooling)
    graph, target, _ = next(iter(loader))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        energy, logits = model(*graph)
        assert energy.shape == (16, 1) and logits.shape == (16, 3)
        loss = nn.functional.mse_loss(energy[:, 0], target[:, 0])
        loss = loss + 0.5 * nn.functional.cross_entropy(logits, target[:, 1].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_parameters_have_the_original_names():
    names = list(CrystalGraphConvNet(92, 41, n_h=2).state_dict())
    assert sorted({name.rpartition(".")[0] for name in names}) == sorted(ORIGINAL_NAMES)
    assert len(names) == sum(ORIGINAL_NAMES.values())
    assert {"embedding.weight", "convs.0.fc_full.weight", "convs.0.bn1.running_mean", "fcs.0.bias"} <= set(names)


def test_the_convolution_has_its_public_name():
    layer = ConvLayer(64, 41)
    assert layer.fc_full.weight.shape == (128, 169)
    assert isinstance(CrystalGraphConvNet(92, 41).convs[0], ConvLayer)


def test_networks_come_by_name():
    for name, (network, configuration) in MODELS.items():
        built = build_model(name, configuration().to_dict(), TaskSet((Task("y"),)), element_table())
        assert isinstance(built, network)


@needs_shared
@pytest.mark.parametrize("name", ["formation-energy-per-atom", "band-gap"])
def test_published_weights_predict_the_published_numbers(name):
    saved = torch.load(ORIGINAL / "pre-trained" / f"{name}.pth.tar", map_location="cpu", weights_only=True)
    sizes = saved["args"]
    model = CrystalGraphConvNet(
        92, 41, sizes["atom_fea_len"], sizes["n_conv"], sizes["h_fea_len"], sizes["n_h"]
    ).eval()
    model.load_state_dict(saved["state_dict"])
    data = CIFData(ORIGINAL / "sample-regression")
    with torch.no_grad():
        graph, _, ids = collate_pool([data[k] for k in range(len(data))])
        predicted = model(*graph)[:, 0] * saved["normalizer"]["std"] + saved["normalizer"]["mean"]
    with open(ORIGINAL / "expected" / f"{name}.sample-regression.csv") as file:
        expected = {row["cif_id"]: float(row["prediction"]) for row in csv.DictReader(file)}
    assert dict(zip(ids, predicted.tolist(), strict=True)) == pytest.approx(expected, abs=1e-4)
