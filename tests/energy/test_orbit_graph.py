"""One atom of each orbit gives the energy and the symmetric gradient of the whole crystal."""

from __future__ import annotations

import numpy as np
import pytest

from nanh2lib.crystal.atoms import atoms_of_structure
from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.primitive import atom_orbits, primitive_crystals
from nanh2lib.energy.orbit_graph import SymmetryMismatch, number_bonds, orbit_edges, proper_orbits
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.relaxation.gradient import energy_and_gradient
from nanh2lib.report.reference_energies import reference_crystals
from nanh2lib.search.random_search import SearchSettings, random_search

# P1, then 2, 4, 8 operations, centred cells, special positions with and without inversion centres.
HALLS = (1, 2, 16, 81, 122, 284, 292, 335)


def found_in(hall: int):
    settings = SearchSettings(space_groups=(f"hall:{hall}",), per_setting=2, general_share=0.0, seed=5)
    return [c.asymmetric_unit for c in random_search(settings, progress=False) if c.accepted]


def atoms_of(unit):
    from ase import Atoms

    crystal = primitive_crystals(expand_tensors(unit), unit.template)
    cell, frac = crystal.lattice[0].numpy(), crystal.frac_coords[0].numpy()
    return Atoms(list(crystal.species), scaled_positions=frac, cell=cell, pbc=True)


class WholeCrystal:
    """A calculator that hides what it knows of symmetry."""

    def __init__(self, calculator):
        self.get_property = calculator.get_property
        self.calculator = calculator

    def __getattr__(self, name):
        if name == "orbit_gradient":
            raise AttributeError(name)
        return getattr(self.__dict__["calculator"], name)


CASES = [("chgnet", hall) for hall in HALLS] + [("sevennet-0", hall) for hall in (6, 81, 122, 292, 335)]


@pytest.mark.parametrize(("potential", "hall"), CASES)
def test_energy_and_gradient_are_those_of_the_whole_crystal(potential, hall):
    calculator = get_calculator(potential)
    for unit in found_in(hall)[: 2 if potential == "chgnet" else 1]:
        ours = energy_and_gradient(unit, calculator)
        whole = energy_and_gradient(unit, WholeCrystal(calculator))
        assert float((ours.energy - whole.energy).abs().max()) < 1e-3  # eV per 64 atoms, float32
        for name in ("origins", "rotations", "lattice_parameters"):
            one, two = getattr(ours, name), getattr(whole, name)
            assert float((one - two).abs().max()) < 2e-3 * max(1.0, float(two.abs().max())), name


@pytest.mark.parametrize("key", sorted(reference_crystals()))
def test_published_crystals_are_seen_whole_by_one_atom_of_each_orbit(key):
    # In the long cell of Pcca some atoms lie beyond the cutoff of every representative.
    calculator = get_calculator("chgnet")
    unit = atoms_of_structure(reference_crystals()[key], 1e-2).asymmetric_unit
    ours, whole = (energy_and_gradient(unit, each) for each in (calculator, WholeCrystal(calculator)))
    assert float((ours.energy - whole.energy).abs().max()) < 1e-3
    for name in ("origins", "lattice_parameters"):
        one, two = getattr(ours, name), getattr(whole, name)
        assert float((one - two).abs().max()) < 2e-3 * max(1.0, float(two.abs().max())), name


@pytest.mark.parametrize("hall", HALLS)
def test_operations_carry_representatives_onto_all_atoms(hall):
    for unit in found_in(hall):
        orbits = atom_orbits(unit.template)
        frac = primitive_crystals(expand_tensors(unit), unit.template).frac_coords[0].numpy()
        first = frac[orbits.representatives][orbits.orbit]
        image = np.einsum("nij,nj->ni", orbits.rotations[orbits.operation], first)
        gaps = image + orbits.translations[orbits.operation] - frac
        np.testing.assert_allclose(gaps - np.round(gaps), 0, atol=1e-9)
        assert orbits.multiplicities.sum() == len(frac)


@pytest.mark.parametrize("hall", HALLS)
def test_orbits_of_proper_operations_are_at_most_twice_as_many(hall):
    for unit in found_in(hall):
        orbits = atom_orbits(unit.template)
        proper = proper_orbits(orbits)
        assert (np.linalg.det(proper.rotations) > 0).all()
        assert len(orbits.representatives) <= len(proper.representatives) <= 2 * len(orbits.representatives)
        frac = primitive_crystals(expand_tensors(unit), unit.template).frac_coords[0].numpy()
        first = frac[proper.representatives][proper.orbit]
        image = np.einsum("nij,nj->ni", proper.rotations[proper.operation], first)
        gaps = image + proper.translations[proper.operation] - frac
        np.testing.assert_allclose(gaps - np.round(gaps), 0, atol=1e-9)


@pytest.mark.parametrize("hall", HALLS)
def test_the_reverse_of_an_edge_is_as_long_and_joins_the_same_orbits(hall):
    for unit in found_in(hall):
        orbits = atom_orbits(unit.template)
        atoms = atoms_of(unit)
        edges = orbit_edges(atoms, orbits, 5.0)
        np.testing.assert_allclose(edges.distances[edges.reverse], edges.distances, atol=1e-9)
        assert (orbits.orbit[edges.neighbours] == orbits.orbit[edges.centres[edges.reverse]]).all()
        # On a two-fold axis the H atoms of one NH2 count as two orbits, so here only the element is sure.
        assert (atoms.numbers[edges.centres] == atoms.numbers[edges.neighbours[edges.reverse]]).all()


def test_bonds_with_two_listed_directions_share_a_number():
    bonds = number_bonds(np.array([1, 0, 2, 4, 2]))  # a pair, its own reverse, two that are no pair
    assert bonds.bond[0] == bonds.bond[1]
    assert len(set(bonds.bond.tolist())) == 4
    assert bonds.lone.tolist() == [2, 3, 4]
    assert bonds.bond[bonds.first_direction].tolist() == [0, 1, 2, 3]


def test_a_crystal_without_the_symmetry_is_told_apart():
    unit = found_in(81)[0]
    atoms = atoms_of(unit)
    atoms.positions[5] += 0.05
    with pytest.raises(SymmetryMismatch, match="lacks the symmetry"):
        orbit_edges(atoms, atom_orbits(unit.template), 5.0)
