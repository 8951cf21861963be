"""CHGNet as an ASE calculator, with a vectorised graph and one backward pass.

The calculator in the chgnet package builds Python objects for every edge and differentiates twice,
keeping the graph for a third derivative that nobody asks for here. The model and its weights are
used as they come; only what surrounds them is ours, and a test holds both calculators together.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from nanh2lib.errors import ComputationError

if TYPE_CHECKING:
    from chgnet.graph import CrystalGraph
    from chgnet.model import CHGNet

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class NeighbourGraph:
    """Directed bonds of a periodic crystal and the angles between the short ones.

    Attributes
    ----------
    centres, neighbours : ndarray of int, shape (E,)
        Atoms that directed bond e leaves from and goes to.
    images : ndarray of int, shape (E, 3)
        Lattice translation of the neighbour.
    undirected : ndarray of int, shape (E,)
        Number of the bond, the same for both directions.
    first_direction : ndarray of int, shape (E / 2,)
        One directed bond of each bond.
    angles : ndarray of int, shape (A, 5)
        Atom, first bond, its direction, second bond, its direction: all ordered pairs of
        different short bonds at an atom.
    """

    centres: IntArray
    neighbours: IntArray
    images: IntArray
    undirected: IntArray
    first_direction: IntArray
    angles: IntArray


def build_neighbour_graph(atoms: Atoms, bond_cutoff: float, angle_cutoff: float) -> NeighbourGraph:
    """Bonds shorter than ``bond_cutoff`` (A) and angles between those shorter than ``angle_cutoff``.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic in three directions, positions inside the cell.
    bond_cutoff, angle_cutoff : float
        A.
    """
    from matscipy.neighbours import neighbour_list

    centres, neighbours, images, distances = neighbour_list("ijSd", atoms=atoms, cutoff=bond_cutoff)
    edges = np.column_stack([centres, neighbours, images]).astype(np.int64)
    backward = np.column_stack([neighbours, centres, -images]).astype(np.int64)
    reverse = np.empty(len(edges), dtype=np.int64)
    reverse[np.lexsort(backward.T)] = np.lexsort(edges.T)
    first = np.flatnonzero(np.arange(len(edges)) < reverse)
    undirected = np.empty(len(edges), dtype=np.int64)
    undirected[first] = undirected[reverse[first]] = np.arange(len(first))
    short = np.flatnonzero(distances < angle_cutoff)
    return NeighbourGraph(
        centres=edges[:, 0],
        neighbours=edges[:, 1],
        images=edges[:, 2:],
        undirected=undirected,
        first_direction=first,
        angles=_angles(edges[:, 0], undirected, short, len(atoms)),
    )


def _angles(centres: IntArray, undirected: IntArray, short: IntArray, n_atoms: int) -> IntArray:
    """All ordered pairs of different directed bonds in ``short`` that leave from the same atom."""
    short = short[np.argsort(centres[short], kind="stable")]
    counts = np.bincount(centres[short], minlength=n_atoms)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    repeats = counts[centres[short]]
    first = np.repeat(short, repeats)
    offsets = np.arange(len(first)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    second = short[starts[centres[first]] + offsets] if len(first) else first
    first, second = first[first != second], second[first != second]
    return np.column_stack([centres[first], undirected[first], first, undirected[second], second])


class ChgnetCalculator(Calculator):
    """Energy, forces and stress of a periodic crystal by a pretrained CHGNet.

    Parameters
    ----------
    model : chgnet.model.CHGNet
        In evaluation mode on the CPU.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, model: CHGNet) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Compute all four properties, as ASE asks for.

        Raises
        ------
        ComputationError
            The crystal is not periodic, or an atom has no neighbour within the model's cutoff.
        """
        import torch
        from chgnet.model.model import BatchedGraph

        super().calculate(atoms, properties, system_changes)
        graph = self._graph(self.atoms)
        with warnings.catch_warnings():
            # chgnet copies volumes that carry a gradient into a plain tensor; they are only read.
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad", category=UserWarning)
            batch = BatchedGraph.from_graphs(
                [graph],
                bond_basis_expansion=self.model.bond_basis_expansion,
                angle_basis_expansion=self.model.angle_basis_expansion,
                compute_stress=True,
            )
        n_atoms = len(self.atoms)
        scale = n_atoms if self.model.is_intensive else 1
        energy = self.model._compute(batch)["e"].sum() * scale
        positions, strain = torch.autograd.grad(energy, [batch.atom_positions[0], batch.strains[0]])
        offset = 0.0
        if self.model.composition_model is not None:
            offset = float(self.model.composition_model([graph]).sum()) * scale
        stress = strain.numpy().astype(np.float64) / self.atoms.get_volume()
        total = float(energy.detach()) + offset
        self.results = {
            "energy": total,
            "free_energy": total,
            "forces": -positions.numpy().astype(np.float64),
            "stress": full_3x3_to_voigt_6_stress((stress + stress.T) / 2),
        }

    def _graph(self, atoms: Atoms) -> CrystalGraph:
        import torch
        from chgnet.graph import CrystalGraph

        if not all(atoms.pbc):
            raise ComputationError("CHGNet here: the structure must be periodic in three directions")
        converter = self.model.graph_converter
        wrapped = atoms.copy()
        wrapped.wrap()
        bonds = build_neighbour_graph(wrapped, converter.atom_graph_cutoff, converter.bond_graph_cutoff)
        isolated = sorted(set(range(len(atoms))) - set(bonds.centres.tolist()))
        if isolated:
            raise ComputationError(
                f"CHGNet: atom {isolated[0]} ({atoms.symbols[isolated[0]]}) has no neighbour within "
                f"{converter.atom_graph_cutoff} A; the crystal has fallen apart"
            )

        def integers(array: IntArray) -> torch.Tensor:
            return torch.as_tensor(array.astype(np.int32))

        def numbers(array: NDArray[Any], grad: bool = False) -> torch.Tensor:
            return torch.as_tensor(np.asarray(array, dtype=np.float32)).requires_grad_(grad)

        return CrystalGraph(
            atomic_number=integers(atoms.numbers),
            atom_frac_coord=numbers(wrapped.get_scaled_positions(wrap=False), grad=True),
            atom_graph=integers(np.column_stack([bonds.centres, bonds.neighbours])),
            atom_graph_cutoff=converter.atom_graph_cutoff,
            neighbor_image=numbers(bonds.images),
            directed2undirected=integers(bonds.undirected),
            undirected2directed=integers(bonds.first_direction),
            bond_graph=integers(bonds.angles),
            bond_graph_cutoff=converter.bond_graph_cutoff,
            lattice=numbers(atoms.cell.array, grad=True),
        )
