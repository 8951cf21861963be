"""The learned potential as a stage: where its labels come from, and crystals that go downhill on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.expansion import expand
from nanh2lib.diffusion.geometric.descent import descend
from nanh2lib.diffusion.geometric.model import GeometricEnergyModel
from nanh2lib.diffusion.geometric.potential import train_potential
from nanh2lib.pipeline.geometric_data import (
    GeometricTrainingSet,
    held_out_limit,
    learned_entries,
    relaxed_crystals,
    withheld_library,
)
from nanh2lib.pipeline.gradient_labels import Labelled, label_gradients, shaken
from nanh2lib.pipeline.run import Run
from nanh2lib.pipeline.search import compound_of
from nanh2lib.search.random_search import random_search

EXPLORING_SEED = 2_000_000
"""Added to the run's seed, so that explored crystals are other ones than the dataset's."""


HELD_OUT = -1
EXPLORED = "explored_labels"
"""Metric of a potential: labels where random crystals ended on it, in all its parts."""


@dataclass(frozen=True)
class LearnedPotential:
    """A potential and what it cost.

    Attributes
    ----------
    model : GeometricEnergyModel
    evaluations : int
        Calls of the run's potential for its labels.
    labelled, left_out, failed : int
        Labels learned from; withheld because a find like them is judged; without a finite energy.
    """

    model: GeometricEnergyModel
    evaluations: int
    labelled: int
    left_out: int
    failed: int

    @property
    def counts(self) -> dict[str, int]:
        """Calls and labels by name."""
        return {name: getattr(self, name) for name in ("evaluations", "labelled", "left_out", "failed")}


def learn_potential(
    run: Run, data: GeometricTrainingSet, name: str, initial: GeometricEnergyModel | None = None
) -> LearnedPotential:
    """Train on raw, relaxed and shaken crystals of the training set, then on where random ones end on it.

    Parameters
    ----------
    run : Run
        With ``geometric.potential``.
    data : GeometricTrainingSet
        Without held-out crystals; labels below the held-out level are left out too.
    name : str
        Of the model, for its folders.
    initial : GeometricEnergyModel, optional
        A learned potential that takes the place of the first training.

    Notes
    -----
    A potential that is followed downhill finds the places where it is wrong. The second part labels
    such places, so that they are wrong no more.
    """
    chosen = run.config.geometric.potential
    if chosen is None:
        raise ValueError("learn_potential: geometric.potential is not set")
    limit = withheld_below(run)
    units, groups = _around(run, data)
    labels = label_gradients(run, units, "gradients of the dataset")
    known = [row for row, group in enumerate(groups) if group != HELD_OUT]
    first, groups = labels.select(known), [groups[row] for row in known]
    rows = usable_rows(first, limit)
    seed = {"seed": run.config.seed}
    model = initial or train_potential(
        (kept := first.select(rows)).units, kept.energies, kept.gradients, chosen.training.model_copy(update=seed),
        groups=[groups[row] for row in rows],
        run_directory=run.path("models", f"{name}_potential_run"), progress=run.progress,
    )  # fmt: skip
    if chosen.explored_per_setting == 0:
        return _counted(model, first, rows)
    before = 0 if initial is None else round(initial.history.metrics[EXPLORED])
    seed_of_crystals = EXPLORING_SEED + before  # a later part explores other crystals
    crystals = random_crystals(run, chosen.explored_per_setting, seed_of_crystals)
    ends = descend(model, crystals, chosen.descent, progress=run.progress).units
    generator = torch.Generator().manual_seed(run.config.seed + seed_of_crystals)
    second = label_gradients(
        run, [*ends, *(shaken(unit, chosen.shift, chosen.turn, generator) for unit in ends)], "gradients where it ends"
    )
    both = Labelled.cat([first, second])
    alike = like_withheld(run, second)
    rows = [row for row in usable_rows(both, limit) if row - len(first) not in alike]
    groups += [max(groups) + 1 + i % len(ends) for i in range(len(second))]
    model = train_potential(
        (kept := both.select(rows)).units, kept.energies, kept.gradients,
        chosen.training.model_copy(update={**seed, "epochs": chosen.refit_epochs}),
        groups=[groups[row] for row in rows], initial=model,
        run_directory=run.path("models", f"{name}_potential_refit_run"), progress=run.progress,
    )  # fmt: skip
    model.history.metrics[EXPLORED] = before + len(second)
    return _counted(model, both, rows, before)


def _counted(model: GeometricEnergyModel, labels: Labelled, rows: Sequence[int], before: int = 0) -> LearnedPotential:
    """With the labels that an earlier part explored, which the potential goes on from."""
    failed = int((~torch.isfinite(labels.energies)).sum())
    return LearnedPotential(model, before + len(labels), len(rows), len(labels) - failed - len(rows), failed)


def withheld_below(run: Run) -> float:
    """Energy (eV per formula unit) up to which a held-out model must not see crystals; minus infinity for others."""
    held = run.config.geometric.held_out
    if held is None:
        return -torch.inf
    return held_out_limit(run, held)


def usable_rows(labels: Labelled, limit: float) -> list[int]:
    """Rows of labels that are learned from: with a finite energy above what is held out."""
    good = torch.isfinite(labels.energies) & (labels.energies > limit)
    return [int(row) for row in good.nonzero().flatten()]


def like_withheld(run: Run, labels: Labelled) -> set[int]:
    """Rows of explored crystals that match one which is held out, whatever their energy."""
    library = withheld_library(run, run.config.geometric)
    if library is None or len(library) == 0:
        return set()
    return {row for row, unit in enumerate(labels.units) if library.find(expand(unit)[0]) is not None}


def _around(run: Run, data: GeometricTrainingSet) -> tuple[list[AsymmetricUnit], list[int]]:
    """Each crystal of the dataset as found, as relaxed, and shaken; and its group of equal crystals.

    Those that are held out are among them, in group -1: so that the labels kept are the same for a
    model that learns from all.
    """
    chosen = run.config.geometric.potential
    if chosen is None:
        return [], []
    groups = dict(zip(data.ids, data.groups, strict=True))
    units, labels = [], []
    for entry in relaxed_crystals(learned_entries(run, run.config.geometric), "generated"):
        if entry.result.asymmetric_unit is None:
            continue
        seed = int(hashlib.sha256(entry.id.encode()).hexdigest()[:12], 16) + run.config.seed
        generator = torch.Generator().manual_seed(seed)
        relaxed = entry.result.asymmetric_unit.to(torch.float64)
        copies = [shaken(relaxed, chosen.shift, chosen.turn, generator) for _ in range(chosen.shaken)]
        units += [entry.unit.to(torch.float64), relaxed, *copies]
        labels += [groups.get(entry.id, HELD_OUT)] * (2 + len(copies))
    return units, labels


def random_crystals(run: Run, per_setting: int, seed: int, limit_scale: float = 1.0) -> list[AsymmetricUnit]:
    """Accepted crystals (batches of one) of a random search over the run's settings, ``seed`` added to the run's."""
    search = run.config.search.model_copy(
        update={
            "per_setting": per_setting,
            "limit_scale": limit_scale,
            "max_draws_per_setting": 10 * per_setting,
            "seed": run.config.seed + seed,
        }
    )
    found = random_search(search, compound_of(run), progress=run.progress)
    return [c.asymmetric_unit for c in found if c.accepted and c.asymmetric_unit is not None]
