"""How many crystals of each origin pass the filters, at which limits, and which checks the others fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.errors import InputError
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.search import candidates_of
from nanh2lib.records import ValidationReport
from nanh2lib.validation import ValidationSettings, validate

SCALES = (1.0, 0.7)
"""Factors on the contact limits at which pass rates are quoted."""


@dataclass(frozen=True)
class Validity:
    """Verdicts on a set of crystals.

    Attributes
    ----------
    crystals : int
    passed : dict
        Number that pass all checks, by the factor on the contact limits.
    failed : dict
        Number that fail each check at the first factor; one crystal can fail several.
    """

    crystals: int
    passed: dict[float, int]
    failed: dict[str, int]

    def share(self, scale: float) -> float:
        """Per cent that pass at a factor."""
        return 100 * self.passed[scale] / self.crystals


def failed_checks(reports: Iterable[ValidationReport]) -> dict[str, int]:
    """How many reports fail each check, by its name; a check that nothing fails is counted as 0."""
    counts: Counter[str] = Counter()
    for report in reports:
        for check in report.checks:
            counts[check.name] += not check.passed
    return dict(counts)


def validity(
    units: AsymmetricUnit | Sequence[AsymmetricUnit],
    scales: Sequence[float] = SCALES,
    settings: ValidationSettings | None = None,
) -> Validity:
    """Judge crystals at several factors on the contact limits.

    Parameters
    ----------
    units : AsymmetricUnit or sequence of AsymmetricUnit
    scales : sequence of float
        Checks that fail are counted at the first.
    settings : ValidationSettings, optional
        Everything but ``limit_scale``.

    Raises
    ------
    InputError
        No factor or no crystal.
    """
    if not scales:
        raise InputError("validity: no factor on the limits; give at least 1.0")
    base = settings or ValidationSettings()
    reports = {scale: validate(units, base.model_copy(update={"limit_scale": scale})) for scale in scales}
    first = reports[scales[0]]
    if not first:
        raise InputError("validity: no crystals to judge; run the stage that makes them first")
    passed = {scale: sum(report.passed for report in found) for scale, found in reports.items()}
    return Validity(len(first), passed, failed_checks(first))


def units_of(run: Run, method: str) -> list[AsymmetricUnit]:
    """Asymmetric units of all candidates of a method, rejected ones too, in the order of their ids.

    Raises
    ------
    InputError
        The store has none.
    """
    candidates = sorted(candidates_of(run, method), key=lambda candidate: candidate.id)
    units = [candidate.asymmetric_unit for candidate in candidates if candidate.asymmetric_unit is not None]
    if not units:
        raise InputError(f"{run.directory}: no candidates of method {method!r}; run search, train and sample first")
    return units
