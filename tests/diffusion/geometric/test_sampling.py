"""Training, guided sampling, steering and checkpoints of the geometric model, all very small."""

import json
import math
from dataclasses import replace

import pytest
import torch

from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit, Site, Template
from nanh2lib.crystal.expansion import project
from nanh2lib.crystal.rigid_unit import NA, NH2, RigidUnit
from nanh2lib.crystal.space_group import default_hall_number
from nanh2lib.diffusion.geometric.checkpoint import (
    GeometricModels,
    load_geometric_models,
    save_geometric_models,
)
from nanh2lib.diffusion.geometric.flat_units import FlatUnits
from nanh2lib.diffusion.geometric.graph import edge_vectors, find_edges, unit_images
from nanh2lib.diffusion.geometric.guidance import (
    DenoisingState,
    NetworkGuide,
    PhysicsGuide,
    clip_vectors,
    energy_gradient,
)
from nanh2lib.diffusion.geometric.model import GeometricSettings
from nanh2lib.diffusion.geometric.network import NetworkSettings, Scores
from nanh2lib.diffusion.geometric.noising import NoiseSettings, add_noise
from nanh2lib.diffusion.geometric.reverse import ReverseState, Sigmas, estimate, toward
from nanh2lib.diffusion.geometric.sampling import GeometricSamplingSettings, Tools, sample_geometric
from nanh2lib.diffusion.geometric.steering import Population, systematic_resampling
from nanh2lib.diffusion.geometric.training import train_geometric_energy_model, train_geometric_model
from nanh2lib.errors import CheckpointError, ComputationError, InputError
from nanh2lib.geometry.lattice import lattice_parameters_to_matrix
from nanh2lib.geometry.rotations import rotation_angle, rotation_vector_to_matrix

SMALL = GeometricSettings(
    epochs=2,
    batch_size=16,
    network=NetworkSettings(features=16, channels=4, layers=2, radial=8, cutoff=4.5),
    noise=NoiseSettings(levels=30),
    checkpoint_every=1,
)


def cloud(template, centre, count, seed, spread=0.05):
    """Crystals scattered around one crystal."""
    generator = torch.Generator().manual_seed(seed)
    origins = centre.frac_origins + spread / 9 * torch.randn(
        count, template.n_units, 3, generator=generator, dtype=torch.float64
    )
    turn = spread * torch.randn(count, template.n_units, 3, generator=generator, dtype=torch.float64)
    turn[:, [site.unit.is_monatomic for site in template.sites]] = 0.0
    rotations = rotation_vector_to_matrix(turn) @ centre.rotations
    parameters = centre.lattice_parameters.repeat(count, 1)
    return project(AsymmetricUnit(template, parameters, origins, rotations))


def crowding(units):
    """A made-up energy (B,) of close neighbours, without an offset between templates."""
    flat = FlatUnits.of([units])
    images = unit_images(flat)
    edges = find_edges(flat, images, 4.4)
    close = torch.exp(-((edge_vectors(flat, images, edges).norm(dim=1) / 2.5) ** 2))
    total = torch.zeros(flat.n_crystals, dtype=torch.float64).index_add(0, flat.crystal[edges.target], close)
    return -18 + (total - total.mean()) / total.std()


@pytest.fixture(scope="module")
def training_set(crystals):
    """Clouds around one P2_1/c and one P21212 crystal; the energy is crowding."""
    names = ("P2_1/c", "P21212")
    parts = [cloud(crystals[name].template, crystals[name][0], 24, seed, 0.3) for seed, name in enumerate(names)]
    return parts, torch.cat([crowding(part) for part in parts])


@pytest.fixture(scope="module")
def models(training_set):
    parts, energies = training_set
    longer = SMALL.model_copy(update={"epochs": 15, "learning_rate": 1e-2, "average_decay": 0.0})
    return GeometricModels(
        train_geometric_model(parts, SMALL, progress=False),
        train_geometric_energy_model(parts, energies, longer, progress=False),
        train_geometric_energy_model(parts, energies, longer, noised=True, progress=False),
    )


def draw(models, template, tools=None, **changes):
    settings = GeometricSamplingSettings(count=6, steps=6, batch_size=4).model_copy(update=changes)
    return sample_geometric(models.score, template, settings, tools=tools, progress=False)


