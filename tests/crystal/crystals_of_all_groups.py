"""Random crystals of Na and NH2 in any of the 230 groups, on general and special positions, no two units touching."""

from __future__ import annotations

from math import gcd

import numpy as np
import torch
from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS
from nanh2lib.crystal.rigid_unit import NA, NH2, Compound
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations
from nanh2lib.validation.contacts import contact_filter
from tests.crystal.test_space_group import compatible_cell

LARGEST_ORBIT, LARGEST_SPECIAL = 48, 24  # a few hundred atoms at most
TRIES = 64
APART = REALISTIC_LIMITS.scaled(0.8)


def random_crystal(number: int, seed: int) -> AsymmetricUnit:
    """Na on a large site and on any small one, NH2 on any that it fits in any of its modes; 150 A^3 an atom."""
    rng = np.random.default_rng([number, seed])
    group = SpaceGroup.from_number(number)
    sites = [site for site in group.wyckoff_sites if site.multiplicity <= LARGEST_ORBIT]
    small = [site for site in sites if site.multiplicity <= LARGEST_SPECIAL] or sites[:1]
    fitting = [site for site in group.wyckoff_sites if orientation_modes(NH2, group.hall_number, site.letter)]
    fitting = [site for site in fitting if site.multiplicity <= LARGEST_SPECIAL] or fitting[:1]
    sodium = [sites[-1], small[int(rng.integers(len(small)))]]
    amide = fitting[int(rng.integers(len(fitting)))]
    mode = int(rng.integers(len(orientation_modes(NH2, group.hall_number, amide.letter))))
    template = Template(group.hall_number, (*(Site(NA, site.letter) for site in sodium), Site(NH2, amide.letter, mode)))
    parameters = compatible_cell(group, seed)
    volume = abs(float(torch.linalg.det(lattice_parameters_to_matrix(parameters)[0])))
    scale = (150.0 * template.n_atoms / volume) ** (1 / 3)
    parameters = torch.cat([parameters[:, :3] * scale, parameters[:, 3:]], 1).repeat(TRIES, 1)
    rotations = random_rotations(3 * TRIES, torch.Generator().manual_seed(1000 * number + seed))
    batch = project(
        AsymmetricUnit(
            template, parameters, torch.as_tensor(rng.random((TRIES, 3, 3))), rotations.reshape(TRIES, 3, 3, 3)
        )
    )
    apart = contact_filter(batch, APART).nonzero().flatten()
    # Two Na on one point or one short line are always too close: another choice of sites.
    return batch[int(apart[0])] if len(apart) else random_crystal(number, seed + 1000)


def compound_of(template: Template) -> Compound:
    """Na and NH2 in the ratio in which a template holds them."""
    pairs = list(zip(template.multiplicities, template.sites, strict=True))
    totals = [sum(m for m, site in pairs if site.unit == unit) for unit in (NA, NH2)]
    return Compound("x", (NA, NH2), tuple(total // gcd(*totals) for total in totals))


def shuffled(structure: Structure, rng: np.random.Generator) -> Structure:
    """Atoms in another order, other lattice images, the H of each NH2 swapped by the way."""
    order, species = rng.permutation(len(structure)), structure.species
    frac = structure.frac_coords[order] + rng.integers(-2, 3, (len(structure), 3))
    return Structure(structure.lattice, [species[i] for i in order], frac)


def same(first: AsymmetricUnit, second: AsymmetricUnit, tolerance: float = 1e-5) -> None:
    """Assert that two asymmetric units are one."""
    assert first.template == second.template
    for name in ("lattice_parameters", "frac_origins", "rotations"):
        gap = float((getattr(first, name) - getattr(second, name)).abs().max())
        assert gap < tolerance, (first.template.label, name, gap)
