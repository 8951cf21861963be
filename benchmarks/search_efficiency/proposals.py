"""Proposals of each method: crystals on a judged template, pushed apart at the full limits, ready to be relaxed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.search_efficiency.choosing import lowest_different
from benchmarks.search_efficiency.judged import RULES
from nanh2lib.config import RunConfig
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS
from nanh2lib.crystal.rigid_unit import NH2, SODIUM_AMIDE
from nanh2lib.crystal.subunits import from_subunits
from nanh2lib.diffusion.geometric.checkpoint import GeometricModels, load_geometric_models
from nanh2lib.diffusion.geometric.descent import Descent, DescentSettings, descend
from nanh2lib.diffusion.models import load_paper_models
from nanh2lib.diffusion.sampling import sample
from nanh2lib.errors import InputError, Nanh2Error
from nanh2lib.pipeline.draws import uniform_draws
from nanh2lib.pipeline.geometric import draw_geometric
from nanh2lib.pipeline.gradient_labels import label_gradients
from nanh2lib.pipeline.model_card import charged_calls
from nanh2lib.pipeline.run import Run
from nanh2lib.relaxation.gradient import EvaluationCounter
from nanh2lib.search.lattice_prior import ALPHA_CELL
from nanh2lib.search.push_apart import PushApartSettings, push_apart
from nanh2lib.validation import ValidationSettings, validate

FloatArray = NDArray[np.float64]
Draw = Callable[[Template, int, int], AsymmetricUnit]
"""(template, count, seed) -> raw crystals, a batch of at most ``count``."""
PYXTAL_TRIES = 20
BATCH = 50
CHOSEN_BATCH = 100
"""Of proposals that are chosen among many: the more there are, the fewer of them are equal."""
SCREENED_BATCH = 25
"""Of proposals that one call of the judging potential has chosen among many."""
SCREENING = "energy of lowest candidates"
WIDE_PREDICTED = 2e-3
"""Window of variants without screening, with the wide ``RULES.amd_window``. They lose different crystals to it (nine
pairs of ten are that close), and keep it because their rows are there."""


@dataclass(frozen=True)
class Proposer:
    """A method with everything that its proposals depend on.

    Attributes
    ----------
    method, variant : str
    held_out : bool
    draw : callable
    describe : dict
        Settings and hashes; two proposers with equal ones propose the same crystals.
    rank : callable, optional
        Predicted energies (B,) of crystals, by which the best of an oversampled batch are chosen.
    improve : callable, optional
        Takes pushed-apart crystals downhill on a learned potential, with their energies there.
    oversample : int
        Raw crystals drawn for each proposal.
    screen : int
        Candidates for each proposal whose energy is asked of the judging potential, one call each.
    judge : callable, optional
        Energies (B,) of that potential, NaN where it fails.
    batch : int
        Proposals made together.
    training_evaluations : int
        Energy calls of the training set's relaxations.
    counter : EvaluationCounter
        Calls of the judging potential while crystals are drawn (guide ``physics``).
    """

    method: str
    variant: str
    held_out: bool
    draw: Draw
    describe: dict[str, Any] = field(default_factory=dict)
    rank: Callable[[AsymmetricUnit], Tensor] | None = None
    improve: Callable[[AsymmetricUnit], Descent] | None = None
    oversample: int = 1
    screen: int = 1
    judge: Callable[[Sequence[AsymmetricUnit]], Tensor] | None = None
    batch: int = BATCH
    training_evaluations: int = 0
    counter: EvaluationCounter = field(default_factory=EvaluationCounter)


@dataclass(frozen=True)
class Batch:
    """Proposals, and what the raw samples were like.

    Attributes
    ----------
    units : tuple of AsymmetricUnit
        Batches of one, pushed apart.
    valid_before : tuple of bool
        Whether the raw sample of each passed both filters at the full limits.
    counts : dict
        ``drawn``, ``valid``, ``valid_at_0.7``, ``symmetry``, ``proposed``, ``seconds``.
    screening : tuple of int
        Calls of the judging potential that each proposal is charged: their sum is that of all candidates, and
        of guidance by that potential.
    """

    units: tuple[AsymmetricUnit, ...]
    valid_before: tuple[bool, ...]
    counts: dict[str, Any]
    screening: tuple[int, ...]


def propose(proposer: Proposer, template: Template, count: int, seed: int) -> Batch:
    """Draw, judge the raw samples, push apart, and keep what then passes both filters.

    Parameters
    ----------
    proposer : Proposer
    template : Template
    count : int
        Proposals wanted; fewer where samples cannot be pushed apart or are refused.
    seed : int
    """
    begin, asked = time.process_time(), proposer.counter.evaluations
    raw = proposer.draw(template, count * proposer.oversample, seed)
    if len(raw) == 0:
        counts: dict[str, Any] = dict.fromkeys(("drawn", "valid", "valid_at_0.7", "symmetry", "proposed"), 0)
        return Batch((), (), {**counts, "seconds": time.process_time() - begin}, ())
    settings = ValidationSettings()
    reports = {scale: validate(raw, settings.model_copy(update={"limit_scale": scale})) for scale in (1.0, 0.7)}
    pushed = push_apart([raw[i] for i in range(len(raw))], REALISTIC_LIMITS, PushApartSettings())
    rows = [i for i in range(len(raw)) if pushed.converged[i]]
    units, energies = [pushed.units[i] for i in rows], None
    if rows and proposer.improve is not None:
        found = proposer.improve(AsymmetricUnit.cat(units))
        units, energies = list(found.units), found.energies
    elif rows and proposer.rank is not None:
        energies = proposer.rank(AsymmetricUnit.cat(units))
    passed = [report.passed for report in validate(units, settings)] if rows else []
    places = [k for k in range(len(rows)) if passed[k]]
    calls = 0
    if energies is not None and proposer.judge is not None:
        places, calls = _screened(units, energies, places, count, proposer)
    elif energies is not None:
        places = lowest_different(units, energies, places, count, WIDE_PREDICTED, RULES.amd_window)
    places, calls = places[:count], calls + proposer.counter.evaluations - asked
    symmetric = [all(c.passed for c in report.checks if c.name == "symmetry") for report in reports[1.0]]
    counts = {
        "drawn": len(raw),
        "valid": sum(report.passed for report in reports[1.0]),
        "valid_at_0.7": sum(report.passed for report in reports[0.7]),
        "symmetry": sum(symmetric),
        "proposed": len(places),
        "seconds": time.process_time() - begin,
    }
    before = tuple(reports[1.0][rows[k]].passed for k in places)
    shares = tuple(calls // len(places) + (k < calls % len(places)) for k in range(len(places)))
    return Batch(tuple(units[k] for k in places), before, counts, shares)


def _screened(
    units: Sequence[AsymmetricUnit], energies: Tensor, places: Sequence[int], count: int, proposer: Proposer
) -> tuple[list[int], int]:
    """Places of the crystals that are lowest at the judging potential among those of lowest predicted energy.

    One call each; their number is the second result.
    """
    if proposer.judge is None:
        raise ValueError("_screened: the proposer has no judge")
    candidates = lowest_different(units, energies, places, count * proposer.screen)
    judged = torch.full_like(energies, torch.nan)
    judged[candidates] = proposer.judge([units[k] for k in candidates]).to(judged)
    usable = [k for k in candidates if bool(torch.isfinite(judged[k]))]
    return lowest_different(units, judged, usable, count), len(candidates)


def make_proposer(
    method: str,
    variant: str,
    models: Path | None,
    config: RunConfig,
    *,
    guide: str = "none",
    steering: bool = False,
    oversample: int = 1,
    downhill: bool = False,
    screen: int = 1,
    run: Run | None = None,
    changes: dict[str, Any] | None = None,
) -> Proposer:
    """The proposer of a method.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    variant : str
        Name of these settings in the tables.
    models : path or None
        Checkpoint; for methods with a model, and for oversampling.
    config : RunConfig
        Sampling settings of the models.
    guide : str
        Of the geometric model.
    steering : bool
        Resample populations of the geometric model by predicted energy.
    oversample : int
        Above 1: so many raw samples a proposal, the best by the geometric model's energy network kept.
    downhill : bool
        Crystals go downhill on the geometric model's learned potential before they are proposed.
    screen : int
        Above 1: so many candidates a proposal, the best by one call of the judging potential kept.
    run : Run, optional
        Where these calls are kept; needed for screening.
    changes : dict, optional
        Changed sampling settings.

    Raises
    ------
    InputError
        A model is missing, or a setting is unknown.
    """
    describe: dict[str, Any] = {"oversample": oversample, "models": _hash(models), "changes": changes or {}}
    if downhill:
        describe["downhill"] = DescentSettings().model_dump(exclude={"batch_size"})
    common: dict[str, Any] = {"variant": variant, "oversample": oversample, "describe": describe}
    if oversample > 1:
        common["batch"] = CHOSEN_BATCH
    if screen > 1:
        describe["screen"] = screen
        common |= {"batch": SCREENED_BATCH, "screen": screen, "judge": _judge(run, oversample)}
    if method == "random":
        networks = _geometric(method, models) if oversample > 1 or downhill else None
        common |= {"rank": _rank(networks, oversample), "improve": _improve(networks) if downhill else None}
        charged = _charged(models) if networks else 0
        held_out = models is not None and models.stem.endswith("heldout")
        return Proposer(method, held_out=held_out, draw=_random, training_evaluations=charged, **common)
    if method == "pyxtal":
        return Proposer(method, held_out=False, draw=_pyxtal, **common)
    if method in ("paper", "paper_guided"):
        describe["sampling"] = _paper_settings(config, method, changes).model_dump(mode="json")
        charged = _charged(models)
        return Proposer(
            method, held_out=False, draw=_paper(models, config, method, changes), training_evaluations=charged, **common
        )
    networks = _geometric(method, models)
    sampling = type(config.geometric.sampling).from_mapping(
        {**config.geometric.sampling.model_dump(), **(changes or {})}, "sampling settings"
    )
    describe |= {
        "sampling": sampling.model_dump(mode="json", exclude={"count", "seed"}),
        "guide": guide,
        "steering": steering,
    }

    counter = EvaluationCounter()

    def draw(template: Template, count: int, seed: int) -> AsymmetricUnit:
        how = sampling.model_copy(update={"count": count, "seed": seed})
        return draw_geometric(
            networks, template, how, guide, steering=steering, counter=counter, progress=False
        ).asymmetric_unit

    return Proposer(
        "geometric",
        held_out=method == "geometric_heldout",
        draw=draw,
        rank=_rank(networks, oversample),
        improve=_improve(networks) if downhill else None,
        training_evaluations=_charged(models),
        counter=counter,
        **common,
    )


def _geometric(method: str, models: Path | None) -> GeometricModels:
    if models is None:
        raise InputError(f"method {method!r} with these settings needs --models CHECKPOINT")
    return load_geometric_models(models)


def _rank(models: GeometricModels | None, oversample: int) -> Callable[[AsymmetricUnit], Tensor] | None:
    if oversample == 1 or models is None:
        return None
    energy = models.energy
    if energy is None:
        raise InputError("oversampling needs a checkpoint with an energy network of clean crystals")
    return lambda units: energy.predict([units])


def _improve(models: GeometricModels | None) -> Callable[[AsymmetricUnit], Descent]:
    energy = None if models is None else models.energy
    if energy is None:
        raise InputError("--downhill needs a checkpoint with a learned potential")
    return lambda units: descend(energy, units)


def _judge(run: Run | None, oversample: int) -> Callable[[Sequence[AsymmetricUnit]], Tensor]:
    if run is None or oversample == 1:
        raise InputError("screening needs candidates to choose from (oversampling) and a folder for its calls")
    return lambda units: label_gradients(run, units, SCREENING).energies


def _hash(models: Path | None) -> str:
    return "" if models is None else hashlib.sha256(models.with_suffix(".json").read_bytes()).hexdigest()[:16]


def _charged(models: Path | None) -> int:
    """Energy calls of the training set, from the card beside the checkpoint.

    Raises
    ------
    InputError
        There is no card, or it does not say.
    """
    return 0 if models is None else charged_calls(models.with_suffix(".md"))


def _random(template: Template, count: int, seed: int) -> AsymmetricUnit:
    return uniform_draws(template, count, seed)


def _paper_settings(config: RunConfig, method: str, changes: dict[str, Any] | None) -> Any:
    unguided = {"guidance_scale": 0.0} if method == "paper" else {}
    merged = {**config.sampling.model_dump(), **unguided, **(changes or {})}
    return type(config.sampling).from_mapping(merged, "sampling settings")


def _paper(models: Path | None, config: RunConfig, method: str, changes: dict[str, Any] | None) -> Draw:
    if models is None:
        raise InputError(f"method {method!r} needs --models CHECKPOINT")
    loaded = load_paper_models(models)
    settings = _paper_settings(config, method, changes)
    scheme = loaded.noise.settings.scheme

    def draw(template: Template, count: int, seed: int) -> AsymmetricUnit:
        drawn = sample(
            loaded, settings.model_copy(update={"count": count, "seed": seed}), template=template, progress=False
        )
        parts = [unit for unit, _ in drawn.decode(scheme)]
        if scheme == "paper":
            parts = [from_subunits(unit) for unit in parts]
        return AsymmetricUnit.cat(parts) if parts else uniform_draws(template, 1, 0)[0:0]

    return draw


def _pyxtal(template: Template, count: int, seed: int) -> AsymmetricUnit:
    """PyXtal's molecular crystals on general positions of the same cell, its tolerances times 0.7.

    At its full tolerances it gives none in this cell; crystals that come out in another setting
    or on other sites than the template's are dropped.
    """
    from pymatgen.core import Molecule
    from pyxtal import pyxtal
    from pyxtal.lattice import Lattice as PyxtalLattice
    from pyxtal.tolerance import Tol_matrix

    molecules = [Molecule(["Na"], [[0, 0, 0]]), Molecule(list(NH2.species), NH2.body)]
    tolerances = Tol_matrix(prototype="molecular", factor=0.7)
    number = template.space_group.number
    kind = "triclinic" if number < 3 else "monoclinic" if number < 16 else "orthorhombic"
    lattice = PyxtalLattice.from_para(*ALPHA_CELL, ltype=kind)
    units: list[AsymmetricUnit] = []
    for attempt in range(PYXTAL_TRIES * count):
        if len(units) == count:
            break
        crystal = pyxtal(molecular=True)
        try:
            crystal.from_random(
                3, number, molecules, [16, 16], lattice=lattice, tm=tolerances, seed=1_000_003 * seed + attempt
            )
            if not crystal.valid:
                continue
            unit = extract_asymmetric_unit(crystal.to_pymatgen(), compound=SODIUM_AMIDE, canonical_origin=True)
        except (RuntimeError, Nanh2Error):  # PyXtal gives up with RuntimeError
            continue
        if unit.template == template:
            units.append(unit)
    return AsymmetricUnit.cat(units) if units else uniform_draws(template, 1, 0)[0:0]
