"""How much the paper model's open choices matter: one changed at a time, everything else equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit
from nanh2lib.crystal.subunits import from_subunits
from nanh2lib.diffusion.models import PaperModels, TrainingSettings
from nanh2lib.diffusion.sampling import Samples, SamplingSettings, sample
from nanh2lib.diffusion.training import train_energy_model, train_noise_model
from nanh2lib.errors import InputError
from nanh2lib.pipeline.draws import uniform_draws
from nanh2lib.pipeline.guidance import diversity_of, predicted_energies, spread
from nanh2lib.pipeline.model import TrainingSet
from nanh2lib.search.push_apart import PushApartSettings, push_apart
from nanh2lib.validation import ValidationSettings, shortest_contacts, validate

JUDGED = 24
"""Guided samples whose energy is asked for."""
BOOTSTRAP = 2000


@dataclass(frozen=True)
class Choice:
    """One setting of what the supplement leaves open.

    Attributes
    ----------
    group, value : str
        E.g. ``"T"`` and ``"300"``.
    training, sampling : mapping
        Fields of `TrainingSettings` and `SamplingSettings` that differ from the base.
    structures : str or None
        Name of another training set; None: the base's.
    """

    group: str
    value: str
    training: Mapping[str, Any]
    sampling: Mapping[str, Any]
    structures: str | None = None


def choice(group: str, value: Any, *, structures: str | None = None, **changes: Any) -> Choice:
    """A choice; each change goes to the settings that know its name."""
    sampling = {key: item for key, item in changes.items() if key in SamplingSettings.model_fields and key != "seed"}
    training = {key: item for key, item in changes.items() if key not in sampling}
    return Choice(group, str(value), training, sampling, structures)


BASE = choice("base", "base")
CHOICES: tuple[Choice, ...] = (
    BASE,
    *(choice("weight w", w, guidance_scale=w) for w in (0.0, 1.0, 3.0, 10.0)),
    choice("structures", "relaxed"),
    choice("structures", "raw", structures="generated"),
    *(choice("T", t, timesteps=t) for t in (100, 300, 1000)),
    choice("schedule", "linear"),
    choice("schedule", "cosine", schedule="cosine"),
    *(choice("seed", s, seed=s) for s in (0, 1, 2)),
    *(choice("padding", name, mask_input=mask) for name, mask in (("hidden", False), ("shown", True))),
    *(choice("validation split", f, validation_fraction=f) for f in (0.1, 0.3)),
    *(choice("epochs", e, epochs=e) for e in (100, 300, 1000, 3000)),
)

Judge = Callable[[Sequence[AsymmetricUnit]], Sequence[float]]
"""(crystals, batches of one) -> energy of each, eV per formula unit, by the potential that judges; NaN: none."""


def sensitivity(
    data: TrainingSet,
    training: TrainingSettings,
    sampling: SamplingSettings,
    choices: Sequence[Choice] = CHOICES,
    done: Mapping[str, Mapping[str, Any]] | None = None,
    on_result: Callable[[str, dict[str, Any]], None] | None = None,
    *,
    others: Mapping[str, TrainingSet] | None = None,
    judge: Judge | None = None,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Train, sample and measure for each choice; choices with equal settings are computed once.

    Parameters
    ----------
    data : TrainingSet
    training, sampling : TrainingSettings, SamplingSettings
        The base.
    choices : sequence of Choice
    done : mapping, optional
        Results of an earlier, interrupted call, by name.
    on_result : callable, optional
        Called with name and numbers of each choice as it is done; write them down.
    others : mapping, optional
        Training sets that choices name.
    judge : callable, optional
        See `measure`.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        `measure` of each choice, by ``"group = value"``.

    Raises
    ------
    InputError
        A choice names a training set that is not there.
    """
    results: dict[str, dict[str, Any]] = {name: dict(row) for name, row in (done or {}).items()}
    models: dict[str, PaperModels] = {}
    known: dict[str, dict[str, Any]] = {}
    for option in choices:
        name = f"{option.group} = {option.value}"
        how = type(training).from_mapping({**training.model_dump(), **option.training}, name)
        draw = type(sampling).from_mapping({**sampling.model_dump(), **option.sampling, "seed": how.seed}, name)
        key = f"{option.structures} {how.model_dump_json()}"
        full = key + draw.model_dump_json()
        if name not in results:
            learned = data if option.structures is None else (others or {}).get(option.structures)
            if learned is None:
                raise InputError(f"{name}: there is no training set {option.structures!r}; hand it in as one of others")
            if full not in known:
                if key not in models:
                    models = {key: _trained(learned, how, progress)}
                known[full] = measure(models[key], draw, judge, progress=progress)
            results[name] = known[full]
            if on_result is not None:
                on_result(name, results[name])
        known[full] = results[name]
    return results


def _trained(data: TrainingSet, settings: TrainingSettings, progress: bool) -> PaperModels:
    given: dict[str, Any] = {"templates": data.templates, "groups": data.groups, "progress": progress}
    noise = train_noise_model(data.z, data.mask, settings, **given)
    return PaperModels(noise, train_energy_model(data.z, data.mask, data.energies, settings, **given))


