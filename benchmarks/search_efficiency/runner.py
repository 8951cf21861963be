"""The resumable runner: proposals, relaxations, one row each."""

from __future__ import annotations

import math
from collections.abc import Collection, Container
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.search_efficiency.batches import UNFINISHED
from benchmarks.search_efficiency.judged import RELAXATION_COLUMNS, RULES, SAMPLE_COLUMNS
from benchmarks.search_efficiency.proposals import Batch, Proposer, propose
from benchmarks.search_efficiency.study import Known, Study, keep_crystals
from benchmarks.search_efficiency.tables import append_row, read_rows, write_rows
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import expand
from nanh2lib.errors import InputError
from nanh2lib.pipeline.run import read_json, write_json
from nanh2lib.ranking.library import CrystalLibrary
from nanh2lib.records import Candidate, RelaxationResult
from nanh2lib.relaxation.batch import relax_many
from nanh2lib.settings import config_hash, package_version

MAX_EMPTY = 3
"""Batches in a row without a proposal after which a method is given up on a template."""


def execute(
    study: Study,
    proposer: Proposer,
    name: str,
    template: Template,
    *,
    seed: int,
    count: int,
    known: Known,
    executor: Executor | None = None,
    progress: bool = True,
) -> int:
    """Relax proposals until ``count`` rows of this method, variant, template and seed are there.

    Parameters
    ----------
    study : Study
    proposer : Proposer
    name : str
        Of the template.
    template : Template
    seed : int
    count : int
    known : Known
    executor : Executor, optional
        From `nanh2lib.execution.make_executor`; default: this process.
    progress : bool
        Show a progress bar for each batch.

    Returns
    -------
    int
        Rows added.

    Raises
    ------
    InputError
        The variant was begun with other settings.
    """
    _same_settings(study, proposer)
    labels = {"method": proposer.method, "variant": proposer.variant, "held_out": proposer.held_out}
    place = {**labels, "seed": seed, "template": name}
    done = set(_rows_of(study, place)["sample_id"])
    earlier = _finds(study, {**labels, "template": name})
    added, empty, number = 0, 0, 0
    total = 0
    while total < count and empty < MAX_EMPTY:
        finished = _finished(study, place, number, done)
        if finished:  # nothing is proposed again that has its rows already
            total, number, empty = total + finished, number + 1, 0
            continue
        # Always whole batches: a proposal must not depend on how many are wanted.
        batch = propose(proposer, template, proposer.batch, _batch_seed(seed, number))
        units = {_sample_id(place, number, i): unit for i, unit in enumerate(batch.units)}
        chosen = dict(list(units.items())[: count - total])
        _note_samples(study, place, number, batch, proposer)
        before = dict(zip(units, zip(batch.valid_before, batch.screening, strict=True), strict=True))
        missing = {identity: unit for identity, unit in chosen.items() if identity not in done}
        rows = _Rows(study, {**place, "hall_number": template.hall_number}, missing, before, known, earlier)
        _relax_missing(rows, executor, progress)
        added += len(missing)
        total += len(chosen)
        empty = 0 if chosen else empty + 1
        number += 1
    return added


def refresh(study: Study, known: Known, only: Collection[str] = ()) -> int:
    """Compare finds anew with alpha, each other and the dataset (which may have grown since); keep the crystals.

    Parameters
    ----------
    study : Study
    known : Known
    only : collection of str
        Beginnings of sample ids whose rows are compared; none: all. It takes about a second a row.

    Returns
    -------
    int
        Rows that changed.
    """
    table = read_rows(study.relaxations, RELAXATION_COLUMNS)
    rows: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    libraries: dict[tuple[Any, ...], CrystalLibrary] = {}
    changed = 0
    for row in rows:
        before = {name: str(row[name]) for name in COMPARED}
        result = study.run.store.get(str(row["sample_id"])).relaxed_fixed
        if result is not None and result.usable and math.isfinite(result.energy_final):
            group = tuple(row[name] for name in ("method", "variant", "held_out", "template"))
            library = libraries.setdefault(group, CrystalLibrary(RULES))
            if not only or str(row["sample_id"]).startswith(tuple(only)):
                row |= _compared(str(row["sample_id"]), result, known, library)
            else:
                library.add(str(row["sample_id"]), result.structure, result.energy_final)
        row |= {name: float(row[name]) if row[name] == row[name] else None for name in ("energy_start", "energy_final")}
        changed += before != {name: str(int(v) if isinstance(v := row[name], bool) else v or "") for name in COMPARED}
    write_rows(study.relaxations, RELAXATION_COLUMNS, rows)
    keep_crystals(study)
    return changed


COMPARED = ("duplicate_of", "in_training")


def _compared(identity: str, result: RelaxationResult, known: Known, earlier: CrystalLibrary) -> dict[str, Any]:
    """What a find equals; it joins the earlier ones."""
    crystal, energy = earlier.describe(result.structure), result.energy_final
    found = {
        "matches_alpha": known.is_alpha(crystal, energy),
        "duplicate_of": earlier.find(crystal, energy),
        "in_training": known.in_training(crystal, energy),
    }
    earlier.add(identity, crystal, energy)
    return found


def _batch_seed(seed: int, number: int) -> int:
    return 10_000 * (seed + 1) + number


