"""Extraction: the input's own setting, one canonical answer, special positions, clear refusals."""

from math import gcd

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.deviation import deviation, in_tabulated_origin
from nanh2lib.crystal.expansion import expand, project
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.orientation import orientation_modes
from nanh2lib.crystal.rigid_unit import NA, NH2, SODIUM_AMIDE, Compound, RigidUnit
from nanh2lib.crystal.setting import find_setting
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations
from tests.crystal.conftest import all_published
from tests.crystal.published_compounds import COMPOUNDS
from tests.crystal.test_space_group import compatible_cell

EXPECTED = {
    "S1-P21212": "P2_12_12[112] Na:2a NH2:2b",
    "S1-P21c": "P2_1/c[81] Na:4e NH2:4e",
    "S1-Pcca": "Pcca[257] Na:8f NH2:8f",
    "S1-P21": "P2_1[6] Na:" + ",".join(["2a"] * 8) + " NH2:" + ",".join(["2a"] * 8),
    "S2-P21c": "P2_1/c[81] Na:4e,4e,4e,4e NH2:4e,4e,4e,4e",
    "S2-P21": "P2_1[6] Na:" + ",".join(["2a"] * 8) + " NH2:" + ",".join(["2a"] * 8),
    "S2-P2c": "P2/c[72] Na:4g,4g,4g,4g NH2:4g,4g,4g,4g",
    "S2-Pc": "Pc[21] Na:" + ",".join(["2a"] * 8) + " NH2:" + ",".join(["2a"] * 8),
    "alpha": "Fddd[335] Na:16f NH2:16g",
}


def same(first, second, tolerance=1e-5):
    assert first.template == second.template
    for name in ("lattice_parameters", "frac_origins", "rotations"):
        gap = float((getattr(first, name) - getattr(second, name)).abs().max())
        assert gap < tolerance, (name, gap)


def shuffled(structure, rng):
    """Atoms in another order, other lattice images, the H of each NH2 swapped by the way."""
    order = rng.permutation(len(structure))
    frac = structure.frac_coords[order] + rng.integers(-2, 3, (len(structure), 3))
    return Structure(structure.lattice, [structure.species[i] for i in order], frac)


def test_published_structures_keep_their_setting(published):
    key, structure = published
    unit = extract_asymmetric_unit(structure)
    assert unit.template.label == EXPECTED[key]
    assert unit.batch_size == 1
    assert unit.dtype is torch.float64
    assert np.allclose(unit.lattice_parameters[0].numpy(), structure.lattice.parameters, atol=1e-9)
    gaps = deviation(expand(unit)[0], in_tabulated_origin(structure))
    assert gaps.max_heavy < 1e-3
    assert gaps.max_hydrogen < 0.05  # how far NH2 is from 1.03 A and 104 degrees in the tables


def test_the_obtuse_cell_and_the_special_positions(crystals):
    assert float(extract_asymmetric_unit(crystals["S1-P21c"]).lattice_parameters[0, 4]) == pytest.approx(145.882)
    assert extract_asymmetric_unit(crystals["S1-P21212"]).site_symmetries == ("2", "2")
    assert extract_asymmetric_unit(crystals["alpha"]).site_symmetries == ("2", "2")


def test_the_answer_does_not_depend_on_the_description(published):
    key, structure = published
    rng = np.random.default_rng(len(key))
    expected = extract_asymmetric_unit(structure)
    same(extract_asymmetric_unit(shuffled(structure, rng)), expected)
    turned = Lattice(structure.lattice.matrix @ Rotation.random(random_state=1).as_matrix())
    same(extract_asymmetric_unit(Structure(turned, structure.species, structure.frac_coords)), expected)
    # Another symmetry image of the whole crystal.
    group = expected.template.space_group
    pick = len(group.rotations) - 1
    settled = in_tabulated_origin(structure)
    image = settled.frac_coords @ group.rotations[pick].T + group.translations[pick]
    same(
        extract_asymmetric_unit(Structure(structure.lattice, structure.species, image)),
        extract_asymmetric_unit(settled),
    )


