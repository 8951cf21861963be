"""Crystals of other rigid units: extract, expand, and be back in the same place."""

import numpy as np
import pytest
import spglib
from pymatgen.core import Structure
from scipy.spatial.transform import Rotation

from nanh2lib.crystal.connectivity import find_fragments
from nanh2lib.crystal.deviation import deviation, in_tabulated_origin
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.extraction import extract_asymmetric_unit, infer_compound
from tests.crystal.published_compounds import COMPOUNDS

BY_NAME = {item.name: item for item in COMPOUNDS}


@pytest.fixture(params=BY_NAME)
def item(request):
    return BY_NAME[request.param]


def number_of(structure):
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    return spglib.get_symmetry_dataset(cell, symprec=1e-3).number


def test_round_trip(item):
    structure = item.structure()
    compound = infer_compound(structure, known=())
    assert {unit.name for unit in compound.units} == set(item.units)
    assert compound.counts == item.counts
    unit = extract_asymmetric_unit(structure, compound=compound)
    back = expand(unit)[0]
    assert number_of(back) == item.number == unit.space_group_number
    assert deviation(back, in_tabulated_origin(structure)).rms < 0.01
    found: dict[str, list[tuple[str, str]]] = {}
    for u, wyckoff in zip(unit.units, unit.template.wyckoff_sites, strict=True):
        found.setdefault(u.name, []).append((wyckoff.label, wyckoff.site_symmetry))
    assert {name: sorted(sites) for name, sites in found.items()} == {n: sorted(s) for n, s in item.units.items()}


@pytest.mark.parametrize("item", [item for item in COMPOUNDS if item.measured], ids=lambda item: item.name)
def test_computed_crystals_are_the_measured_phases(item):
    """Cell edges within 6 % (PBEsol at 0 K against room temperature), angles within 3 degrees, and NH2 molecules."""
    structure = item.structure()
    assert np.allclose(item.cell[:3], item.measured[:3], rtol=0.06)
    assert np.allclose(item.cell[3:], item.measured[3:], atol=3.0)
    molecules = [fragment for fragment in find_fragments(structure) if fragment.formula == "NH2"]
    assert len(molecules) == len(structure) // 4
    for molecule in molecules:
        atoms = structure.lattice.get_cartesian_coords(molecule.frac_coords)
        nitrogen = atoms[molecule.species.index("N")]
        bonds = np.array([atom - nitrogen for atom, s in zip(atoms, molecule.species, strict=True) if s != "N"])
        lengths = np.linalg.norm(bonds, axis=1)
        assert np.allclose(lengths, 1.03, atol=0.02)
        assert np.degrees(np.arccos(bonds[0] @ bonds[1] / lengths.prod())) == pytest.approx(102, abs=3)


def test_units_are_inferred_alike_from_any_description(item):
    structure = item.structure()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(structure))
    from pymatgen.core import Lattice

    turned = Structure(
        Lattice(structure.lattice.matrix @ Rotation.random(random_state=2).as_matrix()),
        [structure.species[i] for i in order],
        structure.frac_coords[order] + rng.integers(-1, 2, (len(order), 3)),
    )
    first, second = infer_compound(structure, known=()), infer_compound(turned, known=())
    for one, two in zip(first.units, second.units, strict=True):
        assert one.species == two.species
        assert np.allclose(one.body, two.body, atol=1e-7)
    one, two = (extract_asymmetric_unit(s, compound=first) for s in (structure, turned))
    assert one.template == two.template
    assert float((one.frac_origins - two.frac_origins).abs().max()) < 1e-6
    assert float((one.rotations - two.rotations).abs().max()) < 1e-6


def test_point_groups_of_the_units():
    names = {"LiNH2": "C2v", "KNH2": "C2v", "RbND2": "C2v", "urea": "C2v", "CO2": "D_inf_h", "NH4Cl": "Td"}
    for name, symbol in names.items():
        molecule = infer_compound(BY_NAME[name].structure(), known=()).units[-1]
        assert molecule.point_group[0] == symbol


def test_amides_may_use_the_standard_amide_unit():
    compound = infer_compound(BY_NAME["KNH2"].structure())
    assert [unit.name for unit in compound.units] == ["K", "NH2"]
    assert compound.name == "KNH2"
    unit = extract_asymmetric_unit(BY_NAME["KNH2"].structure())
    assert unit.template.label == "P2_1/m[60] K:2e NH2:2e"


def test_deuterium_counts_as_hydrogen():
    structure = BY_NAME["RbND2"].structure()
    assert "D" in [symbol for symbol, _ in BY_NAME["RbND2"].sites]
    assert {f.formula for f in find_fragments(structure)} == {"Rb", "NH2"}


def test_fragments_are_whole_across_the_cell():
    for fragment in find_fragments(BY_NAME["urea"].structure()):
        assert fragment.formula == "CH4N2O"
        assert np.ptp(fragment.frac_coords, axis=0).max() < 0.7
