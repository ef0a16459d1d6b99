"""Numbers that cannot be work functions or band gaps in eV are told, with the unit that they look like."""

import pytest
from scipy.constants import physical_constants

from cgcnn.merge.units import EV, gap_fault, work_fault

WORK = [4.26, 4.28, 5.1, 2.87, 4.5]
GAPS = [0.0, 0.0, 1.12, 0.66, 5.5, 3.4, 1.42, 0.35, 2.26, 6.2, 8.9, 1.1]


def test_factors():
    assert EV["hartree"] == pytest.approx(physical_constants["Hartree energy in eV"][0], rel=1e-8)
    assert EV["Ry"] == pytest.approx(physical_constants["Rydberg constant times hc in eV"][0], rel=1e-8)
    assert EV["J"] == pytest.approx(1 / physical_constants["electron volt"][0], rel=1e-12)


@pytest.mark.parametrize("unit", ["meV", "hartree", "Ry", "J"])
def test_another_unit_than_ev_is_recognised(unit):
    assert f"--work-unit {unit}" in work_fault([value / EV[unit] for value in WORK], "eV")
    assert work_fault([value / EV[unit] for value in WORK], unit) is None
    assert gap_fault([value / EV[unit] for value in GAPS], unit, stated=True) is None
    if unit != "Ry":  # gaps spread too far to tell it from hartree
        assert f"--gap-unit {unit}" in gap_fault([value / EV[unit] for value in GAPS], "eV", stated=False)


def test_ev_is_believed():
    assert work_fault(WORK, "eV") is None
    assert gap_fault(GAPS, "eV", stated=False) is None
    assert gap_fault([0.0, 0.0], "eV", stated=False) is None


def test_a_wrong_unit_flag_is_told():
    assert "as meV, the median work function is 0.00428 eV" in work_fault(WORK, "meV")
    assert "--work-unit eV" in work_fault(WORK, "meV")


def test_no_unit_fits():
    assert "is it the right column?" in work_fault([434.0, 400.0], "eV")
    assert "is it the right column?" in work_fault([-4.5, -4.2], "eV")


def test_small_gaps_are_believed_where_the_unit_is_stated_or_they_are_few():
    small = [0.01 * k for k in range(1, 20)]
    assert "if eV is right, say --gap-unit eV" in gap_fault(small, "eV", stated=False)
    assert gap_fault(small, "eV", stated=True) is None
    assert gap_fault(small[:5], "eV", stated=False) is None


def test_one_large_gap_is_no_fault_of_the_unit():
    assert gap_fault([*GAPS, 99.0], "eV", stated=False) is None