def test_training_is_reproducible_resumable_and_measured(training_set, models, tmp_path):
    parts, energies = training_set
    again = train_geometric_model(parts, SMALL, progress=False)
    first = torch.cat([p.flatten() for p in models.score.network.parameters()])
    assert torch.equal(torch.cat([p.flatten() for p in again.network.parameters()]), first)
    resumed = train_geometric_model(parts, SMALL, run_directory=tmp_path, progress=False)
    assert torch.equal(torch.cat([p.flatten() for p in resumed.network.parameters()]), first)
    with pytest.raises(CheckpointError, match="other data or with other settings"):
        train_geometric_model(parts[:1], SMALL, run_directory=tmp_path, progress=False)
    assert models.energy.history.metrics["baseline_validation_mae"] > 0
    assert torch.allclose(models.energy.predict(parts).mean(), energies.mean(), atol=1.0)


def test_bad_training_input_is_named(training_set):
    parts, energies = training_set
    with pytest.raises(InputError, match="no asymmetric unit"):
        train_geometric_model([], SMALL, progress=False)
    broken = parts[0].replace(frac_origins=parts[0].frac_origins.clone())
    broken.frac_origins[5, 0, 0] = float("nan")
    with pytest.raises(ComputationError, match="frac_origins of crystal 5 is not finite"):
        train_geometric_model([broken], SMALL, progress=False)
    bad = energies.clone()
    bad[3] = float("nan")
    with pytest.raises(ComputationError, match="energy of row 3 is nan"):
        train_geometric_energy_model(parts, bad, SMALL, progress=False)
    with pytest.raises(InputError, match="weights: give one finite number"):
        train_geometric_model(parts, SMALL, weights=-torch.ones(48), progress=False)
    with pytest.raises(InputError, match=r"unknown key 'noise\.level'; did you mean 'levels'"):
        GeometricSettings.from_mapping({"noise": {"level": 3}})


def test_samples_lie_on_their_sites_in_the_given_cell(models, training_set):
    for part in training_set[0]:
        drawn = draw(models, part.template, snapshots=4)
        units = drawn.asymmetric_unit
        assert units.batch_size == 6
        assert torch.allclose(units.lattice_parameters, part.lattice_parameters[:1].expand(6, 6), atol=1e-6)
        exact = project(units)
        assert torch.allclose(exact.frac_origins, units.frac_origins, atol=1e-9)
        assert float(rotation_angle(exact.rotations, units.rotations).max()) < 1e-5
        assert len(drawn.trajectory) == 4
        assert drawn.trajectory_sigmas[0] == pytest.approx(5.0)
        assert drawn.trajectory_sigmas[-1] == 0.0


def test_sampling_is_reproducible(models, training_set):
    template = training_set[0][0].template
    first, second = draw(models, template, seed=1), draw(models, template, seed=1)
    assert torch.equal(first.asymmetric_unit.frac_origins, second.asymmetric_unit.frac_origins)
    other = draw(models, template, seed=2)
    assert not torch.equal(first.asymmetric_unit.frac_origins, other.asymmetric_unit.frac_origins)


def test_template_outside_the_training_set_needs_a_cell(models, crystals):
    template = crystals["P2_1"].template
    with pytest.raises(InputError, match="not in the training set; give lattice_parameters"):
        draw(models, template)
    cell = crystals["P2_1"].lattice_parameters[0]
    settings = GeometricSamplingSettings(count=2, steps=3)
    drawn = sample_geometric(models.score, template, settings, lattice_parameters=cell, progress=False)
    assert drawn.asymmetric_unit.template == template
    skewed = torch.tensor([9.0, 10.0, 8.0, 80.0, 90.0, 90.0])
    with pytest.raises(InputError, match="does not fit space group"):
        sample_geometric(models.score, template, settings, lattice_parameters=skewed, progress=False)
    stranger = Template(1, (Site(RigidUnit("K", ("K",)), "a"),))
    with pytest.raises(InputError, match="does not know the unit K; it knows Na, NH2"):
        draw(models, stranger)
    with pytest.raises(InputError, match="has 30 noise levels"):
        draw(models, training_set_template(models), steps=31)


