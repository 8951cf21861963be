"""Which orientations a unit may take on a special position."""

import math

import numpy as np
import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import expand, project_rotations
from nanh2lib.crystal.orientation import orientation_modes, polar_factor, project_orientation
from nanh2lib.crystal.rigid_unit import NA, NANH2, NH2, RigidUnit, unit_symmetry
from nanh2lib.crystal.space_group import SpaceGroup, default_hall_number
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import random_rotations

CO2 = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.17, 0.0, 0.0), (-1.17, 0.0, 0.0)))
OH = RigidUnit("OH", ("O", "H"), ((0.0, 0.0, 0.0), (0.97, 0.0, 0.0)))
_T = 1.03 / math.sqrt(3)
NH4 = RigidUnit(
    "NH4", ("N", "H", "H", "H", "H"), ((0, 0, 0), (_T, _T, _T), (_T, -_T, -_T), (-_T, _T, -_T), (-_T, -_T, _T))
)
CHIRAL = RigidUnit(
    "CHFClBr",
    ("C", "H", "F", "Cl", "Br"),
    ((0, 0, 0), (0.63, 0.63, 0.63), (0.8, -0.8, -0.8), (-1.0, 1.0, -1.0), (-1.1, -1.1, 1.1)),
)


def sites_of(number):
    group = SpaceGroup.from_number(number)
    return group.hall_number, group.wyckoff_sites


@pytest.mark.parametrize(
    ("unit", "number", "letter", "symmetry", "count"),
    [
        (NH2, 6, "a", "m", 2),  # its plane in the mirror, or across it
        (NH2, 3, "a", "2", 1),
        (NH2, 25, "a", "mm2", 2),  # its plane in either mirror
        (NH2, 2, "a", "-1", 0),
        (NH2, 10, "a", "2/m", 0),
        (NH2, 16, "a", "222", 0),
        (NH2, 75, "a", "4", 0),
        (NH2, 143, "a", "3", 0),
        (NH2, 2, "i", "1", 1),
        (NANH2, 25, "a", "mm2", 2),
        (NA, 225, "a", "m-3m", 1),
        (CO2, 205, "a", "-3", 1),
        (CO2, 2, "a", "-1", 1),
        (CO2, 225, "a", "m-3m", 0),
        (CO2, 215, "a", "-43m", 0),
        (OH, 2, "a", "-1", 0),
        (OH, 99, "a", "4mm", 1),
        (NH4, 215, "a", "-43m", 2),  # H towards (1, 1, 1) or away from it
        (NH4, 221, "a", "m-3m", 0),
        (NH4, 2, "a", "-1", 0),
        (CHIRAL, 6, "a", "m", 0),
        (CHIRAL, 14, "e", "1", 1),
    ],
)
def test_number_of_modes(unit, number, letter, symmetry, count):
    hall, _ = sites_of(number)
    site = SpaceGroup.from_hall(hall).site(letter)
    assert site.site_symmetry == symmetry
    assert len(orientation_modes(unit, hall, letter)) == count


def test_modes_are_homomorphisms_into_the_units_group():
    for number in (3, 6, 25, 99, 123, 156, 205, 215):
        hall, sites = sites_of(number)
        for site in sites:
            for unit in (NH2, NH4):
                for mode in orientation_modes(unit, hall, site.letter):
                    rotations = site.stabilizer_rotations
                    table = [
                        [next(k for k, r in enumerate(rotations) if (r == a @ b).all()) for b in rotations]
                        for a in rotations
                    ]
                    assert np.allclose(mode[:, None] @ mode[None], mode[np.array(table)], atol=1e-9)
                    assert np.allclose(np.linalg.det(mode), np.linalg.det(rotations))


@pytest.mark.parametrize("unit", [NH2, NH4, CO2, OH, NANH2])
@pytest.mark.parametrize("number", [3, 6, 25, 62, 63, 99, 111, 156, 160, 205, 215, 216])
def test_projected_orientations_have_the_site_symmetry(unit, number):
    """From any start, even across the axis, the projection lands where all site operations map the unit onto itself."""
    hall, sites = sites_of(number)
    parameters = SpaceGroup.from_hall(hall).symmetrize_lattice(torch.tensor([[6.0, 7.0, 8.0, 90, 90, 90]]).double())
    lattice = lattice_parameters_to_matrix(parameters)
    starts = torch.cat([random_rotations(20, torch.Generator().manual_seed(0)), axis_permutations()])
    for site in sites:
        stabilizer = torch.as_tensor(site.stabilizer_rotations).double()
        cart = lattice.transpose(-1, -2) @ stabilizer @ torch.linalg.inv(lattice).transpose(-1, -2)
        for number_of_mode, mode in enumerate(orientation_modes(unit, hall, site.letter)):
            template = Template(hall, (Site(unit, site.letter, number_of_mode),))
            moved = project_rotations(template, lattice.expand(len(starts), 3, 3), starts[:, None])[:, 0]
            assert torch.allclose(moved.transpose(-1, -2) @ moved, torch.eye(3).double().expand_as(moved), atol=1e-9)
            assert bool((torch.linalg.det(moved) > 0).all())
            atoms = moved @ torch.as_tensor(unit.body.T)
            images = cart[:, None] @ atoms
            expected = moved @ (torch.as_tensor(mode.copy())[:, None] @ torch.as_tensor(unit.body.T))
            assert torch.allclose(images, expected, atol=1e-6), (number, site.label)


