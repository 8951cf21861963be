"""Training and sampling of the geometric model as stages of a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nanh2lib.config import GeometricRunSettings
from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Template
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS
from nanh2lib.diffusion.geometric.checkpoint import (
    GeometricModels,
    load_geometric_models,
    save_geometric_models,
)
from nanh2lib.diffusion.geometric.descent import descend
from nanh2lib.diffusion.geometric.guidance import Guide, NetworkGuide, PhysicsGuide
from nanh2lib.diffusion.geometric.model import GeometricModel
from nanh2lib.diffusion.geometric.sampling import (
    GeometricSamples,
    GeometricSamplingSettings,
    Tools,
    sample_geometric,
)
from nanh2lib.diffusion.geometric.steering import Potential
from nanh2lib.diffusion.geometric.training import train_geometric_energy_model, train_geometric_model
from nanh2lib.errors import CheckpointError, InputError
from nanh2lib.pipeline.draws import general_template
from nanh2lib.pipeline.geometric_data import GeometricTrainingSet, geometric_training_set
from nanh2lib.pipeline.gradient_labels import potential_gradient
from nanh2lib.pipeline.learned_potential import (
    LearnedPotential,
    learn_potential,
    random_crystals,
    withheld_below,
)
from nanh2lib.pipeline.model_card import geometric_card
from nanh2lib.pipeline.run import Run, stage, write_text
from nanh2lib.pipeline.search import candidate_id
from nanh2lib.records import Candidate
from nanh2lib.relaxation.gradient import EvaluationCounter
from nanh2lib.relaxation.settings import RelaxationSettings
from nanh2lib.search.lattice_prior import ALPHA_CELL
from nanh2lib.search.push_apart import push_apart
from nanh2lib.settings import config_hash, package_version
from nanh2lib.validation import validate

PRETRAINING_SEED = 1_000_000
"""Added to the run's seed, so that pretraining crystals are other ones than the dataset's."""


def geometric_path(run: Run, settings: GeometricRunSettings | None = None) -> Path:
    """Where the run's geometric models are kept: apart for those that learned from a reduced set."""
    settings = settings or run.config.geometric
    name = "geometric" if settings.held_out is None else "geometric_heldout"
    return run.path("models", f"{name}.json")


def train_geometric(run: Run) -> dict[str, Any]:
    """Train score and energy networks on the run's relaxed crystals; a killed run goes on where it was.

    Returns
    -------
    dict
        Crystals, groups of equal ones, crystals left out, energy calls charged, losses, errors of the
        energy network beside those of the mean.
    """
    data = geometric_training_set(run)

    def work() -> dict[str, Any]:
        models, learned = fit_geometric(run, data)
        target = save_geometric_models(geometric_path(run), models)
        summary = training_summary(models, data, learned)
        write_text(target.with_suffix(".md"), geometric_card(run, summary, models))
        return summary

    name = geometric_path(run).stem
    return stage(run, f"train_{name}", f"{run.settings_key('geometric')}-{data.key}", work)


def fit_geometric(run: Run, data: GeometricTrainingSet) -> tuple[GeometricModels, LearnedPotential | None]:
    """Score network, and the energy network that the settings ask for: a learned potential, the guide's, or none."""
    settings, seed = run.config.geometric, {"seed": run.config.seed}
    name = geometric_path(run).stem
    start = None if settings.initial is None else load_geometric_models(settings.initial)
    learned = (
        None
        if settings.potential is None
        else learn_potential(run, data, name, None if start is None else start.energy)
    )
    score = train_geometric_model(
        data.units,
        settings.training.model_copy(update=seed),
        initial=start.score if start is not None else pretrained(run, learned),
        weights=data.weights(settings.temperature),
        groups=data.groups,
        run_directory=run.path("models", f"{name}_score_run"),
        progress=run.progress,
    )
    if learned is not None:
        return GeometricModels(score, learned.model), learned
    if settings.guide in ("none", "physics"):
        return GeometricModels(score), None
    noised = settings.guide == "noised"
    energy = train_geometric_energy_model(
        data.units,
        data.energies,
        settings.energy.model_copy(update=seed),
        noised=noised,
        groups=data.groups,
        run_directory=run.path("models", f"{name}_{'noised_' if noised else ''}energy_run"),
        progress=run.progress,
    )
    return GeometricModels(score, noised_energy=energy) if noised else GeometricModels(score, energy), None


