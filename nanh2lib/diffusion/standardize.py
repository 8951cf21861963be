"""Standardisation of padded vectors z: each column by its own mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nanh2lib.errors import ComputationError, InputError

CONSTANT_TOLERANCE = 1e-6
"""A column whose standard deviation is below this (A, radians or degrees) counts as constant."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Mean and scale of each column of z, over the rows that use it.

    Attributes
    ----------
    mean : Tensor, shape (D,), float64
        A, radians or degrees; 0 where no row uses the column.
    scale : Tensor, shape (D,), float64
        Standard deviation; 1 for constant columns, which are centred but not scaled.
    constant : Tensor of bool, shape (D,)
        Columns without variance, such as a clamped cell.
    """

    mean: Tensor
    scale: Tensor
    constant: Tensor

    @classmethod
    def of(cls, z: Tensor, mask: Tensor) -> ColumnStatistics:
        """Statistics over unmasked entries.

        Parameters
        ----------
        z : Tensor, shape (N, D)
        mask : Tensor of bool, shape (N, D)
            True where the entry belongs to the row's template.
        """
        values, used = z.to(torch.float64), mask.to(torch.float64)
        count = used.sum(0).clamp_min(1)
        mean = (values * used).sum(0) / count
        deviation = (((values - mean) ** 2 * used).sum(0) / count).sqrt()
        constant = deviation < CONSTANT_TOLERANCE
        return cls(mean, torch.where(constant, torch.ones_like(deviation), deviation), constant)

    @property
    def width(self) -> int:
        """D, the length of the padded z."""
        return len(self.mean)

    def standardize(self, z: Tensor, mask: Tensor) -> Tensor:
        """(z - mean) / scale, with zeros in the padding; shape (B, D), dtype of z."""
        scaled = (z - self.mean.to(z.dtype)) / self.scale.to(z.dtype)
        return torch.where(mask, scaled, torch.zeros_like(scaled))

    def restore(self, standardized: Tensor, mask: Tensor) -> Tensor:
        """Inverse of `standardize`: A, radians and degrees, zeros in the padding."""
        z = standardized * self.scale.to(standardized.dtype) + self.mean.to(standardized.dtype)
        return torch.where(mask, z, torch.zeros_like(z))

    def to_dict(self) -> dict[str, Any]:
        """Lists for JSON; float64 survives exactly."""
        return {
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "constant": self.constant.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ColumnStatistics:
        return cls(
            torch.tensor(data["mean"], dtype=torch.float64),
            torch.tensor(data["scale"], dtype=torch.float64),
            torch.tensor(data["constant"], dtype=torch.bool),
        )


def check_vectors(z: Tensor, mask: Tensor | None, source: str) -> tuple[Tensor, Tensor]:
    """Check padded vectors and their mask once, at the public edge.

    Parameters
    ----------
    z : Tensor, shape (N, D)
        A, radians or degrees by column; padding may hold anything finite or not.
    mask : Tensor of bool, shape (N, D), or None
        None stands for no padding.
    source : str
        Name of the caller, for the error.

    Returns
    -------
    z : Tensor, shape (N, D), float64
        With zeros in the padding.
    mask : Tensor of bool, shape (N, D)

    Raises
    ------
    InputError
        Shapes do not fit, or there are no rows.
    ComputationError
        An entry in use is not finite.
    """
    if z.ndim != 2 or len(z) == 0:
        raise InputError(f"{source}: expected z of shape (N, D) with N >= 1, got {tuple(z.shape)}")
    if mask is None:
        mask = torch.ones(z.shape, dtype=torch.bool)
    if mask.shape != z.shape:
        raise InputError(f"{source}: expected mask of shape {tuple(z.shape)}, got {tuple(mask.shape)}")
    mask = mask.to(torch.bool)
    if not bool(mask.any(1).all()):
        row = int((~mask.any(1)).nonzero()[0])
        raise InputError(f"{source}: row {row} of the mask uses no entry of z; drop the row")
    z = torch.where(mask, z.to(torch.float64), torch.zeros((), dtype=torch.float64))
    bad = (~torch.isfinite(z)).nonzero()
    if len(bad):
        row, column = (int(i) for i in bad[0])
        raise ComputationError(
            f"{source}: z[{row}, {column}] = {float(z[row, column])} ({len(bad)} entries are not finite); "
            "drop these structures or repair their encoding"
        )
    return z, mask


def check_energies(energies: Tensor, count: int, source: str) -> Tensor:
    """Energies (N,) in eV per formula unit as float64, all finite.

    Raises
    ------
    InputError
        The number of energies is not the number of structures.
    ComputationError
        An energy is NaN or infinite (its row is named).
    """
    energies = energies.to(torch.float64)
    if energies.shape != (count,):
        raise InputError(f"{source}: expected {count} energies, one for each row of z, got {tuple(energies.shape)}")
    bad = (~torch.isfinite(energies)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ComputationError(
            f"{source}: energy of row {row} is {float(energies[row])} ({len(bad)} are not finite); "
            "label these structures again or drop them"
        )
    return energies
