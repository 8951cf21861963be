"""Energy order of relaxed candidates, one row for each different crystal."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field
from pymatgen.core import Structure

from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.energy.labels import EnergyResult, label_structures
from nanh2lib.files import write_atomically
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
        Energies closer than this (eV per formula unit) are a tie: the smaller volume per atom
        comes first, then the smaller id.
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
    settings : RankingSettings
        What it was made with: tolerances of the matcher, tie rule.
    """

    frame: pd.DataFrame
    structures: tuple[Structure, ...]
    left_out: tuple[tuple[str, str], ...]
    groups: dict[str, str]
    settings: RankingSettings = dataclasses.field(default_factory=RankingSettings)

    def write(self, directory: Path, top: int | None = None) -> list[Path]:
        """Write ``ranking.csv``, ``left_out.csv`` and CIF files ``rank-01.cif`` and so on.

        Parameters
        ----------
        directory : Path
            Made if needed; files in it are replaced one by one, each as a whole.
        top : int, optional
            How many CIF files; ``settings.top`` when absent.

        Returns
        -------
        list of Path
        """
        directory.mkdir(parents=True, exist_ok=True)
        left_out = pd.DataFrame(self.left_out, columns=["id", "reason"])
        texts = {"ranking.csv": self.frame.to_csv(index=False), "left_out.csv": left_out.to_csv(index=False)}
        count = self.settings.top if top is None else top
        for place, structure in enumerate(self.structures[:count], start=1):
            texts[f"rank-{place:02d}.cif"] = structure.to(fmt="cif")
        return [write_atomically(directory / name, text.encode()) for name, text in texts.items()]


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
        energy is never ranked: it is in ``left_out`` with its reason. One that only reached its
        limit of evaluations is ranked with ``converged`` False. Candidates that were never
        relaxed so are not its business. Independent of the order of the candidates.
    """
    settings = settings or RankingSettings()
    candidates = sorted(candidates, key=lambda candidate: candidate.id)
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
    kept = [(i, *ranked[i]) for i, j in enumerate(owner) if i == j]
    order = _energy_order(
        [(r.energy_final, r.structure.volume / len(r.structure), c.id, i) for i, c, r in kept], settings.tie
    )
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
        pd.DataFrame(rows, columns=list(COLUMNS)),
        tuple(ranked[i][1].structure for i in order),
        tuple(left_out),
        groups,
        settings,
    )


def rerank(
    table: RankedTable,
    potential: str,
    top: int = 20,
    executor: Executor | None = None,
    compound: Compound | None = None,
    *,
    progress: bool = True,
) -> RankedTable:
    """Put the best rows of a ranking in the order of a better potential, at the geometry they have.

    Parameters
    ----------
    table : RankedTable
    potential : str
        Name of the better potential.
    top : int
        How many rows are computed again.
    executor : Executor, optional
        Default: this process.
    compound : Compound, optional
        Fixes what a formula unit is.
    progress : bool
        Show a progress bar.

    Returns
    -------
    RankedTable
        The computed rows first, in their new order and with two more columns (energy, and meV
        above the lowest, at that potential); the rest follow in the old order with empty ones. A
        row whose energy could not be computed goes to ``left_out`` with the reason.
    """
    frame = table.frame
    chosen = frame["id"].head(top).tolist()
    structures = dict(zip(chosen, table.structures, strict=False))
    labels = label_structures(structures, potential, executor, compound, progress=progress)
    energies = {key: label.energy_per_fu for key, label in labels.items() if isinstance(label, EnergyResult)}
    reasons = {key: label.reason for key, label in labels.items() if not isinstance(label, EnergyResult)}
    places = [i for i, key in enumerate(chosen) if key in energies]
    per_atom = frame["volume_per_atom"].tolist()
    order = _energy_order([(energies[chosen[i]], per_atom[i], chosen[i], i) for i in places], table.settings.tie)
    order += range(len(chosen), len(frame))
    result = frame.iloc[order].reset_index(drop=True)
    column = np.array([energies.get(key, math.nan) for key in result["id"]], dtype=np.float64)
    result["rank"] = range(1, len(result) + 1)
    result[f"ev_per_fu_{potential}"] = column
    result[f"mev_above_lowest_{potential}"] = 1e3 * (column - min(energies.values(), default=math.nan))
    return dataclasses.replace(
        table,
        frame=result,
        structures=tuple(table.structures[i] for i in order),
        left_out=table.left_out + _without_energy(table.groups, reasons, potential),
        groups={key: owner for key, owner in table.groups.items() if owner not in reasons},
    )


def _without_energy(groups: dict[str, str], reasons: dict[str, str], potential: str) -> tuple[tuple[str, str], ...]:
    """What is left out with a crystal that has no energy: itself, and all that it stands for."""
    return tuple(
        (member, f"{potential}: {reasons[owner]}" + ("" if member == owner else f" (same crystal as {owner})"))
        for member, owner in groups.items()
        if owner in reasons
    )


def _energy_order(rows: Sequence[tuple[float, float, str, int]], tie: float) -> list[int]:
    """Last entries of (energy, volume per atom, id, index), by energy.

    A run of energies, each within ``tie`` of its first, goes by volume, then id.
    """
    by_energy = sorted(rows, key=lambda row: (row[0], row[2]))
    result: list[int] = []
    start = 0
    while start < len(by_energy):
        stop = start
        while stop < len(by_energy) and by_energy[stop][0] - by_energy[start][0] < tie:
            stop += 1
        stop = max(stop, start + 1)
        run = sorted(by_energy[start:stop], key=lambda row: (round(row[1], 6), row[2]))
        result += [row[3] for row in run]
        start = stop
    return result
