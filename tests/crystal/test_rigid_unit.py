"""Rigid units as data: symmetry, standard geometry, fits."""

import math

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nanh2lib.crystal.rigid_unit import (
    HNH_ANGLE,
    NA,
    NANH2,
    NH2,
    NH_BOND,
    SODIUM_AMIDE,
    SODIUM_AMIDE_SUBUNITS,
    Compound,
    RigidUnit,
    unit_symmetry,
)
from nanh2lib.crystal.unit_fit import canonical_rotation, equivalent_rotations, fit_unit
from nanh2lib.errors import InputError

quick = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 10_000)

SYMBOLS = {
    "H2O": "C2v",
    "NH3": "C3v",
    "CH4": "Td",
    "C6H6": "D6h",
    "CO2": "D_inf_h",
    "CO": "C_inf_v",
    "N2": "D_inf_h",
    "C2H2": "D_inf_h",
    "C2H4": "D2h",
    "C2H6": "D3d",
    "H2O2": "C2",
    "CH3CONH2": "C1",
    "CH3CH2OH": "Cs",
    "trans-butane": "C2h",
    "C3H4_D2d": "D2d",
    "HCN": "C_inf_v",
}


def some_unit(name):
    atoms = molecule(name)
    return RigidUnit.from_atoms(name, atoms.get_chemical_symbols(), atoms.positions)


@pytest.mark.parametrize("name", SYMBOLS)
def test_point_groups(name):
    unit = some_unit(name)
    symbol, operations = unit_symmetry(unit)
    assert symbol == SYMBOLS[name]
    assert np.allclose(operations[0], np.eye(3))
    assert unit.is_chiral == (name in ("H2O2", "CH3CONH2"))
    # Exactly symmetric, about the reference point.
    for operation in operations:
        moved = unit.body @ operation.T
        gaps = np.linalg.norm(moved[:, None] - unit.body[None], axis=-1)
        gaps[np.array(unit.species)[:, None] != np.array(unit.species)[None]] = 9
        assert gaps.min(1).max() < 1e-9


@pytest.mark.parametrize("name", SYMBOLS)
def test_units_do_not_depend_on_orientation_order_or_hand(name):
    atoms = molecule(name)
    rng = np.random.default_rng(0)
    first = some_unit(name)
    order = rng.permutation(len(atoms))
    turned = (atoms.positions[order] * [1, 1, -1]) @ Rotation.random(random_state=1).as_matrix().T + 5
    second = RigidUnit.from_atoms(name, [atoms.get_chemical_symbols()[i] for i in order], turned)
    assert first.species == second.species
    assert np.allclose(first.body, second.body, atol=1e-6)


def test_amide_has_the_supplements_geometry():
    n, h1, h2 = NH2.body
    assert not n.any()
    assert np.linalg.norm(h1) == pytest.approx(NH_BOND) == 1.03
    angle = math.degrees(math.acos(h1 @ h2 / NH_BOND**2))
    assert angle == pytest.approx(HNH_ANGLE) == 104
    assert (h1 + h2)[0] > 0  # two-fold axis along +x, plane normal along z
    assert np.allclose((h1 + h2)[1:], 0)
    assert np.allclose(NANH2.body[3], [-2.4, 0, 0])


def test_amide_from_atoms_is_the_standard_unit():
    turned = NH2.body[[2, 0, 1]] @ Rotation.random(random_state=3).as_matrix().T + [1, 2, 3]
    unit = RigidUnit.from_atoms("NH2", ["H", "N", "H"], turned)
    assert unit.species == NH2.species
    assert np.allclose(unit.body, NH2.body, atol=1e-9)


def test_reference_points():
    assert some_unit("NH3").species[0] == "N"
    assert some_unit("CO2").species[0] == "C"
    assert some_unit("CO").species[0] == "O"  # neither is central: the heavier
    benzene = some_unit("C6H6")
    assert np.allclose(benzene.body.mean(0), 0)  # no atom stays in place under all operations
    assert np.linalg.norm(benzene.body[0]) > 1


