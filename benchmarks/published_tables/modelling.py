"""Proposals of the geometric model in the printed cells of Table S2, relaxed as those of the random search are.

The networks that ship with the package learned in the cell of alpha. They see distances, not cells, so they can be
asked about any; what they have not seen is crystals of these cells. The first relaxations of the random search in a
printed cell are a training set from that cell: score network and learned potential can go on learning from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count as numbers_from
from pathlib import Path
from typing import Any

import torch

from benchmarks.published_tables.relaxations import COMMAND
from benchmarks.published_tables.searching import (
    Task,
    displaced_starts,
    ends_at,
    find_row,
    random_starts,
    read_searches,
    reference,
    relaxed_crystal,
)
from benchmarks.published_tables.settings import QUICK, read_rows, stamp, write_entries
from benchmarks.search_efficiency.proposals import Proposer, propose
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.diffusion.geometric.checkpoint import GeometricModels, load_geometric_models, save_geometric_models
from nanh2lib.diffusion.geometric.descent import descend
from nanh2lib.diffusion.geometric.model import GeometricEnergyModel
from nanh2lib.diffusion.geometric.potential import UnitGradients, train_potential
from nanh2lib.diffusion.geometric.sampling import GeometricSamplingSettings
from nanh2lib.diffusion.geometric.training import train_geometric_model
from nanh2lib.diffusion.pretrained import pretrained_path
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.pipeline.draws import general_template
from nanh2lib.pipeline.geometric import draw_geometric
from nanh2lib.pipeline.gradient_labels import potential_gradient, shaken
from nanh2lib.relaxation.gradient import EvaluationCounter
from nanh2lib.report.published import published_structure

SHIPPED = "geometric_heldout"
"""Saw nothing up to 70 meV above alpha, and everything in alpha's cell."""
PROPOSED, DRAWN = 10, 10
"""Proposals made together; raw samples for each: the lowest different ones by the learned potential are proposed."""
TEACHING: dict[str, Any] = {
    "start": SHIPPED, "shaken": 2, "shift": 0.4, "turn": 0.8, "potential_epochs": 8, "score_epochs": 50,
    "learning_rate": 0.0005,
}  # fmt: skip
"""Shaken copies of each relaxed crystal that are labelled beside it and its start, with the largest spread of their
moves in A and radians; and how long the networks go on learning."""


def model_method(learned: int) -> str:
    """Name in the tables: ``"model"`` as shipped, ``"model-40"`` after 40 relaxations in the printed cell."""
    return f"model-{learned}" if learned else "model"


def model_starts(task: Task, count: int, learned: int = 0) -> Iterator[tuple[int, AsymmetricUnit]]:
    """Proposals on general positions in the printed cell, numbered; the same ones whatever is asked for.

    Parameters
    ----------
    task : Task
        Its cell must be "printed".
    count : int
        Proposals in all.
    learned : int
        Relaxations of the random search in that cell (seed 0) that the networks learn from first; 0: none.
    """
    if task.cell != "printed":
        raise InputError(f"cell {task.cell!r}: the model proposes in the printed cell only")
    item = published_structure(task.key)
    models = taught(task, learned) if learned else load_geometric_models(pretrained_path(SHIPPED))
    proposer = proposer_of(models, tuple(item.corrected.lattice_parameters), model_method(learned))
    template = general_template(item.hall_number, item.z)
    number = 0
    for batch in numbers_from(1000 * task.seed):
        for unit in propose(proposer, template, PROPOSED, batch).units:
            if number == count:
                return
            yield number, unit
            number += 1
        if number >= count:
            return


def proposer_of(models: GeometricModels, cell: tuple[float, ...], variant: str) -> Proposer:
    """Samples of the score network in one cell, pushed apart and then downhill on the learned potential."""
    energy = _energy(models)

    def draw(template: Template, count: int, seed: int) -> AsymmetricUnit:
        how = GeometricSamplingSettings(count=count, seed=seed, corrector_steps=0)
        return draw_geometric(models, template, how, "none", cell, progress=False).asymmetric_unit

    return Proposer(
        "geometric", variant, held_out=True, draw=draw, improve=lambda units: descend(energy, units), oversample=DRAWN
    )


def _energy(models: GeometricModels) -> GeometricEnergyModel:
    if models.energy is None:
        raise InputError(f"{SHIPPED} holds no learned potential")
    return models.energy


