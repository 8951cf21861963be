"""Expansion: all 230 groups against pymatgen and spglib, special positions, gradients, float types."""

from functools import lru_cache

import numpy as np
import pytest
import spglib
import torch
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.deviation import deviation
from nanh2lib.crystal.expansion import expand, expand_tensors, project
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.rigid_unit import NA, NH2, SODIUM_AMIDE, RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup, default_hall_number
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations
from tests.crystal.test_space_group import compatible_cell

ATOMS = tuple(RigidUnit(symbol, (symbol,)) for symbol in ("Na", "N", "Cl", "K", "O", "F", "S", "P"))
ALPHA = Template(335, (Site(NA, "f"), Site(NH2, "g")))


def random_unit(template, batch=1, seed=0, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    parameters = compatible_cell(template.space_group, seed).to(dtype).repeat(batch, 1)
    parameters = torch.cat([parameters[:, :3] * scale, parameters[:, 3:]], 1)
    # A low-discrepancy sequence: no two points, or images, come close by chance.
    steps = torch.tensor([0.8191725, 0.6710436, 0.5497005], dtype=torch.float64)
    origins = torch.arange(1, batch * template.n_units + 1)[:, None] * steps + 0.0123 * seed
    origins = origins.reshape(batch, -1, 3).to(dtype)
    rotations = random_rotations(batch * template.n_units, generator).reshape(batch, -1, 3, 3).to(dtype)
    return project(AsymmetricUnit(template, parameters, origins, rotations))


def number_of(structure, symprec=1e-3):
    dataset = spglib.get_symmetry_dataset(
        (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers), symprec=symprec
    )
    return dataset.number


@lru_cache(maxsize=256)
def every_site(number):
    """Three atom kinds (one in large groups) on the general position and one on each of up to five special ones."""
    group = SpaceGroup.from_number(number)
    general = 3 if group.order < 48 else 1
    sites = [*[group.wyckoff_sites[-1]] * general, *group.wyckoff_sites[:-1][:5]]
    return Template(group.hall_number, tuple(Site(a, s.letter) for a, s in zip(ATOMS, sites, strict=False)))


@pytest.mark.parametrize("start", range(1, 231, 46))
def test_atoms_agree_with_pymatgen_in_all_230_groups(start):
    for number in range(start, start + 46):
        unit = random_unit(every_site(number), seed=number)
        ours = expand(unit)[0]
        assert len(ours) == unit.template.n_atoms == sum(unit.multiplicities)
        theirs = Structure.from_spacegroup(
            number,
            Lattice(lattice_parameters_to_matrix(unit.lattice_parameters)[0].numpy()),
            [u.species[0] for u in unit.units],
            unit.frac_origins[0].tolist(),
            tol=1e-4,
        )
        assert len(theirs) == len(ours), number
        assert deviation(ours, theirs).rms < 1e-6, number
        assert number_of(ours) == number


def on_special_site(number):
    """NH2 on the most special site with a free coordinate that it fits, between two kinds of atoms."""
    group = SpaceGroup.from_number(number)
    hall, general = group.hall_number, group.wyckoff_sites[-1].letter
    fits = [s for s in group.wyckoff_sites if s.degrees_of_freedom and orientation_modes(NH2, hall, s.letter)]
    return Template(hall, (Site(NA, general), Site(ATOMS[3], general), Site(NH2, fits[0].letter)))


@pytest.mark.parametrize(
    "number", [1, 3, 6, 8, 11, 12, 18, 25, 36, 42, 43, 54, 62, 63, 70, 98, 113, 141, 156, 178, 194]
)
def test_rigid_units_stay_rigid_and_the_group_comes_back(number):
    template = on_special_site(number)
    unit = random_unit(template, seed=number)
    crystals = expand_tensors(unit)
    assert crystals.frac_coords.shape == (1, template.n_atoms, 3)
    cart, owner = crystals.cart_coords[0], crystals.unit_index
    hydrogens = [i for i, s in enumerate(crystals.species) if s == "H"]
    for n in [i for i, s in enumerate(crystals.species) if s == "N"]:
        own = [h for h in hydrogens if owner[h] == owner[n]]
        assert len(own) == 2
        bonds = (cart[own] - cart[n]).norm(dim=-1)
        assert torch.allclose(bonds, torch.full_like(bonds, 1.03), atol=1e-9)
        assert float((cart[own[0]] - cart[own[1]]).norm()) == pytest.approx(2 * 1.03 * np.sin(np.radians(52)), abs=1e-9)
    structure = expand(unit)[0]
    assert len(structure) == template.n_atoms
    assert number_of(structure) == number


def test_formula_units_follow_from_multiplicities():
    assert ALPHA.multiplicities == (16, 16)
    assert ALPHA.n_atoms == 64
    assert ALPHA.formula_units(SODIUM_AMIDE) == 16
    assert ALPHA.label == "Fddd[335] Na:16f NH2:16g"
    with pytest.raises(InputError, match="not a whole number of NaNH2"):
        Template(335, (Site(NA, "f"), Site(NH2, "h"))).formula_units(SODIUM_AMIDE)


def test_projection_is_idempotent_and_changes_nothing_that_fits():
    unit = random_unit(ALPHA, 5)
    again = project(unit)
    for name in ("lattice_parameters", "frac_origins", "rotations"):
        assert torch.allclose(getattr(unit, name), getattr(again, name), atol=1e-12)
    assert torch.allclose(expand_tensors(unit).frac_coords, expand_tensors(unit, project_sites=False).frac_coords)


GRADIENT_TEMPLATES = {
    "general": Template(81, (Site(NA, "e"), Site(NH2, "e"))),
    "two-fold": ALPHA,
    "mirror": Template(60, (Site(NA, "a"), Site(NH2, "e", orientation_mode=1))),
    "linear": Template(default_hall_number(99), (Site(RigidUnit("OH", ("O", "H"), ((0.0, 0, 0), (0.97, 0, 0))), "a"),)),
    "CO2": Template(501, (Site(RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0, 0), (1.17, 0, 0), (-1.17, 0, 0))), "a"),)),
}