def _sample_id(place: dict[str, Any], batch: int, number: int) -> str:
    held = "-heldout" if place["held_out"] else ""
    template = place["template"].replace("/", "_")
    return f"{place['method']}{held}-{place['variant']}-{template}-s{place['seed']}-b{batch:03d}-{number:03d}"


def _rows_of(study: Study, place: dict[str, Any]) -> pd.DataFrame:
    """Rows of a place, those of unfinished batches too."""
    paths = (study.relaxations, study.results / UNFINISHED)
    parts = [part for path in paths if len(part := read_rows(path, RELAXATION_COLUMNS))]
    frame = pd.concat(parts, ignore_index=True) if parts else read_rows(study.relaxations, RELAXATION_COLUMNS)
    for name, value in place.items():
        frame = frame[frame[name] == (int(value) if isinstance(value, bool) else value)]
    return frame


def _same_settings(study: Study, proposer: Proposer) -> None:
    path = study.results / "variants.json"
    variants = read_json(path) if path.exists() else {}
    name = f"{proposer.method}{'-heldout' if proposer.held_out else ''}-{proposer.variant}"
    if name not in variants:
        write_json(path, {**variants, name: proposer.describe})
    elif variants[name] != proposer.describe:
        raise InputError(f"variant {name} was begun with other settings; give it another name (--variant)")


def _finds(study: Study, labels: dict[str, Any]) -> CrystalLibrary:
    """Crystals found so far by one method and variant on one template."""
    library = CrystalLibrary(RULES)
    for identity in _rows_of(study, labels)["sample_id"]:
        result = study.run.store.get(identity).relaxed_fixed
        if result is not None and result.usable:
            library.add(identity, result.structure, result.energy_final)
    return library


def _noted(study: Study, place: dict[str, Any], number: int) -> pd.DataFrame:
    """Rows of samples.csv of a batch: one, or none."""
    known = read_rows(study.samples, SAMPLE_COLUMNS)
    same = known["batch"] == number
    for name, value in place.items():
        same &= known[name] == (int(value) if isinstance(value, bool) else value)
    return known[same]


def _finished(study: Study, place: dict[str, Any], number: int, done: Container[str]) -> int:
    """Proposals of a batch if all of them have rows, else 0."""
    noted = _noted(study, place, number)
    proposed = int(noted["proposed"].max()) if len(noted) else 0
    return proposed if all(_sample_id(place, number, i) in done for i in range(proposed)) else 0


def _note_samples(study: Study, place: dict[str, Any], number: int, batch: Batch, proposer: Proposer) -> None:
    if not len(_noted(study, place, number)):
        row = {**place, "batch": number, **batch.counts, "training_evaluations": proposer.training_evaluations}
        append_row(study.samples, SAMPLE_COLUMNS, row)


@dataclass(frozen=True)
class _Rows:
    """Writes a row as each relaxation ends; the crystal is in the store before its row is there."""

    study: Study
    place: dict[str, Any]
    units: dict[str, AsymmetricUnit]
    before: dict[str, tuple[bool, int]]
    known: Known
    earlier: CrystalLibrary

    def write(self, identity: str, outcome: tuple[RelaxationResult, ...] | str) -> None:
        result = None if isinstance(outcome, str) else outcome[-1]
        unit = self.units[identity]
        _keep(self.study, identity, unit, self.place, result)
        row = _row(identity, unit, self.place, result, self.before[identity], self.known, self.earlier)
        append_row(self.study.relaxations, RELAXATION_COLUMNS, row)


def _relax_missing(rows: _Rows, executor: Executor | None, progress: bool) -> None:
    """Relax crystals and write their rows; where a kill came between a crystal and its row, only the row."""
    store = rows.study.run.store
    kept = {name: store.get(name).relaxed_fixed for name in rows.units if name in store}
    for identity, result in kept.items():
        if result is not None:
            rows.write(identity, (result,))
    fresh = {name: unit for name, unit in rows.units.items() if kept.get(name) is None}
    relax_many(fresh, rows.study.relaxation, executor, rows.write, progress=progress)


def _keep(
    study: Study, identity: str, unit: AsymmetricUnit, place: dict[str, Any], result: RelaxationResult | None
) -> None:
    candidate = Candidate(
        id=identity,
        structure=expand(unit)[0],
        method=place["method"],
        seed=place["seed"],
        config_hash=config_hash(study.relaxation),
        package_version=package_version(),
        asymmetric_unit=unit,
        extra={"variant": place["variant"], "template": place["template"]},
    )
    study.run.store.add(candidate)
    if result is not None:
        key = f"{result.stage}:{result.potential}"
        study.run.store.set_relaxation(identity, key, result, config_hash(study.relaxation))


def _row(
    identity: str,
    unit: AsymmetricUnit,
    place: dict[str, Any],
    result: RelaxationResult | None,
    before: tuple[bool, int],
    known: Known,
    earlier: CrystalLibrary,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        **place,
        "units": unit.template.n_units,
        "sample_id": identity,
        "valid_before": before[0],
        "evaluations": 0 if result is None else result.evaluations,
        "screening": before[1],
        "energy_start": None if result is None else result.energy_start,
        "energy_final": None,
        "converged": False,
        "matches_alpha": False,
        "duplicate_of": None,
        "in_training": "no",
    }
    if result is None or not result.usable or not math.isfinite(result.energy_final):
        return row
    row |= {"energy_final": result.energy_final, "converged": result.converged}
    return row | _compared(identity, result, known, earlier)
