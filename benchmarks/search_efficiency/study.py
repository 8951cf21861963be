"""Where the study keeps things, and which known crystals a find is compared with."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.search_efficiency.batches import UNFINISHED
from benchmarks.search_efficiency.crystals import read_crystals, write_crystals
from benchmarks.search_efficiency.judged import RELAXATION, RELAXATION_COLUMNS, RULES
from benchmarks.search_efficiency.tables import read_rows
from nanh2lib.config import HeldOutSettings, RunConfig
from nanh2lib.errors import InputError
from nanh2lib.pipeline.geometric_data import (
    RelaxedCrystal,
    alpha_in_fixed_cell,
    held_out_limit,
    named_entries,
    relaxed_crystals,
)
from nanh2lib.pipeline.run import Run, read_json, write_json
from nanh2lib.ranking.library import CrystalLibrary, Described
from nanh2lib.records import RelaxationResult
from nanh2lib.relaxation.settings import RelaxationSettings

SAME_ENERGY = 5e-3
"""A crystal that matches alpha counts as alpha within this energy, eV per formula unit."""


@dataclass(frozen=True)
class Study:
    """Where the study keeps things.

    Attributes
    ----------
    results : Path
        Folder of the tables.
    run : Run
        Relaxed crystals and alpha; not committed.
    relaxation : RelaxationSettings
    """

    results: Path
    run: Run
    relaxation: RelaxationSettings

    @property
    def relaxations(self) -> Path:
        return self.results / "relaxations.csv"

    @property
    def samples(self) -> Path:
        return self.results / "samples.csv"

    @property
    def crystals(self) -> Path:
        """Relaxed crystals of all rows, from which an empty work folder is filled."""
        return self.results / "crystals.npz"

    @classmethod
    def open(cls, results: Path, work: Path, config: RunConfig, relaxation: RelaxationSettings = RELAXATION) -> Study:
        """Open or begin a study; another relaxer than that of its first run is refused.

        Raises
        ------
        InputError
        """
        record, settings = results / "relaxation.json", relaxation.model_dump(mode="json")
        if not record.exists():
            write_json(record, settings)
        elif read_json(record) != settings:
            raise InputError(f"{record}: the study was begun with another relaxer; use another --results folder")
        work.mkdir(parents=True, exist_ok=True)
        study = cls(results, Run(work, config, progress=False), relaxation)
        if study.crystals.exists() and len(study.run.store) == 0:
            study.run.store.add(read_crystals(study.crystals))
        return study


def keep_crystals(study: Study) -> int:
    """Write the relaxed crystals of all rows to `Study.crystals`; their number is returned."""
    tables = [read_rows(path, RELAXATION_COLUMNS) for path in (study.relaxations, study.results / UNFINISHED)]
    wanted = {str(name) for table in tables for name in table["sample_id"]}
    return write_crystals(study.crystals, (c for c in study.run.store.candidates() if c.id in wanted))


@dataclass(frozen=True)
class Known:
    """Crystals that a find is compared with.

    Attributes
    ----------
    alpha : RelaxationResult
    training : CrystalLibrary
        The dataset, relaxed; keys are ids.
    held_out : container of str
        Ids that held-out models have not seen.
    """

    alpha: RelaxationResult
    training: CrystalLibrary
    held_out: Container[str]

    def in_training(self, crystal: Described, energy: float) -> str:
        """``"no"``, ``"yes"``, or ``"held_out"`` where only withheld crystals match."""
        found = set(self.training.matches(crystal, energy))
        if not found:
            return "no"
        return "held_out" if all(name in self.held_out for name in found) else "yes"

    def is_alpha(self, crystal: Described, energy: float) -> bool:
        """Whether a crystal is alpha: structures match and energies agree."""
        if abs(energy - self.alpha.energy_final) > SAME_ENERGY:
            return False
        library = CrystalLibrary(RULES)
        library.add("alpha", self.alpha.structure)
        return library.find(crystal) is not None


class Withheld:
    """Ids of crystals that a held-out model has not seen, each decided when it is asked for.

    The rule is that of `nanh2lib.pipeline.geometric_data.withheld`: up to the limit, or equal to such a one.

    Parameters
    ----------
    crystals : sequence of RelaxedCrystal
    limit : float
        eV per formula unit.
    """

    def __init__(self, crystals: Sequence[RelaxedCrystal], limit: float) -> None:
        self.results = {crystal.id: crystal.result for crystal in crystals}
        self.limit = limit
        self.low = CrystalLibrary(RULES)
        for name, result in self.results.items():
            if result.energy_final <= limit:
                self.low.add(name, result.structure)

    def __contains__(self, name: object) -> bool:
        result = self.results.get(str(name))
        if result is None:
            return False
        return result.energy_final <= self.limit or self.low.find(result.structure) is not None


def known_crystals(study: Study, dataset: str | Path | None) -> Known:
    """Alpha and the dataset's crystals.

    Parameters
    ----------
    study : Study
    dataset : str, Path or None
        ``"shipped"``, or the folder of the run that built the dataset; None: nothing is known.
    """
    alpha = alpha_in_fixed_cell(study.run)
    library = CrystalLibrary(RULES)
    if dataset is None:
        return Known(alpha, library, frozenset())
    crystals = relaxed_crystals(named_entries(dataset))
    for crystal in crystals:
        library.add(crystal.id, crystal.result.structure, crystal.result.energy_final)
    return Known(alpha, library, Withheld(crystals, held_out_limit(study.run, HeldOutSettings())))
