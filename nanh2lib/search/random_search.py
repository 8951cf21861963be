"""Random symmetric search (AIRSS-style): draw a template, place its units, push them apart, check."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor
from tqdm.auto import tqdm

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import expand_tensors
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE, Compound
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.records import Candidate, Check, ValidationReport
from nanh2lib.search.placement import random_placement
from nanh2lib.search.push_apart import PushResult, push_apart
from nanh2lib.search.search_settings import SearchSettings, SettingPlan, plan_search, searched_settings
from nanh2lib.settings import package_version

__all__ = [
    "METHOD",
    "SearchSettings",
    "SettingOutcome",
    "SettingPlan",
    "plan_search",
    "random_search",
    "search_outcomes",
    "searched_settings",
]

METHOD = "random_search"
Validator: TypeAlias = Callable[[Sequence[AsymmetricUnit]], Sequence[ValidationReport]]
_FIRST_BATCH = 16
_LOGGER = logging.getLogger(__name__)


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
        Takes a list of asymmetric units (each a batch of one) and gives a report for each;
        without it the contact limits alone decide.
    known : mapping of id to bool, optional
        Candidates of an earlier run and whether they were accepted: they are not yielded again.
    progress : bool
        Show a progress bar.

    Yields
    ------
    Candidate
        Accepted and rejected ones (with their reason). Draws are made in batches of fixed size,
        each draw from a seed of its own that follows from the run's seed, the setting and its
        number. A resumed run, and one that asks for more, gives the same candidates to the bit
        on the same platform.

    Raises
    ------
    InputError
        No setting has a template for the compound and Z.
    """
    settings = settings or SearchSettings()
    plans = [plan for plan in plan_search(settings, compound) if plan.templates]
    if not plans:
        raise InputError(
            f"no space group of the search holds {settings.z} x {compound.name} in this cell; "
            "change z, the lattice, the space groups or the contact limits"
        )
    run = _Run(settings, compound, validator, known or {}, search_key(settings, compound))
    total = len(plans) * settings.per_setting
    with tqdm(total=total, desc="random search", unit="crystal", disable=not progress) as bar:
        for plan in plans:
            bar.set_postfix_str(plan.symbol)
            for candidate, accepted in _search_setting(plan.hall_number, run):
                bar.update(int(accepted))
                if candidate is not None:
                    yield candidate


def search_key(settings: SearchSettings, compound: Compound) -> str:
    """Hash of all that a draw depends on: how many are wanted is left out, so that a run can be extended."""
    content = settings.model_dump(mode="json", exclude={"per_setting", "max_draws_per_setting", "space_groups"})
    content["compound"] = compound.content()
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def candidate_id(key: str, hall_number: int, number: int) -> str:
    """Stable key of a draw."""
    return hashlib.sha256(f"{METHOD}/{key}/{hall_number}/{number}".encode()).hexdigest()[:20]


@dataclass(frozen=True)
class _Run:
    """What all settings of a search share."""

    settings: SearchSettings
    compound: Compound
    validator: Validator | None
    known: Mapping[str, bool]
    key: str


@dataclass(frozen=True)
class _Draw:
    """One draw: everything follows from seed, setting and number."""

    number: int
    template: Template
    rank: int
    general: bool
    lattice_parameters: Tensor
    generator: torch.Generator


def _search_setting(hall_number: int, run: _Run) -> Iterator[tuple[Candidate | None, bool]]:
    """Draws of one setting until its share is reached: the candidate if it is new, and its verdict."""
    wanted = run.settings.per_setting
    accepted = 0
    for numbers in _batches(run.settings):
        ids = [candidate_id(run.key, hall_number, number) for number in numbers]
        try:
            batch = None if all(i in run.known for i in ids) else _push_batch(hall_number, numbers, run)
        except ComputationError as error:
            _LOGGER.warning("Hall %d is left with %d of %d candidates: %s", hall_number, accepted, wanted, error)
            return
        place = 0
        while place < len(ids):
            if accepted == wanted:
                return
            # As many as may still be needed: draws beyond the share are neither checked nor kept.
            part = list(range(place, min(place + wanted - accepted, len(ids))))
            new = [i for i in part if ids[i] not in run.known]
            fresh = dict(zip(new, _candidates(batch, new, ids, run), strict=True)) if batch else {}
            for i in part:
                good = fresh[i].accepted if i in fresh else run.known[ids[i]]
                accepted += int(good)
                yield fresh.get(i), good
            place = part[-1] + 1


def _batches(settings: SearchSettings) -> Iterator[range]:
    """Draw numbers in batches that grow to the full size; they do not depend on how many are wanted."""
    first, size = 0, min(_FIRST_BATCH, settings.batch_size)
    while first < settings.max_draws_per_setting:
        yield range(first, min(first + size, settings.max_draws_per_setting))
        first, size = first + size, min(2 * size, settings.batch_size)


