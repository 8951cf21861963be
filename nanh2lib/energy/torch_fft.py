"""Fourier transforms of SciPy computed by torch, whose builds for CPU bring a faster library.

GPAW compiled without FFTW calls ``scipy.fft`` once for each band; on its grids torch (MKL) takes a
third of the time. Inside ``scipy.fft.set_backend(TorchFFT)`` the four transforms that GPAW needs go
to torch, everything else stays with SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_TRANSFORMS: Mapping[str, Callable[..., torch.Tensor]] = {
    name: getattr(torch.fft, name) for name in ("fftn", "ifftn", "rfftn", "irfftn")
}
_TYPES = (np.dtype(np.float64), np.dtype(np.complex128))


class TorchFFT:
    """A backend in the sense of ``scipy.fft.set_backend``."""

    __ua_domain__ = "numpy.scipy.fft"

    @staticmethod
    def __ua_function__(method: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """The transform of a double-precision array, or NotImplemented: then SciPy does it."""
        transform = _TRANSFORMS.get(method.__name__)
        array = arguments[0] if arguments else None
        if transform is None or not isinstance(array, np.ndarray) or array.dtype not in _TYPES:
            return NotImplemented
        if len(arguments) > 2 or options.keys() - {"s", "norm", "overwrite_x"}:
            return NotImplemented
        shape = arguments[1] if len(arguments) > 1 else options.get("s")
        return transform(torch.from_numpy(array), s=shape, norm=options.get("norm")).numpy()