def test_any_origin_gives_one_answer_on_request(published):
    key, structure = published
    rng = np.random.default_rng(1)
    expected = extract_asymmetric_unit(structure, canonical_origin=True)
    for shift in (np.zeros(3), rng.random(3)):
        moved = shuffled(structure, rng)
        moved = Structure(moved.lattice, moved.species, moved.frac_coords + shift)
        same(extract_asymmetric_unit(moved, canonical_origin=True), expected)
    gaps = deviation(*(expand(extract_asymmetric_unit(s))[0] for s in (expand(expected)[0],) * 2))
    assert gaps.rms < 1e-9
    assert key in EXPECTED


def test_hydrogens_are_interchangeable(crystals):
    structure = crystals["S2-P2c"]
    order = list(range(len(structure)))
    hydrogens = [i for i in order if structure[i].specie.symbol == "H"]
    for i, j in zip(hydrogens, hydrogens[::-1], strict=True):
        order[i] = j
    swapped = Structure.from_sites([structure[i] for i in order])
    same(extract_asymmetric_unit(swapped), extract_asymmetric_unit(structure))


@pytest.mark.parametrize("key", ["S1-P21c", "S2-Pc", "alpha"])
def test_extract_after_expand_is_a_fixed_point(key, crystals):
    unit = extract_asymmetric_unit(crystals[key])
    same(extract_asymmetric_unit(expand(unit)[0]), unit)
    canonical = extract_asymmetric_unit(crystals[key], canonical_origin=True)
    same(extract_asymmetric_unit(expand(canonical)[0], canonical_origin=True), canonical)


def test_site_index_anchor_follows_the_order_of_atoms(crystals):
    """The supplement's rule: each group is kept through the sodium with the lowest site index."""
    structure = in_tabulated_origin(crystals["S2-P21c"])
    sodium = [i for i, s in enumerate(structure) if s.specie.symbol == "Na"]
    unit = extract_asymmetric_unit(structure, anchor="site_index")
    first = np.array([unit.frac_origins[0, i].numpy() for i, u in enumerate(unit.units) if u == NA])
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    groups = SpacegroupAnalyzer(structure, 1e-2).get_symmetrized_structure().equivalent_indices
    lowest = sorted(min(group) for group in groups if group[0] in sodium)
    gaps = first - structure.frac_coords[lowest]
    assert np.abs(gaps - np.round(gaps)).max() < 1e-3
    # Reversing the list of atoms changes this answer, not the canonical one.
    backwards = Structure.from_sites(list(structure)[::-1])
    other = extract_asymmetric_unit(backwards, anchor="site_index")
    assert float((other.frac_origins - unit.frac_origins).abs().max()) > 0.01
    same(extract_asymmetric_unit(backwards), extract_asymmetric_unit(structure))


def test_pairs_are_one_to_one_and_near(published):
    _, structure = published
    unit = extract_asymmetric_unit(structure)
    lattice = Lattice.from_parameters(*unit.lattice_parameters[0].tolist(), vesta=True)
    origins = unit.frac_origins[0].numpy()
    count = len(unit.units) // 2
    assert all(u == NA for u in unit.units[:count])
    distances = np.linalg.norm(lattice.get_cartesian_coords(origins[count:] - origins[:count]), axis=1)
    assert distances.max() < 4.0
    # The first sodium of each orbit lies in the cell.
    assert (origins[:count] > -1e-4).all()
    assert (origins[:count] < 1).all()


def orbit_distances(unit):
    """Shortest distance of each NH2 orbit (rows) to each Na orbit, over all images."""
    group = unit.template.space_group
    lattice = Lattice.from_parameters(*unit.lattice_parameters[0].tolist(), vesta=True)
    origins, count = unit.frac_origins[0].numpy(), len(unit.units) // 2
    return np.array(
        [
            [
                lattice.get_all_distances(n[None], group.rotations @ na + group.translations).min()
                for na in origins[:count]
            ]
            for n in origins[count:]
        ]
    )


def test_the_pairing_has_the_smallest_sum_of_distances(published):
    _, structure = published
    unit = extract_asymmetric_unit(structure)
    distances = orbit_distances(unit)
    rows, columns = linear_sum_assignment(distances)
    assert np.trace(distances) == pytest.approx(distances[rows, columns].sum(), abs=1e-3)


def test_the_nearest_sodium_would_be_taken_twice_in_four_of_the_eight(crystals):
    reused = 0
    for key, structure in crystals.items():
        nearest = orbit_distances(extract_asymmetric_unit(structure)).argmin(1)
        reused += key != "alpha" and len(set(nearest)) < len(nearest)
    assert reused == 4


