"""Random symmetric search (AIRSS-style): draw a template, place its units, push them apart, check."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeAlias

import numpy as np
import torch
from pydantic import Field, field_validator
from pymatgen.core import Structure
from tqdm.auto import tqdm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE, Compound
from nanh2lib.crystal.space_group import (
    SpaceGroup,
    hall_number_from_symbol,
    hall_numbers_for,
)
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.records import Candidate, Check, ValidationReport
from nanh2lib.search.allowed_settings import hall_numbers_for_lattice, same_up_to_origin
from nanh2lib.search.capacity import Room
from nanh2lib.search.lattice_prior import LatticePrior
from nanh2lib.search.placement import random_placement
from nanh2lib.search.push_apart import PushApartSettings, PushResult, push_apart
from nanh2lib.search.templates import TemplateSpace, template_space
from nanh2lib.settings import StageSettings, config_hash

METHOD = "random_search"
Validator: TypeAlias = Callable[[AsymmetricUnit], Sequence[ValidationReport]]


class SearchSettings(StageSettings):
    """What is searched.

    Attributes
    ----------
    z : int
        Formula units in the conventional cell.
    lattice : LatticePrior
        Default: the fixed cell of alpha-NaNH2.
    space_groups : tuple of int or str
        International numbers or symbols; every setting of them that the lattice allows is
        searched. A symbol of one setting (``"F2dd"``) or ``"hall:213"`` means that one. Empty: all
        groups that the lattice allows.
    per_setting : int
        Accepted candidates wanted from each setting.
    max_draws_per_setting : int
        Draws after which a setting is given up with what it has.
    general_only : bool
        General positions alone (no special ones).
    min_units : int
        Least number of units of each kind in the asymmetric unit.
    pair_limits : mapping
        ``"Na-N": 2.1`` and so on, A; empty means the limits for NaNH2 (other pairs: a fraction of
        the van der Waals radii).
    limit_scale : float
        Factor on all contact limits.
    push : PushApartSettings
    batch_size : int
        Crystals pushed apart together.
    seed : int
    """

    z: int = Field(default=16, ge=1)
    lattice: LatticePrior = Field(default_factory=LatticePrior)
    space_groups: tuple[int | str, ...] = ()
    per_setting: int = Field(default=10, ge=1)
    max_draws_per_setting: int = Field(default=400, ge=1)
    general_only: bool = False
    min_units: int = Field(default=1, ge=1)
    pair_limits: Mapping[str, float] = Field(default_factory=dict)
    limit_scale: float = Field(default=1.0, gt=0)
    push: PushApartSettings = Field(default_factory=PushApartSettings)
    batch_size: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("pair_limits")
    @classmethod
    def _pairs(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for name in value:
            if len(name.split("-")) != 2:
                raise ValueError(f"{name!r} is not an element pair; write it like Na-N")
        return value

    def limits(self) -> PairLimits:
        """Contact limits by element pair."""
        if not self.pair_limits:
            return REALISTIC_LIMITS.scaled(self.limit_scale)
        pairs = {(name.split("-")[0], name.split("-")[1]): distance for name, distance in self.pair_limits.items()}
        return PairLimits.from_mapping(pairs).scaled(self.limit_scale)


@dataclass(frozen=True)
class SettingPlan:
    """One space-group setting of a search.

    Attributes
    ----------
    hall_number : int
    symbol : str
    templates : int
        Site templates that add up to Z formula units and for which a fixed cell has room.
    """

    hall_number: int
    symbol: str
    templates: int


def searched_settings(settings: SearchSettings) -> tuple[int, ...]:
    """Hall numbers of a search.

    Raises
    ------
    InputError
        A group does not exist, or the lattice does not allow any setting of it.
    """
    lattice = settings.lattice
    if not settings.space_groups:
        if lattice.kind == "fixed":
            return hall_numbers_for_lattice(lattice.parameters)
        return tuple(h for h in range(1, 531) if same_up_to_origin(h) == h and lattice.allows(h))
    chosen: dict[int, None] = {}
    for group in settings.space_groups:
        allowed = [hall for hall in _halls_named(group) if lattice.allows(hall)]
        if not allowed:
            cell = list(lattice.parameters) if lattice.kind == "fixed" else f"the lattice prior ({lattice.kind})"
            raise InputError(
                f"space_groups: {group!r} does not fit the cell {cell}; leave it out or change the lattice"
            )
        chosen.update(dict.fromkeys(allowed))
    return tuple(chosen)


def _halls_named(group: int | str) -> list[int]:
    text = str(group)
    if text.startswith("hall:"):
        number = text.removeprefix("hall:")
        if not number.isdigit():
            raise InputError(f"space_groups: {group!r}: write a Hall number like hall:213")
        return [SpaceGroup.from_hall(int(number)).hall_number]
    if text.isdigit():
        halls = hall_numbers_for(int(text))
    else:
        first = hall_number_from_symbol(text)
        number_of = SpaceGroup.from_hall(first).number
        # The symbol of a standard setting stands for the group, that of another for itself.
        halls = hall_numbers_for(number_of) if first == hall_numbers_for(number_of)[0] else (first,)
    return [hall for hall in halls if same_up_to_origin(hall) == hall]


def plan_search(settings: SearchSettings, compound: Compound = SODIUM_AMIDE) -> tuple[SettingPlan, ...]:
    """Settings of a search and how many site templates each has; look at it before the run."""
    return tuple(
        SettingPlan(hall, SpaceGroup.from_hall(hall).symbol, len(_space(settings, compound, hall)))
        for hall in searched_settings(settings)
    )


def _space(settings: SearchSettings, compound: Compound, hall_number: int) -> TemplateSpace:
    room = None
    if settings.lattice.kind == "fixed":
        room = Room(tuple(settings.lattice.parameters), settings.limits())
    return template_space(hall_number, compound, settings.z, settings.general_only, room)


@dataclass(frozen=True)
class _Draw:
    """One draw: everything follows from seed, setting and number."""

    number: int
    template: Template
    rank: int
    lattice_parameters: torch.Tensor
    generator: torch.Generator


def random_search(
    settings: SearchSettings | None = None,
    compound: Compound = SODIUM_AMIDE,
    *,
    validator: Validator | None = None,
    known: Mapping[str, bool] | None = None,
    progress: bool = True,
) -> Iterator[Candidate]:
    """Search all settings in turn, equal shares of accepted candidates from each.

    Parameters
    ----------
    settings : SearchSettings, optional
    compound : Compound
    validator : callable, optional
        Reports for a batch of crystals; without it the contact limits alone decide.
    known : mapping of id to bool, optional
        Candidates of an earlier run and whether they were accepted: they are not yielded again.
    progress : bool
        Show a progress bar.

    Yields
    ------
    Candidate
        Accepted and rejected ones (with their reason). Each draw depends only on the seed, the
        setting and its number, so a resumed run gives the same candidates.

    Raises
    ------
    InputError
        No setting has a template for the compound and Z.
    """
    settings = settings or SearchSettings()
    plans = [plan for plan in plan_search(settings, compound) if plan.templates]
    if not plans:
        raise InputError(
            f"no space group holds {settings.z} x {compound.name} in this cell; change z, the lattice or the contact limits"
        )
    known = known or {}
    key = config_hash(settings)
    with tqdm(
        total=len(plans) * settings.per_setting, desc="random search", unit="crystal", disable=not progress
    ) as bar:
        for plan in plans:
            bar.set_postfix_str(plan.symbol)
            yield from _search_setting(plan, settings, compound, validator, known, key, bar)


def _search_setting(
    plan: SettingPlan,
    settings: SearchSettings,
    compound: Compound,
    validator: Validator | None,
    known: Mapping[str, bool],
    key: str,
    bar: tqdm[Any],
) -> Iterator[Candidate]:
    space = _space(settings, compound, plan.hall_number)
    accepted = 0
    size = min(settings.batch_size, settings.per_setting + settings.per_setting // 4 + 2)
    for first in range(0, settings.max_draws_per_setting, size):
        numbers = range(first, min(first + size, settings.max_draws_per_setting))
        ids = [candidate_id(key, compound.name, plan.hall_number, number) for number in numbers]
        if all(identity in known for identity in ids):
            verdicts: Collection[tuple[str, bool, Candidate | None]] = [(i, known[i], None) for i in ids]
        else:
            block = _search_block(plan, numbers, ids, space, settings, compound, validator, key)
            verdicts = [(c.id, c.accepted, c) for c in block]
        for identity, good, candidate in verdicts:
            if accepted == settings.per_setting:
                return
            accepted += good
            bar.update(int(good))
            if candidate is not None and identity not in known:
                yield candidate


def candidate_id(key: str, compound: str, hall_number: int, number: int) -> str:
    """Stable key of a draw."""
    return hashlib.sha256(f"{METHOD}/{key}/{compound}/{hall_number}/{number}".encode()).hexdigest()[:20]


def _draw(number: int, space: TemplateSpace, settings: SearchSettings) -> _Draw:
    sequence = np.random.SeedSequence([settings.seed, space.hall_number, number])
    chooser = np.random.default_rng(sequence.spawn(1)[0])
    generator = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    for _ in range(1000):
        rank = space.ranks(1, chooser)[0] if space.count > 1 else 0
        template = space[rank]
        if settings.min_units == 1 or _enough(template, settings.min_units):
            break
    else:
        raise ComputationError(
            f"{SpaceGroup.from_hall(space.hall_number).symbol}: no template with {settings.min_units} units of each kind"
        )
    lattice = settings.lattice.sample(space.hall_number, settings.z, generator)
    return _Draw(number, template, rank, lattice, generator)


def _enough(template: Template, least: int) -> bool:
    names = [site.unit.name for site in template.sites]
    return all(names.count(name) >= least for name in set(names))


def _search_block(
    plan: SettingPlan,
    numbers: Sequence[int],
    ids: Sequence[str],
    space: TemplateSpace,
    settings: SearchSettings,
    compound: Compound,
    validator: Validator | None,
    key: str,
) -> list[Candidate]:
    draws = [_draw(number, space, settings) for number in numbers]
    placed = random_placement(
        [d.template for d in draws], torch.stack([d.lattice_parameters for d in draws]), [d.generator for d in draws]
    )
    pushed = push_apart(placed, settings.limits(), settings.push)
    reports = _reports(pushed, validator)
    candidates = []
    for index, (draw, unit) in enumerate(zip(draws, pushed.units, strict=True)):
        structure: Structure = expand(unit)[0]
        candidates.append(
            Candidate(
                id=ids[index],
                structure=structure,
                method=METHOD,
                seed=settings.seed,
                config_hash=key,
                package_version=_version(),
                asymmetric_unit=unit,
                report=reports[index],
                extra={
                    "draw": draw.number,
                    "template": draw.template.label,
                    "template_rank": draw.rank,
                    "push_steps": pushed.steps[index],
                    "compound": compound.name,
                },
            )  # fmt: skip
        )
    return candidates


def _reports(pushed: PushResult, validator: Validator | None) -> list[ValidationReport]:
    """Push-apart's own verdict first; what passed it goes to the validator, batched by template."""
    reports: list[ValidationReport] = []
    for good, steps, reason in zip(pushed.converged, pushed.steps, pushed.reasons, strict=True):
        measured = f"limits reached in {steps} steps" if good else "limits not reached"
        reports.append(ValidationReport((Check("push_apart", good, measured, "all contact limits", reason),)))
    if validator is None:
        return reports
    by_template: dict[Template, list[int]] = {}
    for index, unit in enumerate(pushed.units):
        if pushed.converged[index]:
            by_template.setdefault(unit.template, []).append(index)
    for rows in by_template.values():
        found = validator(AsymmetricUnit.cat([pushed.units[row] for row in rows]))
        for row, report in zip(rows, found, strict=True):
            reports[row] = ValidationReport((*reports[row].checks, *report.checks))
    return reports


def _version() -> str:
    try:
        return metadata.version("nanh2lib")
    except metadata.PackageNotFoundError:
        return "unknown"