@pytest.mark.parametrize("name", GRADIENT_TEMPLATES)
def test_gradients_agree_with_finite_differences(name):
    template = GRADIENT_TEMPLATES[name]
    start = random_unit(template, 2, seed=1)

    def crystal(parameters, origins, rotations):
        result = expand_tensors(AsymmetricUnit(template, parameters, origins, rotations))
        return result.cart_coords, result.lattice

    inputs = [start.lattice_parameters, start.frac_origins, start.rotations]
    # Off the sites a little, so that the projections are differentiated too.
    generator = torch.Generator().manual_seed(2)
    inputs = [(x + 0.01 * torch.randn(x.shape, generator=generator, dtype=x.dtype)).requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(crystal, inputs, eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("name", GRADIENT_TEMPLATES)
def test_float32_agrees_with_float64(name):
    template = GRADIENT_TEMPLATES[name]
    double = random_unit(template, 4, seed=3)
    single = expand_tensors(double.to(torch.float32))
    assert single.frac_coords.dtype is torch.float32
    assert float((single.cart_coords.double() - expand_tensors(double).cart_coords).abs().max()) < 5e-5


def test_a_batch_is_the_same_as_its_members():
    unit = random_unit(ALPHA, 4)
    whole = expand_tensors(unit).cart_coords
    parts = torch.cat([expand_tensors(unit[i]).cart_coords for i in range(4)])
    assert torch.allclose(whole, parts, atol=1e-12)
    assert AsymmetricUnit.cat([unit[0], unit[1:]]).batch_size == 4


def test_structures_hold_wrapped_coordinates_and_unit_numbers():
    structure = expand(random_unit(ALPHA))[0]
    assert (structure.frac_coords >= 0).all()
    assert (structure.frac_coords < 1).all()
    assert sorted(set(structure.site_properties["unit_index"])) == list(range(32))
