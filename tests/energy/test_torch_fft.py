"""Transforms by torch are those of SciPy."""

import numpy as np
import pytest
from scipy import fft

from nanh2lib.energy.torch_fft import TorchFFT


@pytest.mark.parametrize("shape", [(6, 5, 9), (8, 4, 10), (1, 3, 7)])
@pytest.mark.parametrize("norm", [None, "forward", "ortho"])
def test_they_agree_with_scipy(shape, norm):
    generator = np.random.default_rng(2)
    padded = generator.normal(size=(*shape[:2], shape[2] + 3))
    real = padded[:, :, : shape[2]]  # as GPAW keeps it, with room behind
    complex_values = real + 1j * generator.normal(size=shape)
    half = fft.rfftn(real)
    calls = [
        lambda: fft.fftn(complex_values, norm=norm),
        lambda: fft.ifftn(complex_values, shape, norm=norm),
        lambda: fft.rfftn(real, norm=norm, overwrite_x=False),
        lambda: fft.irfftn(half, shape, norm=norm),
    ]
    for call in calls:
        expected = call()
        with fft.set_backend(TorchFFT):
            np.testing.assert_allclose(call(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_what_torch_is_not_asked_for_stays_with_scipy():
    values = np.random.default_rng(3).normal(size=(4, 6))
    with fft.set_backend(TorchFFT):
        np.testing.assert_allclose(fft.dctn(values), fft.dctn(values.copy()))
        assert fft.fftn(values.astype(np.float32)).dtype == np.complex64
        np.testing.assert_allclose(fft.fftn(values, axes=(0,)), np.fft.fft(values, axis=0))
