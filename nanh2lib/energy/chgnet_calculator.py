"""CHGNet as an ASE calculator, with a vectorised graph and one backward pass.

The calculator in the chgnet package builds Python objects for every edge and differentiates twice,
keeping the graph for a third derivative that nobody asks for here. The model and its weights are
used as they come; only what surrounds them is ours, and a test holds both calculators together.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from nanh2lib.crystal.primitive import AtomOrbits
from nanh2lib.energy.orbit_graph import OrbitGradient, number_bonds, orbit_edges
from nanh2lib.errors import ComputationError

if TYPE_CHECKING:
    from chgnet.model import CHGNet

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


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


def build_orbit_graph(atoms: Atoms, orbits: AtomOrbits, bond_cutoff: float, angle_cutoff: float) -> NeighbourGraph:
    """The same for a crystal of known symmetry: only bonds that leave one atom of each orbit.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic in three directions, positions inside the cell.
    orbits : AtomOrbits
    bond_cutoff, angle_cutoff : float
        A.

    Returns
    -------
    NeighbourGraph
        A bond whose two ends are not listed as each other's reverse (one across an inversion
        centre, or at an atom on a special position) gets the angles of its far end from there.
    """
    edges = orbit_edges(atoms, orbits, bond_cutoff)
    bonds = number_bonds(edges.reverse)
    short = np.flatnonzero(edges.distances < angle_cutoff)
    angles = _angles(edges.centres, bonds.bond, short, len(atoms))
    lone = bonds.lone[edges.distances[bonds.lone] < angle_cutoff]
    far_end = [_seen_from_far_end(angles, edges.reverse[edge], bonds.bond[edge]) for edge in lone]
    return NeighbourGraph(
        centres=edges.centres,
        neighbours=edges.neighbours,
        images=edges.images,
        undirected=bonds.bond,
        first_direction=bonds.first_direction,
        angles=np.concatenate([angles, *far_end]),
    )


def _seen_from_far_end(angles: IntArray, reverse: int, bond: int) -> IntArray:
    """The angles whose first edge is ``reverse``, counted for ``bond``."""
    there = angles[angles[:, 2] == reverse].copy()
    there[:, 1] = bond
    return there


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
        super().calculate(atoms, properties, system_changes)
        wrapped = self._wrapped(self.atoms)
        converter = self.model.graph_converter
        bonds = build_neighbour_graph(wrapped, converter.atom_graph_cutoff, converter.bond_graph_cutoff)
        energy, positions, strain = self._differentiate(wrapped, bonds, None)
        stress = strain / self.atoms.get_volume()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": -positions,
            "stress": full_3x3_to_voigt_6_stress((stress + stress.T) / 2),
        }

    def orbit_gradient(self, atoms: Atoms, orbits: AtomOrbits) -> OrbitGradient:
        """Energy and its gradient with the work of one atom of each orbit.

        Parameters
        ----------
        atoms : ase.Atoms
            A crystal that has the symmetry of ``orbits``.
        orbits : AtomOrbits

        Raises
        ------
        ComputationError
            As `calculate`.
        SymmetryMismatch
            The crystal lacks the symmetry.
        """
        wrapped = self._wrapped(atoms)
        if len(orbits.rotations) == 1 or not self.model.mlp_first:
            self.calculate(atoms)
            strain = self.results["stress"][[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) * atoms.get_volume()
            return OrbitGradient(self.results["energy"], -self.results["forces"], strain)
        converter = self.model.graph_converter
        bonds = build_orbit_graph(wrapped, orbits, converter.atom_graph_cutoff, converter.bond_graph_cutoff)
        return OrbitGradient(*self._differentiate(wrapped, bonds, orbits))

    def _differentiate(
        self, wrapped: Atoms, bonds: NeighbourGraph, orbits: AtomOrbits | None
    ) -> tuple[float, FloatArray, FloatArray]:
        """Energy (eV), its gradient by positions (eV/A) and by strain (eV)."""
        import torch
        from chgnet.model.model import BatchedGraph

        seen = np.arange(len(wrapped)) if orbits is None else orbits.representatives
        graph = self._graph(wrapped, bonds, seen)
        with warnings.catch_warnings():
            # chgnet copies volumes that carry a gradient into a plain tensor; they are only read.
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad", category=UserWarning)
            batch = BatchedGraph.from_graphs(
                [graph],
                bond_basis_expansion=self.model.bond_basis_expansion,
                angle_basis_expansion=self.model.angle_basis_expansion,
                compute_stress=True,
            )
        scale = len(wrapped) if self.model.is_intensive else 1
        if orbits is None:
            energy = self.model._compute(batch)["e"].sum() * scale
        else:
            orbit = torch.as_tensor(orbits.orbit.astype(np.int32))
            batch.atomic_numbers = batch.atomic_numbers[torch.as_tensor(orbits.representatives)]
            batch.atom_owners = batch.atom_owners[: len(orbits.representatives)]
            batch.batched_atom_graph = orbit[batch.batched_atom_graph.long()]
            if len(batch.batched_bond_graph):
                batch.batched_bond_graph[:, 0] = orbit[batch.batched_bond_graph[:, 0].long()]
            sites = self.model._compute(batch, return_site_energies=True)["site_energies"][0]
            energy = (sites * torch.as_tensor(orbits.multiplicities, dtype=sites.dtype)).sum()
        positions, strain = torch.autograd.grad(energy, [batch.atom_positions[0], batch.strains[0]])
        offset = 0.0
        if self.model.composition_model is not None:
            offset = float(self.model.composition_model([graph]).sum()) * scale
        return (
            float(energy.detach()) + offset,
            positions.numpy().astype(np.float64),
            strain.numpy().astype(np.float64),
        )

    @staticmethod
    def _wrapped(atoms: Atoms) -> Atoms:
        if not all(atoms.pbc):
            raise ComputationError("CHGNet here: the structure must be periodic in three directions")
        wrapped = atoms.copy()
        wrapped.wrap()
        return wrapped

    def _graph(self, wrapped: Atoms, bonds: NeighbourGraph, seen: IntArray) -> Any:
        """Input of the network; ``seen``: the atoms whose bonds are listed."""
        import torch

        converter = self.model.graph_converter
        isolated = np.setdiff1d(seen, bonds.centres)
        if len(isolated):
            raise ComputationError(
                f"CHGNet: atom {isolated[0]} ({wrapped.symbols[isolated[0]]}) has no neighbour within "
                f"{converter.atom_graph_cutoff} A; the crystal has fallen apart"
            )

        def integers(array: IntArray) -> torch.Tensor:
            return torch.as_tensor(array.astype(np.int32))

        def numbers(array: NDArray[Any], grad: bool = False) -> torch.Tensor:
            return torch.as_tensor(np.asarray(array, dtype=np.float32)).requires_grad_(grad)

        # A CrystalGraph's fields; the class itself refuses bonds with one listed direction.
        return SimpleNamespace(
            atomic_number=integers(wrapped.numbers),
            atom_frac_coord=numbers(wrapped.get_scaled_positions(wrap=False), grad=True),
            atom_graph=integers(np.column_stack([bonds.centres, bonds.neighbours])),
            atom_graph_cutoff=converter.atom_graph_cutoff,
            neighbor_image=numbers(bonds.images),
            directed2undirected=integers(bonds.undirected),
            undirected2directed=integers(bonds.first_direction),
            bond_graph=integers(bonds.angles),
            bond_graph_cutoff=converter.bond_graph_cutoff,
            lattice=numbers(wrapped.cell.array, grad=True),
        )
