import numpy as np
import pytest

from nanh2lib.energy.gpaw_calculator import GpawSettings, k_mesh
from nanh2lib.energy.labels import LabelSettings, evaluate
from nanh2lib.energy.potentials import get_calculator
from nanh2lib.errors import ComputationError, InputError
from nanh2lib.report.published import published_structures
from tests.system import require_module


def test_the_mesh_comes_from_reciprocal_lengths():
    assert k_mesh(np.diag([3.711, 4.710, 5.306]), 0.4) == (5, 4, 3)
    skewed = next(p.structure for p in published_structures() if p.table == "S1" and p.space_group == "P2_1/c")
    assert skewed.lattice.beta == pytest.approx(145.882)
    mesh = k_mesh(skewed.lattice.matrix, 0.4)
    assert mesh == (4, 3, 4)
    real_lengths = tuple(int(np.ceil(2 * np.pi / (length * 0.4))) for length in skewed.lattice.abc)
    assert real_lengths == (3, 3, 3)
    spacing = np.array(skewed.lattice.reciprocal_lattice.abc) / mesh
    assert spacing.max() <= 0.4
    assert k_mesh(np.eye(3) * 100, 0.4) == (1, 1, 1)


def test_the_mesh_does_not_depend_on_how_the_cell_is_turned():
    lattice = published_structures()[1].structure.lattice.matrix
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    assert k_mesh(lattice @ turn, 0.3) == k_mesh(lattice, 0.3)


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="cutoff = -1"):
        GpawSettings.from_mapping({"cutoff": -1})


@pytest.mark.dft
@pytest.mark.slow
def test_a_real_single_point_of_the_published_p21212_crystal(tmp_path):
    require_module("gpaw", "dft")
    structure = published_structures()[0].structure
    log = tmp_path / "gpaw.txt"
    result = evaluate(structure, LabelSettings(potential="gpaw", options={"log": str(log)}))
    assert result.energy_per_fu == pytest.approx(-15.9623, abs=1e-3)  # reference table: PBE, 400 eV, 0.4 1/A
    assert np.abs(result.forces.sum(0)).max() < 5e-3
    assert 0.2 < np.abs(result.forces).max() < 0.8
    assert "gpaw_data" in log.read_text()  # PAW sets from the package, not from the network


@pytest.mark.dft
def test_scf_that_does_not_converge_is_a_computation_error():
    require_module("gpaw", "dft")
    options = {"cutoff": 250.0, "mesh": [1, 1, 1], "max_iterations": 3}
    with pytest.raises(ComputationError, match=r"no self-consistency in 3 iterations for .*; raise max_iterations"):
        evaluate(published_structures()[0].structure, LabelSettings(potential="gpaw", options=options))


@pytest.mark.dft
@pytest.mark.slow
def test_results_do_not_depend_on_what_was_computed_before():
    require_module("gpaw", "dft")
    options = {"cutoff": 250.0, "mesh": [1, 1, 1]}
    first = published_structures()[0].structure
    other = first.copy()
    other.perturb(0.08, seed=1)  # a small step that breaks the symmetry
    calculator = get_calculator("gpaw", **options)
    fresh = evaluate(other, LabelSettings(potential="gpaw", options=options))
    evaluate(first, LabelSettings(potential="gpaw", options=options))
    again = evaluate(other, LabelSettings(potential="gpaw", options=options))
    assert calculator is get_calculator("gpaw", **options)
    assert again.energy == pytest.approx(fresh.energy, abs=2e-3)
    np.testing.assert_allclose(again.forces, fresh.forces, atol=1e-2)
