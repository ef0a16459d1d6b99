"""What a composition says about its electrons."""

import numpy as np
import pytest
from conftest import make_crystal

from cgcnn.global_features import formula_valence, global_features, num_global_features
from cgcnn.graph import build_graphs
from cgcnn.labels import DataError
from cgcnn.store import GraphTable


def table(*crystals):
    return GraphTable.from_graphs(build_graphs(crystals), [crystal.reduced_formula for crystal in crystals])


def test_salt_balances_and_metal_has_an_odd_electron():
    odd, common, balanced, known, balanced_known, elements = formula_valence({11: 1, 17: 1})  # NaCl, 28 electrons
    assert (odd, common, balanced, known, balanced_known, elements) == pytest.approx((0, 0, 1, 0, 1, 0.5))
    assert formula_valence({13: 1})[0] == pytest.approx(1)  # Al, 13 electrons
    odd, common, balanced, *_ = formula_valence({37: 1, 53: 2})  # RbI2: one electron too few
    assert odd == pytest.approx(1) and common == pytest.approx(1 / 3) and balanced == 0


def test_cell_does_not_matter():
    one = make_crystal(4.0, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    two = make_crystal(8.0, ["Na", "Cl"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0.5]])
    features = global_features("valence", table(one, two))
    assert features.shape == (2, num_global_features("valence"))
    assert features[0] == pytest.approx(features[1])


@pytest.mark.parametrize(
    ("sites", "unit"),
    [
        ([{"Li": 0.5}, {"O": 1.0}], {3: 1, 8: 2}),
        ([{"Li": 1 / 3, "Na": 2 / 3}, {"O": 1.0}], {3: 1, 11: 2, 8: 3}),
        ([{"Na": 0.333, "Li": 0.667}, {"O": 1.0}], {3: 2, 11: 1, 8: 3}),
        ([{"Ti": 0.137, "V": 0.263, "Cr": 0.6}, {"O": 1.0}], {22: 0.137, 23: 0.263, 24: 0.6, 8: 1}),
        ([{"Rb": 1.0}, {"I": 1.0}, {"I": 1.0}], {37: 1, 53: 2}),
    ],
)
def test_cell_does_not_matter_in_disorder(sites, unit):
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]][: len(sites)]
    cells = [
        make_crystal(
            np.diag([5.0 * k, 5, 5]), sites * k, [[(x + i) / k, y, z] for i in range(k) for x, y, z in places]
        )
        for k in (1, 2, 3, 10)
    ]
    # alone and together: crystals of one formula share what is computed
    found = [*global_features("valence", table(*cells)), *(global_features("valence", table(c))[0] for c in cells)]
    for features in found:
        assert features == pytest.approx(formula_valence(unit), abs=1e-6)


def test_fractional_amounts_and_many_elements_end_soon():
    assert 0 < formula_valence({3: 0.5, 8: 1})[0] < 1  # 9.5 electrons
    assert np.isfinite(formula_valence(dict.fromkeys(range(22, 30), 0.125))).all()


def test_unknown_kind_is_told():
    with pytest.raises(DataError, match="'colour' is none of"):
        global_features("valence+colour", table(make_crystal(4.0, ["Na"], [[0, 0, 0]])))
    assert global_features("", table(make_crystal(4.0, ["Na"], [[0, 0, 0]]))) is None