def training_set_template(models):
    return models.score.vocabulary.templates[0]


@pytest.mark.slow
def test_model_learns_a_cloud():
    """Two sodium atoms in P1 at a fixed distance: samples find that distance again."""
    template = Template(1, (Site(NA, "a"), Site(NA, "a")))
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(100, 2, 3, generator=generator, dtype=torch.float64)
    direction = torch.randn(100, 3, generator=generator, dtype=torch.float64)
    direction = 2.5 * direction / direction.norm(dim=1, keepdim=True)
    cell = torch.tensor([6.5, 6.5, 6.5, 90.0, 90.0, 90.0], dtype=torch.float64)
    origins[:, 1] = origins[:, 0] + direction / 6.5
    units = AsymmetricUnit(template, cell.repeat(100, 1), origins, torch.eye(3).double().expand(100, 2, 3, 3).clone())
    settings = SMALL.model_copy(update={"epochs": 50, "average_decay": 0.98, "learning_rate": 5e-3})
    model = train_geometric_model([units], settings, progress=False)
    drawn = sample_geometric(model, template, GeometricSamplingSettings(count=64, steps=20), progress=False)
    gap = drawn.asymmetric_unit.frac_origins[:, 1] - drawn.asymmetric_unit.frac_origins[:, 0]
    distance = 6.5 * (gap - gap.round()).norm(dim=1)
    assert float(distance.median()) == pytest.approx(2.5, abs=0.15)
    assert float(((distance - 2.5).abs() < 0.3).double().mean()) > 0.6  # uniform: 0.17


def test_free_cell(crystals):
    units = crystals["P2_1/c"]
    cells = torch.tensor([[8.9, 10.4, 8.0, 90, 91, 90], [9.1, 10.2, 8.2, 90, 95, 90], [8.7, 10.9, 8.1, 90, 88, 90]])
    units = units.replace(lattice_parameters=cells.double())
    settings = SMALL.model_copy(
        update={"noise": NoiseSettings(levels=30, lattice="strain"), "validation_fraction": 0.0}
    )
    model = train_geometric_model([AsymmetricUnit.cat([units] * 6)], settings, progress=False)
    drawn = sample_geometric(model, units.template, GeometricSamplingSettings(count=5, steps=10), progress=False)
    parameters = drawn.asymmetric_unit.lattice_parameters
    assert torch.allclose(parameters[:, [3, 5]], torch.full((5, 2), 90.0, dtype=torch.float64), atol=1e-4)
    assert float(parameters[:, 0].std()) > 1e-3
    volume = torch.linalg.det(lattice_parameters_to_matrix(parameters))
    assert bool(((volume > 400) & (volume < 1400)).all())


@pytest.mark.parametrize("kind", ["paper", "x0", "physics"])
def test_guidance_lowers_what_it_is_guided_by(models, training_set, kind):
    """Each variant pulls the energy down that its gradient belongs to."""
    part = training_set[0][0]
    energy = models.energy

    def potential(units):
        flat = FlatUnits.of([units])
        by_shift, by_turn = energy_gradient(models.energy, flat)
        shape = (units.batch_size, -1, 3)
        return models.energy.predict([units]), by_shift.reshape(shape), by_turn.reshape(shape)

    guide = (
        PhysicsGuide(potential, energy_scale=1.0, max_sigma=5.0)
        if kind == "physics"
        else NetworkGuide(energy, at_denoised=kind == "x0")
    )
    found = {}
    for scale in (0.0, 10.0):
        drawn = draw(
            models, part.template, Tools(guides=(guide,)), count=16, batch_size=16, steps=12,
            guidance_scale=scale, guidance_max_sigma=3.0, eta=0.0,
        )  # fmt: skip
        found[scale] = float(energy.predict([drawn.asymmetric_unit]).mean())
    assert found[10.0] < found[0.0] - 0.01


