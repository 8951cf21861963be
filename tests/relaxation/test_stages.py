import numpy as np
import pytest
import torch
from ase.calculators.calculator import Calculator
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.atoms import atoms_asymmetric_unit, atoms_of_structure
from nanh2lib.crystal.connectivity import find_fragments
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.errors import InputError
from nanh2lib.relaxation import (
    AtomsSettings,
    FragmentLimits,
    RelaxationSettings,
    ReleaseSettings,
    RigidSettings,
    relax,
    relax_atoms,
    relax_many,
    relax_rigid,
    release,
)
from nanh2lib.relaxation.quality import broken_fragments, fused_units, symmetry_flags
from nanh2lib.report.published import published_structures
from tests.relaxation import crystals


class Scripted(Calculator):
    """Energies that a test makes up, to reach the ways out."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, energies):
        super().__init__()
        self.energies = list(energies)

    def calculate(self, atoms=None, properties=None, system_changes=()):
        super().calculate(atoms, properties, system_changes)
        energy = self.energies.pop(0) if len(self.energies) > 1 else self.energies[0]
        forces = np.ones((len(self.atoms), 3)) * np.arange(len(self.atoms))[:, None]
        self.results = {"energy": energy, "forces": forces, "stress": np.zeros(6)}


@pytest.mark.parametrize("method", ["bfgs", "lbfgs"])
@pytest.mark.parametrize("make", [crystals.p21212, crystals.p21c], ids=lambda make: make.__name__)
def test_rigid_relaxation_goes_down_and_keeps_units_and_group(make, method):
    unit = make()
    result = relax_rigid(unit, "chgnet", RigidSettings(method=method))
    assert result.converged
    assert result.stage == "rigid_fixed"
    assert result.energy_final < result.energy_start
    assert result.fmax <= 0.05
    assert 1 <= result.evaluations <= 40
    assert result.usable
    lattice = result.asymmetric_unit.lattice_parameters
    torch.testing.assert_close(lattice, unit.lattice_parameters, rtol=0, atol=1e-9)
    lengths = [d for f in find_fragments(result.structure) if len(f.indices) == 3 for d in _bonds(result.structure, f)]
    assert np.allclose(lengths, 1.03, atol=1e-6)


def _bonds(structure, fragment):
    cart = fragment.frac_coords @ structure.lattice.matrix
    nitrogen = fragment.species.index("N")
    return [np.linalg.norm(cart[i] - cart[nitrogen]) for i in range(3) if i != nitrogen]


def test_free_cell_reaches_the_stress_limit():
    result = relax_rigid(crystals.p21212(), "chgnet", RigidSettings(cell="free"))
    assert result.stage == "rigid"
    assert result.converged
    assert result.max_stress <= 0.1
    fixed = relax_rigid(crystals.p21212(), "chgnet", RigidSettings(cell="fixed"))
    assert result.energy_final < fixed.energy_final


def test_starting_at_the_minimum_costs_one_call():
    first = relax_rigid(crystals.p21212(), "chgnet")
    again = relax_rigid(first.asymmetric_unit, "chgnet")
    assert again.converged
    assert again.evaluations == 1
    assert again.energy_final == pytest.approx(first.energy_final, abs=1e-5)


def test_limit_on_evaluations_holds():
    result = relax_rigid(crystals.fdd2(), "chgnet", RigidSettings(max_evaluations=3))
    assert result.evaluations == 3
    assert not result.converged
    assert result.usable
    assert result.energy_final <= result.energy_start


def test_nan_at_the_start_is_flagged():
    result = relax_rigid(crystals.p21c(), Scripted([float("nan")]))
    assert result.flags == ("nan_energy",)
    assert not result.usable
    assert np.isnan(result.energy_final)


def test_a_hole_of_the_potential_is_flagged():
    result = relax_rigid(crystals.p21c(), Scripted([0.0, -1e5]))
    assert "exploded" in result.flags
    assert not result.usable


def test_not_a_potential():
    with pytest.raises(InputError, match="neither the name of a potential"):
        relax_rigid(crystals.p21c(), 3.0)


def test_all_atoms_keep_the_group_and_agree_with_ase():
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import LBFGS

    structure = published_structures()[0].structure
    result = relax_atoms(structure, "chgnet")
    assert result.converged
    assert result.fmax <= 0.02
    assert result.max_stress <= 0.1
    assert result.space_group_before == 18
    assert result.space_group_after == 59  # CHGNet takes it to Pmmn
    assert result.flags == ("symmetry_gained",)
    assert result.usable
    assert [s.specie.symbol for s in result.structure] == [s.specie.symbol for s in structure]
    atoms = structure.to_ase_atoms()
    atoms.calc = get_calculator("chgnet")
    atoms.set_constraint(FixSymmetry(atoms))
    LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.005, steps=400)
    assert result.energy_final == pytest.approx(atoms.get_potential_energy() / 2, abs=2e-3)


def test_atoms_of_rigid_units_keep_order_and_place():
    for make in (crystals.alpha, crystals.p21212, crystals.p21c, crystals.pnma):
        unit = make()
        view, full = atoms_asymmetric_unit(unit), expand(unit)[0]
        assert all(site.unit.is_monatomic for site in view.asymmetric_unit.template.sites)
        back = expand(view.asymmetric_unit)[0]
        gaps = full.frac_coords - back.frac_coords[view.order]
        assert np.abs(gaps - np.round(gaps)).max() < 1e-8
        assert [s.specie.symbol for s in full] == [back[i].specie.symbol for i in view.order]


def test_amide_on_a_two_fold_axis_has_one_hydrogen():
    labels = [
        (site.unit.name, wyckoff.label)
        for site, wyckoff in zip(
            *(lambda t: (t.sites, t.wyckoff_sites))(atoms_asymmetric_unit(crystals.alpha()).asymmetric_unit.template),
            strict=True,
        )
    ]
    assert sorted(labels)[0] == ("H", "32h")
    assert len(labels) == 3


@pytest.mark.parametrize("number", range(8))
def test_published_structures_as_atoms(number):
    structure = published_structures()[number].structure
    view = atoms_of_structure(structure)
    back = expand(view.asymmetric_unit)[0]
    order = np.ix_(view.order, view.order)
    assert np.allclose(structure.distance_matrix, back.distance_matrix[order], atol=1e-6)


def test_released_structure_comes_back_or_is_flagged():
    settings = ReleaseSettings(fmax=0.02, max_evaluations=120)
    start = relax_atoms(published_structures()[0].structure, "chgnet")
    result = release(start.structure, "chgnet", settings)
    assert result.stage == "released"
    assert result.energy_start == pytest.approx(start.energy_final, abs=1e-4)
    assert result.energy_final < result.energy_start + 2e-3
    again = release(start.structure, "chgnet", settings)
    assert again.energy_final == result.energy_final
    assert (result.space_group_after == result.space_group_before) == (result.flags == ())


def test_broken_amide_is_named():
    structure = published_structures()[0].structure
    fragments = tuple(find_fragments(structure))
    units = tuple(NH2 if len(fragment.indices) == 3 else NA for fragment in fragments)
    limits = FragmentLimits()
    assert broken_fragments(structure, fragments, units, limits) == []
    amide = next(fragment for fragment in fragments if len(fragment.indices) == 3)
    hydrogen = amide.indices[amide.species.index("H")]
    nitrogen = amide.indices[amide.species.index("N")]
    for length, word in ((0.94, "H-N of atoms"), (1.125, "H-N of atoms"), (2.0, "not one fragment")):
        stretched = structure.copy()
        site, image = stretched[nitrogen].distance_and_image(stretched[hydrogen])
        vector = (stretched[hydrogen].frac_coords + image - stretched[nitrogen].frac_coords) * length / site
        stretched.replace(hydrogen, "H", stretched[nitrogen].frac_coords + vector)
        reasons = broken_fragments(stretched, fragments, units, limits)
        assert reasons
        assert word in reasons[0]


@pytest.mark.parametrize(("apart", "flags"), [(1.5, ("broken_fragment",)), (3.4, ())])
def test_rigid_molecules_that_ran_into_each_other_are_flagged(apart, flags):
    """N-N of 1.5 A makes hydrazine, whatever the potential says; 3.4 A is a contact."""
    result = relax_rigid(crystals.two_amides(apart), Scripted([0.0]), RigidSettings(max_evaluations=1))
    assert result.flags == flags
    assert result.usable == (not flags)


def test_fused_units_are_named_and_units_of_one_atom_may_be_bonded():
    hydrazine = expand(crystals.two_amides(1.5))[0]
    units = hydrazine.site_properties["unit_index"]
    assert [reason.split(" of ")[-1] for reason in fused_units(hydrazine, units)] == ["2 units form N2H4"]
    assert fused_units(hydrazine, range(len(hydrazine))) == []


def test_a_chance_symmetry_of_the_start_may_go_but_not_the_group_that_is_kept():
    ibca, pcca, half = (73, 16), (54, 8), (54, 4)
    assert symmetry_flags(ibca, pcca) == symmetry_flags(ibca, half, pcca) == ("symmetry_lost",)
    assert symmetry_flags(ibca, (29, 8), pcca) == ("symmetry_lost",)
    assert symmetry_flags(ibca, pcca, pcca) == symmetry_flags(pcca, pcca, pcca) == ()
    assert symmetry_flags(pcca, ibca, pcca) == ("symmetry_gained",)


def test_molecule_of_an_unknown_kind_is_its_own_reference():
    ice = expand(crystals.dry_ice())[0]
    fragments = tuple(find_fragments(ice))
    assert [fragment.formula for fragment in fragments] == ["CO2"] * 4
    units = (crystals.CO2,) * 4
    assert broken_fragments(ice, fragments, units, FragmentLimits()) == []
    shrunk = Structure(Lattice(ice.lattice.matrix * 0.9), ice.species, ice.frac_coords)
    assert len(broken_fragments(shrunk, fragments, units, FragmentLimits())) >= 4


def test_relax_runs_stage_after_stage():
    settings = RelaxationSettings(
        potential="chgnet", released=ReleaseSettings(fmax=0.05, max_stress=0.5, max_evaluations=60)
    )
    results = relax(crystals.p21212(), settings)
    assert [r.stage for r in results] == ["rigid", "all_atom", "released"][: len(results)]
    assert results[1].energy_start == pytest.approx(results[0].energy_final, abs=1e-4)
    assert results[1].energy_final < results[0].energy_final
    only_atoms = relax(published_structures()[0].structure, RelaxationSettings(potential="chgnet", rigid=None))
    assert [r.stage for r in only_atoms] == ["all_atom"]
    assert only_atoms[0].energy_final == pytest.approx(results[1].energy_final, abs=2e-3)


def test_relax_stops_after_an_unusable_stage(monkeypatch):
    from nanh2lib.relaxation import batch, stages

    falling = stages.Engine("falling", Scripted([0.0, -1e6]))
    monkeypatch.setattr(batch.Engine, "of", classmethod(lambda cls, name, **_: falling))
    results = relax(crystals.p21212(), RelaxationSettings())
    assert len(results) == 1
    assert not results[0].usable


def test_many_relaxations_give_results_or_reasons_as_they_come():
    settings = RelaxationSettings(potential="chgnet", atoms=None, rigid=RigidSettings(max_evaluations=2))
    broken = crystals.p21c()
    batch_of_two = broken.cat([broken, broken])
    seen = {}
    results = relax_many(
        {"a": crystals.p21212(), "b": batch_of_two}, settings, on_result=seen.__setitem__, progress=False
    )
    assert list(results) == ["a", "b"]
    assert results == seen
    assert results["a"][0].evaluations == 2
    assert "batch of 2" in results["b"]


@pytest.mark.slow
def test_many_relaxations_in_processes_are_the_same():
    """With a potential that loads at once: what is tested is the way there and back."""
    from nanh2lib.execution import make_executor

    settings = RelaxationSettings(
        potential="ase.calculators.lj:LennardJones", atoms=None, rigid=RigidSettings(max_evaluations=5)
    )
    work = {"a": crystals.p21212(), "b": crystals.p21c()}
    serial = relax_many(work, settings, progress=False)
    with make_executor("processes:2") as executor:
        parallel = relax_many(work, settings, executor, progress=False)
    for key in work:
        before, after = serial[key][0].energy_start, serial[key][0].energy_final
        assert after < before - 1e-6
        assert parallel[key][0].energy_final == pytest.approx(after, abs=1e-9)


def test_settings_refuse_nonsense():
    with pytest.raises(InputError, match="fmax"):
        RigidSettings.from_mapping({"fmax": -1})
    with pytest.raises(InputError, match="max_evaluations"):
        AtomsSettings.from_mapping({"max_evalutions": 4})


def test_a_candidate_is_relaxed_from_its_asymmetric_unit():
    from nanh2lib.records import Candidate

    unit = crystals.p21212()
    candidate = Candidate("c", expand(unit)[0], "published", 0, "", "", asymmetric_unit=unit)
    settings = RelaxationSettings(potential="chgnet", atoms=None, rigid=RigidSettings(max_evaluations=2))
    assert relax(candidate, settings)[0].energy_final == relax(unit, settings)[0].energy_final