def pretrained(run: Run, learned: LearnedPotential | None = None) -> GeometricModel | None:
    """Score network trained on pushed-apart crystals of the run's search; None where the settings ask for none.

    With ``downhill`` they first go downhill on the learned potential, and of a held-out model those that
    end below its level are left out. Without, it knows nothing of energies and is the same for both.
    """
    chosen = run.config.geometric.pretraining
    if chosen is None:
        return None
    units = random_crystals(run, chosen.per_setting, PRETRAINING_SEED, chosen.limit_scale)
    name = "geometric"
    if chosen.downhill:
        if learned is None or run.config.geometric.potential is None:
            raise InputError("geometric.pretraining.downhill: there is no learned potential; set geometric.potential")
        name = geometric_path(run).stem
        found = descend(learned.model, units, run.config.geometric.potential.descent, progress=run.progress)
        above = found.energies > withheld_below(run)
        units = [unit for unit, kept in zip(found.units, above.tolist(), strict=True) if kept]
    settings = run.config.geometric.training.model_copy(update={"epochs": chosen.epochs, "seed": run.config.seed})
    return train_geometric_model(
        units, settings, run_directory=run.path("models", f"{name}_pretraining_run"), progress=run.progress
    )


def training_summary(
    models: GeometricModels, data: GeometricTrainingSet, learned: LearnedPotential | None = None
) -> dict[str, Any]:
    """What was learned from what, and the energy calls it took: of the relaxations, and of a learned potential."""
    history = models.score.history
    energy = models.energy or models.noised_energy
    return {
        "structures": len(data),
        "different": len(set(data.groups)),
        "left_out": data.left_out,
        "evaluations_charged": data.evaluations + (0 if learned is None else learned.evaluations),
        "gradient_labels": {} if learned is None else learned.counts,
        "templates": len(models.score.vocabulary.templates),
        "space_groups": len(models.score.vocabulary.halls),
        "epochs": history.epochs,
        "training_loss": history.loss[-1],
        "validation_loss": history.validation_loss[-1],
        "energy_metrics": {} if energy is None else dict(energy.history.metrics),
    }


def load_geometric(run: Run) -> GeometricModels:
    """The run's trained geometric models.

    Raises
    ------
    CheckpointError
        Not trained yet, or a damaged or foreign checkpoint.
    """
    return load_geometric_models(geometric_path(run))


PHYSICS_SCALE = 0.1
"""eV per formula unit that count as one standard deviation where no energy network says how many do."""


def guides_of(
    models: GeometricModels,
    guide: str,
    potential: str = "chgnet",
    options: Mapping[str, Any] | None = None,
    counter: EvaluationCounter | None = None,
) -> tuple[Guide, ...]:
    """The guides that a setting names.

    Parameters
    ----------
    models : GeometricModels
    guide : {"none", "paper", "noised", "x0", "physics"}
    potential, options : str, mapping
        Whose gradient guide ``physics`` asks, one call for each crystal and step.
    counter : EvaluationCounter, optional
        Gets these calls.

    Raises
    ------
    CheckpointError
        The checkpoint lacks the energy network that the guide asks.
    """
    if guide == "none":
        return ()
    if guide == "physics":
        scale = PHYSICS_SCALE if models.energy is None else models.energy.energy_scale
        return (PhysicsGuide(potential_gradient(potential, options, counter), scale),)
    energy = models.noised_energy if guide == "noised" else models.energy
    if energy is None:
        raise CheckpointError(f"guide {guide!r}: the checkpoint holds no energy network for it; train with guide set")
    return (NetworkGuide(energy, at_denoised=guide == "x0"),)


def predicted_potential(models: GeometricModels) -> Potential:
    """Standardised energies (B,) of crystals by the energy network, for steering.

    Raises
    ------
    CheckpointError
        The checkpoint holds no energy network of clean crystals.
    """
    energy = models.energy
    if energy is None:
        raise CheckpointError("steering: the checkpoint holds no energy network of clean crystals; train with guide x0")
    return lambda units: (energy.predict([units]) - energy.energy_mean) / energy.energy_scale


