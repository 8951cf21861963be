"""A leaner convolution for SevenNet on CPUs: the same function of the same weights.

A convolution sends to each atom n the sum over its neighbours e of

    m[n, u, k] = sum_e w[e, u] sum_ij C[i, j, k] x[e, u, i] Y[e, j]

for every path (degrees of features x, harmonics Y and output coupled by Wigner's C). The general
code forms x Y, then the message of each edge, then the sum, each a tensor of edges times channels
times components; backward it fills a wide tensor of zeros once per path. Here the harmonics, which
are the same for all channels, are contracted with C first, and the sum over the neighbours and i is
one matrix product per atom. Tests hold this against the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ORBIT_KEY = "nanh2lib_orbit"
"""Key, in the data of a crystal of known symmetry, of the orbit of each atom, shape (N,)."""
TURN_KEY = "nanh2lib_turn"
"""Key of what turns features of the orbit's representative to each atom, for each degree."""


@dataclass(frozen=True)
class _Path:
    harmonics: int  # which part of Y
    out_dim: int
    slot: int  # place of its output
    weights: int  # which part of the weights


class LeanConvolution(nn.Module):
    """Drop-in for ``sevenn.nn.convolution.IrrepsConvolution``.

    Parameters
    ----------
    original : IrrepsConvolution
        Its weight network, irreps, paths, normalisation and names of data are taken over.

    Raises
    ------
    ValueError
        The convolution is of a kind that this code does not cover.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        from e3nn.o3 import wigner_3j

        product = original.convolution
        kinds = {(path.connection_mode, path.has_weight) for path in product.instructions}
        slots = sorted(path.i_out for path in product.instructions)
        if kinds != {("uvu", True)} or slots != list(range(len(product.irreps_out))) or original.is_parallel:
            raise ValueError("not a serial convolution of weighted uvu paths with an output each")
        if any(mul != 1 for mul, _ in product.irreps_in2):
            raise ValueError("more than one channel of spherical harmonics")
        self.weight_nn = original.weight_nn
        self.denominator = original.denominator
        self.keys = (original.key_x, original.key_filter, original.key_weight_input, original.key_edge_idx)
        self.shapes_x = [(mul, irrep.dim) for mul, irrep in product.irreps_in1]
        self.sizes_y = [irrep.dim for _, irrep in product.irreps_in2]
        self.weight_sizes = [product.irreps_in1[path.i_in1].mul for path in product.instructions]
        self.paths_of_x: list[list[_Path]] = [[] for _ in self.shapes_x]
        for number, path in enumerate(product.instructions):
            x, y = product.irreps_in1[path.i_in1].ir, product.irreps_in2[path.i_in2].ir
            out = product.irreps_out[path.i_out].ir
            coupling = wigner_3j(x.l, y.l, out.l).permute(1, 0, 2).reshape(y.dim, -1) * path.path_weight
            self.register_buffer(f"coupling_{number}", coupling.contiguous(), persistent=False)  # j, (i, k)
            self.paths_of_x[path.i_in1].append(_Path(path.i_in2, out.dim, path.i_out, number))

    def forward(self, data: Any) -> Any:
        """Replace the features in ``data`` by the sums of messages, shape (atoms, dim of the output).

        Where ``data`` has orbits, features are those of representatives and edges end at them, while
        the atoms that edges come from are those of the whole cell.
        """
        key_x, key_filter, key_embedding, key_edges = self.keys
        x = data[key_x]
        edges, mask = neighbour_table(data[key_edges][0], len(x))
        n_atoms, degree = edges.shape
        flat = edges.reshape(-1)
        weights = torch.split(self.weight_nn(data[key_embedding][flat]), self.weight_sizes, dim=1)
        # An empty place in the table is some edge whose harmonics are zero.
        parts_y = torch.split(data[key_filter][flat] * mask.reshape(-1, 1), self.sizes_y, dim=1)
        parts_x = torch.split(x, [mul * dim for mul, dim in self.shapes_x], dim=1)
        sources = data[key_edges][1][flat]
        messages: dict[int, Tensor] = {}
        for part, (mul, dim), paths in zip(parts_x, self.shapes_x, self.paths_of_x, strict=True):
            if not paths:
                continue
            by_atom = part.view(n_atoms, mul, dim).transpose(1, 2)
            if ORBIT_KEY in data:
                by_atom = data[TURN_KEY][(dim - 1) // 2] @ by_atom[data[ORBIT_KEY]]
            features = by_atom.contiguous()[sources]  # (edges, i, u)
            for path in paths:
                coupled = parts_y[path.harmonics] @ self.get_buffer(f"coupling_{path.weights}")
                left = coupled.view(n_atoms, degree * dim, path.out_dim).transpose(1, 2)
                right = (features * weights[path.weights].unsqueeze(1)).view(n_atoms, degree * dim, mul)
                messages[path.slot] = torch.bmm(left, right).transpose(1, 2).reshape(n_atoms, -1)
        data[key_x] = torch.cat([messages[slot] for slot in sorted(messages)], dim=1).div(self.denominator)
        return data


def neighbour_table(targets: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Edges by the atom that they end at, as a rectangle.

    Parameters
    ----------
    targets : Tensor of int, shape (E,)
        Atom at the end of each edge.
    n_atoms : int

    Returns
    -------
    edges : Tensor of int, shape (n_atoms, largest number of edges at an atom)
        Numbers of edges; places that stay empty hold 0.
    mask : Tensor, same shape, default float type
        1 where there is an edge, else 0.
    """
    counts = torch.bincount(targets, minlength=n_atoms)
    order = torch.argsort(targets, stable=True)
    rows = targets[order]
    columns = torch.arange(len(targets)) - (torch.cumsum(counts, 0) - counts)[rows]
    degree = int(counts.max()) if len(targets) else 0
    edges = torch.zeros((n_atoms, degree), dtype=torch.long)
    mask = torch.zeros((n_atoms, degree))
    edges[rows, columns] = order
    mask[rows, columns] = 1.0
    return edges, mask


def use_lean_convolutions(model: nn.Module) -> int:
    """Replace the convolutions of a SevenNet; returns how many.

    Those of a kind that is not covered stay as they are.
    """
    replaced = 0
    for name, module in list(model.named_children()):
        if not hasattr(getattr(module, "convolution", None), "instructions"):
            continue
        try:
            lean = LeanConvolution(module)
        except ValueError:
            continue
        setattr(model, name, lean)
        replaced += 1
    return replaced