def measure(
    models: PaperModels, settings: SamplingSettings, judge: Judge | None = None, *, progress: bool = True
) -> dict[str, Any]:
    """What models and samples are worth.

    Parameters
    ----------
    models : PaperModels
    settings : SamplingSettings
        Guided; the same noise is also drawn without guidance.
    judge : callable, optional
        Energies of the first `JUDGED` guided samples, pushed apart.
    progress : bool

    Returns
    -------
    dict
        ``spread`` (1 in the training set), ``diversity`` (mean distance of two samples on a template,
        training standard deviations), ``closest`` (median of the tightest contact over its limit),
        ``valid_percent`` and ``valid_percent_at_0.7``, ``gain`` (mean predicted energy, guided minus
        unguided, meV per formula unit), ``noise_validation_loss``, ``energy_error`` (mean absolute
        validation error over that of the mean), ``energy_...`` (the errors themselves, eV), and with
        a judge ``judged_median`` (eV per formula unit), ``judged_error`` (its standard error by
        bootstrap) and ``judged_count``.
    """
    guided = sample(models, settings, progress=progress)
    free = guided
    if settings.guidance_scale > 0:
        free = sample(models, settings.model_copy(update={"guidance_scale": 0.0}), progress=progress)
    energies = [float(predicted_energies(models, samples).mean()) for samples in (guided, free)]
    crystals = _decoded(guided, models)
    closest, valid = _contacts(crystals)
    errors = dict(models.energy.history.metrics) if models.energy is not None else {}
    ratio = errors.get("validation_mae", math.nan) / errors.get("baseline_validation_mae", math.nan)
    result = {
        "spread": round(spread(models.noise, guided), 4),
        "diversity": round(diversity_of(models.noise, guided), 4),
        "closest": round(closest, 4),
        "valid_percent": round(100 * valid[1.0] / len(guided), 3),
        "valid_percent_at_0.7": round(100 * valid[0.7] / len(guided), 3),
        "gain": round(1e3 * (energies[0] - energies[1]), 2),
        "noise_validation_loss": round(min(models.noise.history.validation_loss), 4),
        "energy_error": round(ratio, 4) if math.isfinite(ratio) else None,
        **{f"energy_{name}": round(value, 5) for name, value in errors.items()},
    }
    return result if judge is None else result | judged_numbers(crystals, judge)


def blind_draws(data: TrainingSet, count: int, seed: int) -> list[AsymmetricUnit]:
    """Uniform draws in the cell of alpha on templates as frequent as in a training set: what no model has to offer."""
    rows = np.random.default_rng(seed).integers(len(data), size=count)
    return [uniform_draws(data.templates[row], 1, seed + number) for number, row in enumerate(rows)]


def _decoded(samples: Samples, models: PaperModels) -> list[AsymmetricUnit]:
    """Crystals of Na and NH2, batches of one, in the order of their samples."""
    scheme = models.noise.settings.scheme
    crystals: dict[int, AsymmetricUnit] = {}
    for unit, rows in replace(samples, trajectory=None).decode(scheme):
        units = from_subunits(unit) if scheme == "paper" else unit
        crystals |= {row: units[number] for number, row in enumerate(rows.tolist())}
    return [crystals[row] for row in sorted(crystals)]


def judged_numbers(crystals: Sequence[AsymmetricUnit], judge: Judge) -> dict[str, Any]:
    """Median energy of the first `JUDGED` crystals, pushed apart: ``judged_...`` of `measure`."""
    pushed = push_apart(crystals[:JUDGED], ValidationSettings().limits(), PushApartSettings())
    kept = [unit for unit, good in zip(pushed.units, pushed.converged, strict=True) if good]
    energies = np.array([energy for energy in judge(kept) if math.isfinite(energy)])
    if len(energies) == 0:
        return {"judged_median": None, "judged_error": None, "judged_count": 0}
    draws = np.random.default_rng(0).choice(energies, (BOOTSTRAP, len(energies)))
    return {
        "judged_median": round(float(np.median(energies)), 4),
        "judged_error": round(float(np.median(draws, axis=1).std()), 4),
        "judged_count": len(energies),
    }


def _contacts(crystals: Sequence[AsymmetricUnit]) -> tuple[float, dict[float, int]]:
    """Median of the tightest contact over its limit, and how many pass both filters, by factor on the limits."""
    settings = ValidationSettings()
    ratios: list[float] = []
    valid = {1.0: 0, 0.7: 0}
    for template in dict.fromkeys(unit.template for unit in crystals):
        batch = AsymmetricUnit.cat([unit for unit in crystals if unit.template == template])
        table = shortest_contacts(batch, settings.limits())
        ratios += (table.distances / table.limits).amin(-1).tolist()
        for scale in valid:
            scaled = settings.model_copy(update={"limit_scale": scale})
            valid[scale] += sum(report.passed for report in validate(batch, scaled))
    return float(np.median(ratios)), valid
