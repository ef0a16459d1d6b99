"""Crystal → crystal graph: which atoms are neighbours, and how far away they are, or how far apart elements are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cgcnn import environment, radial
from cgcnn.crystal import Crystal
from cgcnn.images import Images, joined_images, merged_images, no_images
from cgcnn.pairs import cartesian, pairs_within
from cgcnn.symmetry import cell_and_symmetry

# Part of the key of every stored graph: raise it when build_graphs would give other numbers.
GRAPH_VERSION = 7
# Å; a first search this wide finds twelve neighbours in most crystals at a fraction of the cost.
FIRST_SEARCH = 4.5
# Pairs whose surroundings are summed at once: enough that a step's overhead does not count, and no more memory.
PAIRS_AT_ONCE = 4_000


@dataclass(frozen=True)
class GraphSettings:
    """What decides a crystal graph.

    radius: Å, no neighbour is farther (``shell``: by more than `tie`). max_num_nbr: neighbours kept an atom (M).
    neighbours: ``shell`` keeps also those tied with the last (within `tie`, Å); ``classic`` cuts at M, in
    pymatgen's order with a stable sort. padded: an atom with fewer than M neighbours is filled up with atom 0 at
    radius + 1, as the original CGCNN does; only its published weights need that. environment: with the
    surroundings of every atom (cgcnn/environment.py). symmetry: with the crystal's own (cgcnn/symmetry.py).
    histogram: intervals of the grid of radial histograms (cgcnn/radial.py) of all pairs within the radius, which then
    take the place of edges; 0 = edges. periodic: without, the histograms are of the cell alone, as if nothing stood
    around it, and of the max_num_nbr neighbours of each atom. images: edges are to every image within the radius, the
    atom itself included, merged (cgcnn/images.py).
    """

    radius: float = 8.0
    max_num_nbr: int = 12
    neighbours: str = "shell"
    padded: bool = False
    tie: float = 1e-3
    environment: bool = False
    symmetry: bool = False
    histogram: int = 0
    periodic: bool = True
    images: bool = False

    def __post_init__(self) -> None:
        if self.neighbours not in ("shell", "classic"):
            raise ValueError(f"neighbours must be shell or classic, not {self.neighbours!r}")
        if not 0 < self.radius < np.inf or self.max_num_nbr < 1:
            raise ValueError("the cutoff radius and the number of neighbours must be positive")
        if self.padded and self.neighbours != "classic":
            raise ValueError("only classic graphs are padded")
        if not self.periodic and not self.histogram:
            raise ValueError("only radial histograms can be of a cell alone")

    def key(self) -> str:
        """Ten hexadecimal digits that differ for settings that give different graphs."""
        text = f"{GRAPH_VERSION} {sorted(asdict(self).items())}"
        return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True, eq=False)
class CrystalGraph:
    """One crystal as arrays (N atoms, E edges, S site species; S = N without disorder).

    numbers (S,) atomic numbers, occupancies (S,), site (S,) the atom each belongs to; degree (N,) edges an
    atom; neighbours (E,) the neighbour j of each edge and distances (E,) Å, edges sorted by their centre i.
    environment (N, K) the surroundings of every atom; K = 0 without. lattice (3, 3) Å and frac_coords (N, 3) are
    the crystal's own. symmetry (9,) as `cell_and_symmetry` gives it; (0,) without. elements, amounts, pair_bins, bins
    and counts are those of a RadialHistogram, (0,) each where there are edges instead. multiplicity (E,) of merged
    images, whose edges are sorted by neighbour, too; (0,) where every edge is one.
    """

    numbers: np.ndarray
    occupancies: np.ndarray
    site: np.ndarray
    degree: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray
    environment: np.ndarray
    lattice: np.ndarray
    frac_coords: np.ndarray
    symmetry: np.ndarray
    elements: np.ndarray
    amounts: np.ndarray
    pair_bins: np.ndarray
    bins: np.ndarray
    counts: np.ndarray
    multiplicity: np.ndarray

    @property
    def num_atoms(self) -> int:
        return len(self.degree)


def build_graph(crystal: Crystal, settings: GraphSettings | None = None) -> CrystalGraph:
    """Graph of one crystal. Raises StructureError where the cell is too dense to be one."""
    return build_graphs([crystal], settings)[0]


def build_graphs(
    crystals: Sequence[Crystal], settings: GraphSettings | None = None, *, moved: Sequence[Crystal] | None = None
) -> list[CrystalGraph]:
    """Graphs of several crystals; their neighbours are selected together, at a fraction of the cost one by one.

    moved: the same crystals, atom for atom and image for image, after their atoms and cells have moved a little: the
    graphs are theirs, but with the neighbours that the atoms have in `crystals`. Raises StructureError as
    `build_graph`; the caller that wants to know which crystal builds one by one.
    """
    settings = settings or GraphSettings()
    if not crystals:
        return []
    num_atoms = np.array([crystal.num_sites for crystal in crystals])
    first_atom = np.cumsum(num_atoms) - num_atoms
    if settings.histogram:
        edges = no_images(int(num_atoms.sum()))
    elif settings.images:
        edges = joined_images([_images(crystal, settings) for crystal in moved or crystals])
    else:
        edges = _neighbours(crystals, settings, moved)
    degree, neighbour, distance, multiplicity = edges
    crystals = moved or crystals
    last_edge = np.cumsum(degree)[np.cumsum(num_atoms) - 1]
    graphs = []
    edge = 0
    surroundings = _environments(crystals, settings)
    for crystal, start, count, end in zip(crystals, first_atom, num_atoms, last_edge, strict=True):
        graphs.append(
            CrystalGraph(
                numbers=crystal.numbers.astype(np.uint8),
                occupancies=crystal.occupancies.astype(np.float32),
                site=crystal.site.astype(np.int32),
                degree=degree[start : start + count].astype(np.int32),
                neighbours=neighbour[edge:end].astype(np.int32),
                distances=distance[edge:end].astype(np.float32),
                environment=surroundings[start : start + count],
                lattice=crystal.lattice,
                frac_coords=crystal.frac_coords,
                symmetry=cell_and_symmetry(crystal) if settings.symmetry else np.zeros(0),
                multiplicity=multiplicity[edge:end].astype(np.float32),
                **vars(_histogram(crystal, settings) if settings.histogram else radial.nothing()),
            )
        )
        edge = end
    return graphs


def _neighbours(
    crystals: Sequence[Crystal], settings: GraphSettings, moved: Sequence[Crystal] | None
) -> tuple[np.ndarray, ...]:
    """Degree (N,) of all atoms of several crystals, neighbour and distance (E,) of all their edges, and nothing."""
    num_atoms = np.array([crystal.num_sites for crystal in crystals])
    pairs = [_find_pairs(crystal, settings) for crystal in crystals]
    first_atom = np.cumsum(num_atoms) - num_atoms
    centre = np.concatenate([pair[0] + start for pair, start in zip(pairs, first_atom, strict=True)])
    neighbour, image, distance = (np.concatenate([pair[k] for pair in pairs]) for k in (1, 2, 3))
    order = select_neighbours(centre, distance, int(num_atoms.sum()), settings)
    centre, neighbour, distance = centre[order], neighbour[order], distance[order]
    degree = np.bincount(centre, minlength=int(num_atoms.sum()))
    if moved is not None:
        distance = _distances(moved, centre, neighbour + np.repeat(first_atom, num_atoms)[centre], image[order])
    if settings.padded:
        neighbour, distance, degree = _pad(neighbour, distance, degree, settings)
    return degree, neighbour, distance, np.zeros(0)


def select_neighbours(
    centre: np.ndarray, distance: np.ndarray, num_atoms: int, settings: GraphSettings
) -> np.ndarray:
    """Positions of the pairs that become edges, by centre and then by distance.

    centre (P,) atom of each pair, distance (P,) Å → (E,) indices. The sort is stable, so that equal distances
    keep the order of the search, on which a classic graph depends.
    """
    order = np.lexsort((distance, centre))
    found = np.bincount(centre, minlength=num_atoms)
    first = np.cumsum(found) - found
    by_centre = centre[order]
    if settings.neighbours == "classic":
        return order[np.arange(len(order)) - first[by_centre] < settings.max_num_nbr]
    sorted_distance = np.append(distance[order], np.inf)
    last = sorted_distance[first + np.clip(found, 1, settings.max_num_nbr) - 1]
    return order[sorted_distance[:-1] <= last[by_centre] + settings.tie]


def _distances(
    crystals: Sequence[Crystal], centre: np.ndarray, neighbour: np.ndarray, image: np.ndarray
) -> np.ndarray:
    """Å of edges (E,) among all atoms of these crystals, to the neighbour in a cell image (E, 3)."""
    places = np.concatenate([crystal.frac_coords for crystal in crystals])
    cell = np.repeat(np.stack([crystal.lattice for crystal in crystals]), [c.num_sites for c in crystals], axis=0)
    steps = places[neighbour] + image - places[centre]
    return np.linalg.norm(np.matmul(steps[:, None, :], cell[centre])[:, 0], axis=1)


def _find_pairs(crystal: Crystal, settings: GraphSettings) -> tuple[np.ndarray, ...]:
    """Centre, neighbour, image and distance (Å) of all the pairs that selection can need."""
    radius = settings.radius
    if settings.neighbours == "shell":
        # A neighbour at the cutoff itself must not depend on rounding: the cell may be turned or repeated.
        radius += settings.tie
        if radius > FIRST_SEARCH:
            pairs = pairs_within(crystal, FIRST_SEARCH)
            if _is_enough(pairs, crystal.num_sites, FIRST_SEARCH, settings):
                return pairs
    return pairs_within(crystal, radius)


def _is_enough(pairs: tuple, num_atoms: int, radius: float, settings: GraphSettings) -> bool:
    """Whether every atom has its M neighbours, and all that tie with the last, inside `radius`."""
    centre, _, _, distance = pairs
    inside = distance <= radius - settings.tie
    return bool((np.bincount(centre[inside], minlength=num_atoms) >= settings.max_num_nbr).all())


def _images(crystal: Crystal, settings: GraphSettings) -> Images:
    """Every image within the radius; one at the radius itself does not depend on rounding."""
    centre, neighbour, _, distance = pairs_within(crystal, settings.radius + settings.tie)
    return merged_images(crystal.num_sites, centre, neighbour, distance)


def _histogram(crystal: Crystal, settings: GraphSettings) -> radial.RadialHistogram:
    """Of the pairs within the radius; what lies at the cutoff itself does not depend on rounding."""
    centre, neighbour, _, distance = pairs_within(crystal, settings.radius + settings.tie, periodic=settings.periodic)
    if not settings.periodic:
        kept = select_neighbours(centre, distance, crystal.num_sites, settings)
        centre, neighbour, distance = centre[kept], neighbour[kept], distance[kept]
    return radial.radial_histogram(
        crystal, centre, neighbour, distance, cutoff=settings.radius, intervals=settings.histogram
    )


def _environments(crystals: Sequence[Crystal], settings: GraphSettings) -> np.ndarray:
    """Surroundings of the atoms of all crystals, one after another (ΣN, K) float32; K = 0 if not asked for."""
    if not settings.environment:
        return np.zeros((sum(crystal.num_sites for crystal in crystals), 0), dtype=np.float32)
    features, waiting, num_pairs = [], [], 0
    for crystal in crystals:
        points = cartesian(crystal)
        centre, neighbour, image, _ = pairs_within(crystal, environment.RADIUS)
        vectors = points[neighbour] + image @ crystal.lattice - points[centre]
        waiting.append((crystal, centre, neighbour, vectors))
        num_pairs += len(centre)
        if num_pairs > PAIRS_AT_ONCE:
            features.append(environment.of_crystals(waiting))
            waiting, num_pairs = [], 0
    if waiting:
        features.append(environment.of_crystals(waiting))
    return np.concatenate(features).astype(np.float32)


def _pad(neighbour: np.ndarray, distance: np.ndarray, degree: np.ndarray, settings: GraphSettings) -> tuple:
    """Every atom to exactly M edges, the missing ones to atom 0 at radius + 1 Å."""
    size = (len(degree), settings.max_num_nbr)
    slot = np.arange(settings.max_num_nbr) < degree[:, None]
    padded_neighbour = np.zeros(size, dtype=neighbour.dtype)
    padded_distance = np.full(size, settings.radius + 1.0)
    padded_neighbour[slot], padded_distance[slot] = neighbour, distance
    return padded_neighbour.ravel(), padded_distance.ravel(), np.full(len(degree), settings.max_num_nbr)