def axis_permutations():
    """All 24 rotations that permute the axes: starts with singular means on most sites."""
    found = []
    for columns in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        for signs in range(8):
            matrix = torch.zeros(3, 3, dtype=torch.float64)
            for i, column in enumerate(columns):
                matrix[i, column] = -1.0 if signs >> i & 1 else 1.0
            if torch.linalg.det(matrix) > 0:
                found.append(matrix)
    return torch.stack(found)


def test_an_allowed_orientation_stays():
    hall, _ = sites_of(25)
    parameters = torch.tensor([[6.0, 7.0, 8.0, 90, 90, 90]]).double()
    template = Template(hall, (Site(NH2, "a"),))
    lattice = lattice_parameters_to_matrix(parameters)
    first = project_rotations(template, lattice, random_rotations(1, torch.Generator().manual_seed(3))[:, None])
    assert torch.allclose(project_rotations(template, lattice, first), first, atol=1e-12)


def test_polar_factor_is_the_nearest_rotation_and_differentiable():
    matrix = random_rotations(6, torch.Generator().manual_seed(0))
    matrix = matrix @ torch.diag(torch.tensor([1.0, 1.0, 0.6])).double() + 0.05
    u, _, vh = torch.linalg.svd(matrix)
    assert torch.allclose(polar_factor(matrix), u @ vh, atol=1e-10)
    assert torch.autograd.gradcheck(polar_factor, matrix[:2].requires_grad_(), fast_mode=True)


def test_chiral_units_keep_their_hand_or_are_refused():
    assert CHIRAL.is_chiral
    assert not any(unit.is_chiral for unit in (NH2, NH4, CO2, OH, NA))
    with pytest.raises(InputError, match=r"CHFClBr \(point group C1\) cannot sit on site 1a of Pm.*lower symmetry"):
        Template(default_hall_number(6), (Site(CHIRAL, "a"),))
    unit = AsymmetricUnit(
        Template(81, (Site(CHIRAL, "e"), Site(CHIRAL, "e", handedness=-1))),
        torch.tensor([[9.0, 10.0, 11.0, 90, 100, 90]]).double(),
        torch.tensor([[[0.1, 0.2, 0.15], [0.6, 0.05, 0.35]]]).double(),
        random_rotations(2, torch.Generator().manual_seed(0))[None],
    )
    structure = expand(unit)[0]
    hands = {}
    for image in range(8):
        atoms = [s for s in structure if s.properties["unit_index"] == image]
        by_name = {s.specie.symbol: s for s in atoms}
        vectors = [
            structure.lattice.get_cartesian_coords(
                (d := by_name[x].frac_coords - by_name["C"].frac_coords) - np.round(d)
            )
            for x in ("H", "F", "Cl")
        ]
        hands[image] = float(np.sign(np.linalg.det(vectors)))
    # Each orbit holds both hands in equal parts, whatever hand its representative has.
    assert [sum(hands[i] for i in block) for block in (range(4), range(4, 8))] == [0, 0]
    assert hands[0] == -hands[4]


def test_bad_sites():
    with pytest.raises(InputError, match="handedness 2 must be 1 or -1"):
        Template(81, (Site(NH2, "e", handedness=2),))
    with pytest.raises(InputError, match="orientation mode 1 does not exist; it has 1"):
        Template(335, (Site(NH2, "g", orientation_mode=1),))
    with pytest.raises(InputError, match="name at least one site"):
        Template(81, ())


def test_projection_without_gradient_where_it_is_not_smooth():
    """NH2 drawn exactly across its two-fold axis: an allowed orientation comes out, all finite."""
    hall, _ = sites_of(3)
    stabilizer = torch.as_tensor(SpaceGroup.from_hall(hall).site("a").stabilizer_rotations)[None].double()
    mode = torch.as_tensor(orientation_modes(NH2, hall, "a")[0].copy())
    start = torch.eye(3, dtype=torch.float64)[None].requires_grad_()  # x across the axis, which is y
    moved = project_orientation(start, stabilizer, mode, False)
    assert abs(float(moved[0, 1, 0].detach())) == pytest.approx(1.0)
    moved.sum().backward()
    assert bool(torch.isfinite(start.grad).all())


def test_symmetry_operations_are_sorted_and_exact():
    symbol, operations = unit_symmetry(NH2)
    assert symbol == "C2v"
    assert [np.diag(op).round(12).tolist() for op in operations] == [[1, 1, 1], [1, -1, -1], [1, 1, -1], [1, -1, 1]]
