"""Energy order of relaxed candidates, one row for each different crystal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from pydantic import Field
from pymatgen.core import Structure

from nanh2lib.ranking.duplicates import DuplicateSettings, group_duplicates
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.settings import StageSettings

COLUMNS = (
    "rank", "id", "method", "space_group", "ev_per_fu", "mev_above_lowest", "volume_per_atom", "found",
    "converged", "evaluations", "flags",
)  # fmt: skip


class RankingSettings(StageSettings):
    """What is ranked and how.

    Attributes
    ----------
    relaxation : str
        Key of the relaxation that is ranked, ``"stage:potential"``.
    duplicates : DuplicateSettings
    tie : float
        Energies closer than this (eV per formula unit) are a tie: the smaller volume comes
        first, then the smaller id.
    top : int
        Rows that get a CIF file and a table in the paper's format.
    """

    relaxation: str = "rigid_fixed:chgnet"
    duplicates: DuplicateSettings = Field(default_factory=DuplicateSettings)
    tie: float = Field(default=1e-3, ge=0)
    top: int = Field(default=4, ge=1)


@dataclass(frozen=True)
class RankedTable:
    """The ranking.

    Attributes
    ----------
    frame : pandas.DataFrame
        One row for each different crystal; ``found`` is how often it was found.
    structures : tuple of Structure
        In the order of the rows.
    left_out : tuple of (id, reason)
        Candidates that could not be ranked.
    groups : dict
        For each ranked candidate the id of the crystal that stands for it.
    """

    frame: pd.DataFrame
    structures: tuple[Structure, ...]
    left_out: tuple[tuple[str, str], ...]
    groups: dict[str, str]


def rank(candidates: Iterable[Candidate], settings: RankingSettings | None = None) -> RankedTable:
    """Rank candidates by the energy of one relaxation.

    Parameters
    ----------
    candidates : iterable of Candidate
    settings : RankingSettings, optional

    Returns
    -------
    RankedTable
        A relaxation that broke a molecule, lost its space group, exploded or has no finite
        energy is never ranked: it is in ``left_out`` with its reason.
    """
    settings = settings or RankingSettings()
    ranked: list[tuple[Candidate, RelaxationResult]] = []
    left_out: list[tuple[str, str]] = []
    for candidate in candidates:
        result = candidate.relaxations.get(settings.relaxation)
        if result is None:
            reason = candidate.failures.get(settings.relaxation)
            if reason is not None:
                left_out.append((candidate.id, reason))
        elif not result.usable or not math.isfinite(result.energy_final):
            left_out.append((candidate.id, ", ".join(result.flags) or "energy not finite"))
        else:
            ranked.append((candidate, result))
    owner = group_duplicates(
        [result.structure for _, result in ranked], [result.energy_final for _, result in ranked], settings.duplicates
    )
    found = Counter(owner)
    order = _energy_order([i for i, j in enumerate(owner) if i == j], ranked, settings.tie)
    lowest = min((result.energy_final for _, result in ranked), default=math.nan)
    rows = []
    for place, i in enumerate(order, start=1):
        candidate, result = ranked[i]
        rows.append(
            (
                place, candidate.id, candidate.method, result.space_group_after, result.energy_final,
                1e3 * (result.energy_final - lowest), result.structure.volume / len(result.structure), found[i],
                result.converged, result.evaluations, ", ".join(result.flags),
            )
        )  # fmt: skip
    groups = {ranked[i][0].id: ranked[j][0].id for i, j in enumerate(owner)}
    return RankedTable(
        pd.DataFrame(rows, columns=list(COLUMNS)), tuple(ranked[i][1].structure for i in order), tuple(left_out), groups
    )


def _energy_order(chosen: Sequence[int], ranked: Sequence[tuple[Candidate, RelaxationResult]], tie: float) -> list[int]:
    """By energy; a run of energies each within ``tie`` of its first goes by volume, then id."""
    by_energy = sorted(chosen, key=lambda i: (ranked[i][1].energy_final, ranked[i][0].id))
    result: list[int] = []
    start = 0
    while start < len(by_energy):
        first = ranked[by_energy[start]][1].energy_final
        stop = start
        while stop < len(by_energy) and ranked[by_energy[stop]][1].energy_final - first < tie:
            stop += 1
        run = by_energy[start:stop]
        result += sorted(run, key=lambda i: (round(ranked[i][1].structure.volume, 6), ranked[i][0].id))
        start = stop
    return result