def taught(task: Task, learned: int) -> GeometricModels:
    """Networks that went on learning from the printed cell; trained once and kept among the crystals of the searches.

    Finds of the published structure are left out of what is learned.
    """
    path = task.work / "models" / f"{task.key}-{learned}.json"
    if path.exists():
        return load_geometric_models(path)
    models = load_geometric_models(pretrained_path(SHIPPED))
    raw, relaxed, forked = _training_crystals(task, learned)
    counter = EvaluationCounter()
    groups = list(range(len(raw)))
    units, owners = [], []
    for number, (start, end) in enumerate(zip(raw, relaxed, strict=True)):
        generator = torch.Generator().manual_seed(number)
        copies = [shaken(end, TEACHING["shift"], TEACHING["turn"], generator) for _ in range(TEACHING["shaken"])]
        units += [start, end, *copies]
        owners += [number] * (2 + len(copies))
    energies, gradients, kept = _labels(units, counter)
    before = _energy(models)
    common = {"learning_rate": TEACHING["learning_rate"], "seed": 0}
    settings = before.settings.model_copy(update={**common, "epochs": TEACHING["potential_epochs"]})
    potential = train_potential(
        [units[row] for row in kept], energies, gradients, settings,
        groups=[owners[row] for row in kept], initial=before, progress=False,
    )  # fmt: skip
    settings = models.score.settings.model_copy(update={**common, "epochs": TEACHING["score_epochs"]})
    score = train_geometric_model(relaxed, settings, groups=groups, initial=models.score, progress=False)
    save_geometric_models(path, GeometricModels(score, potential))
    _record(
        task,
        learned,
        potential,
        {"labels": len(kept), "evaluations": counter.evaluations, "crystals": len(raw), "ended_elsewhere": forked},
    )
    return load_geometric_models(path)


def _training_crystals(task: Task, learned: int) -> tuple[list[AsymmetricUnit], list[AsymmetricUnit], int]:
    """Starts and ends of the first relaxations of the random search in the printed cell.

    Ends that were not kept are made again; the third value counts those that then ended elsewhere.
    """
    search = Task(task.key, "printed", "random_search", 0, task.folder, task.work)
    rows = read_searches(task.folder)
    mine = rows[(rows["key"] == task.key) & (rows["method"] == search.method) & (rows["cell"] == "printed")]
    mine = mine[(mine["seed"] == 0) & (mine["number"] < learned)]
    if len(mine) < learned:
        command = f"{COMMAND} search --key {task.key} --cell printed --count {learned}"
        raise InputError(f"{len(mine)} relaxations of {task.key} in the printed cell, {learned} wanted: {command}")
    chosen = mine[mine["energy_final"].notna() & (mine["found"] != 1)]
    starts = dict(random_starts(search, learned))
    raw, relaxed, forked = [], [], 0
    for number, energy in zip(chosen["number"], chosen["energy_final"], strict=True):
        start = starts[int(number)]
        end = relaxed_crystal(search, int(number), starts.__getitem__, float(energy), same=False)
        forks = not ends_at(end, float(energy))
        if forks and find_row(search, int(number), start, (end,), reference(search))["found"]:
            continue
        if end.asymmetric_unit is not None and end.usable:
            raw.append(start.to(torch.float64))
            relaxed.append(end.asymmetric_unit.to(torch.float64))
            forked += forks
    return raw, relaxed, forked


def _labels(units: list[AsymmetricUnit], counter: EvaluationCounter) -> tuple[torch.Tensor, UnitGradients, list[int]]:
    """Energies and gradients with the search's potential, and the rows where it gave them."""
    gradient = potential_gradient(QUICK, counter=counter)
    energies, shifts, turns, kept = [], [], [], []
    for row, unit in enumerate(units):
        try:
            energy, shift, turn = gradient(unit)
        except ComputationError:  # out of the potential's range; the counts say how many
            continue
        energies.append(energy[0])
        shifts.append(shift[0])
        turns.append(turn[0])
        kept.append(row)
    return torch.stack(energies), UnitGradients(torch.cat(shifts), torch.cat(turns)), kept


def _record(task: Task, learned: int, potential: GeometricEnergyModel, counts: dict[str, int]) -> None:
    """What a model learned from and how well, in models.json."""
    path = task.folder / "models.json"
    rows = read_rows(path).get("rows", {})
    source = hashlib.sha256(Path(pretrained_path(SHIPPED)).read_bytes()).hexdigest()[:16]
    metrics = {name: round(value, 1) for name, value in potential.history.metrics.items()}
    rows[f"{task.key}-{learned}"] = {**counts, "metrics": metrics, "start_sha256": source, **stamp()}
    write_entries(path, f"{COMMAND} model --key KEY --learn N", TEACHING, rows)


def starts_of(task: Task, count: int) -> Iterator[tuple[int, AsymmetricUnit]]:
    """The first starts of a series, by the name of its method."""
    kind, _, detail = task.method.partition("-")
    if kind == "displaced":
        return displaced_starts(task, float(detail), count)
    return model_starts(task, count, int(detail or 0)) if kind == "model" else random_starts(task, count)
