"""Energies of a run's candidates, written to the store as they come."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from nanh2lib.crystal.rigid_unit import Compound
from nanh2lib.energy.labels import EnergyFailure, EnergyResult, LabelSettings, label_structures
from nanh2lib.energy.potentials import DEFAULT_POTENTIAL
from nanh2lib.errors import ComputationError
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.search import RANDOM_SEARCH, candidates_of, compound_of
from nanh2lib.records import Candidate


def label_settings(run: Run, potential: str | None = None) -> LabelSettings:
    """The run's label settings; for another potential than the run's those that it has by default."""
    if potential is None or potential == run.config.label.potential:
        return run.config.label
    return LabelSettings(potential=potential)


def energies_of(
    run: Run,
    candidates: Sequence[Candidate],
    potential: str,
    executor: Executor | None = None,
    *,
    retry_failures: bool = False,
) -> dict[str, float]:
    """Energies of candidates at a potential, in eV per formula unit; missing ones are computed and kept.

    A label is that of a candidate and a potential's hash: other options, or another version of the
    potential, make another label.

    Parameters
    ----------
    run : Run
    candidates : sequence of Candidate
    potential : str
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.
    retry_failures : bool
        Try those again whose label failed.

    Returns
    -------
    dict
        Energy by id, without the candidates whose label failed (their reason is in the store).

    Raises
    ------
    ComputationError
        A worker has another version of the potential than this process.
    """
    settings, store = label_settings(run, potential), run.store
    wanted = settings.potential_hash
    done = store.labels_at(wanted)
    known = {c.id: value for c in candidates if c.id in done and (value := done[c.id].value) is not None}
    missing = {c.id: c.structure for c in candidates if c.id not in known and (retry_failures or c.id not in done)}

    def write(key: str, result: EnergyResult | EnergyFailure) -> None:
        if result.potential_hash != wanted:
            raise ComputationError(
                f"label of {key}: the worker has another version of {potential} than this process "
                f"(label {result.potential_hash}, wanted {wanted}); install the same packages on all machines"
            )
        if isinstance(result, EnergyResult):
            store.set_energy(key, potential, wanted, result.energy_per_fu)
            known[key] = result.energy_per_fu
        else:
            store.set_failure(key, potential, result.reason, potential_hash=wanted)

    if missing:
        label_structures(missing, settings, executor, compound_of(run), on_result=write, progress=run.progress)
    return known


def label_stage(
    run: Run, potential: str | None = None, executor: Executor | None = None, *, retry_failures: bool = False
) -> dict[str, Any]:
    """Label every accepted candidate of the random search; those that have a label are left alone.

    Parameters
    ----------
    run : Run
    potential : str, optional
        Instead of the configuration's.
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.
    retry_failures : bool
        Try those again whose label failed.

    Returns
    -------
    dict
        Labels and failures with their reasons, lowest and mean energy in eV per formula unit.
    """
    settings = label_settings(run, potential)
    accepted = [c for c in candidates_of(run, RANDOM_SEARCH) if c.accepted]
    before = len(run.store.labels_at(settings.potential_hash, method=RANDOM_SEARCH, accepted=True))
    energies = list(energies_of(run, accepted, settings.potential, executor, retry_failures=retry_failures).values())
    after = run.store.labels_at(settings.potential_hash, method=RANDOM_SEARCH, accepted=True)
    failures = Counter(label.reason for label in after.values() if label.reason is not None)
    return {
        "potential": settings.potential,
        "new": len(after) - before,
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
    compound: Compound | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Energies of crystals from files, one row each; a failure carries its reason.

    A compound fixes the formula unit; a crystal that is no whole number of it is a failure.
    """
    settings = LabelSettings(potential=potential or DEFAULT_POTENTIAL)
    labels = label_structures(list(structures), settings, executor, compound, progress=progress)
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
