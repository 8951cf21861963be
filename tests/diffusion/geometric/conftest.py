"""Random crystals on templates of several space groups, special positions among them."""

import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.crystal.space_group import SpaceGroup, default_hall_number
from nanh2lib.diffusion.geometric.flat_units import uniform_orientations
from nanh2lib.diffusion.geometric.torus import uniform_positions

ALPHA_CELL = [8.964, 10.456, 8.073, 90.0, 90.0, 90.0]


def sites(letters_na, letters_nh2):
    return tuple(Site(NA, letter) for letter in letters_na) + tuple(Site(NH2, letter) for letter in letters_nh2)


def templates():
    """P2_1/c (4 + 4 general), P2_1 (2 + 2), P21212 with NH2 on the axis, Fddd (alpha's sites)."""
    fddd = SpaceGroup.from_number(70)
    lines = [site.letter for site in fddd.wyckoff_sites if site.multiplicity == 16 and site.degrees_of_freedom == 1]
    return {
        "P2_1/c": Template(default_hall_number(14), sites("eeee", "eeee")),
        "P2_1": Template(default_hall_number(4), sites("aa", "aa")),
        "P21212": Template(default_hall_number(18), sites("a", "b")),
        "Fddd": Template(fddd.hall_number, sites(lines[0], lines[-1])),
    }


def random_units(template, count, seed=0, cell=ALPHA_CELL):
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.tensor(cell, dtype=torch.float64).repeat(count, 1)
    origins = uniform_positions(template, count, generator)
    return AsymmetricUnit(template, parameters, origins, uniform_orientations(template, parameters, generator))


@pytest.fixture(scope="session")
def crystals():
    cells = {"P21212": [3.711, 4.710, 5.306, 90.0, 90.0, 90.0]}
    return {name: random_units(template, 3, cell=cells.get(name, ALPHA_CELL)) for name, template in templates().items()}