def test_the_anchor_is_the_first_kind_of_the_compound(crystals):
    """NH2 named first: its orbits come first and lie in the cell, Na is the follower."""
    unit = extract_asymmetric_unit(crystals["S2-P21c"], compound=Compound("NH2Na", (NH2, NA), (1, 1)))
    assert unit.units == (NH2,) * 4 + (NA,) * 4
    anchors = unit.frac_origins[0, :4].numpy()
    assert ((anchors > -1e-4) & (anchors < 1)).all()


def test_a_coordinate_just_below_one_is_zero(crystals):
    """Rounding to either side of a cell face does not move the first sodium by a cell, nor reorder the units."""
    alpha = in_tabulated_origin(crystals["alpha"])
    expected = extract_asymmetric_unit(alpha)
    for error in (-1e-8, 1e-8):
        frac = alpha.frac_coords + error
        moved = Structure(alpha.lattice, alpha.species, frac - np.floor(frac))
        assert (moved.frac_coords > 0.9999999).any() == (error < 0)
        same(extract_asymmetric_unit(moved), expected)


def test_a_primitive_cell_is_refused_with_the_way_out(crystals):
    primitive = crystals["alpha"].get_primitive_structure()
    assert len(primitive) == 16
    with pytest.raises(InputError, match="primitive or a supercell; use standardize=True"):
        extract_asymmetric_unit(primitive)
    unit = extract_asymmetric_unit(primitive, standardize=True)
    assert unit.template.n_atoms == 64
    assert unit.space_group_number == 70


def test_a_supercell_is_refused_with_the_way_out(crystals):
    double = crystals["S1-P21212"].make_supercell([1, 1, 2], in_place=False)
    with pytest.raises(InputError, match="use standardize=True"):
        extract_asymmetric_unit(double)
    assert extract_asymmetric_unit(double, standardize=True).template.n_atoms == 8


def test_a_left_handed_cell(crystals):
    structure = crystals["S2-P21c"]
    # The same crystal described by -a, -b, -c: left-handed axes.
    flipped = Structure(Lattice(-structure.lattice.matrix), structure.species, -structure.frac_coords)
    assert np.linalg.det(flipped.lattice.matrix) < 0
    same(extract_asymmetric_unit(flipped), extract_asymmetric_unit(structure))


def test_a_foreign_origin_goes_to_the_default_one(crystals):
    """Neither origin choice of Fddd: choice 1, always; at choice 2's own origin: choice 2."""
    alpha = crystals["alpha"]
    for shift, hall in (([0.11, 0.23, 0.37], 335), ([0.04, -0.1, 0.02], 335), ([-0.125] * 3, 336), ([0.5] * 3, 335)):
        moved = Structure(alpha.lattice, alpha.species, alpha.frac_coords + shift)
        assert find_setting(moved).space_group.hall_number == hall


@pytest.mark.parametrize("hall", [112, 115, 116, 213, 214, 335, 336])
def test_other_settings_are_recognised(hall):
    """Each setting comes back as itself, origin choices and axis permutations included."""
    group = SpaceGroup.from_hall(hall)
    general = group.wyckoff_sites[-1].letter
    parameters = torch.tensor([[8.964, 10.456, 8.073, 90.0, 90.0, 90.0]], dtype=torch.float64)
    origins = torch.tensor([[[0.11, 0.07, 0.21], [0.31, 0.14, 0.43]]], dtype=torch.float64)
    rotations = random_rotations(2, torch.Generator().manual_seed(0))[None]
    start = AsymmetricUnit(Template(hall, (Site(NA, general), Site(NH2, general))), parameters, origins, rotations)
    unit = extract_asymmetric_unit(expand(start)[0])
    assert unit.hall_number == hall
    assert deviation(expand(unit)[0], expand(start)[0]).rms < 1e-6


