"""Distinct vacancies in a crystal: order its partial occupancies, then remove atoms at random.

Two choices of atoms are the same if a symmetry operation of the ordered supercell joins them, or if
what they leave is congruent. Lengths are in Å. Nothing here reads or writes a file.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # pymatgen is imported where it is used, so that --help answers at once
    from pymatgen.core import Structure

Supercell = tuple[int, int, int]

SYMPREC = 0.01  # Å
FINGERPRINT_RADIUS = 8.0  # Å
FINGERPRINT_TOLERANCE = 0.05  # loose: a false alarm only costs a call of StructureMatcher
AUTO_TOLERANCE = 0.03  # largest error of an occupancy or vacancy fraction in a supercell found by us,
ASKED_TOLERANCE = 0.10  # and in one that the user asked for
MAX_ATOMS = 300  # the search for a supercell ends here
MAX_ENUMERATED = 50_000  # up to here every choice of sites is listed, beyond it choices are drawn
MAX_DRAWS = 20_000


class VacancyError(ValueError):
    """The request cannot be met; the message is one line for the user."""


def occupancy_counts(occupancies: Mapping[str, float], n_sites: int, tolerance: float) -> dict[str, int]:
    """Whole atoms of each species on `n_sites` sites, as near to `occupancies` (0–1) as they permit.

    Every species keeps at least one atom. What is left to 1 stays empty, under the key "". Raises
    VacancyError if a species then misses its occupancy by more than `tolerance`.
    """
    wanted = {symbol: occupancies[symbol] * n_sites for symbol in sorted(occupancies)}
    wanted[""] = max(0.0, n_sites - sum(wanted.values()))
    least = {symbol: int(symbol != "") for symbol in wanted}
    counts = {symbol: max(least[symbol], math.floor(wanted[symbol] + 1e-6)) for symbol in wanted}
    while (left := n_sites - sum(counts.values())) != 0:
        step = 1 if left > 0 else -1
        movable = [symbol for symbol in counts if counts[symbol] + step >= least[symbol]]
        if not movable:
            raise VacancyError(f"{n_sites} site(s) cannot hold all of {', '.join(sorted(occupancies))}")
        furthest = max(movable, key=lambda symbol: round(step * (wanted[symbol] - counts[symbol]), 6))
        counts[furthest] += step
    for symbol, count in counts.items():
        if abs(count - wanted[symbol]) > tolerance * n_sites + 1e-6:
            share = f"{count}/{n_sites} {symbol or 'empty'} for {wanted[symbol] / n_sites:.3g}"
            raise VacancyError(f"the supercell is too small for the occupancies: {share} at best")
    return counts


def order_sites(structure: Structure, rng: random.Random, tolerance: float = ASKED_TOLERANCE) -> Structure:
    """Ordered copy: sites that share the same partial occupancies receive whole atoms at random."""
    from pymatgen.core import Structure

    # Sorted by position, so that the draw does not depend on the order in which a parser lists sites.
    sites = sorted(structure, key=lambda site: tuple(np.round(site.frac_coords % 1, 6) % 1))
    symbols: list[str] = [site.specie.symbol if site.is_ordered else "" for site in sites]
    groups: dict[tuple, list[int]] = {}
    for index, site in enumerate(sites):
        if not site.is_ordered:
            occupancies = sorted((element.symbol, round(x, 4)) for element, x in site.species.items())
            groups.setdefault(tuple(occupancies), []).append(index)
    for occupancies in sorted(groups):
        counts = occupancy_counts(dict(occupancies), len(groups[occupancies]), tolerance)
        atoms = [symbol for symbol in sorted(counts) for _ in range(counts[symbol])]
        rng.shuffle(atoms)
        for index, symbol in zip(groups[occupancies], atoms, strict=True):
            symbols[index] = symbol
    kept = [index for index, symbol in enumerate(symbols) if symbol]
    coords = [sites[index].frac_coords for index in kept]
    return Structure(structure.lattice, [symbols[index] for index in kept], coords)


def symmetry_permutations(structure: Structure, sites: Sequence[int]) -> np.ndarray:
    """(G, n) ints: the symmetry operation g takes the k-th of the n `sites` to the place of number [g, k]."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    try:
        operations = SpacegroupAnalyzer(structure, symprec=SYMPREC).get_symmetry_operations()
    except (ValueError, TypeError) as error:
        raise VacancyError("the symmetry cannot be determined; are atoms too close together?") from error
    coords = structure.frac_coords[list(sites)]
    rows = []
    for operation in operations:
        delta = operation.operate_multi(coords)[:, None] - coords[None]
        delta -= np.round(delta)
        rows.append(np.linalg.norm(delta @ structure.lattice.matrix, axis=-1).argmin(axis=1))
    return np.unique(rows, axis=0)


def inequivalent_subsets(permutations: np.ndarray, size: int, rng: random.Random) -> Iterator[tuple[int, ...]]:
    """Random `size`-subsets of range(n), none the image of an earlier one under `permutations` (G, n)."""
    n_sites = permutations.shape[1]
    if math.comb(n_sites, size) <= MAX_ENUMERATED:
        draws = list(combinations(range(n_sites), size))
        rng.shuffle(draws)
    else:
        draws = (tuple(sorted(rng.sample(range(n_sites), size))) for _ in range(MAX_DRAWS))
    seen: set[tuple[int, ...]] = set()
    for subset in draws:
        if subset not in seen:
            seen.update(map(tuple, np.sort(permutations[:, list(subset)], axis=1).tolist()))
            yield subset


