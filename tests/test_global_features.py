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
    assert formula_valence({37: 4, 53: 8}) == pytest.approx(formula_valence({37: 1, 53: 2}))
    one = make_crystal(4.0, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    two = make_crystal(8.0, ["Na", "Cl"] * 2, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0.5]])
    features = global_features("valence", table(one, two))
    assert features.shape == (2, num_global_features("valence"))
    assert features[0] == pytest.approx(features[1])


def test_fractional_amounts_and_many_elements_end_soon():
    assert 0 < formula_valence({3: 0.5, 8: 1})[0] < 1  # 9.5 electrons
    assert np.isfinite(formula_valence(dict.fromkeys(range(22, 30), 0.125))).all()


def test_unknown_kind_is_told():
    with pytest.raises(DataError, match="'colour' is none of"):
        global_features("valence+colour", table(make_crystal(4.0, ["Na"], [[0, 0, 0]])))
    assert global_features("", table(make_crystal(4.0, ["Na"], [[0, 0, 0]]))) is None
