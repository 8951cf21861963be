import sys

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.energy.labels import (
    EnergyFailure,
    EnergyResult,
    LabelSettings,
    energy_per_formula_unit,
    evaluate,
    formula_units,
    label_structures,
)
from nanh2lib.energy.primitive import primitive_with_map
from nanh2lib.energy.torch_runtime import torch_threads
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.execution import make_executor
from nanh2lib.report.published import published_structures, reference_structure

LJ = "ase.calculators.lj:LennardJones"


class Broken(Calculator):
    """Returns what a calculation that went wrong returns."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, fault="nan"):
        super().__init__()
        self.fault = fault

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        n = len(atoms)
        self.results = {"energy": -4.0 * n, "forces": np.zeros((n, 3)), "stress": np.zeros(6)}
        if self.fault == "nan":
            self.results["energy"] = float("nan")
        elif self.fault == "inf forces":
            self.results["forces"][0, 0] = np.inf
        elif self.fault == "deep":
            self.results["energy"] = -1e6
        elif self.fault == "steep":
            self.results["forces"][0] = (0, 0, 2e4)
        elif self.fault == "raises":
            raise RuntimeError("no convergence\nafter 3 steps")


def test_formula_units_by_formula_and_by_compound(p21212):
    assert formula_units(p21212) == formula_units(p21212, SODIUM_AMIDE) == 2
    assert formula_units(p21212 * (2, 1, 3)) == 12
    with pytest.raises(InputError, match="not a whole number of NaNH2"):
        formula_units(Structure(Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]), SODIUM_AMIDE)


def test_a_label_holds_energy_forces_and_stress_in_the_stated_units(p21212):
    result = evaluate(p21212, LabelSettings(potential="chgnet"))
    assert result.energy == pytest.approx(2 * result.energy_per_fu)
    assert result.energy_per_fu == pytest.approx(-18.143, abs=2e-3)
    assert result.forces.shape == (8, 3)
    assert np.abs(result.forces.sum(0)).max() < 1e-3
    assert result.stress.shape == (3, 3)
    np.testing.assert_allclose(result.stress, result.stress.T)
    assert result.stress[0, 0] == pytest.approx(0.400, abs=0.02)  # GPa
    assert result.seconds > 0
    assert result.potential_hash == LabelSettings(potential="chgnet").potential_hash


def test_energy_per_formula_unit_does_not_depend_on_the_cell_chosen(p21212):
    one = energy_per_formula_unit(p21212, "chgnet")
    assert energy_per_formula_unit(p21212 * (1, 2, 1), "chgnet") == pytest.approx(one, abs=1e-4)
    full = evaluate(p21212 * (1, 2, 1), LabelSettings(potential="chgnet", primitive=False))
    assert full.energy_per_fu == pytest.approx(one, abs=1e-4)


def test_forces_of_a_centred_crystal_come_back_from_its_primitive_cell():
    alpha = reference_structure("alpha")
    small, index = primitive_with_map(alpha)
    assert (len(small), len(alpha), len(index)) == (16, 64, 64)
    quick = evaluate(alpha, LabelSettings(potential="chgnet"))
    whole = evaluate(alpha, LabelSettings(potential="chgnet", primitive=False))
    assert quick.energy == pytest.approx(whole.energy, abs=2e-3)
    np.testing.assert_allclose(quick.forces, whole.forces, atol=1e-3)
    np.testing.assert_allclose(quick.stress, whole.stress, atol=5e-3)


def test_the_primitive_cell_of_a_primitive_or_disturbed_crystal_is_itself(p21212):
    assert primitive_with_map(p21212)[0] is p21212
    supercell = p21212 * (2, 1, 1)
    assert len(primitive_with_map(supercell)[0]) == 8
    supercell.perturb(0.01, seed=1)
    assert primitive_with_map(supercell)[0] is supercell


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", "energy not finite"),
        ("inf forces", "forces not finite"),
        ("deep", "exploded: .* eV per atom"),
        ("steep", "exploded: a force of 20000 eV/A"),
        ("raises", "RuntimeError: no convergence after 3 steps"),
    ],
)
def test_what_is_no_number_becomes_a_failure_with_its_reason(p21212, fault, words):
    settings = LabelSettings(potential=f"{Broken.__module__}:Broken", options={"fault": fault})
    sys.modules.setdefault(Broken.__module__, sys.modules[__name__])
    with pytest.raises(ComputationError, match=words):
        evaluate(p21212, settings)


def test_one_bad_crystal_does_not_stop_the_others(p21212):
    overlap = Structure(Lattice.cubic(4), ["Na", "H"], [[0, 0, 0], [0.01, 0, 0]])
    seen = {}
    labels = label_structures(
        {"good": p21212, "bad": overlap},
        LabelSettings(potential=LJ, options={"sigma": 0.9, "rc": 4.0}),
        on_result=seen.__setitem__,
        progress=False,
    )
    assert list(labels) == ["good", "bad"]
    assert isinstance(labels["good"], EnergyResult)
    assert isinstance(labels["bad"], EnergyFailure)
    assert "exploded" in labels["bad"].reason
    assert seen == labels


def test_unknown_potentials_and_disordered_crystals_are_refused_before_work_starts(p21212):
    with pytest.raises(InputError, match="did you mean 'chgnet'"):
        label_structures([p21212], "chgnt", progress=False)
    with pytest.raises(InputError, match="partly occupied"):
        evaluate(Structure(Lattice.cubic(3), [{"Na": 0.5}], [[0, 0, 0]]))


def test_labels_from_worker_processes_equal_those_made_here(p21212, disturbed):
    settings = LabelSettings(potential=LJ, options={"rc": 5.0})
    here = label_structures([p21212, disturbed], settings, progress=False)
    with make_executor("processes:2") as executor:
        there = label_structures([p21212, disturbed], settings, executor, progress=False)
    assert [label.energy for label in there.values()] == [label.energy for label in here.values()]


def test_threads_share_a_calculator_without_mixing_up_their_crystals(p21212, disturbed):
    crystals = [p21212, disturbed] * 6
    here = label_structures(crystals, "chgnet", progress=False)
    with make_executor("threads:4") as executor:
        there = label_structures(crystals, "chgnet", executor, progress=False)
    assert [label.energy for label in there.values()] == [label.energy for label in here.values()]


def test_the_structure_is_not_changed(p21212):
    before = p21212.copy()
    evaluate(p21212, LabelSettings(potential="chgnet"))
    assert p21212 == before


def test_torch_threads_are_set_inside_the_block_only():
    import torch

    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="threads = 0"), torch_threads(0):
        pass


# meV per formula unit above P2_1 2_1 2 at the printed geometries, computed before this package existed.
REFERENCE = {"sevennet-0": {"P2_1/c": -3, "Pcca": 26}, "chgnet": {"P2_1/c": 43, "Pcca": 60}}


@pytest.mark.parametrize("potential", sorted(REFERENCE))
def test_published_crystals_keep_the_energy_differences_of_the_reference_table(potential):
    small = {p.space_group: p.structure for p in published_structures() if p.table == "S1" and p.z <= 8}
    energy = {name: energy_per_formula_unit(structure, potential) for name, structure in small.items()}
    for name, expected in REFERENCE[potential].items():
        assert 1000 * (energy[name] - energy["P2_12_12"]) == pytest.approx(expected, abs=3)


def test_alpha_lies_below_the_published_crystals_at_the_default_potential():
    alpha = energy_per_formula_unit(reference_structure("alpha"))
    assert alpha < min(energy_per_formula_unit(p.structure) for p in published_structures() if p.z <= 4)