def _draw(hall_number: int, number: int, run: _Run) -> _Draw:
    settings = run.settings
    sequence = np.random.SeedSequence([settings.seed, hall_number, number])
    chooser = np.random.default_rng(sequence.spawn(1)[0])
    generator = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    space = settings.templates(hall_number, run.compound)
    general = settings.templates(hall_number, run.compound, general_only=True)
    # Evenly spread: draw n is general where the running share passes a whole number.
    share = settings.general_share
    is_general = general.count > 0 and int((number + 1) * share) > int(number * share)
    chosen = general if is_general else space
    rank = chosen.random_rank(chooser)
    lattice = settings.lattice.sample(hall_number, settings.z, generator)
    return _Draw(number, chosen[rank], rank, is_general, lattice, generator)


@dataclass(frozen=True)
class _Batch:
    """Draws after push-apart."""

    draws: list[_Draw]
    pushed: PushResult


def _push_batch(hall_number: int, numbers: range, run: _Run) -> _Batch:
    with _one_thread():
        draws = [_draw(hall_number, number, run) for number in numbers]
        cells = torch.stack([draw.lattice_parameters for draw in draws])
        placed = random_placement([draw.template for draw in draws], cells, [draw.generator for draw in draws])
        return _Batch(draws, push_apart(placed, run.settings.limits(), run.settings.push))


def _candidates(batch: _Batch, rows: Sequence[int], ids: Sequence[str], run: _Run) -> list[Candidate]:
    """Check some crystals of a batch and write them down."""
    with _one_thread():
        reports = _reports(batch.pushed, rows, run.validator)
        structures = [_structure(batch.pushed.units[row]) for row in rows]
    candidates = []
    for row, report, structure in zip(rows, reports, structures, strict=True):
        draw = batch.draws[row]
        extra = {
            "draw": draw.number,
            "template": draw.template.label,
            "template_rank": str(draw.rank),  # may exceed what JSON numbers hold
            "general_draw": draw.general,
            "push_steps": batch.pushed.steps[row],
            "compound": run.compound.name,
        }
        candidates.append(
            Candidate(
                id=ids[row],
                structure=structure,
                method=METHOD,
                seed=run.settings.seed,
                config_hash=run.key,
                package_version=package_version(),
                asymmetric_unit=batch.pushed.units[row],
                report=report,
                extra=extra,
            )
        )
    return candidates


def _structure(unit: AsymmetricUnit) -> Structure:
    # Push-apart has put the units exactly on their sites already.
    return expand_tensors(unit, project_sites=False).structures()[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors this small lose more to thread hand-overs than they gain, badly so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _reports(pushed: PushResult, rows: Sequence[int], validator: Validator | None) -> list[ValidationReport]:
    """Push-apart's own verdict first; what passed it goes to the validator."""
    reports: dict[int, ValidationReport] = {}
    for row in rows:
        good, steps = pushed.converged[row], pushed.steps[row]
        measured = f"limits reached in {steps} steps" if good else "limits not reached"
        check = Check("push_apart", good, measured, "all contact limits", pushed.reasons[row])
        reports[row] = ValidationReport((check,))
    passed = [row for row in rows if pushed.converged[row]]
    if validator is not None and passed:
        found = validator([pushed.units[row] for row in passed])
        for row, report in zip(passed, found, strict=True):
            reports[row] = ValidationReport((*reports[row].checks, *report.checks))
    return [reports[row] for row in rows]


@lru_cache(maxsize=1)
@dataclass(frozen=True)
class SettingOutcome:
    """What a search found in one setting.

    Attributes
    ----------
    hall_number : int
    symbol : str
    templates : int
        Site templates that add up to Z.
    wanted, accepted, draws : int
    reason : str
        Why the share was not reached: the failed check that occurs most often, with an example;
        empty where it was.
    """

    hall_number: int
    symbol: str
    templates: int
    wanted: int
    accepted: int
    draws: int
    reason: str


def search_outcomes(
    settings: SearchSettings, candidates: Iterable[Candidate], compound: Compound = SODIUM_AMIDE
) -> tuple[SettingOutcome, ...]:
    """Account for every setting of a search, those that delivered nothing included.

    Parameters
    ----------
    settings : SearchSettings
    candidates : iterable of Candidate
        All that the search yielded, rejected ones too.
    compound : Compound
    """
    by_setting: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.asymmetric_unit is not None:
            by_setting.setdefault(candidate.asymmetric_unit.hall_number, []).append(candidate)
    outcomes = []
    for plan in plan_search(settings, compound):
        members = by_setting.get(plan.hall_number, [])
        accepted = sum(c.accepted for c in members)
        reason = "" if accepted >= settings.per_setting else _shortfall(plan, members)
        row = (plan.hall_number, plan.symbol, plan.templates, settings.per_setting, accepted, len(members), reason)
        outcomes.append(SettingOutcome(*row))
    return tuple(outcomes)


def _shortfall(plan: SettingPlan, members: Sequence[Candidate]) -> str:
    if not plan.templates:
        return "no site template adds up to Z formula units"
    failed: Counter[str] = Counter()
    example: dict[str, str] = {}
    for candidate in members:
        for check in candidate.report.checks if candidate.report else ():
            if not check.passed:
                failed[check.name] += 1
                example.setdefault(check.name, check.detail)
                break
    if not failed:
        return "no draw was made"
    name, count = failed.most_common(1)[0]
    return f"{count} of {len(members)} draws failed {name}: {example[name]}"
