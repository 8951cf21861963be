import time

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.expansion import expand
from nanh2lib.errors import InputError
from nanh2lib.geometry.rotations import random_rotations
from nanh2lib.ranking import DuplicateSettings, group_duplicates, matches
from nanh2lib.ranking.duplicates import connected_groups, fingerprint
from nanh2lib.relaxation.coordinates import SymmetryCoordinates
from nanh2lib.report.published import published_structures
from tests.relaxation import crystals


def family(count, seed=0):
    """Different crystals of one space group: rigid units of P2_1/c (Z = 4) moved and turned at random."""
    coordinates = SymmetryCoordinates.of(crystals.p21c())
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, coordinates.size, generator=generator, dtype=torch.float64)
    return [expand(coordinates.asymmetric_unit(0.5 * draw))[0] for draw in draws]


def redescribed(structure, seed, noise=0.01):
    """The same crystal: turned, shifted, atoms in another order, sometimes doubled, with a little noise."""
    generator = np.random.default_rng(seed)
    cell = structure * (2, 1, 1) if seed % 3 == 0 else structure.copy()
    turn = random_rotations(1, torch.Generator().manual_seed(seed))[0].numpy()
    lattice = cell.lattice.matrix @ turn
    shaken = generator.normal(scale=noise / np.sqrt(3), size=(len(cell), 3)) @ np.linalg.inv(lattice)
    frac = cell.frac_coords + generator.random(3) + shaken
    order = generator.permutation(len(cell))
    return Structure(Lattice(lattice), [cell[int(i)].specie for i in order], frac[order], to_unit_cell=True)


def two_hundred():
    """40 crystals, five times each, shuffled, with energies that differ by noise among equals."""
    generator = np.random.default_rng(5)
    bases = family(40)
    levels = generator.normal(-18.0, 0.02, size=len(bases))
    structures = [redescribed(base, 7 * i + k) for i, base in enumerate(bases) for k in range(5)]
    energies = [level + 1e-3 * generator.random() for level in levels for _ in range(5)]
    shuffle = generator.permutation(len(structures))
    labels = np.repeat(np.arange(len(bases)), 5)[shuffle]
    return [structures[i] for i in shuffle], [energies[i] for i in shuffle], labels


@pytest.mark.slow
def test_prescreen_gives_the_groups_of_the_full_comparison():
    structures, energies, labels = two_hundred()
    start = time.perf_counter()
    quick = group_duplicates(structures, energies)
    seconds = time.perf_counter() - start
    assert quick == group_duplicates(structures, energies, prescreen=False)
    copies_together = {label: {quick[i] for i in np.flatnonzero(labels == label)} for label in range(40)}
    assert all(len(owners) == 1 for owners in copies_together.values())
    assert 30 <= len(set(quick)) <= 40  # stol = 0.3 joins a few that were drawn apart
    assert seconds < 60


def test_fingerprint_is_that_of_the_crystal_not_of_the_cell():
    structure = published_structures()[1].structure
    first = fingerprint(structure, 40)
    assert first.shape == (3, 40)
    again = fingerprint(redescribed(structure, 3, noise=0.0), 40)
    assert np.allclose(first, again, atol=1e-8)


def test_representative_is_the_lowest_in_energy():
    structure = published_structures()[0].structure
    owner = group_duplicates([structure, redescribed(structure, 1), structure], [-1.0, -1.001, -0.9995])
    assert owner == [1, 1, 1]


def test_energy_splits_what_the_matcher_joins():
    structure = published_structures()[0].structure
    assert group_duplicates([structure, structure], [-1.0, -1.1]) == [0, 1]


def test_space_groups_split_what_the_matcher_joins():
    structure = published_structures()[1].structure
    lower = structure.copy()
    lower.perturb(0.15, seed=1)
    strict = DuplicateSettings(symprec=0.05)
    assert matches(lower, structure, stol=0.3) is not None
    assert group_duplicates([structure, lower], [-1.0, -1.0], strict) == [0, 1]
    assert group_duplicates([structure, lower], [-1.0, -1.0], DuplicateSettings(same_space_group=False)) == [0, 0]


def test_no_two_published_structures_are_duplicates():
    structures = [entry.structure for entry in published_structures()[:3]]
    assert group_duplicates(structures, [0.0, 0.0, 0.0], DuplicateSettings(same_space_group=False)) == [0, 1, 2]


def test_matches_gives_the_displacement():
    structure = published_structures()[0].structure
    assert matches(structure, structure) == pytest.approx(0.0, abs=1e-6)
    assert matches(redescribed(structure, 2, noise=0.05), structure) < 0.05
    assert matches(published_structures()[1].structure, structure) is None
    swollen = Structure(Lattice(structure.lattice.matrix * 1.3), structure.species, structure.frac_coords)
    assert matches(swollen, structure) is None
    assert matches(swollen, structure, scale=True) == pytest.approx(0.0, abs=1e-6)


def test_missing_energy_is_an_error():
    structure = published_structures()[0].structure
    with pytest.raises(InputError, match="finite energy"):
        group_duplicates([structure], [float("nan")])
    with pytest.raises(InputError, match="one finite energy"):
        group_duplicates([structure], [])
    assert group_duplicates([], []) == []


def test_chains_of_equal_crystals_are_one_group():
    """Each equals the next, the first and the last differ: two groups by representative, one for a split."""
    lattice = Lattice.cubic(5.0)
    chain = [
        Structure(lattice, ["Na", "N", "H"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.2 + x, 0.3, 0.1]]) for x in (0, 0.06, 0.12)
    ]
    other = Structure(lattice, ["Na", "N", "H"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.1, 0.45]])
    settings = DuplicateSettings(stol=0.07, same_space_group=False)
    crystals = [chain[0], other, chain[2], chain[1]]
    assert len(set(group_duplicates(crystals, [0.0] * 4, settings))) == 3
    assert connected_groups(crystals, [0.0] * 4, settings) == [0, 1, 0, 0]