def fingerprint(structure: Structure) -> np.ndarray:
    """(N,) sorted floats, equal for congruent crystals: a smooth sum over the surroundings of each atom."""
    centre, neighbour, _, distance = structure.get_neighbor_list(FINGERPRINT_RADIUS)
    z = np.array(structure.atomic_numbers)
    weight = z[neighbour] * (1 - (distance / FINGERPRINT_RADIUS) ** 2) ** 3
    return np.sort(1e6 * z + np.bincount(centre, weight, minlength=len(z)))


def distinct(structures: Iterable[Structure]) -> Iterator[Structure]:
    """The ordered `structures` without those that are the same crystal as an earlier one.

    Different vacancies can leave congruent crystals although no symmetry of the host joins them, for
    instance in a supercell that breaks the symmetry of the lattice.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.1, scale=False)
    known: list[tuple[np.ndarray, Structure]] = []
    for structure in structures:
        new = fingerprint(structure)
        alike = [
            other for old, other in known if len(old) == len(new) and np.abs(old - new).max() < FINGERPRINT_TOLERANCE
        ]
        if not any(matcher.fit(other, structure) for other in alike):
            known.append((new, structure))
            yield structure


def vacancy_count(n_sites: int, n_vacancies: int, fraction: float | None, tolerance: float) -> int:
    """Vacancies to make on `n_sites` sites: `n_vacancies`, or the whole number nearest to `fraction`."""
    count = n_vacancies if fraction is None else round(fraction * n_sites)
    if count > n_sites:
        raise VacancyError(f"{count} vacancies asked for, but there are only {n_sites} such atoms")
    if fraction is not None and (count == 0 or abs(count / n_sites - fraction) > tolerance):
        raise VacancyError(f"a fraction of {fraction:g} is not possible with {n_sites} such atoms")
    return count


def without(structure: Structure, removed: set[int]) -> Structure:
    """Copy of `structure` without the sites of these indices."""
    from pymatgen.core import Structure

    return Structure.from_sites([site for index, site in enumerate(structure) if index not in removed])


def vacancies_in_supercell(
    structure: Structure,
    num_aug: int,
    *,
    supercell: Supercell,
    seed: int,
    element: str = "Li",
    n_vacancies: int = 1,
    fraction: float | None = None,
    tolerance: float = ASKED_TOLERANCE,
) -> list[Structure]:
    """`num_aug` inequivalent ordered structures with vacancies; VacancyError if there are fewer."""
    rng = random.Random(seed)
    host = order_sites(structure * supercell, rng, tolerance)
    sites = [index for index, site in enumerate(host) if site.specie.symbol == element]
    count = vacancy_count(len(sites), n_vacancies, fraction, tolerance)
    if count == len(host):
        raise VacancyError("no atom would be left")
    subsets = inequivalent_subsets(symmetry_permutations(host, sites), count, rng)
    candidates = (without(host, {sites[k] for k in subset}) for subset in subsets)
    found = list(islice(distinct(candidates), num_aug))
    if len(found) < num_aug:
        size = "x".join(map(str, supercell))
        raise VacancyError(
            f"found {len(found)} distinct way(s) to remove {count} of {len(sites)} {element} from the {size} "
            f"supercell, not {num_aug}"
        )
    return found


def growing_supercells(structure: Structure) -> Iterator[Supercell]:
    """1x1x1, then supercells of up to MAX_ATOMS atoms, each longer along the shortest edge of the last."""
    size = [1, 1, 1]
    while max(size) == 1 or math.prod(size) * len(structure) <= MAX_ATOMS:
        yield (size[0], size[1], size[2])
        edges = [round(n * length, 3) for n, length in zip(size, structure.lattice.abc, strict=True)]
        size[edges.index(min(edges))] += 1


def make_vacancies(
    structure: Structure,
    num_aug: int,
    *,
    seed: int = 0,
    element: str = "Li",
    n_vacancies: int = 1,
    fraction: float | None = None,
    supercell: Supercell | None = None,
) -> list[Structure]:
    """`num_aug` ordered structures with `element` removed, pairwise inequivalent and the same for a `seed`.

    Without `supercell`, the smallest of `growing_supercells` is taken that holds the occupancies to
    AUTO_TOLERANCE and has `num_aug` distinct results. `fraction` (0–1] of the atoms replaces
    `n_vacancies`. Raises VacancyError if it cannot be done.
    """
    if element not in structure.symbol_set:
        raise VacancyError(f"there is no {element} in {structure.composition.reduced_formula}")
    options = {"seed": seed, "element": element, "n_vacancies": n_vacancies, "fraction": fraction}
    if supercell is not None:
        return vacancies_in_supercell(structure, num_aug, supercell=supercell, **options)
    for size in growing_supercells(structure):
        try:
            return vacancies_in_supercell(structure, num_aug, supercell=size, tolerance=AUTO_TOLERANCE, **options)
        except VacancyError as error:
            reason = error
    raise VacancyError(f"no supercell of up to {MAX_ATOMS} atoms will do, in the largest: {reason}")
