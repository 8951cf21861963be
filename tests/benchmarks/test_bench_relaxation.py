"""The relaxation benchmark: which entries it takes, and that ASE sees the right forces."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.constraints import FixSymmetry

from benchmarks.bench_relaxation import OrbitCalculator, chosen_entries
from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.primitive import atom_orbits, primitive_crystals
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.store.dataset import load_dataset
from tests.relaxation import crystals


def test_one_entry_of_each_setting_at_energies_from_low_to_high():
    entries = load_dataset()
    chosen = chosen_entries(entries, 20)
    halls = [entry.asymmetric_unit.hall_number for entry in chosen]
    assert len(set(halls)) == 20
    ranks = []
    for entry, hall in zip(chosen, halls, strict=True):
        members = [e.energies["chgnet"] for e in entries if e.asymmetric_unit.hall_number == hall]
        ranks.append(sum(energy < entry.energies["chgnet"] for energy in members) / (len(members) - 1))
    assert min(ranks) == 0
    assert max(ranks) == 1
    assert np.allclose(sorted(ranks), np.linspace(0, 1, 20), atol=0.03)


def test_forces_of_one_atom_of_each_orbit_are_those_of_all_once_symmetry_is_imposed():
    unit = crystals.p21c()
    crystal = primitive_crystals(expand_tensors(unit), unit.template)
    atoms = Atoms(
        list(crystal.species),
        scaled_positions=crystal.frac_coords[0].numpy(),
        cell=crystal.lattice[0].numpy(),
        pbc=True,
    )
    atoms.set_constraint(FixSymmetry(atoms))
    atoms.calc = get_calculator("chgnet")
    forces, stress, energy = atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energy()
    atoms.calc = OrbitCalculator("chgnet", atom_orbits(unit.template))
    assert abs(atoms.get_potential_energy() - energy) < 1e-4
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-3)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-4)
