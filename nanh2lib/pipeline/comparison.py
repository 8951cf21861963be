"""What relaxation did to a run's candidates, and whether the experimental phase is among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import pandas as pd
from pymatgen.core import Structure

from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.energy.labels import EnergyResult, LabelSettings, label_structures
from nanh2lib.errors import ComputationError
from nanh2lib.pipeline.refine import final_key
from nanh2lib.pipeline.run import Run, read_json, write_json
from nanh2lib.pipeline.search import candidates_of, compound_of
from nanh2lib.ranking import RankedTable, matches
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation.batch import relax_many
from nanh2lib.report.html_table import typeset
from nanh2lib.report.published import published_structures, reference_structure
from nanh2lib.settings import config_hash

ENERGY_WINDOW = 5e-3
"""A published structure counts as found within this energy, eV per formula unit, after equal relaxation."""
METHOD_WORDS = {
    "random_search": "random search",
    "paper_guided": "model, guided, as decoded",
    "paper_unguided": "model, unguided, as decoded",
    "paper_guided_pushed": "model, guided, pushed apart",
    "paper_unguided_pushed": "model, unguided, pushed apart",
}
"""How the methods of the store are called on pages."""


def relaxed_reference(
    run: Run, name: str = "alpha", executor: Executor | None = None, *, structure: Structure | None = None
) -> RelaxationResult:
    """A reference phase relaxed exactly as the run relaxes its candidates: the zero of its energies.

    Kept in ``tables/``; a second call computes nothing.

    Parameters
    ----------
    run : Run
    name : str
        As for `reference_structure`, or any name with ``structure``.
    executor : Executor, optional
    structure : Structure, optional
        Where the relaxation starts, for a phase that does not come with the package.

    Raises
    ------
    ComputationError
        The relaxation failed or ended unusable.
    """
    settings = run.config.relaxation
    path = run.path("tables", f"reference-{name}-{config_hash(settings)}.json")
    if path.exists():
        return RelaxationResult.from_dict(read_json(path))
    crystals = {name: reference_structure(name) if structure is None else structure}
    results = relax_many(crystals, settings, executor, compound=compound_of(run), progress=run.progress)[name]
    if isinstance(results, str) or not results[-1].usable:
        reason = results if isinstance(results, str) else ", ".join(results[-1].flags)
        raise ComputationError(f"{name}: its relaxation with {settings.potential} failed ({reason})")
    write_json(path, results[-1].to_dict())
    return results[-1]


def relaxation_frame(run: Run, zero: float) -> pd.DataFrame:
    """Energy of each relaxed candidate before and after, in energy order of the end.

    Parameters
    ----------
    run : Run
    zero : float
        Energy that counts as 0, eV per formula unit, at the run's relaxing potential.

    Returns
    -------
    DataFrame
        Index: first six digits of the id. Columns: ``method``, ``group`` (of the template), ``start``,
        ``rigid`` (NaN without that stage), ``end`` (meV per formula unit above ``zero``), ``calls``
        (energy evaluations of all stages), ``converged``, ``flags``.
    """
    key, potential = final_key(run.config.relaxation), run.config.relaxation.potential
    rows = []
    for candidate in candidates_of(run):
        if key not in candidate.relaxations:
            continue
        results = [r for r in candidate.relaxations.values() if r.potential == potential]
        last = candidate.relaxations[key]
        rigid = next((r for r in results if r.stage.startswith("rigid")), None)
        first = rigid or last
        number = candidate.space_group_number
        rows.append(
            {
                "id": candidate.id[:6],
                "method": METHOD_WORDS.get(candidate.method, candidate.method),
                "group": SpaceGroup.from_number(number).symbol if number else "",
                "start": 1e3 * (first.energy_start - zero),
                "rigid": 1e3 * (rigid.energy_final - zero) if rigid else float("nan"),
                "end": 1e3 * (last.energy_final - zero),
                "calls": sum(r.evaluations for r in results),
                "converged": last.converged,
                "flags": ", ".join(last.flags),
            }
        )
    columns = ["id", "method", "group", "start", "rigid", "end", "calls", "converged", "flags"]
    return pd.DataFrame(rows, columns=columns).sort_values(["end", "id"]).set_index("id")


def energy_levels(frame: pd.DataFrame, count: int) -> dict[str, dict[str, float]]:
    """The lowest ``count`` rows of a `relaxation_frame` as columns of energy levels: made, rigid, all atoms."""
    lowest = frame.head(count)
    stages = {"start": "as made", "rigid": "rigid units\nrelaxed", "end": "all atoms\nrelaxed"}
    names = [f"{typeset(group)} ({identity})" for identity, group in zip(lowest.index, lowest["group"], strict=True)]
    levels = {word: dict(zip(names, lowest[stage], strict=True)) for stage, word in stages.items()}
    return {word: {n: float(v) for n, v in level.items() if v == v} for word, level in levels.items()}


@dataclass(frozen=True)
class Match:
    """A ranked crystal that is a known one.

    Attributes
    ----------
    rank : int
    id, method : str
    rms : float
        In units of (V/N)^(1/3).
    energy_difference : float
        Ranked minus known, eV per formula unit.
    """

    rank: int
    id: str
    method: str
    rms: float
    energy_difference: float

    @property
    def found(self) -> bool:
        """Whether the energies agree too, within `ENERGY_WINDOW`."""
        return abs(self.energy_difference) <= ENERGY_WINDOW


def find_known(table: RankedTable, known: Mapping[str, RelaxationResult]) -> dict[str, Match]:
    """Which known crystals are among the ranked ones; the best match of each.

    Parameters
    ----------
    table : RankedTable
    known : mapping
        Relaxations at the potential of the ranking, by name.

    Returns
    -------
    dict
        By name; a crystal without a match has no entry.
    """
    found: dict[str, Match] = {}
    rows = table.frame.to_dict("records")
    for name, result in known.items():
        for row, structure in zip(rows, table.structures, strict=True):
            rms = matches(structure, result.structure)
            if rms is None or (name in found and found[name].rms <= rms):
                continue
            gap = float(row["ev_per_fu"]) - result.energy_final
            found[name] = Match(int(row["rank"]), str(row["id"]), str(row["method"]), rms, gap)
    return found


def finders(run: Run, table: RankedTable, representative: str) -> list[str]:
    """Methods that found the crystal that a ranked candidate stands for, in words, sorted."""
    members = {member for member, owner in table.groups.items() if owner == representative}
    return sorted({METHOD_WORDS.get(c.method, c.method) for c in candidates_of(run) if c.id in members})


def second_opinion(run: Run, structures: Sequence[Structure], potential: str) -> list[float]:
    """Single-point energies of crystals at another potential, eV per formula unit.

    Raises
    ------
    ComputationError
        One of them cannot be computed.
    """
    settings = LabelSettings(potential=potential)
    labels = label_structures(list(structures), settings, compound=compound_of(run), progress=run.progress)
    energies = []
    for key, label in labels.items():
        if not isinstance(label, EnergyResult):
            raise ComputationError(f"structure {key}: no {potential} energy ({label.reason})")
        energies.append(label.energy_per_fu)
    return energies


def published_frame(known: Mapping[str, RelaxationResult], zero: float, dft: Mapping[str, float]) -> pd.DataFrame:
    """Volumes of the published structures as printed and as relaxed, and their energies above alpha.

    Parameters
    ----------
    known : mapping
        Relaxations by key; those that are missing leave gaps.
    zero : float
        Energy of relaxed alpha at the potential of ``known``, eV per formula unit.
    dft : mapping
        Single-point energies by key, alpha among them, eV per formula unit; may be empty.

    Returns
    -------
    DataFrame
        Index: keys. Columns: ``printed``, ``recomputed``, ``difference`` (A^3 per formula unit), ``group``
        (symbol after relaxation), ``relaxed`` and ``dft`` (meV per formula unit above alpha). None where
        nothing was computed.
    """
    rows: dict[str, dict[str, float | str | None]] = {}
    for item in published_structures():
        result = known.get(item.key)
        printed = item.structure.volume / item.z
        volume = None if result is None else result.structure.volume / item.z
        rows[item.key] = {
            "printed": printed,
            "recomputed": volume,
            "difference": None if volume is None else volume - printed,
            "group": None if result is None else SpaceGroup.from_number(result.space_group_after).symbol,
            "relaxed": None if result is None else 1e3 * (result.energy_final - zero),
            "dft": 1e3 * (dft[item.key] - dft["alpha"]) if item.key in dft and "alpha" in dft else None,
        }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object)
