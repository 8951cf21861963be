"""Push rigid units apart under symmetry until the contact limits hold, many crystals at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.pair_limits import PairLimits
from nanh2lib.geometry.rotations import rotation_vector_to_matrix
from nanh2lib.search.overlap import (
    Box,
    Overlap,
    box_for,
    masked_limits,
    on_units,
    overlap_forces,
)
from nanh2lib.search.packing import (
    PackedState,
    PackedTemplates,
    cart_stabilizer,
    pack_state,
    pack_templates,
    project_orientations,
    project_origins,
    unpack_state,
)
from nanh2lib.search.placement import wrap_on_sites
from nanh2lib.search.worst_contact import worst_contacts
from nanh2lib.settings import StageSettings

_CHECK_EVERY = 15
_MAX_STRIKES = 2
_SHRINK_BELOW = 0.75
_MARGIN = 1e-4


class PushApartSettings(StageSettings):
    """How units are pushed apart.

    Attributes
    ----------
    max_steps : int
        Steps before a crystal is given up. One whose deepest overlap fails twice in a row to
        shrink by a tenth within 15 steps is given up at once (an overfull site never gets room).
    enlarge : float
        The forces act up to this times the limits, so that they end a little beyond them after a
        finite number of steps.
    step : float
        Fraction of the (preconditioned) force that is added to the velocity.
    momentum : float
        Fraction of the velocity that is kept.
    max_move : float
        Longest move of a unit in one step, A (and largest turn, radians).
    """

    max_steps: int = Field(default=200, ge=1)
    enlarge: float = Field(default=1.02, gt=1.0, le=1.5)
    step: float = Field(default=0.7, gt=0, le=2)
    momentum: float = Field(default=0.6, ge=0, lt=1)
    max_move: float = Field(default=0.5, gt=0)


@dataclass(frozen=True)
class PushResult:
    """What push-apart made of a list of crystals.

    Attributes
    ----------
    units : tuple of AsymmetricUnit
        Batches of one, float64, exactly on their sites, in the order given.
    converged : tuple of bool
        All contacts keep their limits, checked in float64.
    steps : tuple of int
    reasons : tuple of str
        Why a crystal did not converge, with its worst pair; empty where it did.
    """

    units: tuple[AsymmetricUnit, ...]
    converged: tuple[bool, ...]
    steps: tuple[int, ...]
    reasons: tuple[str, ...]

    @property
    def asymmetric_unit(self) -> AsymmetricUnit:
        """All of them as one batch; only for crystals on one template."""
        return AsymmetricUnit.cat(list(self.units))


def push_apart(
    units: AsymmetricUnit | Sequence[AsymmetricUnit], limits: PairLimits, settings: PushApartSettings | None = None
) -> PushResult:
    """Move and turn rigid units, each on its site, until no contact is below its limit.

    Parameters
    ----------
    units : AsymmetricUnit or sequence of AsymmetricUnit
        A batch on one template, or batches of one whose templates, groups and cells may differ.
        Cells stay as they are.
    limits : PairLimits
    settings : PushApartSettings, optional

    Returns
    -------
    PushResult
        Steps are taken in float32, the verdict in float64. The result depends on the whole list
        only through rounding: the same list gives the same bits.
    """
    settings = settings or PushApartSettings()
    if isinstance(units, AsymmetricUnit):
        units = [units[i] for i in range(len(units))]
    templates = [unit.template for unit in units]
    packed, start = pack_templates(templates), pack_state(units).to(torch.float64)
    with torch.no_grad():
        moved, steps = _push(packed.to(torch.float32), start.to(torch.float32), limits, settings)
        final = _on_sites(packed, PackedState(start.lattice, moved.origins.double(), moved.orientations.double()))
        worst = worst_contacts(packed, final, limits)
    parameters = torch.cat([unit.lattice_parameters for unit in units]).to(torch.float64)
    reasons = tuple(
        "" if ok else f"push-apart did not reach the limits in {n} steps: worst pair {text}"
        for ok, n, text in zip(worst.passed, steps.tolist(), worst.texts, strict=True)
    )
    results = unpack_state(templates, parameters, final)
    return PushResult(tuple(results), worst.passed, tuple(int(n) for n in steps), reasons)


def _on_sites(packed: PackedTemplates, state: PackedState) -> PackedState:
    """Exactly orthogonal orientations, exactly on the sites."""
    orientations, _ = project_orientations(packed, state.lattice, state.orientations)
    origins = wrap_on_sites(packed, project_origins(packed, state.origins))
    return PackedState(state.lattice, origins, orientations)


@dataclass
class _Run:
    """Crystals still on their way."""

    packed: PackedTemplates
    state: PackedState
    limits: Tensor
    box: Box
    turns: Tensor  # (B, U, 3, 3) projection of rotation vectors
    index: Tensor  # (B,) place in the full batch
    finished: Tensor  # (B,) bool
    velocity: Tensor  # (B, U, 3) A per step
    spin: Tensor  # (B, U, 3) radians per step
    gain: Tensor  # (B, 1, 1)
    milestone: Tensor  # (B,) deepest overlap at the last check
    strikes: Tensor  # (B,) checks in a row without progress

    def select(self, index: Tensor) -> _Run:
        """Drop crystals that are done."""
        plain = {
            name: getattr(self, name)[index]
            for name in ("limits", "turns", "index", "finished", "velocity", "spin", "gain", "milestone", "strikes")
        }
        return _Run(self.packed.select(index), self.state.select(index), box=self.box.select(index), **plain)


def _push(
    packed: PackedTemplates, state: PackedState, limits: PairLimits, settings: PushApartSettings
) -> tuple[PackedState, Tensor]:
    count, width = packed.oriented.shape
    box = box_for(packed, state, limits, settings.enlarge)
    run = _Run(
        packed, state, masked_limits(packed, limits, box, torch.float32) * settings.enlarge, box,
        _allowed_turns(packed, state.lattice), torch.arange(count), torch.zeros(count, dtype=torch.bool),
        torch.zeros(count, width, 3), torch.zeros(count, width, 3), torch.ones(count, 1, 1),
        torch.full((count,), torch.inf), torch.zeros(count, dtype=torch.int64),
    )  # fmt: skip
    origins, orientations = state.origins.clone(), state.orientations.clone()
    steps = torch.full((count,), settings.max_steps)
    for step in range(settings.max_steps + 1):
        overlap = overlap_forces(run.packed, run.state, run.limits, run.box)
        if step % _CHECK_EVERY == _CHECK_EVERY - 1:
            _slow_down(run, overlap.deepest)
        done = overlap.deepest <= settings.enlarge - 1 - _MARGIN
        ended = done | (run.strikes >= _MAX_STRIKES) | (step == settings.max_steps)
        fresh = ended & ~run.finished
        if bool(fresh.any()):
            place = run.index[fresh]
            origins[place], orientations[place] = run.state.origins[fresh], run.state.orientations[fresh]
            steps[place] = step
            run.finished = run.finished | fresh
        if step == settings.max_steps or bool(run.finished.all()):
            break
        if float(run.finished.float().mean()) > 1 - _SHRINK_BELOW:
            kept = torch.nonzero(~run.finished).flatten()
            run = run.select(kept)
            overlap = Overlap(*(t[kept] for t in (overlap.forces, overlap.contacts, overlap.offsets, overlap.deepest)))
        _advance(run, overlap, settings)
    return PackedState(state.lattice, origins, orientations), steps


def _allowed_turns(packed: PackedTemplates, lattice: Tensor) -> Tensor:
    """Projections (B, U, 3, 3) onto rotation vectors that keep a unit's orientation allowed.

    A turn exp(w) commutes with a site operation S when det(S) S w = w; single atoms do not turn.
    """
    operations = cart_stabilizer(packed, lattice)
    sign = torch.linalg.det(packed.stabilizer)[..., None, None]
    mean = (packed.stabilizer_weight[..., None, None] * sign * operations).sum(2)
    return torch.where(packed.oriented[..., None, None], mean, torch.zeros_like(mean))


def _slow_down(run: _Run, deepest: Tensor) -> None:
    """Smaller steps from rest for crystals that made no progress since the last check."""
    stuck = deepest > 0.9 * run.milestone
    run.strikes = torch.where(stuck, run.strikes + 1, torch.zeros_like(run.strikes))
    run.gain = torch.where(stuck[:, None, None], run.gain * 0.6, run.gain)
    keep = (~stuck).to(run.velocity.dtype)[:, None, None]
    run.velocity, run.spin = run.velocity * keep, run.spin * keep
    run.milestone = deepest


def _advance(run: _Run, overlap: Overlap, settings: PushApartSettings) -> None:
    """One step of momentum descent; forces are divided by the root of the number of contacts."""
    packed, state = run.packed, run.state
    forces, torques = on_units(packed, overlap)
    lever = overlap.contacts * (overlap.offsets**2).sum(-1)
    counts = (packed.atoms_of_unit @ overlap.contacts[..., None]).clamp_min(1.0)
    inertia = packed.atoms_of_unit @ lever[..., None]
    gain = settings.step * run.gain
    run.velocity = settings.momentum * run.velocity + gain * forces / counts.sqrt()
    run.spin = settings.momentum * run.spin + gain * torques / (inertia.sqrt() + 0.5)
    run.spin = (run.turns @ run.spin[..., None]).squeeze(-1)
    run.velocity, run.spin = _capped(run.velocity, settings.max_move), _capped(run.spin, settings.max_move)
    origins = project_origins(packed, state.origins + run.velocity @ torch.linalg.inv(state.lattice))
    orientations = rotation_vector_to_matrix(run.spin) @ state.orientations
    run.state = PackedState(state.lattice, origins, orientations)


def _capped(vectors: Tensor, longest: float) -> Tensor:
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (longest / length.clamp_min(longest))
