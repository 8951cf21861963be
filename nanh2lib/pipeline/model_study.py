"""What the trained networks of a run know: energies against labels, and crystals under the forward process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from nanh2lib.crystal.encoding import ZLayout
from nanh2lib.crystal.expansion import expand
from nanh2lib.crystal.subunits import from_subunits
from nanh2lib.diffusion.fit import split_rows
from nanh2lib.errors import CheckpointError
from nanh2lib.pipeline.model import load_models, training_set
from nanh2lib.pipeline.run import Run

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class EnergyParity:
    """Energies of the training set, and what the energy model makes of them.

    Attributes
    ----------
    reference, predicted : ndarray, shape (N,)
        eV per formula unit.
    training, validation : ndarray of int
        Row numbers.
    mean : float
        Mean over the training rows: the prediction of a model that learned nothing.
    """

    reference: FloatArray
    predicted: FloatArray
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    mean: float


def energy_parity(run: Run) -> EnergyParity:
    """Compare the run's energy model with the labels it was trained on.

    Raises
    ------
    CheckpointError
        Not trained yet, or without an energy model.
    """
    data, model = training_set(run), load_models(run).energy
    if model is None:
        raise CheckpointError(f"{run.directory}: the checkpoint has no energy model; train again")
    rows = split_rows(
        len(data),
        model.settings.validation_fraction,
        model.settings.seed,
        None if data.groups is None else list(data.groups),
    )
    numbers = torch.tensor([model.library.number_of(template) for template in data.templates])
    training, validation = (part.numpy().astype(np.int64) for part in rows)
    reference = data.energies.numpy()
    predicted = model.predict(data.z, data.mask, numbers).numpy()
    return EnergyParity(reference, predicted, training, validation, float(reference[training].mean()))


def noised_crystals(run: Run, row: int, timesteps: Sequence[int], seed: int) -> list[Structure]:
    """One crystal of the training set after the forward process has run to each timestep.

    Parameters
    ----------
    run : Run
        Trained.
    row : int
        In the training set.
    timesteps : sequence of int
        0 to T - 1; -1 is the crystal itself.
    seed : int
        Of the one noise vector that all timesteps share.

    Returns
    -------
    list of Structure

    Raises
    ------
    InputError
        The noised cell spans no volume.
    """
    data, model = training_set(run), load_models(run).noise
    template, mask = data.templates[row], data.mask[row][None]
    schedule = model.settings.noise_schedule()
    clean = model.statistics.standardize(data.z[row][None], mask)
    moving = model.diffused[model.library.number_of(template)][None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed), dtype=clean.dtype)
    scheme = run.config.training.scheme
    layout = ZLayout.for_templates([template], scheme)
    crystals = []
    for timestep in timesteps:
        noised = clean if timestep < 0 else schedule.add_noise(clean, noise, torch.tensor([timestep]))
        z = model.statistics.restore(torch.where(moving, noised, clean), mask)
        unit = layout.decode(z[:, mask[0]], template)
        crystals.append(expand(from_subunits(unit) if scheme == "paper" else unit)[0])
    return crystals