@pytest.mark.parametrize(
    "number", [1, 5, 9, 19, 33, 62, 82, 88, 114, 122, 146, 148, 160, 167, 176, 198, 205, 220, 227, 230]
)
def test_random_crystals_come_back_in_every_system(number):
    group = SpaceGroup.from_number(number)
    sites = group.wyckoff_sites
    general = sites[-1].letter
    special = [s.letter for s in sites[:-1] if orientation_modes(NH2, group.hall_number, s.letter)]
    template = Template(
        group.hall_number, (Site(NA, general), Site(NA, sites[0].letter), Site(NH2, (special or [general])[-1]))
    )
    parameters = compatible_cell(group, number)
    scale = (90.0 * template.n_atoms / abs(float(torch.linalg.det(lattice_parameters_to_matrix(parameters)[0])))) ** (
        1 / 3
    )
    parameters = torch.cat([parameters[:, :3] * scale, parameters[:, 3:]], 1)
    origins = torch.tensor([[[0.137, 0.072, 0.211], [0.0, 0.0, 0.0], [0.27, 0.05, 0.47]]]).double()
    rotations = random_rotations(3, torch.Generator().manual_seed(number))[None]
    start = project(AsymmetricUnit(template, parameters, origins, rotations))
    unit = extract_asymmetric_unit(expand(start)[0], compound=Compound("x", (NA, NH2), counts(template)))
    assert unit.hall_number == group.hall_number
    assert sorted(w.label for w in unit.template.wyckoff_sites) == sorted(w.label for w in template.wyckoff_sites)
    assert deviation(expand(unit)[0], expand(start)[0]).rms < 1e-6


@pytest.mark.parametrize("hall", [1, 5, 13, 21, 108, 213, 334, 349, 434, 451, 453, 462])
def test_any_origin_in_polar_and_oblique_settings(hall):
    """R3m on rhombohedral axes among them: its polar axis is oblique to every lattice vector."""
    group = SpaceGroup.from_hall(hall)
    general = group.wyckoff_sites[-1].letter
    template = Template(hall, (Site(NA, general), Site(NA, general), Site(NH2, general)))
    parameters = compatible_cell(group, 3)
    scale = (60.0 * template.n_atoms / abs(float(torch.linalg.det(lattice_parameters_to_matrix(parameters)[0])))) ** (
        1 / 3
    )
    parameters = torch.cat([parameters[:, :3] * scale, parameters[:, 3:]], 1)
    origins = torch.tensor([[[0.137, 0.072, 0.211], [0.61, 0.33, 0.05], [0.27, 0.05, 0.47]]]).double()
    rotations = random_rotations(3, torch.Generator().manual_seed(0))[None]
    structure = expand(project(AsymmetricUnit(template, parameters, origins, rotations)))[0]
    expected = extract_asymmetric_unit(structure, canonical_origin=True)
    rng = np.random.default_rng(hall)
    for pick in rng.integers(group.order, size=2):
        frac = structure.frac_coords @ group.rotations[pick].T + group.translations[pick] + rng.random(3)
        moved = shuffled(Structure(structure.lattice, structure.species, frac), rng)
        same(extract_asymmetric_unit(moved, canonical_origin=True), expected)


