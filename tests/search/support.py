"""Random crystals and an overlap energy by brute force, for the tests of the search."""

import itertools

import torch

from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.search.placement import random_placement
from nanh2lib.search.templates import template_space

ALPHA = (8.964, 10.456, 8.073, 90.0, 90.0, 90.0)


def seeded(number):
    return torch.Generator().manual_seed(number)


def random_units(hall_number, ranks, z=16, cell=ALPHA, compound=SODIUM_AMIDE):
    """Random asymmetric units on the templates of the given ranks (modulo their number)."""
    space = template_space(hall_number, compound, z)
    templates = [space[rank % space.count] for rank in ranks]
    given = torch.tensor(cell, dtype=torch.float64)
    cells = templates[0].space_group.symmetrize_lattice(given).expand(len(templates), 6)
    return random_placement(templates, cells, [seeded(100 * hall_number + i) for i in range(len(templates))])


def brute_force_overlap(unit, limits, reach=1):
    """Overlap energy of one crystal: all pairs of wrapped atoms, all images within ``reach`` cells."""
    crystals = expand_tensors(unit, project_sites=False)
    frac, lattice, species = crystals.frac_coords[0], crystals.lattice[0], crystals.species
    table = limits.matrix(species, species)
    same = crystals.unit_index[:, None] == crystals.unit_index
    difference = frac[:, None] - frac[None]
    # Within a unit the difference stays as it is: its zero shift is the unit itself.
    difference = torch.where(same[..., None], difference, difference - torch.round(difference).detach())
    energy = torch.zeros((), dtype=frac.dtype)
    for shift in itertools.product(range(-reach, reach + 1), repeat=3):
        vectors = (difference + torch.tensor(shift, dtype=frac.dtype)) @ lattice
        depth = (table - torch.sqrt((vectors**2).sum(-1) + 1e-30)).clamp_min(0)
        if shift == (0, 0, 0):
            depth = depth.masked_fill(same, 0.0)
        energy = energy + 0.25 * (depth**2).sum()  # half a square, half a pair
    return energy
