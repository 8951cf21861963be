"""Small synthetic training sets."""

import pytest
import torch

from nanh2lib.diffusion.models import TrainingSettings


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors: threads only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def vectors():
    """Two 'templates' of lengths 6 and 9 plus a clamped column; energies depend on z."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(120, 10, generator=generator, dtype=torch.float64) * 2 + 5
    z[:, -1] = 8.964
    mask = torch.ones(120, 10, dtype=torch.bool)
    mask[60:, 6:9] = False
    z[60:, 0] += 3.0
    energies = -18 + 0.05 * z[:, 0] + 0.02 * (z[:, 1] - 5) ** 2
    return z, mask, energies


@pytest.fixture(scope="session")
def quick():
    return TrainingSettings(timesteps=40, epochs=6, learning_rate=1e-3, checkpoint_every=2, validation_fraction=0.2)