def counts(template):
    totals = [
        sum(m for m, s in zip(template.multiplicities, template.sites, strict=True) if s.unit == u) for u in (NA, NH2)
    ]
    return tuple(total // gcd(*totals) for total in totals)


def test_noise_below_symprec_is_averaged():
    rng = np.random.default_rng(3)
    clean = in_tabulated_origin(all_published()["alpha"])
    noisy = Structure(clean.lattice, clean.species, clean.frac_coords + rng.normal(0, 2e-4, (len(clean), 3)))
    unit = extract_asymmetric_unit(noisy, symprec=0.03)
    expected = extract_asymmetric_unit(clean)
    assert unit.template == expected.template
    # Sixteen members: the error of a mean, a quarter of 2e-4 times a few standard deviations.
    assert float((unit.frac_origins - expected.frac_origins).abs().max()) < 2.5e-4
    gaps = deviation(expand(unit)[0], noisy)
    assert gaps.max_heavy < 0.015


def test_a_chiral_molecule_takes_both_hands_in_a_centrosymmetric_crystal():
    body = ((0, 0, 0), (0.63, 0.63, 0.63), (0.8, -0.8, -0.8), (-1.0, 1.0, -1.0), (-1.1, -1.1, 1.1))
    unit = RigidUnit("CHFClBr", ("C", "H", "F", "Cl", "Br"), body)
    compound = Compound("x", (unit,), (1,))
    start = AsymmetricUnit(
        Template(81, (Site(unit, "e", handedness=-1),)),
        torch.tensor([[7.0, 8.0, 9.0, 90.0, 100.0, 90.0]]).double(),
        torch.tensor([[[0.81, 0.2, 0.65]]]).double(),
        random_rotations(1, torch.Generator().manual_seed(0))[None],
    )
    found = extract_asymmetric_unit(expand(start)[0], compound=compound)
    assert deviation(expand(found)[0], expand(start)[0]).rms < 1e-6
    mirrored = extract_asymmetric_unit(
        Structure(expand(start)[0].lattice, expand(start)[0].species, -expand(start)[0].frac_coords), compound=compound
    )
    same(mirrored, found)


def test_what_is_not_a_crystal_of_the_compound(crystals):
    structure = crystals["S1-P21c"]
    broken = structure.copy()
    h = next(i for i, s in enumerate(broken) if s.specie.symbol == "H")
    broken.remove_sites([h])
    with pytest.raises(InputError, match=r"'NH'.*which is not a unit of NaNH2.*broken"):
        extract_asymmetric_unit(broken, compound=SODIUM_AMIDE)
    fewer = structure.copy()
    fewer.remove_sites([next(i for i, s in enumerate(fewer) if s.specie.symbol == "Na")])
    with pytest.raises(InputError, match="not a whole number of NaNH2"):
        extract_asymmetric_unit(fewer, compound=SODIUM_AMIDE)
    long = RigidUnit("NH2", ("N", "H", "H"), ((0.0, 0.0, 0.0), (0.5, 1.4, 0.0), (0.5, -1.4, 0.0)))
    with pytest.raises(InputError, match=r"deviate by .* from the rigid unit NH2"):
        extract_asymmetric_unit(structure, compound=Compound("NaNH2", (NA, long), (1, 1)))
    chain = Structure(Lattice.orthorhombic(1.2, 6, 6), ["N"], [[0, 0, 0]])
    with pytest.raises(InputError, match="bonded to its own periodic image"):
        extract_asymmetric_unit(chain)
    disordered = Structure(Lattice.cubic(5), [{"Na": 0.5}], [[0, 0, 0]])
    with pytest.raises(InputError, match="partial occupancy"):
        extract_asymmetric_unit(disordered)


def test_what_is_not_a_crystal_at_all(crystals):
    structure = crystals["S1-P21c"]
    with pytest.raises(InputError, match="at least one atom"):
        extract_asymmetric_unit(Structure(Lattice.cubic(5), [], []))
    with pytest.raises(InputError, match="not finite"):
        extract_asymmetric_unit(Structure(Lattice.cubic(5), ["Na"], [[np.nan, 0, 0]]))
    with pytest.raises(InputError, match="no volume"):
        extract_asymmetric_unit(Structure(Lattice([[1, 0, 0], [2, 0, 0], [0, 0, 1]]), ["Na"], [[0, 0, 0]]))
    with pytest.raises(InputError, match="anchor 'first' does not exist"):
        extract_asymmetric_unit(structure, anchor="first")
    overlapping = Structure(Lattice.cubic(5), ["Na", "Na"], [[0, 0, 0], [0, 0, 1e-5]])
    with pytest.raises(ComputationError, match="finds no space group"):
        extract_asymmetric_unit(overlapping)


def test_near_symmetry_is_taken_at_a_wide_tolerance():
    """Pcca of Table S1 is Ibca at 5e-2, as the notes on the table say."""
    wide = extract_asymmetric_unit(all_published()["S1-Pcca"], symprec=0.05, standardize=True)
    assert wide.space_group_number == 73


def test_a_unit_without_the_symmetry_of_its_site_is_refused():
    """NH2 of KNH2 has its H mirrored by the site; a unit with unequal bonds cannot sit there."""
    structure = next(c for c in COMPOUNDS if c.name == "KNH2").structure()
    lopsided = RigidUnit("NH2", ("N", "H", "H"), ((0.0, 0.0, 0.0), (0.65, 0.85, 0.0), (0.55, -0.70, 0.0)))
    compound = Compound("KNH2", (RigidUnit("K", ("K",)), lopsided), (1, 1))
    with pytest.raises(ComputationError, match=r"lies on site 2e of P2_1/m, whose symmetry m it does not have"):
        extract_asymmetric_unit(structure, compound=compound)
