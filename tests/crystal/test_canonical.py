"""Choice of images: translations that keep a site, nearest copies in skewed cells."""

import itertools

import numpy as np
import pytest
import torch

from nanh2lib.crystal.canonical import OrbitPoints, canonical_representatives, site_translations
from nanh2lib.crystal.space_group import N_HALL, SpaceGroup
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix

GRID = np.array(list(itertools.product(range(-2, 3), repeat=3)), dtype=float)


def test_translations_that_keep_a_site():
    """For every site of every setting: a basis of all integer vectors that its projection leaves alone."""
    seen = set()
    for hall in range(1, N_HALL + 1):
        for site in SpaceGroup.from_hall(hall).wyckoff_sites:
            key = site.projection.tobytes()
            if key in seen:
                continue
            seen.add(key)
            basis = site_translations(key)
            assert len(basis) == site.degrees_of_freedom
            fixed = GRID[np.abs(GRID @ site.projection.T - GRID).max(1) < 1e-9]
            if len(basis):
                coefficients = fixed @ np.linalg.pinv(basis)
                assert np.allclose(coefficients, coefficients.round(), atol=1e-9)
                assert np.allclose(coefficients @ basis, fixed)
            else:
                assert len(fixed) == 1
    assert len(seen) == 20


@pytest.mark.parametrize(
    ("hall", "cell", "points"),
    [
        (60, (7.1, 6.3, 7.0, 90, 145.9, 90), ([0.31, 0.25, 0.77], [0.62, 0.25, 0.13])),  # both on the mirror
        (60, (7.1, 6.3, 15.0, 90, 150.0, 90), ([0.31, 0.25, 0.77], [0.95, 0.25, 0.93])),
        (81, (7.1, 6.3, 7.0, 90, 145.9, 90), ([0.31, 0.86, 0.71], [0.28, 0.24, 0.71])),
        (2, (5.0, 6.0, 7.0, 40.0, 130.0, 140.0), ([0.31, 0.86, 0.71], [0.88, 0.24, 0.21])),
    ],
)
def test_the_nearest_image_in_a_skewed_cell(hall, cell, points):
    group = SpaceGroup.from_hall(hall)
    lattice = lattice_parameters_to_matrix(torch.tensor(cell, dtype=torch.float64)).numpy()
    orbits = []
    for kind, point in enumerate(points):
        images = group.rotations @ np.array(point) + group.translations
        wrapped = np.unique(np.round(images % 1.0, 9), axis=0)
        orbits.append(OrbitPoints(kind, wrapped, np.arange(len(wrapped))))
    anchor, follower = canonical_representatives(orbits, group, lattice)
    assert (anchor.point >= 0).all()
    assert (anchor.point < 1).all()
    site = follower.site
    assert np.allclose(site.projection @ follower.point + site.offset, follower.point)
    # Brute force over wide shifts of all images that lie on the representative of their site.
    shifts = np.array(list(itertools.product(range(-6, 7), repeat=3)))
    copies = (orbits[1].points[:, None] + shifts).reshape(-1, 3)
    copies = copies[np.abs(copies @ site.projection.T + site.offset - copies).max(1) < 1e-6]
    best = np.linalg.norm((copies - anchor.point) @ lattice, axis=1).min()
    assert np.linalg.norm((follower.point - anchor.point) @ lattice) == pytest.approx(best, abs=1e-6)


def test_more_followers_than_anchors_are_paired_in_rounds():
    group = SpaceGroup.from_hall(1)
    lattice = 10 * np.eye(3)
    anchors = [[0.1, 0.1, 0.1], [0.6, 0.6, 0.6]]
    followers = [[0.7, 0.6, 0.6], [0.1, 0.2, 0.1], [0.65, 0.5, 0.6]]
    places = [(0, p) for p in anchors] + [(1, p) for p in followers]
    orbits = [OrbitPoints(kind, np.array([p]), np.array([i])) for i, (kind, p) in enumerate(places)]
    chosen = canonical_representatives(orbits, group, lattice)
    assert [item.orbit for item in chosen] == [0, 1, 3, 2, 4]


def test_sites_without_a_point_inside_the_cell():
    """(x, -x, z) has none: x stays in [0, 1), y follows."""
    hall = 355
    group = SpaceGroup.from_hall(hall)
    for site in group.wyckoff_sites:
        point = site.projection @ np.array([0.37, 0.21, 0.43]) + site.offset
        images = site.coset_rotations @ point + site.coset_translations
        orbit = OrbitPoints(0, images, np.arange(len(images)))
        (item,) = canonical_representatives([orbit], group, np.diag([6.0, 6.0, 8.0]))
        assert item.site.letter == site.letter
        assert -1e-4 <= item.point[0] < 1
