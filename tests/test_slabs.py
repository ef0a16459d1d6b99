"""What a layer shows to the vacuum: a plain formula for one layer, and what must not matter."""

import numpy as np
import pytest
from conftest import make_crystal

from cgcnn.element_properties import element_properties
from cgcnn.graph import build_graphs
from cgcnn.graph_table import GraphTable
from cgcnn.slabs import DEPTH, NUM_FEATURES, SCALES, slab_features

# Mo between S and Se, 20 Å of cell
LATTICE = np.array([[3.2, 0, 0], [-1.6, 2.771, 0], [0, 0, 20.0]])
SYMBOLS = ["S", "Mo", "Se"]
PLACES = np.array([[0.1, 0.2, 0.42], [0.43, 0.53, 0.5], [0.1, 0.2, 0.585]])


def features(*crystals) -> np.ndarray:
    return slab_features(GraphTable.from_graphs(build_graphs(crystals), [""] * len(crystals)))


def janus(**change):
    return make_crystal(change.get("lattice", LATTICE), change.get("symbols", SYMBOLS), change.get("places", PLACES))


def test_one_layer_by_the_formula():
    (found,) = features(janus())
    assert len(found) == NUM_FEATURES and found[0] == 1
    z, area = PLACES[:, 2] * 20, 3.2 * 2.771
    values = element_properties(list(SCALES))[[16, 42, 34]] / list(SCALES.values())
    charge, height = values - values.mean(axis=0), z - z.mean()
    assert found[1] == pytest.approx((z[2] - z[0]) / 5)
    assert found[2] == pytest.approx(30 / area)
    assert found[3] == pytest.approx((6 + 6 + 6) / area)
    quadrupole = (charge * height[:, None] ** 2).sum(axis=0) / area
    assert found[4:8] == pytest.approx(np.sign(quadrupole) * np.log1p(np.abs(quadrupole)), abs=1e-5)
    dipole = np.abs((charge * height[:, None]).sum(axis=0)) / area
    assert found[8:12] == pytest.approx(np.log1p(dipole), abs=1e-5)
    sides = []
    for depth in (z.max() - z, z - z.min()):
        weight = np.exp(-depth / DEPTH)
        sides.append(weight @ values / weight.sum())
    assert found[12:16] == pytest.approx(np.minimum(*sides), abs=1e-5)
    assert found[16:] == pytest.approx(np.maximum(*sides), abs=1e-5)


def supercell(times):
    shift = np.array([[i, j, k] for i in range(times[0]) for j in range(times[1]) for k in range(times[2])])
    places = ((PLACES[:, None] + shift) / times).reshape(-1, 3)
    return make_crystal(LATTICE * np.array(times)[:, None], np.repeat(SYMBOLS, len(shift)).tolist(), places)


@pytest.mark.parametrize(
    "other",
    [
        supercell((2, 3, 1)),
        supercell((1, 1, 3)),
        janus(places=np.add(PLACES, [0, 0, 0.5])),  # across the border of the cell
        janus(places=1 - PLACES),  # upside down
        janus(lattice=LATTICE @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]),
        janus(lattice=LATTICE[[2, 0, 1]], places=PLACES[:, [2, 0, 1]]),
        janus(symbols=[SYMBOLS[k] for k in (2, 0, 1)], places=PLACES[[2, 0, 1]]),
        janus(lattice=LATTICE * [[1], [1], [1.5]], places=PLACES * [1, 1, 1 / 1.5]),  # more vacuum
    ],
    ids=["supercell", "three layers", "shifted", "upside down", "turned", "other axis", "other order", "more vacuum"],
)
def test_what_does_not_matter(other):
    first, found = features(janus(), other)
    assert found == pytest.approx(first, abs=1e-5)


def test_a_crystal_without_vacuum_has_none_also_among_slabs(crystals):
    found = features(crystals["NaCl"], janus(), crystals["low"], janus(symbols=["S", "Mo", "S"]), crystals["Cu"])
    assert not found[[0, 2, 4]].any()
    assert found[1] == pytest.approx(features(janus())[0]) and found[3, 0] == 1
    assert not features(crystals["NaCl"]).any() and features(janus())[0, 8:12].any()
    symmetric = features(
        janus(symbols=["S", "Mo", "S"], places=PLACES * [1, 1, 0] + [[0, 0, z] for z in (0.42, 0.5, 0.58)])
    )
    assert symmetric[0, 8:12] == pytest.approx(0, abs=1e-6)


def test_a_disordered_site_counts_by_its_occupancies():
    full, mixed = features(janus(), janus(symbols=[{"S": 0.5, "Se": 0.5}, "Mo", {"S": 0.5, "Se": 0.5}]))
    assert mixed[2:4] == pytest.approx(full[2:4])
    assert mixed[12:16] == pytest.approx(mixed[16:], abs=0.02)
    (half,) = features(janus(symbols=[{"S": 0.5}, "Mo", "Se"]))
    assert half[2] == pytest.approx(full[2] * 2.5 / 3)