def draw_geometric(
    models: GeometricModels,
    template: Template,
    settings: GeometricSamplingSettings,
    guide: str = "none",
    lattice_parameters: Sequence[float] = ALPHA_CELL,
    *,
    steering: bool = False,
    judge: RelaxationSettings | None = None,
    counter: EvaluationCounter | None = None,
    progress: bool = True,
) -> GeometricSamples:
    """Draw crystals on a template in one cell.

    Parameters
    ----------
    models : GeometricModels
    template : Template
    settings : GeometricSamplingSettings
    guide : {"none", "paper", "noised", "x0", "physics"}
        Where the gradient of the energy network is asked, or that of a potential itself.
    lattice_parameters : sequence of 6 floats
        A and degrees.
    steering : bool
        Resample the population by the energy network's standardised energy of the denoised
        estimates.
    judge : RelaxationSettings, optional
        Whose potential guide ``physics`` asks; default: CHGNet.
    counter : EvaluationCounter, optional
        Gets the calls of that guide.
    progress : bool
    """
    asked = judge or RelaxationSettings(potential="chgnet")
    cell = torch.tensor(tuple(lattice_parameters), dtype=torch.float64)
    tools = Tools(
        guides=guides_of(models, guide, asked.potential, dict(asked.options), counter),
        potential=predicted_potential(models) if steering else None,
        corrector=_pushed_apart if settings.corrector_steps > 0 else None,
    )
    return sample_geometric(models.score, template, settings, lattice_parameters=cell, tools=tools, progress=progress)


def _pushed_apart(units: AsymmetricUnit) -> AsymmetricUnit:
    """Corrector: the contact limits kept where they can be."""
    return push_apart(units, REALISTIC_LIMITS).asymmetric_unit


def geometric_sample_stage(run: Run) -> dict[str, Any]:
    """Sample each template with and without guidance, validate, push apart, and put all into the store.

    Returns
    -------
    dict
        By template and guidance: samples, how many pass before and after the push-apart corrector,
        and the checks that the others fail.

    Raises
    ------
    InputError
        No trained model.
    """
    path = geometric_path(run)
    try:
        weights = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{path}: no trained model; run 'nanh2 train' with model: geometric first") from error
    key = f"{run.settings_key('geometric', 'validation')}-{weights}"

    def work() -> dict[str, Any]:
        models, settings = load_geometric(run), run.config.geometric
        guides = ["none"] if settings.guide == "none" else ["none", settings.guide]
        return {
            f"{template.space_group.symbol}, guide {guide}": _sample_one(run, models, template, guide, key)
            for template in map(general_template, settings.templates)
            for guide in guides
        }

    return stage(run, f"sample_{path.stem}", key, work)


def _sample_one(run: Run, models: GeometricModels, template: Template, guide: str, key: str) -> dict[str, Any]:
    settings = run.config.geometric.sampling.model_copy(update={"seed": run.config.seed})
    judge = run.config.dataset.relaxed_fixed
    units = draw_geometric(models, template, settings, guide, judge=judge, progress=run.progress).asymmetric_unit
    raw = _candidates(run, units, guide, False, key)
    pushed = push_apart([units[i] for i in range(len(units))], run.config.search.limits(), run.config.search.push)
    corrected = _candidates(run, AsymmetricUnit.cat(list(pushed.units)), guide, True, key)
    run.store.add([*raw, *corrected])
    reasons = Counter(c.name for x in raw if x.report is not None for c in x.report.checks if not c.passed)
    return {
        "samples": len(units),
        "valid": sum(c.accepted for c in raw),
        "valid_after_push_apart": sum(c.accepted for c in corrected),
        "failed_checks": dict(reasons),
    }


def geometric_method(run: Run, guide: str, pushed: bool) -> str:
    """Name under which samples are kept: ``"geometric_x0"``, ``"geometric_heldout_none_pushed"``, ..."""
    return f"{geometric_path(run).stem}_{guide}{'_pushed' if pushed else ''}"


def _candidates(run: Run, units: AsymmetricUnit, guide: str, pushed: bool, key: str) -> list[Candidate]:
    method = geometric_method(run, guide, pushed)
    label = units.template.label
    reports = validate(units, run.config.validation)
    return [
        Candidate(
            id=candidate_id(method, key, label, row),
            structure=structure,
            method=method,
            seed=run.config.seed,
            config_hash=config_hash(run.config.geometric),
            package_version=package_version(),
            asymmetric_unit=units[row],
            report=report,
            extra={"row": row, "template": label},
        )
        for row, (structure, report) in enumerate(zip(expand(units), reports, strict=True))
    ]
