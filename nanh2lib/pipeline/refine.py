"""Relaxation and ranking of a run's candidates, and the tables that come out of it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.connectivity import check_counts, expected_compound, find_fragments
from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.errors import InputError
from nanh2lib.pipeline.labels import energies_of
from nanh2lib.pipeline.run import Run, stage, write_text
from nanh2lib.pipeline.search import candidates_of, compound_of
from nanh2lib.ranking import RankedTable, rank
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.relaxation.batch import relax_many
from nanh2lib.relaxation.settings import RelaxationSettings
from nanh2lib.report.cif import structure_cif
from nanh2lib.report.tables import structure_table
from nanh2lib.settings import config_hash


def final_key(settings: RelaxationSettings) -> str:
    """Name, in the store, of the last stage of a relaxation, e.g. ``"all_atom:chgnet"``."""
    stages = {"released": settings.released, "all_atom": settings.atoms, "rigid": settings.rigid}
    name = next((stage for stage, chosen in stages.items() if chosen is not None), "rigid")
    if name == "rigid" and settings.rigid is not None and settings.rigid.cell == "fixed":
        name = "rigid_fixed"
    return f"{name}:{settings.potential}"


def selected(run: Run, executor: Executor | None = None) -> list[Candidate]:
    """The candidates to relax: of each method those with the lowest energy before relaxation.

    Energies are those of the relaxing potential; missing ones are computed and kept.
    """
    chosen: list[Candidate] = []
    for method in run.config.selection.methods:
        accepted = [c for c in candidates_of(run, method) if c.accepted and c.asymmetric_unit is not None]
        energies = energies_of(run, accepted, run.config.relaxation.potential, executor)
        accepted = [c for c in accepted if math.isfinite(energies.get(c.id, math.nan))]
        accepted.sort(key=lambda c: (energies[c.id], c.id))
        chosen += accepted[: run.config.selection.per_method]
    return chosen


def relax_stage(run: Run, executor: Executor | None = None, *, retry_failures: bool = False) -> dict[str, Any]:
    """Relax the selected candidates, the space group kept; finished ones are not repeated.

    Parameters
    ----------
    run : Run
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.
    retry_failures : bool
        Try those again that gave no result.

    Returns
    -------
    dict
        How many were relaxed, converged, unusable (with reasons), and the energy calls spent.
    """
    settings = run.config.relaxation
    key, store = final_key(settings), run.store
    chosen = selected(run, executor)
    units = {c.id: c.asymmetric_unit for c in chosen if c.asymmetric_unit is not None}
    new = relax_into_store(run, units, settings, executor, retry_failures=retry_failures)
    done = [store.get(candidate.id) for candidate in chosen]
    results = [c.relaxations[key] for c in done if key in c.relaxations]
    return {
        "relaxation": key,
        "selected": len(chosen),
        "new": new,
        "converged": sum(r.converged for r in results),
        "usable": sum(r.usable for r in results),
        "flags": dict(Counter(flag for r in results for flag in r.flags)),
        "failed": sum(key in c.failures for c in done),
        "evaluations": sum(
            r.evaluations for c in done for r in c.relaxations.values() if r.potential == settings.potential
        ),
    }


def relax_into_store(
    run: Run,
    units: Mapping[str, AsymmetricUnit],
    settings: RelaxationSettings,
    executor: Executor | None = None,
    *,
    retry_failures: bool = False,
) -> int:
    """Relax what has neither result nor failure under these settings yet; each is kept as it comes.

    Parameters
    ----------
    run : Run
    units : mapping of candidate id to AsymmetricUnit
        Where each relaxation starts; batches of one.
    settings : RelaxationSettings
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.
    retry_failures : bool
        Try those again that gave no result.

    Returns
    -------
    int
        How many were started.
    """
    key, version = final_key(settings), config_hash(settings)
    store = run.store
    unfinished = set(store.pending(key, version, retry_failures))
    missing = {identity: unit for identity, unit in units.items() if identity in unfinished}

    def write(identity: str, results: tuple[RelaxationResult, ...] | str) -> None:
        if isinstance(results, str):
            store.set_failure(identity, key, results, version=version)
            return
        for result in results:
            store.set_relaxation(identity, f"{result.stage}:{result.potential}", result, version)
        last = results[-1]
        if f"{last.stage}:{last.potential}" != key:
            reason = f"stopped after stage {last.stage}: {', '.join(last.flags)}"
            store.set_failure(identity, key, reason, version=version)

    if missing:
        relax_many(missing, settings, executor, write, compound=compound_of(run), progress=run.progress)
    return len(missing)


def ranked_table(run: Run) -> RankedTable:
    """All relaxed candidates of the run, duplicates removed, in energy order."""
    key = final_key(run.config.relaxation)
    settings = run.config.ranking.model_copy(update={"relaxation": key})
    return rank(candidates_of(run), settings)


def rank_stage(run: Run) -> dict[str, Any]:
    """Rank, and write ``tables/ranking.csv``, the best ones as CIF and in the paper's table format.

    Returns
    -------
    dict
        Different crystals, how many were left out and why, the best row, and the files.
    """
    store = run.store
    relaxed = sorted(f"{c.id}{c.relaxations[k].energy_final}" for c in store.candidates() for k in c.relaxations)

    def work() -> dict[str, Any]:
        table = ranked_table(run)
        csv, _ = table.write(run.directory / "tables", top=0)
        best = [
            _published_style(run, place, s) for place, s in enumerate(table.structures[: run.config.ranking.top], 1)
        ]
        markdown = write_text(run.path("tables", "best.md"), "\n".join(best) + "\n")
        rows = table.frame.to_dict("records")
        return {
            "different_crystals": len(rows),
            "left_out": dict(Counter(reason for _, reason in table.left_out)),
            "best": {str(k): v for k, v in rows[0].items()} if rows else {},
            "files": [str(csv), str(markdown)],
        }

    return stage(run, "rank", f"{run.settings_key('ranking')}-{config_key(relaxed)}", work)


def config_key(parts: Sequence[str]) -> str:
    """Hash of a list of texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _published_style(run: Run, place: int, structure: Structure) -> str:
    table = structure_table(structure)
    write_text(run.path("cifs", f"rank-{place:02d}.cif"), structure_cif(structure))
    return f"### Rank {place}: {table.title}\n\n{table.markdown()}"


