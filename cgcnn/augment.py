"""Crystals of the training part, a little different in every epoch: noise, strain, supercells, rotations, shifts.

All keep the composition, and the label is kept with it: that of an intensive property, for a change so small that
it is still about true. Imports nothing heavy: flags take their choices from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cgcnn.crystal import Crystal

NONE = "none"


@dataclass(frozen=True)
class Kind:
    """One way to change a crystal.

    change: (crystal, amount, random numbers) → crystal; without amounts, `usual` is None, and change is not given
    one. usual: amount where none is said; highest: beyond it is no crystal of this label. is_seen: whether a
    crystal graph can be another one after it. keeps_atoms: the atoms stay the same ones, image for image.
    """

    change: Callable[..., Crystal]
    usual: float | None = None
    highest: float | None = None
    is_seen: bool = True
    keeps_atoms: bool = True


def supercell(crystal: Crystal, most: int, rng: np.random.Generator) -> Crystal:
    """The same crystal in a cell of 1 to `most` of its cells, as many as chance says.

    Every lattice of that index is as likely, by its Hermite normal form, and not the diagonal ones alone: which of
    its cells a file gives then does not matter. By itself no other graph; but with `perturb`, atoms that are copies
    of one another move apart.
    """
    forms = hermite_normal_forms(int(rng.integers(1, int(most) + 1)))
    form = forms[rng.integers(len(forms))]
    # the form is lower triangular: these are all the points of the old lattice in one new cell
    shifts = np.indices(form.diagonal()).reshape(3, -1).T
    places = (crystal.frac_coords + shifts[:, None]).reshape(-1, 3)
    count = len(shifts)
    first = np.repeat(np.arange(count, dtype=np.int32) * crystal.num_sites, len(crystal.site))
    return replace(
        crystal,
        lattice=form @ crystal.lattice,
        frac_coords=places @ np.linalg.inv(form),
        numbers=np.tile(crystal.numbers, count),
        occupancies=np.tile(crystal.occupancies, count),
        site=np.tile(crystal.site, count) + first,
    )


def strain(crystal: Crystal, amount: float, rng: np.random.Generator) -> Crystal:
    """lattice ← lattice (1 + ε); fractional coordinates stay.

    ε is the symmetric part of nine normal numbers of this deviation: its normal components deviate by the amount, its
    shears by amount/√2, and how the crystal is turned does not matter.
    """
    gradient = amount * rng.standard_normal((3, 3))
    return replace(crystal, lattice=crystal.lattice @ (np.eye(3) + (gradient + gradient.T) / 2))


def perturb(crystal: Crystal, amount: float, rng: np.random.Generator) -> Crystal:
    """Every site is displaced at random; amount: standard deviation of each Cartesian coordinate, Å."""
    displacements = amount * rng.standard_normal((crystal.num_sites, 3))
    return replace(crystal, frac_coords=crystal.frac_coords + displacements @ np.linalg.inv(crystal.lattice))


def rotate(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """The crystal turned, every orientation as likely."""
    # four normal numbers are a random direction in the space of quaternions
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return replace(crystal, lattice=crystal.lattice @ rotation)


def translate(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """The same crystal seen from another origin, which may lie anywhere in the cell."""
    return replace(crystal, frac_coords=crystal.frac_coords + rng.random(3))


@cache
def hermite_normal_forms(index: int) -> np.ndarray:
    """All lattices whose cell is `index` times that of a lattice, once each: (K, 3, 3) integers, lower triangular.

    Santoro and Mighell, Acta Cryst. A 28, 284 (1972).
    """
    forms = [
        [[a, 0, 0], [d, b, 0], [e, f, c]]
        for a in range(1, index + 1)
        for b in range(1, index + 1)
        if index % (a * b) == 0
        for c in [index // (a * b)]
        for d in range(a)
        for e in range(a)
        for f in range(b)
    ]
    return np.array(forms)


# In the order in which they are applied: copies of an atom are displaced one by one, and by the amount that is said.
KINDS: dict[str, Kind] = {
    "supercell": Kind(supercell, 2, 16, is_seen=False, keeps_atoms=False),
    "strain": Kind(strain, 0.02, 0.1),
    "perturb": Kind(perturb, 0.03, 0.3),
    "rotate": Kind(rotate, is_seen=False),
    "translate": Kind(translate, is_seen=False),
}


def read_kind(word: str) -> str:
    """`KIND`, `KIND=AMOUNT` or `none` as it is written down, with the amount. Raises ValueError."""
    name, equals, text = word.partition("=")
    if word == NONE:
        return word
    if name not in KINDS:
        raise ValueError(f"{name!r} is none of {', '.join(KINDS)} (or {NONE})")
    kind = KINDS[name]
    if kind.usual is None:
        if equals:
            raise ValueError(f"{word!r}: {name} takes no amount")
        return name
    if not equals:
        return f"{name}={kind.usual}"
    try:
        amount = type(kind.usual)(text)
    except ValueError:
        raise ValueError(f"{word!r}: not a{' whole' if isinstance(kind.usual, int) else ''} number") from None
    lowest = 2 if isinstance(kind.usual, int) else 0
    if not (lowest <= amount <= kind.highest and amount > 0):
        above = f"{lowest} to" if lowest else "above 0, up to"
        raise ValueError(f"{word!r}: the amount must be {above} {kind.highest}")
    return f"{name}={amount}"


def amounts(words: Sequence[str]) -> dict[str, float | None]:
    """Words of `read_kind` → kind → its amount, in the order in which they are applied. Raises ValueError."""
    named = [word.partition("=") for word in words if word != NONE]
    names = [name for name, _, _ in named]
    if twice := [name for k, name in enumerate(names) if name in names[:k]]:
        raise ValueError(f"{twice[0]} stands twice")
    if names and NONE in words:
        raise ValueError(f"{NONE} stands alone")
    given = {name: float(text) if text else None for name, _, text in named}
    return {name: given[name] for name in KINDS if name in given}


def without_effect(kinds: Mapping[str, object], num_atoms: np.ndarray) -> list[str]:
    """A line for kinds that change no graph, and one for crystals that no kind changes; num_atoms: (n,) of a cell."""
    idle = [name for name in kinds if not KINDS[name].is_seen and not (name == "supercell" and "perturb" in kinds)]
    lines = []
    if idle:
        hint = "; supercell acts together with perturb" if "supercell" in idle else ""
        lines.append(f"--augment {' '.join(idle)}: these graphs do not see it, no prediction changes{hint}")
    alone = int((num_atoms == 1).sum())
    if alone and "perturb" in kinds and kinds.keys().isdisjoint(("supercell", "strain")):
        lines.append(
            f"--augment perturb: {alone} of {len(num_atoms)} training crystals have one atom in their cell, and "
            "displaced they are the same; supercell or strain changes them, too"
        )
    return lines


def augmented(
    crystal: Crystal, kinds: Mapping[str, float | None], rng: np.random.Generator
) -> tuple[Crystal, Crystal]:
    """The crystal after all these kinds (see `amounts`), and before its atoms moved: atom for atom the same ones."""
    moved = crystal
    for name, amount in kinds.items():
        kind = KINDS[name]
        moved = kind.change(moved, rng) if amount is None else kind.change(moved, amount, rng)
        if not kind.keeps_atoms:
            crystal = moved
    return moved, crystal
