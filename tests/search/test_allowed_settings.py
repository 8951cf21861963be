import numpy as np
import pytest

from nanh2lib.crystal.space_group import SpaceGroup, hall_numbers_for
from nanh2lib.errors import InputError
from nanh2lib.search.allowed_settings import hall_numbers_for_lattice, same_up_to_origin

ALPHA = (8.964, 10.456, 8.073, 90.0, 90.0, 90.0)


def test_right_angled_cell_allows_every_setting_up_to_orthorhombic():
    halls = hall_numbers_for_lattice(ALPHA, keep_equivalent=True)
    assert halls == tuple(range(1, 349))  # triclinic, monoclinic, orthorhombic in spglib's table


def test_settings_that_differ_by_the_origin_only_are_kept_once():
    halls = hall_numbers_for_lattice(ALPHA)
    assert len(halls) == 306
    assert halls[:2] == (1, 2)
    assert 335 in halls
    assert 336 not in halls  # Fddd, origin choices 1 and 2
    assert same_up_to_origin(336) == 335
    assert {212, 213, 214} <= set(halls)  # Fdd2, F2dd, Fd2d are three settings


def test_groups_named_in_the_issue_are_there():
    numbers = {SpaceGroup.from_hall(hall).number for hall in hall_numbers_for_lattice(ALPHA)}
    assert {1, 2, 3, 4, 5, 7, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 29, 43, 61, 70} <= numbers
    assert max(numbers) == 74


def test_equivalence_means_that_an_origin_shift_carries_the_operations_over():
    for hall in (42, 94, 229, 336, 348):
        group, other = SpaceGroup.from_hall(hall), SpaceGroup.from_hall(same_up_to_origin(hall))
        assert other.hall_number < hall
        table = {r.tobytes(): w for r, w in zip(*other.unique_rotations, strict=True)}
        rotations, translations = group.unique_rotations
        assert {r.tobytes() for r in rotations} == set(table)
        grid = np.array(np.meshgrid(*[np.arange(8) / 8] * 3)).reshape(3, -1).T
        pure = group.translations[[np.array_equal(r, np.eye(3)) for r in group.rotations]]

        def fits(shift, rotations=rotations, translations=translations, table=table, pure=pure):
            for rotation, translation in zip(rotations, translations, strict=True):
                gap = table[rotation.tobytes()] + shift - rotation @ shift - translation - pure
                if np.abs(gap - np.round(gap)).max(1).min() > 1e-6:
                    return False
            return True

        assert any(fits(shift) for shift in grid)


def test_oblique_cells_allow_less():
    assert hall_numbers_for_lattice([5.0, 6.0, 7.0, 80.0, 95.0, 103.0]) == (1, 2)
    monoclinic = hall_numbers_for_lattice([7.121, 6.337, 7.030, 90.0, 145.882, 90.0])
    assert {SpaceGroup.from_hall(h).number for h in monoclinic} == set(range(1, 16))
    assert 81 in monoclinic  # P2_1/c, b axis
    assert not {84, 87} & set(monoclinic)  # c and a axes


def test_hexagonal_cell_has_its_groups_and_no_cubic_ones():
    numbers = {SpaceGroup.from_hall(h).number for h in hall_numbers_for_lattice([5.0, 5.0, 8.0, 90.0, 90.0, 120.0])}
    assert {143, 194, 166} <= numbers
    assert not numbers & set(range(195, 231))
    assert hall_numbers_for(166)


@pytest.mark.parametrize(
    "cell", [(1.0, 2.0, 3.0), (5.0, 5.0, 5.0, 20.0, 20.0, 90.0), (5.0, 5.0, float("nan"), 90, 90, 90)]
)
def test_what_is_no_cell_is_refused(cell):
    with pytest.raises(InputError, match="not a cell"):
        hall_numbers_for_lattice(cell)