def test_noised_guidance_descends_at_its_own_level(models, training_set):
    """The time-conditioned model is asked at the level of the crystals, and its gradient leads down there."""
    flat = FlatUnits.of([training_set[0][0]])
    level = torch.full((flat.n_crystals,), 12)
    noised = add_noise(
        flat, flat.site_data(), level, SMALL.noise, models.score.cells, torch.Generator().manual_seed(0)
    ).flat
    state = DenoisingState(noised, flat, level, 0.3, 0.2)
    by_shift, by_turn = NetworkGuide(models.noised_energy)(state)
    other = NetworkGuide(models.noised_energy)(replace(state, level=level + 15))
    assert not torch.allclose(other[0], by_shift)
    norm = torch.sqrt((by_shift**2).sum() + (by_turn**2).sum())
    lower = noised.replace(
        frac_origins=noised.frac_origins
        - 0.05 * ((by_shift / norm)[:, None] @ torch.linalg.inv(noised.unit_lattice()))[:, 0],
        rotations=rotation_vector_to_matrix(-0.05 * by_turn / norm) @ noised.rotations,
    )
    with torch.no_grad():
        before, after = (models.noised_energy.standardized(f, level).double().sum() for f in (noised, lower))
    assert float(after) < float(before)
    assert float(before - after) == pytest.approx(0.05 * float(norm), rel=0.3)


def test_gradient_of_the_energy_network(models, training_set):
    flat = FlatUnits.of([training_set[0][0][0]])
    by_shift, by_turn = energy_gradient(models.energy, flat)
    step = torch.zeros(flat.n_units, 3, dtype=torch.float64)
    step[-1] = torch.tensor([0.02, -0.01, 0.03])
    ends = []
    for sign in (1, -1):
        shifted = flat.frac_origins + (sign * step[:, None] @ torch.linalg.inv(flat.unit_lattice()))[:, 0]
        turned = rotation_vector_to_matrix(sign * step) @ flat.rotations
        with torch.no_grad():
            ends.append(float(models.energy.standardized(flat.replace(frac_origins=shifted, rotations=turned))))
    expected = float(((by_shift + by_turn) * step).sum())
    assert (ends[0] - ends[1]) / 2 == pytest.approx(expected, rel=0.1, abs=1e-5)