def test_noise_below_the_tolerance_is_averaged_away():
    rng = np.random.default_rng(1)
    noisy = NH2.body + 0.004 * rng.standard_normal((3, 3))
    unit = RigidUnit.from_atoms("NH2", NH2.species, noisy)
    assert unit_symmetry(unit)[0] == "C2v"
    bonds = np.linalg.norm(unit.body[1:], axis=1)
    assert bonds[0] == pytest.approx(bonds[1], abs=1e-9)
    bent = RigidUnit.from_atoms("NH2", NH2.species, NH2.body * [[1], [1], [0.95]])
    assert unit_symmetry(bent)[0] == "Cs"


@quick
@given(seeds, st.sampled_from(sorted(SYMBOLS)))
def test_fit_finds_orientation_and_order(seed, name):
    rng = np.random.default_rng(seed)
    unit = some_unit(name)
    rotation = Rotation.random(random_state=seed).as_matrix()
    order = rng.permutation(unit.n_atoms)
    origin = 10 * rng.standard_normal(3)
    hand = -1 if unit.is_chiral and seed % 2 else 1
    coords = (hand * unit.body @ rotation.T + origin)[order]
    fit = fit_unit(unit, [unit.species[i] for i in order], coords)
    assert fit.rms < 1e-6
    assert np.allclose(fit.origin, origin, atol=1e-6)
    assert fit.handedness == hand
    laid = fit.handedness * unit.body @ fit.rotation.T + fit.origin
    assert np.allclose(laid, coords[list(fit.order)], atol=1e-5)
    assert [unit.species[order[i]] for i in fit.order] == list(unit.species)


@quick
@given(seeds, st.sampled_from(["H2O", "NH3", "CH4", "C6H6", "C2H6"]))
def test_canonical_orientation_is_one_of_an_orbit(seed, name):
    unit = some_unit(name)
    rotation = Rotation.random(random_state=seed).as_matrix()
    canonical = canonical_rotation(unit, rotation)
    for equivalent in equivalent_rotations(unit, rotation):
        assert np.allclose(canonical_rotation(unit, equivalent), canonical, atol=1e-9)
    angles = [Rotation.from_matrix(r).magnitude() for r in equivalent_rotations(unit, rotation)]
    assert Rotation.from_matrix(canonical).magnitude() == pytest.approx(min(angles), abs=1e-6)


def test_swapping_hydrogens_changes_nothing():
    rotation = Rotation.random(random_state=5).as_matrix()
    coords = NH2.body @ rotation.T
    first, second = (fit_unit(NH2, ("N", "H", "H"), coords[order]) for order in ([0, 1, 2], [0, 2, 1]))
    assert np.allclose(first.rotation, second.rotation, atol=1e-12)


def test_units_survive_json():
    for unit in (NA, NH2, NANH2):
        assert RigidUnit.from_dict(unit.to_dict()) == unit


@pytest.mark.parametrize(
    ("species", "coords", "message"),
    [
        (("N", "H"), ((0.0, 0.0, 0.0),), "2 species but 1 positions"),
        (("Xx",), ((0.0, 0.0, 0.0),), "'Xx' is not an element"),
        (("N",), ((float("nan"), 0.0, 0.0),), "finite"),
        (("N", "N"), ((0.0, 0.0, 0.0), (0.05, 0.0, 0.0)), "0.050 A apart"),
    ],
)
def test_bad_units(species, coords, message):
    with pytest.raises(InputError, match=message):
        RigidUnit("bad", species, coords)


def test_compounds_count_formula_units():
    composition = SODIUM_AMIDE.composition * 16
    assert SODIUM_AMIDE.formula_units(composition) == 16
    assert SODIUM_AMIDE.atoms_per_formula_unit == SODIUM_AMIDE_SUBUNITS.atoms_per_formula_unit == 4
    with pytest.raises(InputError, match="not a whole number of NaNH2"):
        SODIUM_AMIDE.formula_units(composition + NA.composition)
    with pytest.raises(InputError, match="count of at least 1"):
        Compound("bad", (NA,), (0,))
