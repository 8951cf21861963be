"""Small named crystals and cheap calculators for the tests of relaxation."""

from __future__ import annotations

from functools import lru_cache

import torch
from ase.calculators.lj import LennardJones

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import NA, NH2, RigidUnit
from nanh2lib.crystal.space_group import hall_number_from_symbol
from nanh2lib.geometry.rotations import random_rotations
from nanh2lib.report.published import published_structures, reference_structure

CO2 = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.16, 0.0, 0.0), (-1.16, 0.0, 0.0)))

UPRIGHT = torch.eye(3, dtype=torch.float64)[None, None]


@lru_cache(maxsize=1)
def alpha() -> AsymmetricUnit:
    """Fddd, all-face-centred, Na and NH2 on two-fold axes."""
    return extract_asymmetric_unit(reference_structure("alpha"))


@lru_cache(maxsize=1)
def p21212() -> AsymmetricUnit:
    """P21212, 8 atoms, both units on two-fold axes."""
    return extract_asymmetric_unit(published_structures()[0].structure)


@lru_cache(maxsize=1)
def p21c() -> AsymmetricUnit:
    """P2_1/c, 16 atoms in general positions of a very skewed cell."""
    return extract_asymmetric_unit(published_structures()[1].structure)


def fdd2(seed: int = 0) -> AsymmetricUnit:
    """F-centred, general positions, orientation and places drawn (about to be relaxed, not sensible)."""
    generator = torch.Generator().manual_seed(seed)
    template = Template(hall_number_from_symbol("Fdd2"), (Site(NA, "b"), Site(NH2, "b")))
    cell = torch.tensor([[8.964, 10.456, 8.073, 90.0, 90.0, 90.0]], dtype=torch.float64)
    origins = torch.tensor([[[0.05, 0.21, 0.02], [0.12, 0.08, 0.21]]], dtype=torch.float64)
    turned = random_rotations(1, generator)[None]
    return AsymmetricUnit(template, cell, origins, torch.cat([UPRIGHT, turned], 1))


def pnma() -> AsymmetricUnit:
    """Na and NH2 on the mirror plane of Pnma."""
    template = Template(hall_number_from_symbol("Pnma"), (Site(NA, "c"), Site(NH2, "c", 1)))
    cell = torch.tensor([[7.6, 5.1, 5.3, 90.0, 90.0, 90.0]], dtype=torch.float64)
    origins = torch.tensor([[[0.15, 0.25, 0.52], [0.40, 0.25, 0.15]]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    turned = random_rotations(1, generator)[None]
    return project(AsymmetricUnit(template, cell, origins, torch.cat([UPRIGHT, turned], 1)))


def two_amides(apart: float) -> AsymmetricUnit:
    """P1, two NH2 back to back along a, their N so far apart (A), and two Na."""
    template = Template(1, (Site(NA, "a"), Site(NA, "a"), Site(NH2, "a"), Site(NH2, "a")))
    cell = torch.tensor([[10.0, 8.0, 8.0, 90.0, 90.0, 90.0]], dtype=torch.float64)
    origins = torch.tensor(
        [[[0.1, 0.5, 0.5], [0.6, 0.5, 0.5], [0.5 + apart / 10, 0.0, 0.0], [0.5, 0.0, 0.0]]], dtype=torch.float64
    )
    turned = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))[None, None]
    return AsymmetricUnit(template, cell, origins, torch.cat([UPRIGHT, UPRIGHT, UPRIGHT, turned], 1))


def dry_ice() -> AsymmetricUnit:
    """Pa-3: linear units on three-fold axes; one free parameter, the cell edge."""
    template = Template(hall_number_from_symbol("Pa-3"), (Site(CO2, "a"),))
    cell = torch.tensor([[5.62, 5.62, 5.62, 90.0, 90.0, 90.0]], dtype=torch.float64)
    zero = torch.zeros(1, 1, 3, dtype=torch.float64)
    return project(AsymmetricUnit(template, cell, zero, UPRIGHT))


def lennard_jones() -> LennardJones:
    """Smooth at its cutoff, so that finite differences mean something."""
    return LennardJones(sigma=1.8, epsilon=0.2, rc=6.0, ro=4.5, smooth=True)
