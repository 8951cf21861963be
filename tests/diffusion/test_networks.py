"""The supplement's networks and the standardisation of z."""

import math

import pytest
import torch
from torch import nn

from nanh2lib.diffusion.networks import EnergyNetwork, NoiseNetwork, timestep_embedding
from nanh2lib.diffusion.standardize import ColumnStatistics, check_energies, check_vectors
from nanh2lib.errors import ComputationError, InputError


def linear_layers(network):
    return [m for m in network.modules() if isinstance(m, nn.Linear)]


def test_architecture_is_the_supplements():
    noise = NoiseNetwork(10, generator=torch.Generator().manual_seed(0))
    energy = EnergyNetwork(10, generator=torch.Generator().manual_seed(0))
    assert [layer.out_features for layer in linear_layers(noise)] == [64, 64, 64, 10]
    assert [layer.out_features for layer in linear_layers(energy)] == [128, 128, 128, 1]
    assert sum(isinstance(m, nn.ReLU) for m in noise.modules()) == 3
    assert linear_layers(noise)[0].in_features == 10 + 32  # z and the timestep embedding


def test_initial_weights_are_he_uniform():
    network = EnergyNetwork(400, (500,), generator=torch.Generator().manual_seed(0))
    first = linear_layers(network)[0]
    bound = math.sqrt(6 / 400)
    assert float(first.weight.detach().abs().max()) <= bound
    assert float(first.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert not first.bias.any()
    again = EnergyNetwork(400, (500,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(linear_layers(again)[0].weight, first.weight)


def test_padding_neither_enters_nor_leaves():
    network = NoiseNetwork(5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False, False, True]])
    z = torch.randn(1, 5)
    other = torch.where(mask, z, z + 100)
    t = torch.tensor([3])
    assert torch.equal(network(z, mask, t), network(other, mask, t))
    assert not network(z, mask, t)[~mask].any()
    energy = EnergyNetwork(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(energy(z, mask), energy(other, mask))


def test_timestep_embedding_tells_steps_apart():
    embedding = timestep_embedding(torch.arange(1000), 32)
    assert embedding.shape == (1000, 32)
    assert float(torch.pdist(embedding).min()) > 1e-3
    assert torch.allclose(timestep_embedding(torch.tensor([500]), 1), torch.tensor([[0.5]]))


def test_statistics_over_unmasked_entries(vectors):
    z, mask, _ = vectors
    padded = torch.where(mask, z, torch.tensor(1e6, dtype=z.dtype))
    statistics = ColumnStatistics.of(padded, mask)
    assert float(statistics.mean[7]) == pytest.approx(float(z[:60, 7].mean()))
    standardized = statistics.standardize(padded, mask)
    assert torch.allclose(standardized[:60, 7].std(correction=0), torch.ones((), dtype=z.dtype))
    assert not standardized[~mask].any()
    assert torch.allclose(statistics.restore(standardized, mask)[mask], z[mask], atol=1e-12)


def test_clamped_column_passes_unscaled(vectors):
    z, mask, _ = vectors
    statistics = ColumnStatistics.of(z, mask)
    assert statistics.constant.tolist() == [False] * 9 + [True]
    assert float(statistics.scale[-1]) == 1.0
    shifted = z.clone()
    shifted[:, -1] += 0.25
    assert torch.allclose(statistics.standardize(shifted, mask)[:, -1], torch.full((120,), 0.25, dtype=z.dtype))
    assert ColumnStatistics.from_dict(statistics.to_dict()).mean.equal(statistics.mean)


def test_bad_vectors_are_named():
    z = torch.zeros(3, 4)
    z[2, 1] = float("nan")
    with pytest.raises(ComputationError, match=r"z\[2, 1\] = nan"):
        check_vectors(z, None, "train")
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[2, 1] = False
    cleaned, _ = check_vectors(z, mask, "train")  # NaN in the padding does no harm
    assert float(cleaned[2, 1]) == 0.0
    with pytest.raises(InputError, match="row 1 of the mask"):
        check_vectors(torch.zeros(2, 2), torch.tensor([[True, True], [False, False]]), "train")
    with pytest.raises(InputError, match="expected mask of shape"):
        check_vectors(torch.zeros(2, 2), torch.ones(2, 3, dtype=torch.bool), "train")
    with pytest.raises(InputError, match=r"shape \(N, D\)"):
        check_vectors(torch.zeros(0, 2), None, "train")
    with pytest.raises(ComputationError, match="energy of row 1 is nan"):
        check_energies(torch.tensor([1.0, float("nan")]), 2, "train")
    with pytest.raises(InputError, match="expected 3 energies"):
        check_energies(torch.zeros(2), 3, "train")
