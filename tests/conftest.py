"""What several test files share: small crystals, data folders made of them, the commands in process."""

import os

# One thread, here and in the commands that tests start: small networks gain nothing from more.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sweep_helpers import stand_in

from cgcnn import cli, html_report
from cgcnn.cif import ATOMIC_NUMBERS
from cgcnn.crystal import Crystal
from cgcnn.structures import read_crystal

SYMBOLS = {number: symbol for symbol, number in ATOMIC_NUMBERS.items() if symbol not in ("D", "T")}


def make_crystal(lattice, symbols: list, frac_coords) -> Crystal:
    """A crystal of sites that hold one symbol, or symbol → occupancy; lattice (3, 3), or the edge of a cube in Å."""
    held = [{symbol: 1.0} if isinstance(symbol, str) else symbol for symbol in symbols]
    return Crystal(
        lattice=np.eye(3) * lattice if np.ndim(lattice) == 0 else np.array(lattice, dtype=float),
        frac_coords=np.array(frac_coords, dtype=float).reshape(-1, 3),
        numbers=np.array([ATOMIC_NUMBERS[symbol] for site in held for symbol in site], dtype=np.uint8),
        occupancies=np.array([occupancy for site in held for occupancy in site.values()], dtype=float),
        site=np.repeat(np.arange(len(held), dtype=np.int32), [len(site) for site in held]),
    )


def random_crystal(seed: int, num_atoms: int, *, length: float = 5.0, skew: float = 0.3) -> Crystal:
    """A low-symmetry cell whose atoms lie where they fall; `skew` says how far from a cube (0) the cell is."""
    rng = np.random.default_rng(seed)
    lattice = length * (np.eye(3) * rng.uniform(0.8, 1.2, 3)[:, None] + np.tril(rng.uniform(-skew, skew, (3, 3)), -1))
    symbols = rng.choice(["O", "Ti", "Ba", "Li", "S"], num_atoms).tolist()
    return make_crystal(lattice, symbols, rng.random((num_atoms, 3)))


def fcc(a: float) -> np.ndarray:
    """The primitive cell of a face-centred cubic lattice with the cubic edge a (Å)."""
    return a / 2 * (np.ones((3, 3)) - np.eye(3))


def cif_text(crystal: Crystal) -> str:
    """The crystal as a CIF in P1; its cell is turned into the standard orientation."""
    a, b, c = crystal.lattice
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    cosines = [
        b @ c / (lengths[1] * lengths[2]),
        a @ c / (lengths[0] * lengths[2]),
        a @ b / (lengths[0] * lengths[1]),
    ]
    lines = ["data_crystal", "_symmetry_space_group_name_H-M 'P 1'"]
    lines += [f"_cell_length_{name} {length:.12f}" for name, length in zip("abc", lengths, strict=True)]
    angles = np.degrees(np.arccos(cosines))
    lines += [f"_cell_angle_{name} {x:.12f}" for name, x in zip(("alpha", "beta", "gamma"), angles, strict=True)]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_"]
    lines += [f"_atom_site_{name}" for name in ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")]
    for row, (site, number, share) in enumerate(
        zip(crystal.site, crystal.numbers, crystal.occupancies, strict=True), start=1
    ):
        x, y, z = crystal.frac_coords[site]
        symbol = SYMBOLS[int(number)]
        lines.append(f"{symbol}{row} {symbol} {x:.12f} {y:.12f} {z:.12f} {share:g}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module", autouse=True)
def page_of_a_run(request):
    """Drawing the page takes longer than the trainings here: it is an empty file but in the page's own tests."""
    if request.module.__name__ == "test_html_report":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_report, "write_report", lambda run, *_: run.out.file("report.html").touch())
        yield


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, where there is one beside the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def crystals() -> dict[str, Crystal]:
    """NaCl, Cu (one atom) and diamond in primitive cells, and a low-symmetry cell of seven atoms."""
    return {
        "NaCl": make_crystal(fcc(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "Cu": make_crystal(fcc(3.61), ["Cu"], [[0, 0, 0]]),
        "diamond": make_crystal(fcc(3.567), ["C", "C"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
        "low": random_crystal(7, 7, length=6.0),
    }


@pytest.fixture(scope="session")
def types(repo) -> list[Crystal]:
    """One of each structure type: cubic and not, most with a shell of equal distances that twelve neighbours cut."""
    found = {file.stem.partition("_")[2]: file for file in sorted((repo / "root_dir").glob("*.cif"))}
    assert len(found) > 25
    return [read_crystal(file) for file in found.values()]


@pytest.fixture
def data_folder(tmp_path, crystals) -> Callable[..., Path]:
    """A function that writes a data folder and returns it.

    data_folder(): the crystals above with one target, `energy`. count: so many strained NaCl cells, c000 …, whose
    energy is their volume. crystals: others, id → Crystal. table: the text of id_prop.csv. files: name → text of
    more files. name: of the folder.
    """

    def write(
        table: str | None = None,
        *,
        crystals: Mapping[str, Crystal] | None = crystals,
        count: int | None = None,
        files: Mapping[str, str] | None = None,
        name: str = "data",
    ) -> Path:
        if count is not None:
            salt = [[0, 0, 0], [0.5, 0.5, 0.5]]
            lattices = [fcc(5.2 + 0.8 * k / count) for k in range(count)]
            crystals = {f"c{k:03}": make_crystal(cell, ["Na", "Cl"], salt) for k, cell in enumerate(lattices)}
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        if table is None:
            rows = [f"{i},{abs(np.linalg.det(crystal.lattice)):.6f}\n" for i, crystal in crystals.items()]
            table = "cif_id,energy\n" + "".join(rows)
        texts = {f"{i}.cif": cif_text(crystal) for i, crystal in crystals.items()}
        for file, text in {**texts, "id_prop.csv": table, **(files or {})}.items():
            (folder / file).write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def run_main(capsys) -> Callable[..., SimpleNamespace]:
    """A function that runs the training command in process: its status, out and err."""

    def run(*argv: object) -> SimpleNamespace:
        status = cli.train_command([str(word) for word in argv])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


@pytest.fixture
def command(tmp_path) -> list[str]:
    """The stand-in for main.py in sweeps: it trains nothing."""
    return stand_in(tmp_path)


@pytest.fixture
def stand_in_trials(command, monkeypatch) -> None:
    """Trials of sweeps that run in this process are the stand-in."""
    monkeypatch.setattr("cgcnn.sweep.trial._main", lambda: command)
