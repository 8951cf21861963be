import json
import subprocess
import sys

import numpy as np
import pytest
from pymatgen.io.ase import AseAtomsAdaptor

from nanh2lib.energy.chgnet_calculator import build_neighbour_graph
from nanh2lib.energy.potentials import POTENTIALS, get_calculator, is_installed, potential_hash
from nanh2lib.errors import InputError, MissingDependencyError

MODELS = ("sevennet-0", "chgnet")


def atoms_of(structure):
    return AseAtomsAdaptor.get_atoms(structure, msonable=False)


def test_an_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(InputError, match=r"'sevenet-0'; did you mean 'sevennet-0'\? Known: .*gpaw") as caught:
        get_calculator("sevenet-0")
    assert caught.value.exit_code == 2


def test_options_are_checked_before_anything_is_loaded():
    with pytest.raises(InputError, match="'chgnet' takes no options, got cutoff"):
        get_calculator("chgnet", cutoff=5)
    with pytest.raises(InputError, match="unknown key 'cuttoff'; did you mean 'cutoff'"):
        get_calculator("gpaw", cuttoff=5)


def test_a_potential_whose_package_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr("nanh2lib.energy.potentials.find_spec", lambda name: None)
    assert not is_installed("gpaw")
    get_calculator.__globals__["_cached_calculator"].cache_clear()
    with pytest.raises(MissingDependencyError, match=r"gpaw, which is not installed: .*nanh2lib\[dft\]"):
        get_calculator("gpaw", cutoff=123.0)


def test_missing_weights_are_an_error_and_nothing_is_fetched(monkeypatch, tmp_path):
    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr("nanh2lib.energy.potentials.find_spec", lambda name: Spec())
    get_calculator.__globals__["_cached_calculator"].cache_clear()
    with pytest.raises(MissingDependencyError, match=r"checkpoint_l3i5.pth is not in the installed sevenn"):
        get_calculator("sevennet-l3i5")


def test_any_ase_calculator_by_module_and_factory():
    from ase.calculators.lj import LennardJones

    calculator = get_calculator("ase.calculators.lj:LennardJones", sigma=2.5)
    assert isinstance(calculator, LennardJones)
    assert calculator.parameters["sigma"] == 2.5
    with pytest.raises(InputError, match="no function or class 'Nope'"):
        get_calculator("ase.calculators.lj:Nope")
    with pytest.raises(InputError, match="not an ASE calculator"):
        get_calculator("collections:OrderedDict")
    with pytest.raises(MissingDependencyError, match="not_there"):
        get_calculator("not_there.at_all:Thing")


def test_hashes_tell_potentials_and_options_apart_and_hold_still():
    hashes = {name: potential_hash(name) for name in POTENTIALS}
    assert len(set(hashes.values())) == len(POTENTIALS)
    assert all(len(value) == 16 for value in hashes.values())
    assert potential_hash("gpaw", cutoff=400.0) == potential_hash("gpaw") == potential_hash("gpaw", log="out.txt")
    assert potential_hash("gpaw", empty_bands=8) == potential_hash("gpaw")  # what is above the gap changes nothing
    assert potential_hash("gpaw", cutoff=600.0) != potential_hash("gpaw")
    lj = "ase.calculators.lj:LennardJones"
    assert potential_hash(lj, sigma=1.0, epsilon=2.0) == potential_hash(lj, epsilon=2.0, sigma=1.0)
    assert potential_hash(lj, sigma=1.0) != potential_hash(lj, sigma=2.0)


def test_loading_is_silent_uses_no_network_and_gives_one_object_per_process():
    script = """
import json, socket, sys, warnings
warnings.simplefilter("error")
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from nanh2lib.energy.potentials import POTENTIALS, get_calculator
assert not {"torch", "sevenn", "chgnet", "gpaw"} & set(sys.modules) - {"torch"}, "heavy import at import time"
for name, entry in POTENTIALS.items():
    if entry.weights is not None:
        assert get_calculator(name) is get_calculator(name)
print(json.dumps("done"))
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == "done"
    assert run.stderr == ""


@pytest.mark.parametrize("name", MODELS)
def test_forces_are_minus_the_gradient_of_the_energy(name, disturbed):
    atoms = atoms_of(disturbed)
    atoms.calc = get_calculator(name)
    forces, step = atoms.get_forces(), 5e-3
    for atom, axis in ((0, 0), (4, 1), (7, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = atoms.calc
            energies.append(moved.get_potential_energy())
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[atom, axis], abs=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_stress_is_the_strain_derivative_of_the_energy(name, disturbed):
    atoms = atoms_of(disturbed)
    atoms.calc = get_calculator(name)
    stress, step = atoms.get_stress(voigt=False), 2e-3
    for i, j in ((0, 0), (2, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            strained.calc = atoms.calc
            energies.append(strained.get_potential_energy())
        numeric = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
        assert numeric == pytest.approx(stress[i, j], abs=2e-4)


def test_our_chgnet_calculator_agrees_with_the_one_of_chgnet(disturbed):
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    theirs = CHGNetCalculator(CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
    for supercell in ((1, 1, 1), (2, 1, 1)):
        atoms = atoms_of(disturbed * supercell)
        atoms.positions += 40.0  # outside the cell: the same crystal
        values = []
        for calculator in (get_calculator("chgnet"), theirs):
            atoms.calc = calculator
            values.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
        assert values[0][0] == pytest.approx(values[1][0], abs=2e-4)
        np.testing.assert_allclose(values[0][1], values[1][1], atol=2e-4)
        np.testing.assert_allclose(values[0][2], values[1][2], atol=1e-5)


def test_the_graph_pairs_every_bond_with_its_reverse(disturbed):
    graph = build_neighbour_graph(atoms_of(disturbed), 5.0, 3.0)
    assert np.bincount(graph.undirected).tolist() == [2] * len(graph.first_direction)
    atoms = atoms_of(disturbed)
    ends = atoms.positions[graph.neighbours] + graph.images @ atoms.cell.array
    length = np.linalg.norm(ends - atoms.positions[graph.centres], axis=1)
    for bond in range(len(graph.first_direction)):
        one, other = length[graph.undirected == bond]
        assert one == pytest.approx(other)
    centre, bond, direction, second, second_direction = graph.angles.T
    assert (graph.centres[direction] == centre).all()
    assert (graph.centres[second_direction] == centre).all()
    assert (graph.undirected[direction] == bond).all()
    assert (graph.undirected[second_direction] == second).all()
    assert (direction != second_direction).all()
    n_short = np.bincount(graph.centres[length < 3.0], minlength=len(atoms))
    assert len(graph.angles) == (n_short * (n_short - 1)).sum()


def test_energies_do_not_depend_on_the_order_of_atoms_or_the_origin(disturbed):
    calculator = get_calculator("chgnet")
    energies = []
    for shift, order in ((0.0, range(8)), (0.3, [5, 2, 7, 0, 1, 4, 3, 6])):
        atoms = atoms_of(disturbed)[list(order)]
        atoms.positions += shift * atoms.cell.array.sum(0)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)


def test_chgnet_refuses_a_crystal_that_has_fallen_apart(p21212):
    from nanh2lib.errors import ComputationError

    atoms = atoms_of(p21212)
    atoms.set_cell(atoms.cell.array * 5, scale_atoms=True)
    atoms.calc = get_calculator("chgnet")
    with pytest.raises(ComputationError, match="has no neighbour within 6 A"):
        atoms.get_potential_energy()