def test_clipping_ignores_single_failures():
    vectors = torch.tensor([[3.0, 4.0, 0.0], [0.1, 0.0, 0.0], [float("nan"), 0.0, 0.0]])
    clipped = clip_vectors(vectors, 1.0)
    assert torch.allclose(clipped, torch.tensor([[0.6, 0.8, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    with pytest.raises(ComputationError, match="more than half"):
        clip_vectors(torch.full((2, 3), float("nan")), 1.0)


@pytest.mark.parametrize("name", ["P2_1/c", "P21212"])
def test_corrector_sets_the_estimate(models, crystals, training_set, name):
    """`toward` makes the denoised estimate exactly what the corrector returned."""
    part = next(p for p in training_set[0] if p.template == crystals[name].template)
    flat = FlatUnits.of([part[0:2]])
    noise = models.score.settings.noise
    state = ReverseState(
        add_noise(
            flat, flat.site_data(), torch.tensor([8, 8]), noise, models.score.cells, torch.Generator().manual_seed(0)
        ).flat,
        None,
    )
    zero = torch.zeros(flat.n_units, 3, dtype=torch.float64)
    scores = Scores(zero, zero, torch.zeros(2, 3, 3, dtype=torch.float64))
    sigma = Sigmas.at(models.score, 8)
    changed = toward(state, scores, sigma, models.score, part[0:2])
    result = estimate(state, changed, sigma, models.score).asymmetric_unit
    gap = result.frac_origins - part[0:2].frac_origins
    assert torch.allclose(gap - gap.round(), torch.zeros_like(gap), atol=1e-9)
    assert float(rotation_angle(result.rotations, part[0:2].rotations).max()) < 1e-5
    calls = []

    def corrector(units):
        calls.append(units.batch_size)
        return units.replace(frac_origins=torch.zeros_like(units.frac_origins) + part.frac_origins[0])

    drawn = draw(models, part.template, Tools(corrector=corrector), corrector_steps=2)
    assert calls == [4, 4, 4, 2, 2, 2]  # two last steps and the result, for each batch
    assert torch.allclose(drawn.asymmetric_unit.frac_origins, part.frac_origins[:1].expand(6, -1, -1))


def test_steering_prefers_low_potentials(models, training_set):
    template = training_set[0][0].template

    def potential(units):
        return 100 * units.frac_origins[:, 0, 0].remainder(1.0)

    plain = draw(models, template, count=32, batch_size=32)
    steered = draw(
        models, template, Tools(potential=potential), count=32, batch_size=32, steering_max_sigma=5.0, steering_every=1
    )
    assert steered.resamplings > 0
    assert plain.resamplings == 0
    assert float(potential(steered.asymmetric_unit).mean()) < 0.5 * float(potential(plain.asymmetric_unit).mean())


def test_population_weights_add_up_to_the_potential():
    """Without resampling the weights after several looks are exp(-lambda G) of the last one."""
    generator = torch.Generator().manual_seed(0)
    population = Population.of(5, 2.0, 1e-9)
    for _ in range(4):
        value = torch.rand(5, generator=generator, dtype=torch.float64)
        assert population.look(value, generator) is None
    assert torch.allclose(population.log_weight, -2.0 * value)
    lost = value.clone()
    lost[1] = float("inf")
    population.look(lost, generator)
    assert torch.allclose(population.log_weight, -2.0 * value)
    with pytest.raises(InputError, match="expected 5 values"):
        population.look(torch.zeros(3), generator)
    assert Population.of(3, 1.0, 0.5).look(torch.full((3,), float("nan")), generator) is None


def test_systematic_resampling_is_unbiased_and_tight():
    generator = torch.Generator().manual_seed(0)
    probability = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    counts = torch.stack(
        [torch.bincount(systematic_resampling(probability.repeat(5) / 5, generator), minlength=20) for _ in range(400)]
    )
    expected = 20 * probability.repeat(5) / 5
    assert bool(((counts - expected).abs() < 1 + 1e-9).all())
    assert torch.allclose(counts.double().mean(0), expected, atol=0.1)


def test_resampling_replaces_the_lost(models):
    population = Population.of(4, 1.0, 1.0)
    chosen = population.look(torch.tensor([0.0, float("nan"), 5.0, 0.0]), torch.Generator().manual_seed(0))
    assert sorted(set(chosen.tolist()) - {2}) == [0, 3]
    assert math.isclose(population.effective_size, 4.0)


def test_checkpoint_round_trip(models, training_set, tmp_path):
    path = save_geometric_models(tmp_path / "geometric", models)
    loaded = load_geometric_models(path)
    template = training_set[0][1].template
    assert torch.equal(
        draw(loaded, template).asymmetric_unit.frac_origins, draw(models, template).asymmetric_unit.frac_origins
    )
    assert torch.equal(loaded.energy.predict(training_set[0]), models.energy.predict(training_set[0]))
    assert loaded.noised_energy.network.noised
    assert loaded.score.vocabulary == models.score.vocabulary
    alone = load_geometric_models(save_geometric_models(tmp_path / "score", GeometricModels(models.score)))
    assert alone.energy is None


def test_checkpoint_failures(models, tmp_path):
    path = save_geometric_models(tmp_path / "geometric", models)
    text = path.read_text()
    header = json.loads(text)
    header["payload"]["score"]["settings"]["network"]["features"] = 32
    path.write_text(json.dumps(header))
    with pytest.raises(CheckpointError, match="of another architecture"):
        load_geometric_models(path)
    header["kind"] = "paper"
    path.write_text(json.dumps(header))
    with pytest.raises(CheckpointError, match="kind 'paper', not 'geometric'"):
        load_geometric_models(path)
    header = json.loads(text)
    del header["payload"]["energy"]["energy_mean"]
    path.write_text(json.dumps(header))
    with pytest.raises(CheckpointError, match="damaged or of another version"):
        load_geometric_models(path)
    path.write_text(text)
    weights = path.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated"):
        load_geometric_models(path)


def test_two_kinds_of_templates_share_one_model(models):
    assert models.score.vocabulary.halls == tuple(sorted((default_hall_number(14), default_hall_number(18))))
    assert models.score.vocabulary.kinds.units == (NA, NH2)
    assert models.score.vocabulary.counts == (24, 24)
