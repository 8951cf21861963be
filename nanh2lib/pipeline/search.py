"""Random symmetric search of a run, each candidate checked and kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.rigid_unit import SODIUM_AMIDE, Compound
from nanh2lib.crystal.space_group import setting_labels
from nanh2lib.pipeline.run import Run, stage
from nanh2lib.records import Candidate, ValidationReport
from nanh2lib.search.random_search import (
    METHOD,
    SearchSettings,
    plan_search,
    random_search,
    search_outcomes,
    searched_settings,
)
from nanh2lib.validation import ValidationSettings, validate

RANDOM_SEARCH = METHOD
BATCH = 100


def candidate_id(*parts: object) -> str:
    """Stable key of a candidate: hash of the method, the settings and its place in the run."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()[:20]


def compound_of(run: Run) -> Compound:
    """The compound that a run is about."""
    return run.compound or SODIUM_AMIDE


def candidates_of(run: Run, *methods: str) -> Iterator[Candidate]:
    """Candidates of the run made by the given methods, or all of them."""
    if not methods:
        yield from run.store.candidates()
    for method in methods:
        yield from run.store.candidates(method=method)


def search_settings(run: Run) -> SearchSettings:
    """The run's search settings with the run's seed."""
    return run.config.search.model_copy(update={"seed": run.config.seed})


def template_counts(run: Run) -> dict[str, int]:
    """Site templates that add up to Z formula units, by setting; known before anything is run."""
    plans = plan_search(search_settings(run), compound_of(run))
    return {f"{plan.symbol} (Hall {plan.hall_number})": plan.templates for plan in plans}


def search_stage(run: Run) -> dict[str, Any]:
    """Search, check and keep candidates; a killed run goes on where it was.

    Returns
    -------
    dict
        Accepted by space group, rejected by reason, and why a setting fell short of its share.
    """

    def work() -> dict[str, Any]:
        settings = search_settings(run)
        search_into_store(run, settings)
        candidates = list(candidates_of(run, RANDOM_SEARCH))
        outcomes = search_outcomes(settings, candidates, compound_of(run))
        labels = setting_labels([outcome.hall_number for outcome in outcomes])
        short = {labels[o.hall_number]: f"{o.accepted} of {o.wanted}; {o.reason}" for o in outcomes if o.reason}
        return {**search_summary(candidates), "short_of_share": short}

    return stage(run, "search", run.settings_key("search", "validation", "compound"), work)


def search_into_store(run: Run, settings: SearchSettings) -> None:
    """Search, check at the search's own limits, and keep; draws that the store has are not repeated."""
    searched_settings(settings)  # a group that does not fit the cell: said before a store is made

    def validator(units: Sequence[AsymmetricUnit]) -> Sequence[ValidationReport]:
        changes: dict[str, Any] = {"limit_scale": settings.limit_scale, "stage": "generated"}
        checks: ValidationSettings = run.config.validation.model_copy(
            update={"pair_limits": settings.pair_limits, **changes}
        )
        return validate(units, checks)

    store = run.store
    known = {c.id: c.accepted for c in store.candidates(method=RANDOM_SEARCH)}
    found = random_search(settings, compound_of(run), validator=validator, known=known, progress=run.progress)
    while batch := list(islice(found, BATCH)):
        store.add(batch)


def search_summary(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Accepted candidates by space-group setting, rejected ones by the check that failed."""
    groups: Counter[int] = Counter()
    reasons: Counter[str] = Counter()
    for candidate in candidates:
        if candidate.accepted and candidate.asymmetric_unit is not None:
            groups[candidate.asymmetric_unit.hall_number] += 1
        elif candidate.report is not None:
            reasons.update([next(c.name for c in candidate.report.checks if not c.passed)])
    labels = setting_labels(list(groups))
    return {
        "accepted": sum(groups.values()),
        "rejected": sum(reasons.values()),
        "space_groups": {labels[hall]: count for hall, count in groups.items()},
        "failed_checks": dict(reasons),
    }
