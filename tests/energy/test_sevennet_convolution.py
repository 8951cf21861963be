import numpy as np
import pytest
import torch
from pymatgen.io.ase import AseAtomsAdaptor

from nanh2lib.energy.potentials import POTENTIALS, get_calculator
from nanh2lib.energy.sevennet_convolution import LeanConvolution, neighbour_table, use_lean_convolutions


def original_calculator(name):
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator(model={"sevennet-0": "7net-0", "sevennet-l3i5": "7net-l3i5"}[name], device="cpu")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [name for name in POTENTIALS if name.startswith("sevennet")])
def test_energies_forces_and_stresses_are_those_of_the_original(name, disturbed):
    ours, theirs = get_calculator(name), original_calculator(name)
    lean = [module for module in ours.model.modules() if isinstance(module, LeanConvolution)]
    assert len(lean) == 5
    for structure in (disturbed, disturbed * (2, 1, 1)):
        values = []
        for calculator in (ours, theirs):
            atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
            atoms.calc = calculator
            values.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
        assert values[0][0] == pytest.approx(values[1][0], abs=1e-4)
        np.testing.assert_allclose(values[0][1], values[1][1], atol=2e-5)
        np.testing.assert_allclose(values[0][2], values[1][2], atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_convolution_alone_agrees_in_double_precision_with_its_gradients():
    model = original_calculator("sevennet-0").model
    original = dict(model.named_children())["1_convolution"].double()
    lean = LeanConvolution(original).double()
    generator = torch.Generator().manual_seed(5)
    n_atoms, n_edges = 6, 40
    inputs = {
        original.key_x: torch.randn(n_atoms, original.convolution.irreps_in1.dim, generator=generator).double(),
        original.key_filter: torch.randn(n_edges, original.convolution.irreps_in2.dim, generator=generator).double(),
        original.key_weight_input: torch.randn(n_edges, 8, generator=generator).double(),
    }
    edges = torch.randint(n_atoms - 1, (2, n_edges), generator=generator)  # the last atom has no neighbour
    outcomes = []
    for module in (original, lean):
        data = {key: value.clone().requires_grad_() for key, value in inputs.items()}
        leaves = list(data.values())
        out = module({**data, original.key_edge_idx: edges})[original.key_x]
        outcomes.append((out, *torch.autograd.grad((out**2).sum(), leaves)))
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.detach().abs().max()))


def test_every_edge_stands_once_in_the_row_of_its_atom():
    targets = torch.tensor([3, 0, 3, 1, 3, 0])
    edges, mask = neighbour_table(targets, 5)
    assert edges.shape == mask.shape == (5, 3)
    assert mask.sum(1).tolist() == [2, 1, 0, 3, 0]
    assert sorted(edges[mask > 0].tolist()) == list(range(6))
    for atom in range(5):
        assert (targets[edges[atom][mask[atom] > 0]] == atom).all()


def test_convolutions_of_another_kind_stay_as_they_are():
    class Product(torch.nn.Module):
        instructions = ()
        irreps_out = ()

    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = Product()
            self.is_parallel = True

    model = torch.nn.Sequential(Other())
    assert use_lean_convolutions(model) == 0
    assert isinstance(model[0], Other)
