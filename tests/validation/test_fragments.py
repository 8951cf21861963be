import numpy as np
import pytest

from nanh2lib.crystal.rigid_unit import NA, NANH2, NH2, RigidUnit
from nanh2lib.validation.fragments import GENERATED, RELAXED, Placed, measure_fragments, unit_measures

CO2 = RigidUnit("CO2", ("C", "O", "O"), ((0.0, 0.0, 0.0), (1.16, 0.0, 0.0), (-1.16, 0.0, 0.0)))


def amide(bond=1.03, angle=104.0, second=None):
    half = np.radians(angle / 2)
    other = bond if second is None else second
    return np.array(
        [
            [0, 0, 0],
            [bond * np.cos(half), bond * np.sin(half), 0],
            [other * np.cos(half), -other * np.sin(half), 0],
        ]
    )


def check(coords, limits, unit=NH2):
    placed = [Placed(unit, np.arange(len(coords))[None])]
    (finding,) = measure_fragments(coords[None], placed, limits)
    return finding


def test_bonds_and_angles_come_from_the_body():
    assert [(m.name, m.symbol) for m in unit_measures(NH2)] == [("N-H", "A"), ("N-H", "A"), ("H-N-H", "deg")]
    assert [m.name for m in unit_measures(CO2)] == ["C-O", "C-O", "O-C-O"]
    assert unit_measures(CO2)[2].value == pytest.approx(180.0)
    assert unit_measures(NA) == ()
    assert "Na" not in "".join(m.name for m in unit_measures(NANH2))  # an ion is not bonded


@pytest.mark.parametrize(("bond", "angle"), [(1.03, 104), (1.011, 101.1), (1.049, 106.9)])
def test_generated_units_inside_the_window_of_the_supplement(bond, angle):
    assert check(amide(bond, angle), GENERATED).broken == ()


@pytest.mark.parametrize(("bond", "angle"), [(1.009, 104), (1.051, 104), (1.03, 100.9), (1.03, 107.1)])
def test_generated_units_outside_it_are_broken(bond, angle):
    assert check(amide(bond, angle), GENERATED).broken


@pytest.mark.parametrize(
    ("bond", "angle", "whole"),
    [
        (0.951, 104, True),
        (1.119, 104, True),
        (0.949, 104, False),
        (1.121, 104, False),
        (1.03, 95.1, True),
        (1.03, 111.9, True),
        (1.03, 94.9, False),
        (1.03, 112.1, False),
    ],
)
def test_relaxed_units_have_the_wider_window(bond, angle, whole):
    assert (check(amide(bond, angle), RELAXED).broken == ()) == whole


def test_the_broken_unit_is_named():
    coords = np.concatenate([amide(), amide(second=1.4) + 5])
    placed = [Placed(NH2, np.array([[0, 1, 2], [3, 4, 5]]))]
    (finding,) = measure_fragments(coords[None], placed, RELAXED)
    assert len(finding.broken) == 1
    assert "NH2 of atoms [3, 4, 5]: N-H 1.400 A (limits 0.95 to 1.12)" in finding.broken[0]
    assert "N-H 1.030 to 1.400 A" in finding.measured
    assert "H-N-H 95.0 to 112.0 deg" in finding.limit


def test_not_a_number_is_broken():
    coords = amide()
    coords[1, 0] = np.nan
    assert check(coords, RELAXED).broken


def test_a_batch_is_measured_crystal_by_crystal():
    coords = np.stack([amide(), amide(bond=1.2), amide(angle=120)])
    placed = [Placed(NH2, np.array([[0, 1, 2]]))]
    assert [bool(f.broken) for f in measure_fragments(coords, placed, RELAXED)] == [False, True, True]


def test_linear_units_may_not_bend():
    assert check(CO2.body, RELAXED, CO2).broken == ()
    bent = CO2.body.copy()
    bent[2, 1] = 0.4
    assert any("O-C-O" in text for text in check(bent, RELAXED, CO2).broken)


def test_single_atoms_have_nothing_to_break():
    finding = check(np.zeros((1, 3)), GENERATED, NA)
    assert finding.broken == ()
    assert finding.measured == "single atoms"
