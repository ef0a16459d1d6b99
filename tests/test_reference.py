"""A network's outputs are counted from its first guess, and grow with the cell where they are told to."""

import pytest
import torch
from conftest import fcc, make_crystal, random_crystal

from cgcnn.batch import Collator
from cgcnn.graph import build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.reference import FirstGuess, Reference
from cgcnn.tasks import CLASSIFICATION, Task, TaskSet

TASKS = TaskSet((Task("energy"), Task("kind", CLASSIFICATION, classes=("0", "1")), Task("moment")))
SALT = make_crystal(fcc(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ALLOY = make_crystal(4.0, [{"Fe": 0.75, "Ni": 0.25}, "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
NA, CL, FE, NI = 11, 17, 26, 28


def batch(*crystals):
    graphs = [build_graph(crystal) for crystal in crystals]
    table = GraphTable.from_graphs(graphs, [crystal.reduced_formula for crystal in crystals])
    return Collator(table)[torch.arange(len(crystals))]


def outputs(count: int) -> dict:
    return {"energy": torch.ones(count), "kind": torch.rand(count, 2), "moment": 3 * torch.ones(count)}


def guess(offset=0.0, atoms=0.0, **of_elements) -> FirstGuess:
    coefficients = torch.zeros(119)
    for name, value in of_elements.items():
        coefficients[globals()[name]] = value
    return FirstGuess(coefficients, offset, atoms)


def test_intensive_outputs_stand_on_shares_and_extensive_ones_on_atoms():
    reference = Reference(TASKS)
    reference.write({"energy": guess(1.0, NA=2, CL=4, FE=8, NI=16), "moment": guess(-1.0, atoms=4, FE=2, NI=1)})
    given = outputs(2)
    found = reference(given, batch(SALT, ALLOY))
    assert found["energy"].tolist() == pytest.approx([1 + 3 + 1, 1 + (8 * 1.75 + 16 * 0.25) / 2 + 1])
    assert found["moment"].tolist() == pytest.approx([3 * 2 / 4 - 1, 3 * 2 / 4 + 2 * 1.75 + 0.25 - 1])
    assert found["kind"] is given["kind"]


def test_atoms_of_their_own_are_crystals_of_one_atom():
    reference = Reference(TASKS)
    reference.write({"energy": guess(FE=8, NI=16), "moment": guess(atoms=4, FE=2, NI=1)})
    found = reference(outputs(2), batch(ALLOY), by_atom=True)
    assert found["energy"].tolist() == pytest.approx([1 + 10, 1 + 8])
    assert found["moment"].tolist() == pytest.approx([0.75 + 1.75, 0.75 + 2])


def test_a_supercell_doubles_what_is_extensive_and_leaves_the_rest():
    one = random_crystal(1, 4)
    twice = make_crystal(
        one.lattice * [[1], [1], [2]],
        [{8: "O", 22: "Ti", 56: "Ba", 3: "Li", 16: "S"}[int(z)] for z in one.numbers] * 2,
        [[x, y, (z + k) / 2] for k in range(2) for x, y, z in one.frac_coords],
    )
    reference = Reference(TASKS)
    reference.write({"energy": FirstGuess(torch.rand(119), 0.5), "moment": FirstGuess(torch.rand(119), 0.0, 6.0)})
    found = reference(outputs(2), batch(one, twice))
    assert found["energy"][1] == pytest.approx(found["energy"][0].item(), abs=1e-6)
    assert found["moment"][1] == pytest.approx(2 * found["moment"][0].item(), abs=1e-5)


def test_one_that_is_not_used_changes_and_keeps_nothing():
    reference = Reference(TASKS, is_used=False)
    given = outputs(1)
    assert reference(given, batch(SALT)) is given
    assert not reference.state_dict()
    assert not reference.read("energy").coefficients.any() and not reference.read("energy").is_extensive


def test_what_was_written_is_read_and_survives_a_checkpoint():
    reference, other = Reference(TASKS), Reference(TASKS)
    reference.write({"moment": guess(0.25, atoms=4, FE=2)})
    other.load_state_dict(reference.state_dict())
    found = other.read("moment")
    assert (found.offset, found.atoms, found.is_extensive) == (0.25, 4.0, True) and found.coefficients[FE] == 2
    other.write({"moment": guess()})
    assert found.coefficients[FE] == 2
