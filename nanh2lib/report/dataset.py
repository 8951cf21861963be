"""A dataset in numbers: what it holds, what failed, how far its potentials agree with first principles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from nanh2lib.crystal.space_group import setting_labels
from nanh2lib.errors import InputError
from nanh2lib.records import Candidate, RelaxationResult

FloatArray = NDArray[np.float64]


def dataset_account(entries: Sequence[Candidate]) -> dict[str, Any]:
    """What a dataset holds, its failures with their reasons among it.

    Parameters
    ----------
    entries : sequence of Candidate

    Returns
    -------
    dict
        Entries by setting, labels by potential, relaxations with their convergence and calls,
        failures by reason.
    """
    labels = Counter(name for entry in entries for name in entry.energies)
    reasons = Counter(f"{name}: {reason}" for entry in entries for name, reason in entry.failures.items())
    return {
        "entries": len(entries),
        "space_groups": len({entry.space_group_number for entry in entries}),
        "settings": setting_counts(entries),
        "labels": dict(sorted(labels.items())),
        "relaxed_fixed": _account([entry.relaxed_fixed for entry in entries]),
        "relaxed": _account([entry.relaxed for entry in entries]),
        "failures": dict(reasons),
    }


def setting_counts(entries: Sequence[Candidate]) -> dict[str, int]:
    """Entries of each space-group setting, by label (see `setting_labels`), in order of the Hall number."""
    counts = Counter(entry.asymmetric_unit.hall_number for entry in entries if entry.asymmetric_unit is not None)
    labels = setting_labels(list(counts))
    return {labels[hall]: counts[hall] for hall in sorted(counts)}


def _account(results: Sequence[RelaxationResult | None]) -> dict[str, Any]:
    done = [result for result in results if result is not None]
    return {
        "done": len(done),
        "potential": ", ".join(sorted({result.potential for result in done})),
        "converged": sum(result.converged for result in done),
        "usable": sum(result.usable for result in done),
        "flags": dict(Counter(flag for result in done for flag in result.flags)),
    }


@dataclass(frozen=True)
class Agreement:
    """How a potential's energies compare with reference energies of the same crystals.

    Attributes
    ----------
    potential : str
    count : int
        Crystals compared.
    offset : float
        Mean difference, eV per formula unit: no meaning across potentials with different zeros.
    mean_absolute, root_mean_square : float
        Of the differences after the offset is taken away, eV per formula unit.
    spearman, kendall : float
        Rank correlations.
    """

    potential: str
    count: int
    offset: float
    mean_absolute: float
    root_mean_square: float
    spearman: float
    kendall: float


def agreement(potential: str, energies: Mapping[str, float], reference: Mapping[str, float]) -> Agreement:
    """Compare energies with reference energies over the keys that both have.

    Raises
    ------
    InputError
        Fewer than three crystals are common.
    """
    keys = sorted(set(energies) & set(reference))
    if len(keys) < 3:
        raise InputError(f"{potential}: {len(keys)} crystals have both energies; a comparison needs 3 or more")
    ours = np.array([energies[key] for key in keys])
    theirs = np.array([reference[key] for key in keys])
    difference = ours - theirs
    offset = float(difference.mean())
    rest = difference - offset
    return Agreement(
        potential,
        len(keys),
        offset,
        float(np.abs(rest).mean()),
        math.sqrt(float((rest**2).mean())),
        float(spearmanr(ours, theirs).statistic),
        float(kendalltau(ours, theirs).statistic),
    )


@dataclass(frozen=True)
class LinearCorrection:
    """``reference ~ slope * energy + intercept``, judged on crystals that it was not fitted to.

    Attributes
    ----------
    slope, intercept : float
        Least squares over all crystals; intercept in eV per formula unit.
    error_before, error_after : float
        Leave-one-out mean absolute error (eV per formula unit) of a shift alone and of the line.
    """

    slope: float
    intercept: float
    error_before: float
    error_after: float

    @property
    def helps(self) -> bool:
        """Whether the line beats the shift on crystals that it has not seen."""
        return self.error_after < self.error_before


def linear_correction(energies: FloatArray, reference: FloatArray) -> LinearCorrection:
    """Fit a line from a potential's energies to reference energies, cross-validated by leaving one out.

    Parameters
    ----------
    energies, reference : ndarray, shape (N,)
        eV per formula unit, N >= 4.

    Raises
    ------
    InputError
        Fewer than four points.
    """
    if len(energies) < 4 or len(energies) != len(reference):
        raise InputError(f"a correction needs four or more pairs of energies, got {len(energies)}, {len(reference)}")
    shifted, lined = [], []
    for i in range(len(energies)):
        rest = np.arange(len(energies)) != i
        slope, intercept = np.polyfit(energies[rest], reference[rest], 1)
        shifted.append(abs(energies[i] + (reference[rest] - energies[rest]).mean() - reference[i]))
        lined.append(abs(slope * energies[i] + intercept - reference[i]))
    slope, intercept = np.polyfit(energies, reference, 1)
    return LinearCorrection(float(slope), float(intercept), float(np.mean(shifted)), float(np.mean(lined)))