def relax_files(
    files: Sequence[Path],
    structures: Sequence[Structure],
    potential: str | None = None,
    out: Path = Path("relaxed"),
    executor: Executor | None = None,
    *,
    compound: Compound | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Relax crystals from files (rigid units, then all atoms; space group kept) and write CIF files.

    A crystal whose units are not those of its compound (the one given, else sodium amide where the
    composition is NaNH2) is refused with the reason.
    """
    settings = RelaxationSettings(potential=potential) if potential else RelaxationSettings()
    crystals = {str(path): s for path, s in zip(files, structures, strict=True)}
    refused = {name: reason for name, crystal in crystals.items() if (reason := _misfit(crystal, compound))}
    fitting = {name: crystal for name, crystal in crystals.items() if name not in refused}
    relaxed = relax_many(fitting, settings, executor, compound=compound, progress=progress)
    rows: list[dict[str, Any]] = []
    for name in crystals:
        results = refused.get(name) or relaxed[name]
        if isinstance(results, str):
            rows.append({"file": name, "usable": False, "reason": results})
            continue
        first, last = results[0], results[-1]
        target = write_text(out / f"{Path(name).stem}-relaxed.cif", structure_cif(last.structure))
        rows.append(
            {
                "file": name,
                "written": str(target),
                "usable": last.usable,
                "converged": last.converged,
                "ev_per_fu_start": first.energy_start,
                "ev_per_fu": last.energy_final,
                "evaluations": sum(r.evaluations for r in results),
                "space_group_before": first.space_group_before,
                "space_group_after": last.space_group_after,
                "flags": list(last.flags),
                "potential": last.potential,
                "stage": last.stage,
            }
        )
    return rows


def _misfit(structure: Structure, compound: Compound | None) -> str:
    """Why a crystal is not of its compound; empty where it is, or where nothing was declared."""
    expected = expected_compound(structure, compound)
    if expected is None:
        return ""
    try:
        check_counts(find_fragments(structure), expected)
    except InputError as error:
        return str(error)
    return ""
