"""Energies of a run's candidates, written to the store as they come."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.energy.labels import EnergyResult, LabelSettings, label_structures
from nanh2lib.energy.potentials import DEFAULT_POTENTIAL
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.search import compound_of


def label_stage(run: Run, potential: str | None = None, executor: Executor | None = None) -> dict[str, Any]:
    """Label every accepted candidate that has no energy or failure with this potential yet.

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
        Labels by potential, failures with their reasons, lowest and mean energy.
    """
    settings = run.config.label
    if potential is not None and potential != settings.potential:
        settings = LabelSettings(potential=potential)
    store, name = run.store, settings.potential
    missing = {
        c.id: c.structure for c in store.iterate() if c.accepted and name not in c.energies and name not in c.failures
    }

    def write(key: str, result: Any) -> None:
        if isinstance(result, EnergyResult):
            store.set_energy(key, name, settings.potential_hash, result.energy_per_fu)
        else:
            store.set_failure(key, name, result.reason)

    if missing:
        label_structures(missing, settings, executor, compound_of(run), on_result=write, progress=run.progress)
    energies: list[float] = []
    failures: Counter[str] = Counter()
    for candidate in store.iterate():
        if name in candidate.energies:
            energies.append(candidate.energies[name])
        elif name in candidate.failures:
            failures[candidate.failures[name]] += 1
    return {
        "potential": name,
        "new": len(missing),
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
