"""Wrapped normal noise on the torus of a site."""

import math

import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import Site, Template
from nanh2lib.crystal.expansion import project_origins
from nanh2lib.crystal.rigid_unit import NA
from nanh2lib.crystal.space_group import SpaceGroup, default_hall_number
from nanh2lib.diffusion.geometric import torus
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix

CELLS = {
    "triclinic": [6.0, 7.5, 9.0, 75.0, 82.0, 108.0],
    "hexagonal": [6.0, 6.0, 9.0, 90.0, 90.0, 120.0],
    "orthorhombic": [8.964, 10.456, 8.073, 90.0, 90.0, 90.0],
}


def lattice_of(name):
    return lattice_parameters_to_matrix(torch.tensor(CELLS[name], dtype=torch.float64))


def setup(number, letter, cell, sigma):
    template = Template(default_hall_number(number), (Site(NA, letter),))
    lattice = lattice_of(cell)
    extent = torus.translation_extent(lattice[None], sigma)
    return template, lattice, torus.site_translations(template, 0, extent) @ lattice


@pytest.mark.parametrize(
    ("number", "letter", "cell"), [(1, "a", "triclinic"), (70, "h", "orthorhombic"), (164, "i", "hexagonal")]
)
@pytest.mark.parametrize("sigma", [0.05, 0.8, 4.0])
def test_score_is_the_gradient_of_the_log_density(number, letter, cell, sigma):
    template, _, translations = setup(number, letter, cell, sigma)
    projection = torch.as_tensor(template.wyckoff_sites[0].projection)
    displacement = sigma * torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lattice = lattice_of(cell)
    cart = lattice.T @ projection @ torch.linalg.inv(lattice).T
    displacement = (displacement @ cart.T).requires_grad_(True)
    spread = torch.full((30,), sigma, dtype=torch.float64)
    images = translations.expand(30, -1, 3)
    (expected,) = torch.autograd.grad(
        torus.wrapped_normal_log_density(displacement, images, spread).sum(), displacement
    )
    assert torch.allclose(torus.wrapped_normal_score(displacement.detach(), images, spread), expected, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sigma", [0.3, 2.0, 5.0])
def test_score_is_periodic(cell, sigma):
    _, lattice, translations = setup(1, "a", cell, sigma)
    frac = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    spread = torch.full((20,), sigma, dtype=torch.float64)
    images = translations.expand(20, -1, 3)
    reference = torus.wrapped_normal_score(torus.nearest_image(frac @ lattice, images), images, spread)
    moved = (frac + torch.tensor([1.0, -1.0, 0.0])) @ lattice
    again = torus.wrapped_normal_score(torus.nearest_image(moved, images), images, spread)
    assert torch.allclose(sigma * reference, sigma * again, atol=2e-3)


def test_centring_translations_count():
    template = Template(default_hall_number(70), (Site(NA, "h"),))
    assert len(torus.site_translations(template, 0, (1, 1, 1))) == 4 * 27
    assert not torus.site_translations(template, 0, (1, 1, 1))[0].any()


def test_special_site_keeps_its_own_translations():
    """On a line through the cell only shifts along the line lead back to it."""
    group = SpaceGroup.from_number(70)
    letter = next(site.letter for site in group.wyckoff_sites if site.degrees_of_freedom == 1)
    template = Template(group.hall_number, (Site(NA, letter),))
    vectors = torus.site_translations(template, 0, (2, 2, 2))
    assert torch.linalg.matrix_rank(vectors) == 1
    assert len(vectors) == 5
    point = next(site.letter for site in group.wyckoff_sites if site.degrees_of_freedom == 0)
    assert len(torus.site_translations(Template(group.hall_number, (Site(NA, point),)), 0, (2, 2, 2))) == 1


@pytest.mark.parametrize("number", [1, 70, 164, 166, 225])
def test_uniform_positions_are_uniform_on_every_site(number):
    """Characters exp(2 pi i k x) of the site's torus vanish on average, for shifts k that it knows."""
    group = SpaceGroup.from_number(number)
    generator = torch.Generator().manual_seed(0)
    for site in group.wyckoff_sites:
        template = Template(group.hall_number, (Site(NA, site.letter),))
        origins = torus.uniform_positions(template, 4000, generator)
        assert torch.allclose(project_origins(template, origins), origins, atol=1e-9)
        projection = torch.as_tensor(site.projection)
        for k in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 0], [2.0, 0, 1.0]):
            along = projection.T @ torch.tensor(k, dtype=torch.float64)
            phase = 2 * math.pi * (origins[:, 0] @ torch.tensor(k, dtype=torch.float64))
            mean = torch.complex(phase.cos().mean(), phase.sin().mean()).abs()
            assert float(mean) < 0.08 or float(along.abs().max()) < 1e-9


def test_wide_noise_forgets_where_it_started():
    _, _, translations = setup(1, "a", "orthorhombic", 5.0)
    displacement = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = translations.expand(50, -1, 3)
    score = torus.wrapped_normal_score(displacement, images, torch.full((50,), 5.0, dtype=torch.float64))
    assert float((5.0 * score).abs().max()) < 0.15
