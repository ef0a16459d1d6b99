"""Element vectors, Gaussians and averages over a composition, against numbers worked out otherwise."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import fcc, make_crystal
from pymatgen.core import Element

from cgcnn.element_properties import PROPERTIES, element_properties
from cgcnn.features import (
    PLUTONIUM,
    GaussianExpansion,
    RadialBasis,
    atom_features,
    element_table,
    property_table,
    read_element_table,
)
from cgcnn.global_features import composition_averages
from cgcnn.graph import build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError


def table_of(*several) -> GraphTable:
    return GraphTable.from_graphs([build_graph(c) for c in several], [c.reduced_formula for c in several])


# --- elements -----------------------------------------------------------------------------------------


def test_the_packaged_table_is_the_classic_one(shared_data):
    path = shared_data / "cgcnn_original" / "sample-regression" / "atom_init.json"
    if not path.exists():
        pytest.skip("the original element table is not here")
    classic = json.loads(path.read_text())
    table = element_table()
    assert table.shape == (119, 92)
    assert len(classic) == 100
    for number, vector in classic.items():
        assert table[int(number)].tolist() == vector
    assert torch.isnan(table[[0, *range(101, 119)]]).all()
    torch.testing.assert_close(read_element_table(path), table, equal_nan=True)


def test_the_packaged_table_is_one_hot_in_each_property():
    known = element_table()[1:101]
    assert set(known.unique().tolist()) == {0.0, 1.0}
    assert (known.sum(dim=1) <= 9).all()
    assert len(known.unique(dim=0)) > 90  # elements are told apart
    silicon = element_table()[14]
    assert silicon.sum() == 9
    assert silicon.nonzero().flatten()[:2].tolist() == [14, 19 + 3 - 1]  # group 14, period 3


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "atom_init.json"
    path.write_text('{"1": [1, 0.5], "118": [-2, 3e2]}')
    table = read_element_table(path)
    assert table.shape == (119, 2)
    assert table.dtype == torch.float32
    assert table[[1, 118]].tolist() == [[1, 0.5], [-2, 300]]
    assert torch.isnan(table[[0, *range(2, 118)]]).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        "[[1, 2]]",
        "3",
        '{"1": []}',
        '{"1": 3}',
        '{"1": "abc"}',
        '{"1": {"a": 1}}',
        '{"1": ["x", "y"]}',
        '{"1": [1, null]}',
        '{"1": [1, NaN]}',
        '{"H": [1, 2]}',
        '{"1": [1, 2], "2": [3]}',
        '{"1": [1, 2], "2": 3}',
        '{"1": [[1], [2]]}',
        '{"119": [1, 2]}',
        '{"0": [1, 2]}',
        '{"-1": [1, 2]}',
        '{"1": [1, 2], "1.5": [3, 4]}',
    ],
)
def test_a_table_that_is_none(tmp_path, text):
    path = tmp_path / "atom_init.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not a table of element vectors") as caught:
        read_element_table(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError):
        read_element_table(tmp_path / "nowhere.json")
    path = tmp_path / "atom_init.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError):
        read_element_table(path)


# --- distances ----------------------------------------------------------------------------------------


def test_gaussians_follow_their_formula():
    expansion = GaussianExpansion()
    assert expansion.num_features == 41
    distances = torch.tensor([0.0, 1.0, 2.37, 7.99, 8.0, 9.0])
    found = expansion(distances)
    assert found.shape == (6, 41)
    for row, distance in enumerate(distances.tolist()):
        for column in range(41):
            expected = math.exp(-(((distance - 0.2 * column) / 0.2) ** 2))
            assert found[row, column].item() == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert distances.tolist()[:2] == [0.0, 1.0]  # not written over


def test_other_gaussians():
    expansion = GaussianExpansion(dmin=1.0, radius=3.0, step=0.5)
    assert expansion.num_features == 5
    found = expansion(torch.tensor([2.25]))[0].tolist()
    assert found == pytest.approx([math.exp(-((2.25 - centre) ** 2) / 0.25) for centre in (1, 1.5, 2, 2.5, 3)])
    assert expansion(torch.zeros(0)).shape == (0, 5)
    assert expansion.state_dict() == {}  # published weights have no such entry


# --- composition --------------------------------------------------------------------------------------


def test_composition_averages():
    salt = make_crystal(fcc(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    oxide = make_crystal(4.0, ["Ti", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])
    shared = make_crystal(4.0, [{"Ni": 0.75, "Co": 0.25}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    neon = make_crystal(6.0, ["Ne"], [[0, 0, 0]])
    found = composition_averages(table_of(salt, oxide, shared, neon))
    # Pauling: Na 0.93, Cl 3.16, Ti 1.54, O 3.44, Ni 1.91, Co 1.88; first ionisation energies in eV
    mean = (0.75 * 1.91 + 0.25 * 1.88 + 3.44) / 2
    variance = (0.75 * (1.91 - mean) ** 2 + 0.25 * (1.88 - mean) ** 2 + (3.44 - mean) ** 2) / 2
    expected = [
        [((3.16 - 0.93) / 2) ** 2, (5.1391 + 12.9676) / 2],
        [2 / 9 * (3.44 - 1.54) ** 2, (6.8281 + 2 * 13.6181) / 3],
        [variance, (0.75 * 7.6399 + 0.25 * 7.8810 + 13.6181) / 2],
        [math.nan, 21.5645],
    ]
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_an_element_alone_varies_not_at_all():
    copper = make_crystal(fcc(3.61), ["Cu"], [[0, 0, 0]])
    np.testing.assert_allclose(composition_averages(table_of(copper)), [[0, 7.7264]], rtol=2e-4)


def test_properties_are_standardised_and_what_is_missing_is_the_mean():
    table = property_table().numpy()
    assert table.shape == (119, len(PROPERTIES)) and np.isnan(table[0]).all()
    mass = list(PROPERTIES).index("atomic mass (u)")
    known = table[1 : PLUTONIUM + 1, mass]
    assert known.mean() == pytest.approx(0, abs=1e-6) and known.std() == pytest.approx(1, abs=1e-6)
    assert table[2, list(PROPERTIES).index("electronegativity (Pauling)")] == 0  # helium has none
    chosen = element_properties(["electronegativity (Pauling)"])
    every = [Element.from_Z(number).X for number in range(1, 119)]
    assert chosen[9, 0] == 3.98 and chosen[2, 0] == pytest.approx(np.nanmean(every))


def test_gaussians_hold_no_denormal_number():
    gaussians = GaussianExpansion()(torch.linspace(0, 8, 5001))
    assert not ((gaussians > 0) & (gaussians < torch.finfo(torch.float32).tiny)).any()
    assert (gaussians == 0).any()


def test_onehot_bits_and_what_is_missing():
    onehot = atom_features("onehot")
    assert onehot.shape == (119, 118) and torch.equal(onehot[1:], torch.eye(118)) and torch.isnan(onehot[0]).all()
    bits = atom_features("bits")
    assert bits.shape == (119, 7) and bits[26].tolist() == [0, 1, 0, 1, 1, 0, 0]  # 26 = 0b0011010
    assert len({tuple(row) for row in bits[1:].tolist()}) == 118
    missing = atom_features("missing")
    assert 0 < missing.shape[1] < len(PROPERTIES) and set(missing[1:].unique().tolist()) == {0.0, 1.0}
    assert missing[2].sum() > 0 and missing[26].sum() == 0  # helium has no electronegativity, iron lacks nothing
    joined = atom_features("bits+missing+onehot")
    torch.testing.assert_close(joined, torch.cat([bits, missing, onehot], dim=1), equal_nan=True)
    for kinds, said in (("bits+nothing", "'nothing' is none of json, properties"), ("bits+bits", "each kind once")):
        with pytest.raises(DataError, match=said):
            atom_features(kinds)


def test_radial_basis_sums_to_one_and_is_its_formula():
    basis = RadialBasis(radius=8.0, count=10)
    assert basis.num_features == 10 and basis.state_dict() == {}
    distances = torch.tensor([0.0, 2.5, 8.0, 30.0])
    found = basis(distances)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))
    width = 8 / 9
    plain = [math.exp(-(((2.5 - k * width) / width) ** 2)) for k in range(10)]
    assert found[1].tolist() == pytest.approx([value / sum(plain) for value in plain], abs=1e-6)
    learned = RadialBasis(radius=8.0, count=10, learnable=True)
    torch.testing.assert_close(learned(distances), found)
    learned(distances)[:, 3].sum().backward()
    assert learned.centres.grad.abs().sum() > 0 and learned.log_widths.grad.abs().sum() > 0


def test_an_element_table_of_deep_brackets_or_huge_numbers_is_refused(tmp_path):
    path = tmp_path / "atom_init.json"
    for text, said in (
        ("[" * 100_000, "too many brackets"),
        ('{"1": [1' + "0" * 400 + "]}", "too large"),
        ('{"1": [-1e20]}', r"1e\+20 is larger than 1e\+09"),
        ("\xff", ""),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=f"atom_init.json: not a table of element vectors .*{said}"):
            read_element_table(path)


def test_an_element_table_may_begin_with_a_mark(tmp_path):
    (tmp_path / "atom_init.json").write_text('{"1": [1, 2]}', encoding="utf-8-sig")
    assert read_element_table(tmp_path / "atom_init.json")[1].tolist() == [1, 2]
