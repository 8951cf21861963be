"""Evaluations per hit with intervals: the bootstrap over seeds and relaxations, and the bound where nothing was hit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
COVERAGE = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Trials:
    """Relaxations of one method on one template.

    Attributes
    ----------
    seeds : ndarray of int, shape (N,)
    evaluations : ndarray, shape (N,)
    energies : ndarray, shape (N,)
        eV per formula unit; infinite where a relaxation failed.
    countable : ndarray of bool, shape (N,)
        Whether the find counts if it is low enough: not a duplicate, not from the training set.
    """

    seeds: IntArray
    evaluations: FloatArray
    energies: FloatArray
    countable: BoolArray

    def __len__(self) -> int:
        return len(self.seeds)

    def take(self, rows: IntArray) -> Trials:
        """Some of the rows, repeated ones too."""
        return Trials(self.seeds[rows], self.evaluations[rows], self.energies[rows], self.countable[rows])

    def hits(self, level: float) -> int:
        """Countable finds at or below an energy."""
        return int((self.countable & (self.energies <= level)).sum())

    def resample(self, generator: np.random.Generator) -> Trials:
        """Seeds with replacement, then relaxations with replacement within each."""
        count = len(self._by_seed)
        drawn = generator.integers(0, count, count) if count > 1 else range(count)
        strata = [self._by_seed[number] for number in drawn]
        return self.take(np.concatenate([rows[generator.integers(0, len(rows), len(rows))] for rows in strata]))

    @cached_property
    def _by_seed(self) -> list[IntArray]:
        return [np.flatnonzero(self.seeds == seed) for seed in np.unique(self.seeds)]


def lowest_share(energies: FloatArray, share: float = 0.01) -> float:
    """Highest energy of the lowest share of the relaxations, at least one of them.

    Of N energies the k-th lowest, k = max(1, floor(share N)).
    """
    count = max(1, int(np.floor(share * len(energies) + 1e-9)))
    return float(np.sort(energies)[count - 1])


def evaluations_per_hit(trials: Trials, level: float, charged: float = 0.0) -> float:
    """All evaluations divided by all hits; infinite without a hit.

    Parameters
    ----------
    trials : Trials
    level : float
        eV per formula unit.
    charged : float
        Evaluations spent beforehand (on a training set).
    """
    hits = trials.hits(level)
    return float("inf") if hits == 0 else (float(trials.evaluations.sum()) + charged) / hits


def bound_without_hit(trials: Trials, charged: float = 0.0) -> float:
    """One-sided 95 % lower bound of the evaluations per hit when N relaxations gave none.

    The hit rate is then below p = 1 - 0.05^(1/N) (Clopper-Pearson), and a relaxation costs what
    it cost on average.
    """
    p = 1.0 - (1.0 - COVERAGE) ** (1.0 / len(trials))
    return (float(trials.evaluations.sum()) + charged) / len(trials) / p


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Central 95 % of bootstrap values; infinities count as very large."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    tail = (1.0 - COVERAGE) / 2
    low, high = (int(np.floor(tail * len(ordered))), int(np.ceil((1 - tail) * len(ordered))) - 1)
    return float(ordered[low]), float(ordered[high])


def bootstrap(
    statistic: Callable[[Sequence[Trials]], float], samples: Sequence[Trials], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % interval of a number computed from several sets of trials, each resampled on its own."""
    generator = np.random.default_rng(seed)
    values = [statistic([trials.resample(generator) for trials in samples]) for _ in range(resamples)]
    return interval([float("inf") if value != value else value for value in values])


def best_against_budget(trials: Trials, budgets: Sequence[float]) -> list[float]:
    """Lowest energy after so many evaluations, averaged over seeds; NaN before the first relaxation ends."""
    curves = []
    for seed in np.unique(trials.seeds):
        rows = trials.seeds == seed
        spent = np.cumsum(trials.evaluations[rows])
        lowest = np.minimum.accumulate(trials.energies[rows])
        place = np.searchsorted(spent, np.asarray(budgets, dtype=np.float64), side="right") - 1
        curves.append(np.where((place >= 0) & (np.asarray(budgets) <= spent[-1]), lowest[place.clip(0)], np.nan))
    return [float(value) for value in np.mean(curves, axis=0)]
