"""Primitive cells, contact limits, comparison of crystals, files, compounds from YAML."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.compounds import load_compound
from nanh2lib.crystal.deviation import deviation, in_tabulated_origin
from nanh2lib.crystal.expansion import expand, expand_tensors
from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.crystal.files import read_structure
from nanh2lib.crystal.pair_limits import REALISTIC_LIMITS, PairLimits
from nanh2lib.crystal.primitive import primitive_crystals
from nanh2lib.crystal.rigid_unit import NA, NH2
from nanh2lib.crystal.space_group import SpaceGroup
from nanh2lib.errors import InputError
from nanh2lib.geometry.rotations import random_rotations
from tests.crystal.published_compounds import COMPOUNDS


@pytest.mark.parametrize("hall", [90, 116, 209, 213, 304, 335, 355, 433, 440])
def test_primitive_cells_hold_every_atom_once(hall):
    group = SpaceGroup.from_hall(hall)
    general = group.wyckoff_sites[-1].letter
    template = Template(hall, (Site(NA, group.wyckoff_sites[0].letter), Site(NA, general), Site(NH2, general)))
    cell = group.symmetrize_lattice(torch.tensor([[9.0, 10.0, 11.0, 90.0, 90.0, 90.0]], dtype=torch.float64))
    origins = torch.tensor([[[0.1, 0.2, 0.3], [0.43, 0.11, 0.27], [0.21, 0.37, 0.05]]], dtype=torch.float64)
    unit = AsymmetricUnit(template, cell, origins, random_rotations(3, torch.Generator().manual_seed(0))[None])
    whole = expand_tensors(unit)
    small = primitive_crystals(whole, template)
    ratio = group.centering_order
    assert len(small.species) * ratio == len(whole.species)
    assert float(torch.linalg.det(small.lattice).abs()) * ratio == pytest.approx(float(torch.linalg.det(whole.lattice)))
    # The primitive atoms, repeated by the lattice, are the conventional ones.
    back = Structure(Lattice(small.lattice[0].numpy()), small.species, small.frac_coords[0].numpy())
    images = np.array([w for r, w in zip(group.rotations, group.translations, strict=True) if (r == np.eye(3)).all()])
    lattice = Lattice(whole.lattice[0].numpy())
    frac = (lattice.get_fractional_coords(back.cart_coords)[:, None] + images).reshape(-1, 3)
    rebuilt = Structure(lattice, [s for s in small.species for _ in images], frac)
    assert deviation(rebuilt, whole.structures()[0]).rms < 1e-9


def test_contact_limits():
    assert REALISTIC_LIMITS.limit("N", "Na") == REALISTIC_LIMITS.limit("Na", "N") == 2.1
    assert REALISTIC_LIMITS.scaled(0.5).limit("H", "H") == 0.9
    assert REALISTIC_LIMITS.limit("K", "O") == pytest.approx(0.65 * (2.75 + 1.52))
    matrix = REALISTIC_LIMITS.matrix(["Na", "H"], ["Na", "N", "H"])
    assert matrix.tolist() == [[2.8, 2.1, 1.9], [1.9, 1.9, 1.8]]
    assert PairLimits.from_names({"Na-N": 2.0}).limit("N", "Na") == 2.0
    with pytest.raises(InputError, match="'Q' is not an element"):
        PairLimits.from_mapping({("Q", "Na"): 2.0})
    with pytest.raises(InputError, match="positive distance"):
        PairLimits.from_mapping({("Na", "Na"): -1.0})
    with pytest.raises(InputError, match="write it like Na-N"):
        PairLimits.from_names({"NaN": 2.0})


def test_deviation_matches_atoms_and_refuses_other_compounds(crystals):
    structure = crystals["S1-P21c"]
    moved = structure.copy()
    moved.translate_sites([0], [0.01, 0, 0])
    gaps = deviation(Structure.from_sites(list(moved)[::-1]), structure)
    step = 0.01 * structure.lattice.a
    assert max(gaps.max_heavy, gaps.max_hydrogen) == pytest.approx(step)
    assert gaps.rms == pytest.approx(step / 4)
    with pytest.raises(InputError, match="different atoms"):
        deviation(structure, crystals["S1-P21212"])
    assert len(in_tabulated_origin(crystals["alpha"].get_primitive_structure(), standardize=True)) == 64


def test_files_are_read_with_one_error(tmp_path, crystals):
    path = tmp_path / "alpha.cif"
    crystals["alpha"].to(filename=str(path))
    assert deviation(read_structure(path), crystals["alpha"]).rms < 1e-6
    with pytest.raises(InputError, match="no such file"):
        read_structure(tmp_path / "missing.cif")
    (tmp_path / "bad.cif").write_text("nothing here")
    with pytest.raises(InputError, match="not a crystal structure that can be read"):
        read_structure(tmp_path / "bad.cif")


def test_a_compound_of_ones_own_in_any_frame(tmp_path):
    """Urea written down in the frame of its crystal: the unit is found in that crystal again."""
    item = next(c for c in COMPOUNDS if c.name == "urea")
    structure = item.structure()
    a, c = item.cell[0], item.cell[2]
    rows = []
    for symbol, (x, y, z) in item.sites:
        rows.append((symbol, (x * a, (y - 0.5) * a, z * c)))
        if symbol in ("N", "H"):
            rows.append((symbol, (-x * a, (0.5 - y) * a, z * c)))
    text = "name: urea\nunits:\n  - name: urea\n"
    text += f"    species: [{', '.join(s for s, _ in rows)}]\n    coords: {[list(r) for _, r in rows]}\n"
    path = tmp_path / "urea.yaml"
    path.write_text(text)
    compound = load_compound(path)
    assert compound.units[0].point_group[0] == "C2v"
    unit = extract_asymmetric_unit(structure, compound=compound)
    assert unit.template.label == "P-42_1m[390] urea:2c"
    assert deviation(expand(unit)[0], in_tabulated_origin(structure)).rms < 1e-6


def test_compounds_of_bundled_units(tmp_path):
    path = tmp_path / "lithium.yaml"
    path.write_text("name: LiNH2\nunits:\n  - {name: Li}\n  - {name: NH2}\n")
    compound = load_compound(path)
    assert [u.name for u in compound.units] == ["Li", "NH2"]
    assert compound.units[1] == NH2
    path.write_text("name: LiNH2\nunits:\n  - {name: Li, cuont: 2}\n")
    with pytest.raises(InputError, match="cuont"):
        load_compound(path)
