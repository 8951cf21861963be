"""Uniform random draws on one template, and how many of them keep the contact limits, raw and pushed apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE
from nanh2lib.errors import InputError
from nanh2lib.search.lattice_prior import ALPHA_CELL
from nanh2lib.search.placement import random_placement
from nanh2lib.search.push_apart import PushApartSettings, push_apart
from nanh2lib.search.templates import enumerate_templates
from nanh2lib.validation.contacts import contact_filter

FORMULA_UNITS = 16


def general_template(hall_number: int, z: int = FORMULA_UNITS) -> Template:
    """The template of NaNH2 with all units on general positions.

    Raises
    ------
    InputError
        ``z`` is not a multiple of the number of operations.
    """
    templates = enumerate_templates(hall_number, SODIUM_AMIDE, z, general_only=True)
    if not templates:
        raise InputError(f"Hall {hall_number}: {z} formula units do not fit general positions; use special ones")
    return templates[0]


def uniform_draws(
    template: Template, count: int, seed: int, lattice_parameters: Sequence[float] = ALPHA_CELL
) -> AsymmetricUnit:
    """Crystals with uniform origins and orientations on their sites, in one cell.

    Parameters
    ----------
    template : Template
    count : int
    seed : int
    lattice_parameters : sequence of 6 floats
        A and degrees; the cell of alpha by default.

    Returns
    -------
    AsymmetricUnit
        Batch of ``count``.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = torch.tensor([tuple(lattice_parameters)] * count, dtype=torch.float64)
    return AsymmetricUnit.cat(random_placement([template] * count, cells, [generator] * count))


@dataclass(frozen=True)
class PassRates:
    """Draws that keep the contact limits.

    Attributes
    ----------
    template : str
    draws : int
    passed : dict
        Number that pass as drawn, by the factor on the limits.
    pushed_draws, pushed_passed : int
        How many were pushed apart, and how many then keep the full limits.
    """

    template: str
    draws: int
    passed: dict[float, int]
    pushed_draws: int
    pushed_passed: int


def pass_rates(
    hall_number: int,
    draws: int,
    seed: int,
    *,
    scales: Sequence[float] = (1.0, 0.7),
    pushed: int = 20,
    limits: PairLimits = REALISTIC_LIMITS,
    lattice_parameters: Sequence[float] = ALPHA_CELL,
) -> PassRates:
    """Count uniform draws on general positions that keep the contact limits.

    Parameters
    ----------
    hall_number : int
    draws : int
    seed : int
    scales : sequence of float
        Factors on the limits.
    pushed : int
        So many of the draws are also pushed apart, at the full limits.
    limits : PairLimits
    lattice_parameters : sequence of 6 floats

    Returns
    -------
    PassRates
    """
    template = general_template(hall_number)
    unit = uniform_draws(template, draws, seed, lattice_parameters)
    first = [unit[i] for i in range(min(pushed, draws))]
    result = push_apart(first, limits, PushApartSettings())
    return PassRates(
        template=template.label,
        draws=draws,
        passed={scale: int(contact_filter(unit, limits.scaled(scale)).sum()) for scale in scales},
        pushed_draws=len(first),
        pushed_passed=sum(result.converged),
    )


def push_frames(
    unit: AsymmetricUnit, steps: Sequence[int], limits: PairLimits = REALISTIC_LIMITS
) -> list[AsymmetricUnit]:
    """One crystal after so many steps of push-apart, for a film strip.

    Parameters
    ----------
    unit : AsymmetricUnit
        Batch of one.
    steps : sequence of int
        0 is the crystal itself.
    limits : PairLimits

    Raises
    ------
    InputError
        More than one crystal.
    """
    if len(unit) != 1:
        raise InputError(f"push_frames: one crystal at a time, got {len(unit)}")
    frames = []
    for count in steps:
        settings = PushApartSettings(max_steps=max(count, 1))
        frames.append(unit if count == 0 else push_apart([unit], limits, settings).units[0])
    return frames
