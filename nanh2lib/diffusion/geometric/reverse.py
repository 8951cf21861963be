"""Steps of the reverse process: where a batch starts, what it will become, and how it moves on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.diffusion.geometric import so3, strain, torus
from nanh2lib.diffusion.geometric.flat_units import FlatUnits, batches_of, moved, uniform_orientations
from nanh2lib.diffusion.geometric.model import GeometricModel
from nanh2lib.diffusion.geometric.network import Scores
from nanh2lib.diffusion.geometric.noising import cartesian, project_strain, turn_axes
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import matrix_to_rotation_vector


@dataclass(frozen=True)
class Sigmas:
    """Spread of each process at one level: A, radians, units of the strain's spread.

    Attributes
    ----------
    position : float
        A.
    turn : float
        Radians.
    strain : float
        In units of the strain's spread.
    """

    position: float
    turn: float
    strain: float

    @classmethod
    def at(cls, model: GeometricModel, level: int) -> Sigmas:
        """Of a model's noise level."""
        noise = model.settings.noise
        return cls(*(float(noise.sigmas(name)[level]) for name in ("position", "turn", "strain")))


CLEAN = Sigmas(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ReverseState:
    """A batch on one template, somewhere between noise and crystal.

    Attributes
    ----------
    flat : FlatUnits
        float64.
    strain_state : Tensor, shape (C, 3, 3), or None
        y_t of a free cell.
    """

    flat: FlatUnits
    strain_state: Tensor | None

    def select(self, chosen: Tensor) -> ReverseState:
        """Some of the crystals."""
        state = None if self.strain_state is None else self.strain_state[chosen]
        return ReverseState(self.flat.select(chosen), state)

    @property
    def asymmetric_unit(self) -> AsymmetricUnit:
        """The crystals as they stand (not projected)."""
        return batches_of(self.flat)[0]


def select_scores(scores: Scores, chosen: Tensor) -> Scores:
    """Scores of some of the crystals, all on one template."""
    size = len(scores.strain)
    rows = {name: getattr(scores, name).reshape(size, -1, 3)[chosen].reshape(-1, 3) for name in ("position", "turn")}
    return Scores(rows["position"], rows["turn"], scores.strain[chosen])


def start(model: GeometricModel, template: Template, cells: Tensor, generator: torch.Generator) -> ReverseState:
    """Units uniform on their sites, orientations uniform, a free cell at the largest noise.

    Parameters
    ----------
    model : GeometricModel
    template : Template
    cells : Tensor, shape (B, 6)
        Clamped cells, or the reference of free ones (in which case the model knows the template).
    generator : torch.Generator
    """
    units = AsymmetricUnit(
        template,
        cells,
        torus.uniform_positions(template, len(cells), generator),
        uniform_orientations(template, cells, generator),
    )
    flat = FlatUnits.of([units])
    if model.settings.noise.lattice == "clamped":
        return ReverseState(flat, None)
    sigma = float(model.settings.noise.sigmas("strain")[-1])
    noise = project_strain(strain.symmetric_noise((len(cells),), generator), flat, model.cells)
    state = math.sqrt(1 + sigma**2) * noise
    return with_strain(ReverseState(flat, state), model, sigma)


def with_strain(state: ReverseState, model: GeometricModel, sigma: float) -> ReverseState:
    """The same with the lattice that belongs to its strain at a level; fractions and orientations stay."""
    if state.strain_state is None:
        return state
    shrunk = model.cells.scale * state.strain_state / math.sqrt(1 + sigma**2)
    lattice = strain.strain_to_lattice(shrunk, model.cells.reference(state.flat))
    return replace(state, flat=state.flat.replace(lattice=lattice))


def estimate(state: ReverseState, scores: Scores, sigma: Sigmas, model: GeometricModel) -> ReverseState:
    """Denoised estimate: x + sigma^2 score for every process (Tweedie's formula)."""
    return move(state, scores, sigma, CLEAN, 0.0, model, None)


def displaced(flat: FlatUnits, shift: Tensor, turn: Tensor) -> FlatUnits:
    """Units after what their sites allow of Cartesian shifts (N, 3), A, and left turns (N, 3), radians."""
    sites = flat.site_data()
    shift = (cartesian(sites.origin_projection, flat) @ shift[..., None])[..., 0]
    turns, _ = turn_axes(flat, sites)
    return moved(flat, shift, (turns @ turn[..., None])[..., 0])


def move(
    state: ReverseState,
    scores: Scores,
    sigma: Sigmas,
    following: Sigmas,
    eta: float,
    model: GeometricModel,
    generator: torch.Generator | None,
) -> ReverseState:
    """One step from a noise level to the next lower one.

    Parameters
    ----------
    state : ReverseState
    scores : Scores
        Sigma times the score.
    sigma, following : Sigmas
    eta : float
        Share of the noise of ancestral sampling that is put back.
    model : GeometricModel
    generator : torch.Generator or None
        None: no noise (``eta`` must be 0).

    Returns
    -------
    ReverseState
    """
    flat = state.flat
    shift = _step(scores.position, sigma.position, following.position, eta, generator)
    turn = _step(scores.turn, sigma.turn, following.turn, eta, generator)
    stepped = displaced(flat, shift, turn)
    if state.strain_state is None:
        return ReverseState(stepped, None)
    noise = None
    if generator is not None:
        noise = project_strain(strain.symmetric_noise((flat.n_crystals,), generator), flat, model.cells)
    down, up = _split(sigma.strain, following.strain, eta)
    change = (sigma.strain - down) * scores.strain + (0.0 if noise is None else up * noise)
    return with_strain(ReverseState(stepped, state.strain_state + change), model, following.strain)


def _split(sigma: float, following: float, eta: float) -> tuple[float, float]:
    """Level to step down to, and noise to put back."""
    up = eta * following * math.sqrt(max(0.0, 1 - (following / sigma) ** 2))
    return math.sqrt(max(0.0, following**2 - up**2)), up


def _step(score: Tensor, sigma: float, following: float, eta: float, generator: torch.Generator | None) -> Tensor:
    down, up = _split(sigma, following, eta)
    step = (sigma - down) * score
    if generator is None or up == 0:
        return step
    return step + up * torch.randn(score.shape, generator=generator, dtype=score.dtype)


def toward(state: ReverseState, scores: Scores, sigma: Sigmas, model: GeometricModel, better: AsymmetricUnit) -> Scores:
    """Scores whose denoised estimate is ``better`` than the one that they had.

    Parameters
    ----------
    state : ReverseState
    scores : Scores
    sigma : Sigmas
    model : GeometricModel
    better : AsymmetricUnit
        What a corrector made of the denoised estimate. Crystals that are not finite are ignored.
    """
    guess = estimate(state, scores, sigma, model)
    plain = guess.asymmetric_unit
    fraction = better.frac_origins - plain.frac_origins
    fraction = fraction - torch.round(fraction)
    standard = lattice_parameters_to_matrix(plain.lattice_parameters)
    # From the standard orientation back to the frame of the reverse process.
    frame = torch.linalg.inv(standard) @ guess.flat.lattice
    shift = (fraction @ standard @ frame).reshape(-1, 3)
    change = matrix_to_rotation_vector(better.rotations @ plain.rotations.transpose(-1, -2))
    turned = so3.turned(guess.flat.rotations, (change @ frame).reshape(-1, 3))
    turn = matrix_to_rotation_vector(turned @ state.flat.rotations.transpose(-1, -2)) / sigma.turn
    position = scores.position + shift / sigma.position
    finite = torch.isfinite(better.frac_origins).all((1, 2)) & torch.isfinite(better.rotations).all((1, 2, 3))
    good = finite[state.flat.crystal][:, None]
    return Scores(torch.where(good, position, scores.position), torch.where(good, turn, scores.turn), scores.strain)
