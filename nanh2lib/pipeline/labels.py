"""Energies of a run's candidates, written to the store as they come."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.energy.labels import EnergyFailure, EnergyResult, LabelSettings, label_structures
from nanh2lib.energy.potentials import DEFAULT_POTENTIAL
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.search import RANDOM_SEARCH, candidates_of, compound_of
from nanh2lib.records import Candidate


def energies_of(
    run: Run, candidates: Sequence[Candidate], potential: str, executor: Executor | None = None
) -> dict[str, float]:
    """Energies of candidates at a potential, in eV per formula unit; missing ones are computed and kept.

    Parameters
    ----------
    run : Run
    candidates : sequence of Candidate
    potential : str
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.

    Returns
    -------
    dict
        Energy by id, without the candidates whose label failed (their reason is in the store).
    """
    settings = run.config.label
    if potential != settings.potential:
        settings = LabelSettings(potential=potential)
    store = run.store
    known = {c.id: c.energies[potential] for c in candidates if potential in c.energies}
    missing = {c.id: c.structure for c in candidates if c.id not in known and potential not in c.failures}

    def write(key: str, result: EnergyResult | EnergyFailure) -> None:
        if isinstance(result, EnergyResult):
            store.set_energy(key, potential, settings.potential_hash, result.energy_per_fu)
            known[key] = result.energy_per_fu
        else:
            store.set_failure(key, potential, result.reason, potential_hash=settings.potential_hash)

    if missing:
        label_structures(missing, settings, executor, compound_of(run), on_result=write, progress=run.progress)
    return known


def label_stage(run: Run, potential: str | None = None, executor: Executor | None = None) -> dict[str, Any]:
    """Label every accepted candidate of the random search; those that have a label are left alone.

    Parameters
    ----------
    run : Run
    potential : str, optional
        Instead of the configuration's.
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.

    Returns
    -------
    dict
        Labels and failures with their reasons, lowest and mean energy in eV per formula unit.
    """
    name = potential or run.config.label.potential
    before = [c for c in candidates_of(run, RANDOM_SEARCH) if c.accepted]
    energies = list(energies_of(run, before, name, executor).values())
    failures = Counter(c.failures[name] for c in candidates_of(run, RANDOM_SEARCH) if name in c.failures)
    return {
        "potential": name,
        "new": sum(name not in c.energies and name not in c.failures for c in before),
        "labelled": len(energies),
        "failed": sum(failures.values()),
        "reasons": dict(failures),
        "lowest_ev_per_fu": min(energies, default=math.nan),
        "mean_ev_per_fu": sum(energies) / len(energies) if energies else math.nan,
    }


def label_files(
    files: Sequence[Path],
    structures: Sequence[Structure],
    potential: str | None = None,
    executor: Executor | None = None,
    *,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Energies of crystals from files, one row each; a failure carries its reason."""
    settings = LabelSettings(potential=potential or DEFAULT_POTENTIAL)
    labels = label_structures(list(structures), settings, executor, progress=progress)
    rows = []
    for path, result in zip(files, labels.values(), strict=True):
        good = isinstance(result, EnergyResult)
        rows.append(
            {
                "file": str(path),
                "potential": settings.potential,
                "ev_per_fu": result.energy_per_fu if isinstance(result, EnergyResult) else None,
                "reason": "" if good else result.reason,  # type: ignore[union-attr]
            }
        )
    return rows
