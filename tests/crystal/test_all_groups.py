"""Extraction and expansion in all 230 groups: the same crystal from any description of it, in two float types."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.deviation import deviation
from nanh2lib.crystal.encoding import decode, encode
from nanh2lib.crystal.expansion import expand, expand_tensors
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.rigid_unit import NA, NH2, Compound, RigidUnit
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations
from nanh2lib.validation.symmetry import find_symmetry
from tests.crystal.crystals_of_all_groups import compound_of, random_crystal, same, shuffled
from tests.crystal.test_space_group import compatible_cell

POTASSIUM = RigidUnit("K", ("K",))
numbers = st.integers(1, 230)
seeds = st.integers(1, 500)
some = settings(deadline=None, max_examples=25, derandomize=True)


@pytest.mark.parametrize("start", range(1, 231, 46))
def test_every_group_is_read_back_as_itself(start):
    """Setting, sites and every atom, from the shuffled list of atoms."""
    for number in range(start, start + 46):
        unit = random_crystal(number, 0)
        structure, compound = expand(unit)[0], compound_of(unit.template)
        found = extract_asymmetric_unit(shuffled(structure, np.random.default_rng(number)), compound=compound)
        assert found.hall_number == unit.hall_number, number
        assert sorted(site.label for site in found.template.wyckoff_sites) == sorted(
            site.label for site in unit.template.wyckoff_sites
        )
        assert deviation(expand(found)[0], structure).rms < 1e-6, number


SAME_OPERATIONS = {324: 322, 328: 326, 332: 330}
"""Settings with two entries in the table: the second reads back as the first."""


def test_every_setting_is_read_back_as_itself():
    """Unique axes, cell choices, axis permutations and origins; a third of the 530, each kind among them."""
    for hall in (*range(1, 531, 3), *SAME_OPERATIONS):
        group = SpaceGroup.from_hall(hall)
        letter = group.wyckoff_sites[-1].letter
        template = Template(hall, (Site(NA, letter), Site(POTASSIUM, letter)))
        parameters = compatible_cell(group, hall)
        volume = abs(float(torch.linalg.det(lattice_parameters_to_matrix(parameters)[0])))
        parameters[:, :3] *= (100.0 * template.n_atoms / volume) ** (1 / 3)
        origins = torch.tensor([[[0.0813, 0.2037, 0.1741], [0.31, 0.067, 0.41]]], dtype=torch.float64)
        eye = torch.eye(3, dtype=torch.float64).repeat(1, 2, 1, 1)
        (structure,) = expand(AsymmetricUnit(template, parameters, origins, eye))
        found = extract_asymmetric_unit(structure, compound=Compound("NaK", (NA, POTASSIUM), (1, 1)))
        assert found.hall_number == SAME_OPERATIONS.get(hall, hall)
        assert deviation(expand(found)[0], structure).rms < 1e-6


def image_of(structure, group, rng):
    """The crystal through one of its symmetry operations, atoms in another order and in other cells."""
    pick = int(rng.integers(group.order))
    frac = structure.frac_coords @ group.rotations[pick].T + group.translations[pick]
    return shuffled(Structure(structure.lattice, structure.species, frac), rng)


@some
@given(numbers, seeds)
def test_any_description_at_any_origin_gives_one_vector(number, seed):
    """After a symmetry operation, in another order and other cells; then at another origin too."""
    unit = random_crystal(number, seed)
    structure, compound = expand(unit)[0], compound_of(unit.template)
    rng = np.random.default_rng(seed)
    moved = image_of(structure, unit.template.space_group, rng)
    same(*(extract_asymmetric_unit(s, compound=compound) for s in (structure, moved)))
    moved = Structure(moved.lattice, moved.species, moved.frac_coords + rng.random(3))
    one, two = (extract_asymmetric_unit(s, compound=compound, canonical_origin=True) for s in (structure, moved))
    same(one, two)
    assert torch.allclose(encode(one), encode(two), atol=1e-4)


@pytest.mark.parametrize("hall", [1, 2, 6, 115])
def test_origins_that_differ_in_the_orientations_only(hall):
    """Half a cell along a carries each unit's origin onto another unit's, but turns the NH2."""
    half = torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)
    first = torch.tensor([[0.11, 0.23, 0.07], [0.31, 0.68, 0.41]], dtype=torch.float64)
    letter = SpaceGroup.from_hall(hall).wyckoff_sites[-1].letter
    unit = AsymmetricUnit(
        Template(hall, (Site(NA, letter),) * 2 + (Site(NH2, letter),) * 2),
        torch.tensor([[12.0, 13.0, 14.0, 90.0, 90.0, 90.0]], dtype=torch.float64),
        torch.stack([first[0], first[0] + half, first[1], first[1] + half])[None],
        random_rotations(4, torch.Generator().manual_seed(1))[None],
    )
    structure = expand(unit)[0]
    expected = extract_asymmetric_unit(structure, canonical_origin=True)
    for shift in ([0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.5, 0.5, 0.5]):
        moved = Structure(structure.lattice, structure.species, structure.frac_coords + shift)
        same(extract_asymmetric_unit(moved, canonical_origin=True), expected)


@some
@given(numbers, seeds)
def test_expansion_is_pymatgens_and_spglib_finds_the_group(number, seed):
    """Orbit sizes, every atom, and the space group."""
    unit = random_crystal(number, seed)
    structure = expand(unit)[0]
    layout = unit.template.layout
    assert np.bincount(structure.site_properties["unit_index"]).sum() == sum(
        m * u.n_atoms for m, u in zip(unit.multiplicities, unit.units, strict=True)
    )
    first = [int((layout.atom_index == atom).nonzero()[0]) for atom in range(len(layout.atom_unit))]
    theirs = Structure.from_spacegroup(
        number,
        Lattice(structure.lattice.matrix),
        [layout.species[i] for i in first],
        expand_tensors(unit).frac_coords[0, first].numpy(),
        tol=1e-4,
    )
    # H atoms that a site's symmetry relates stand in one orbit of pymatgen's: it merges the copies.
    assert len(theirs) >= len(structure)
    kept = theirs.copy()
    kept.merge_sites(tol=1e-3, mode="delete")
    assert deviation(structure, kept).rms < 1e-6
    assert next(find_symmetry([structure], unit.template.space_group)).verdict == "same"


@some
@given(numbers, seeds)
def test_float32_carries_the_round_trip_and_the_gradient(number, seed):
    unit = random_crystal(number, seed)
    z = encode(unit)
    gradients, crystals = [], []
    for dtype in (torch.float64, torch.float32):
        vector = z.to(dtype).requires_grad_()
        crystal = expand_tensors(decode(vector, unit.template))
        weights = torch.linspace(-1, 1, crystal.cart_coords.numel(), dtype=dtype).reshape(crystal.cart_coords.shape)
        (gradient,) = torch.autograd.grad((weights * crystal.cart_coords).sum(), vector)
        assert crystal.cart_coords.dtype is gradient.dtype is dtype
        gradients.append(gradient.double())
        crystals.append(crystal.cart_coords.detach().double())
    assert float((crystals[0] - crystals[1]).abs().max()) < 2e-3
    assert torch.allclose(*gradients, rtol=2e-3, atol=2e-3 * float(gradients[0].abs().max()))
