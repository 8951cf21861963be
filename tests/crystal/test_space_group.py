"""All 530 settings: operations, orbits, stabilizers, letters, origin choices."""

import numpy as np
import pytest
import spglib
import torch
from pyxtal.symmetry import Group

from nanh2lib.crystal.hall import hall_operations, space_group_type
from nanh2lib.crystal.space_group import (
    N_HALL,
    SpaceGroup,
    default_hall_number,
    hall_number_from_symbol,
    hall_numbers_for,
    setting_symbol,
)
from nanh2lib.crystal.wyckoff import distinct_points, setting_transformations
from nanh2lib.errors import InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix

HALLS = range(1, N_HALL + 1)
POINT = np.array([0.0813, 0.3037, 0.1741])


def whole(values):
    return np.abs(values - np.round(values)).max() < 1e-6


def compatible_cell(group, seed=0):
    """Lattice parameters with the metric symmetry of a group and no other."""
    start = torch.tensor([[7.1, 9.3, 11.9, 83.0, 97.0, 104.0]], dtype=torch.float64)
    start = start + torch.rand(1, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return group.symmetrize_lattice(start)


def test_operations_form_a_group():
    for hall in HALLS:
        group = SpaceGroup.from_hall(hall)
        rotations, translations = group.rotations, group.translations
        assert np.array_equal(rotations[0], np.eye(3))
        assert not translations[0].any()
        keys = {(r.tobytes(), *np.round(24 * w).astype(int) % 24) for r, w in zip(rotations, translations, strict=True)}
        assert len(keys) == group.order
        # Products with three operations that are far apart in the list reach everything sooner or later.
        for i in (1 % group.order, group.order // 2, group.order - 1):
            products = rotations[i] @ rotations
            moved = translations @ rotations[i].T + translations[i]
            found = {(r.tobytes(), *np.round(24 * w).astype(int) % 24) for r, w in zip(products, moved, strict=True)}
            assert found == keys
        assert group.order % group.centering_order == 0
        assert abs(np.linalg.det(group.primitive)) == pytest.approx(1 / group.centering_order)


def test_settings_that_share_their_operations():
    """Cccb and Ccca in origin choice 1, and their axis permutations: the two names are one set of operations."""
    seen: dict[frozenset, list[int]] = {}
    for hall in HALLS:
        rotations, translations = hall_operations(hall)
        pairs = zip(rotations, translations, strict=True)
        key = frozenset((r.tobytes(), *np.round(24 * w).astype(int) % 24) for r, w in pairs)
        seen.setdefault(key, []).append(hall)
    assert [halls for halls in seen.values() if len(halls) > 1] == [[322, 324], [326, 328], [330, 332]]


def test_orbits_and_stabilizers_of_every_site():
    for hall in HALLS:
        group = SpaceGroup.from_hall(hall)
        assert group.wyckoff_sites[-1].multiplicity == group.order
        for site in group.wyckoff_sites:
            point = site.projection @ POINT + site.offset
            assert np.allclose(site.projection @ point + site.offset, point)
            assert np.allclose(site.projection @ site.projection, site.projection)
            fixed = site.stabilizer_rotations @ point + site.stabilizer_translations
            assert np.allclose(fixed, point), (hall, site.label)
            assert np.array_equal(site.stabilizer_rotations[0], np.eye(3))
            images = site.coset_rotations @ point + site.coset_translations
            assert np.allclose(images[0], point)
            orbit = group.rotations @ point + group.translations
            assert len(distinct_points(orbit)) == len(distinct_points(images)) == site.multiplicity
            assert site.multiplicity * len(site.stabilizer_rotations) == group.order


def test_letters_are_spglibs_in_every_setting():
    """One atom kind on each site of each setting, and a second generic one, against spglib's own tables."""
    for hall in HALLS:
        group = SpaceGroup.from_hall(hall)
        parameters = compatible_cell(group)
        lattice = lattice_parameters_to_matrix(parameters)[0].numpy()
        positions, kinds, letters = [], [], []
        points = [(site, POINT) for site in group.wyckoff_sites] + [(group.wyckoff_sites[-1], POINT[[2, 0, 1]] * 1.3)]
        for kind, (site, point) in enumerate(points):
            point = site.projection @ point + site.offset
            positions.append(site.coset_rotations @ point + site.coset_translations)
            kinds += [kind] * site.multiplicity
            letters += [site.letter] * site.multiplicity
        cell = (lattice, np.concatenate(positions), kinds)
        dataset = spglib.get_symmetry_dataset(cell, symprec=1e-4, hall_number=hall)
        assert dataset is not None
        assert dataset.number == group.number
        assert list(dataset.wyckoffs) == letters, (hall, group.symbol, group.choice)


def test_pyxtal_sites_reach_every_setting_by_a_checked_transformation():
    for hall in HALLS:
        number = int(space_group_type(hall).number)
        source = int(Group(number).hall_number)
        linear, shift = next(setting_transformations(source, hall))
        rotations, translations = hall_operations(source)
        inverse = np.linalg.inv(linear)
        moved = linear @ rotations @ inverse
        # x' = P x + p turns (W, w) into (P W P^-1, P w + p - P W P^-1 p).
        shifted = translations @ linear.T + shift - moved @ shift
        target_rotations, target_translations = hall_operations(hall)
        centring = target_translations[(target_rotations == np.eye(3)).all((1, 2))]
        table = {r.tobytes(): w for r, w in zip(target_rotations, target_translations, strict=True)}
        for rotation, translation in zip(np.round(moved).astype(np.int64), shifted, strict=True):
            gaps = translation - table[rotation.tobytes()] - centring
            assert (np.abs(gaps - np.round(gaps)).max(1) < 1e-9).any(), (hall, rotation)


def test_pyxtal_has_another_origin_in_24_groups():
    differ = [n for n in range(1, 231) if int(Group(n).hall_number) != default_hall_number(n)]
    assert len(differ) == 24
    assert 70 in differ  # Fddd
    for number in differ:
        assert space_group_type(default_hall_number(number)).choice.startswith("1")
        linear, shift = next(setting_transformations(int(Group(number).hall_number), default_hall_number(number)))
        assert np.array_equal(linear, np.eye(3))
        assert not whole(shift)


def test_allowed_origin_shifts_leave_the_operations_alone():
    rng = np.random.default_rng(0)
    for hall in (*range(1, N_HALL, 7), 6, 21, 81, 213, 335, 433, 434, 525):
        group = SpaceGroup.from_hall(hall)
        free = group.free_origin_shifts()
        assert (np.abs(free.shifts) < 1e-9).all(1).any()
        assert len(distinct_points(free.shifts)) == len(free.shifts)
        centring = group.translations[(group.rotations == np.eye(3)).all((1, 2))]
        for shift in free.shifts:
            shift = shift + rng.random(len(free.directions)) @ free.directions
            change = shift - group.rotations @ shift
            gaps = change[:, None] - centring
            assert (np.abs(gaps - np.round(gaps)).max(-1) < 1e-9).any(1).all(), (hall, shift)


def test_polar_directions():
    counts = {
        n: len(SpaceGroup.from_number(n).free_origin_shifts().directions) for n in (1, 2, 4, 7, 14, 19, 33, 43, 146)
    }
    assert counts == {1: 3, 2: 0, 4: 1, 7: 2, 14: 0, 19: 0, 33: 1, 43: 1, 146: 1}


def test_origin_shifts_of_alphas_group():
    """International Tables A: the Euclidean normalizer of Fddd adds a shift by (1/2, 1/2, 1/2) to the four of F."""
    assert len(SpaceGroup.from_hall(335).free_origin_shifts().shifts) == 8


@pytest.mark.parametrize("hall", [1, 2, 6, 81, 90, 108, 213, 335, 349, 430, 433, 434, 462, 489, 525])
def test_metric_symmetry(hall):
    group = SpaceGroup.from_hall(hall)
    cell = compatible_cell(group)
    assert torch.allclose(group.symmetrize_lattice(cell), cell, atol=1e-9)
    assert group.allows_lattice(cell[0])
    lattice = lattice_parameters_to_matrix(cell)[0].numpy()
    cart = lattice.T @ group.rotations @ np.linalg.inv(lattice).T
    assert np.allclose(cart.transpose(0, 2, 1) @ cart, np.eye(3), atol=1e-9)
    assert group.allows_lattice([8.0, 8.1, 8.2, 85.0, 86.0, 87.0]) == (hall <= 2)


def test_gradient_of_the_symmetrised_lattice():
    cell = torch.tensor([[8.0, 8.1, 8.2, 85.0, 86.0, 87.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SpaceGroup.from_hall(81).symmetrize_lattice, cell)
    assert torch.autograd.gradcheck(SpaceGroup.from_hall(462).symmetrize_lattice, cell)


@pytest.mark.parametrize(
    ("hall", "symbol"),
    [
        (81, "P2_1/c"),
        (82, "P2_1/n"),
        (7, "P112_1"),
        (213, "F2dd"),
        (214, "Fd2d"),
        (335, "Fddd"),
        (92, "I2/a"),
        (24, "P11a"),
    ],
)
def test_symbols_of_settings(hall, symbol):
    assert setting_symbol(hall) == symbol
    assert hall_number_from_symbol(symbol) == hall


def test_symbols_are_read_generously():
    assert hall_number_from_symbol("P 1 21/c 1") == hall_number_from_symbol("p2_1/C") == 81
    assert hall_numbers_for(70) == (335, 336)


@pytest.mark.parametrize("bad", [0, 531, 3.5, True])
def test_bad_hall_numbers(bad):
    with pytest.raises(InputError, match="1 to 530"):
        SpaceGroup.from_hall(bad)


def test_bad_names():
    with pytest.raises(InputError, match="1 to 230"):
        SpaceGroup.from_number(231)
    with pytest.raises(InputError, match="no space group is called"):
        hall_number_from_symbol("P7")
    with pytest.raises(InputError, match=r"no site 'z'; it has .*4e"):
        SpaceGroup.from_hall(81).site("z")
