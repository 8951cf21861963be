"""SevenNet on one atom of each orbit: the features of the others are rotated copies.

The pretrained SevenNets couple features of degrees 1, 1 to 1 and the like, so they are equivariant under
rotations but not under reflections: atoms that only an improper operation relates keep features,
and energies, of their own. Only proper operations are used here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from nanh2lib.crystal.primitive import AtomOrbits
from nanh2lib.energy.orbit_graph import OrbitGradient, check_symmetry, proper_orbits
from nanh2lib.energy.sevennet_convolution import ORBIT_KEY, TURN_KEY, LeanConvolution

_AFTER_ATOMIC_ENERGIES = ("reduce_total_enegy", "force_output")


def supports_orbits(model: Any) -> bool:
    """Whether every convolution of a SevenNet is one that can rotate features."""
    names = [name for name, _ in model.named_children()]
    convolutions = [module for name, module in model.named_children() if name.endswith("_convolution")]
    return all(isinstance(module, LeanConvolution) for module in convolutions) and names[-2:] == list(
        _AFTER_ATOMIC_ENERGIES
    )


def sevennet_orbit_gradient(calculator: Any, atoms: Atoms, orbits: AtomOrbits) -> OrbitGradient:
    """Energy and its gradient with the work of one atom of each orbit of the proper operations.

    Parameters
    ----------
    calculator : sevenn.calculator.SevenNetCalculator
        With `LeanConvolution`.
    atoms : ase.Atoms
        A crystal that has the symmetry of ``orbits``.
    orbits : AtomOrbits

    Raises
    ------
    SymmetryMismatch
        The crystal lacks the symmetry.
    """
    from sevenn import _keys as keys
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    check_symmetry(atoms, orbits)
    proper = proper_orbits(orbits)
    whole = unlabeled_atoms_to_graph(atoms, calculator.cutoff, with_shift=False)
    centres, neighbours = whole[keys.EDGE_IDX]
    kept = proper.is_representative[centres]
    centres, neighbours = centres[kept], neighbours[kept]
    vectors = torch.as_tensor(np.asarray(whole[keys.EDGE_VEC][kept], dtype=np.float32)).requires_grad_(True)
    numbers = atoms.get_atomic_numbers()[proper.representatives]
    data = AtomGraphData.from_numpy_dict(
        {
            **whole,
            keys.NODE_FEATURE: numbers,
            keys.ATOMIC_NUMBERS: numbers,
            keys.EDGE_IDX: np.stack([proper.orbit[centres], neighbours]),
            keys.NUM_ATOMS: np.array(len(numbers)),
        }
    )
    data[keys.EDGE_VEC] = vectors
    data[ORBIT_KEY] = torch.as_tensor(proper.orbit)
    data[TURN_KEY] = _turns(proper, atoms.cell.array)
    data = calculator.model._preprocess(data)
    for name, module in calculator.model.named_children():
        if name not in _AFTER_ATOMIC_ENERGIES:
            data = module(data)
    weights = torch.as_tensor(proper.multiplicities, dtype=torch.float32)
    energy = (data[keys.ATOMIC_ENERGY].flatten() * weights).sum()
    pulls = torch.autograd.grad(energy, [vectors])[0].numpy().astype(np.float64)
    positions = np.zeros((len(atoms), 3))
    np.add.at(positions, neighbours, pulls)
    np.add.at(positions, proper.representatives[proper.orbit[centres]], -pulls)
    strain = np.asarray(whole[keys.EDGE_VEC][kept], dtype=np.float64).T @ pulls
    return OrbitGradient(float(energy.detach()), positions, strain)


def _turns(orbits: AtomOrbits, lattice: NDArray[np.float64]) -> list[Tensor]:
    """Matrices that turn features of degree 0, 1, ... of each orbit's representative to each atom.

    Returns
    -------
    list of Tensor, shapes (N, 2l + 1, 2l + 1)
        For l up to 3.
    """
    from e3nn.o3 import Irrep

    columns = lattice.T
    cartesian = torch.as_tensor(columns @ orbits.rotations @ np.linalg.inv(columns), dtype=torch.float32)
    return [Irrep(degree, 1).D_from_matrix(cartesian)[torch.as_tensor(orbits.operation)] for degree in range(4)]
