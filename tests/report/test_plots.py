"""Figures: labelled axes with units, both themes, clear errors."""

import matplotlib as mpl
import numpy as np
import pytest

from nanh2lib.errors import InputError
from nanh2lib.report import plots
from nanh2lib.report.plots.energies import PEAK_WIDTH, peak_profile
from nanh2lib.report.plots.style import MARKERS, current_theme, spread
from nanh2lib.report.published import published_structure, reference_structure

RANDOM = np.random.default_rng(0)
X = np.linspace(1, 9, 9)
COUNTS = {"search": {"P2_1/c": 5, "P-1": 3}, "model": {"Pc": 1}}
SWEEP = ([0, 1], {"E (meV)": [2, 1]})
HITS = {"P2_1": {"search": {"a": (90, 40, np.inf)}, "model": {"a": (9, 0, 20), "b": (20, 20, np.inf)}}}
FIGURES = {
    "space_group_histogram": lambda: plots.space_group_histogram(COUNTS),
    "energy_histogram": lambda: plots.energy_histogram({"raw": RANDOM.normal(size=50)}, marks={"alpha": 0.0}),
    "volume_energy_scatter": lambda: plots.volume_energy_scatter({"raw": (X, X)}, marks={"alpha": (2.0, 1.0)}),
    "contact_bars": lambda: plots.contact_bars({"alpha": {"Na-N": 2.4, "N-N": 3.8}}, limits={"Na-N": 2.1}),
    "contact_distributions": lambda: plots.contact_distributions(
        {"raw": {"Na-N": X, "N-N": X + 1}, "relaxed": {"Na-N": X}}, limits={"Na-N": 2.1}
    ),
    "line_plot": lambda: plots.line_plot(X, {"N-H": X}, xlabel="Angle (degrees)", ylabel="N-H (Å)", band=(1.0, 2.0)),
    "count_bars": lambda: plots.count_bars({"raw": {"contacts": 3}, "pushed": {}}, xlabel="Structures"),
    "scatter_groups": lambda: plots.scatter_groups({"a": (X, X)}, xlabel="x (Å)", ylabel="y (degrees)"),
    "loss_curves": lambda: plots.loss_curves({"noise": {"training": 1 / X}}, baselines={"noise": 1.0}),
    "noise_schedule_plot": lambda: plots.noise_schedule_plot({"linear": np.linspace(0.99, 0.01, 20)}),
    "guidance_sweep": lambda: plots.guidance_sweep(*SWEEP, intervals={"E (meV)": ([1, 0], [3, 2])}),
    "choice_panels": lambda: plots.choice_panels(
        {"T": {"100": {"valid": 1.0}, "1000": {"valid": 2.0}}}, {"valid": "Valid (%)"}, reference={"valid": 1.5}
    ),
    "budget_curves": lambda: plots.budget_curves(
        {"P2_1": {"search": (X, 9 - X, 8 - X, 10 - X)}, "C2": {"model": (X, X, X, X)}}, levels={"20 meV": 2.0}
    ),
    "interval_panels": lambda: plots.interval_panels(
        HITS, {"a": "Evaluations per hit", "b": "Evaluations per hit"}, bounds=[("P2_1", "model", "b")], reference=9.0
    ),
    "energy_boxes": lambda: plots.energy_boxes(
        {"P2_1": {"search": {"start": X, "end": X}}}, {"start": "Start (meV)", "end": "End (meV)"},
        log=["start"], levels={"20 meV": 2.0},
    ),
    "parity_plot": lambda: plots.parity_plot(X, {"chgnet": X + 1}, xlabel="DFT (meV)", ylabel="Potential (meV)"),
    "energy_ranking": lambda: plots.energy_ranking({"DFT": {"alpha": 0.0, "b": 40.0}, "chgnet": {"alpha": 0.0}}),
    "energy_volume_curve": lambda: plots.energy_volume_curve({"900 eV": (X, X**2)}, relaxed={"end": (1.0, 1.0)}),
    "powder_patterns": lambda: plots.powder_patterns({"P21212": published_structure("S1-P21212").structure}),
    "worker_timeline": lambda: plots.worker_timeline({"worker 1": [(0, 1), (1, 2.5)]}, marks={"stop": 2.0}),
}  # fmt: skip
UNITLESS = {"Space group", "Structures", "Epoch", "Energy from", "Energy evaluations", "Evaluations per hit"}


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_is_labelled(name):
    figure = FIGURES[name]()
    assert isinstance(figure, plots.ReportFigure)
    labels = []
    for axes in figure.axes:
        labels += [axes.get_xlabel(), axes.get_ylabel()]
    shared = name in ("parity_plot", "loss_curves", "guidance_sweep")
    by_rows = name in (
        "interval_panels",
        "energy_boxes",
        "budget_curves",
        "count_bars",
        "worker_timeline",
        "choice_panels",
    )
    assert all(label or shared or by_rows for label in labels), labels
    with_unit = [label for label in labels if label and label not in UNITLESS and "$t$" not in label]
    assert all("(" in label or "$" in label for label in with_unit), with_unit
    assert figure.png(60)[:4] == b"\x89PNG"


def test_every_figure_function_is_tested():
    makers = {name for name in plots.__all__ if callable(getattr(plots, name))}
    assert makers - {"ReportFigure", "plot_theme", "symbol_text", "themed"} == set(FIGURES)


def test_the_style_leaves_no_trace_and_follows_the_theme():
    before = dict(mpl.rcParams)
    light = FIGURES["loss_curves"]()
    with plots.plot_theme("dark"):
        assert current_theme() == "dark"
        dark = FIGURES["loss_curves"]()
    assert current_theme() == "light"
    assert dict(mpl.rcParams) == before
    assert sum(light.get_facecolor()[:3]) == 3.0
    assert sum(dark.get_facecolor()[:3]) < 0.5
    with pytest.raises(InputError, match="light, dark"), plots.plot_theme("pink"):
        pass


def test_themed_figures_hold_two_vector_images_and_alt_text(tmp_path):
    shown = plots.themed(plots.loss_curves, {"noise": {"training": 1 / X}}, alt="Loss falls.", caption="Figure 1")
    html = shown._repr_html_()
    assert html.count('alt="Loss falls."') == 2
    assert "nanh2-dark" in html
    assert shown.light != shown.dark
    assert shown.save(tmp_path / "loss.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(InputError, match="alt text"):
        plots.themed(plots.loss_curves, {"noise": {"training": 1 / X}}, alt="")


def test_the_same_data_give_the_same_svg():
    one, two = (plots.themed(plots.loss_curves, {"n": {"t": 1 / X}}, alt="x").light for _ in range(2))
    assert one == two


def test_nan_is_refused_with_its_count():
    with pytest.raises(InputError, match="1 of 3 values are NaN"):
        plots.energy_histogram({"raw": [1.0, np.nan, 2.0]})
    with pytest.raises(InputError, match="volumes but"):
        plots.volume_energy_scatter({"raw": ([1.0], [1.0, 2.0])})
    with pytest.raises(InputError, match="not in"):
        plots.noise_schedule_plot({"bad": [1.2, 0.5]})
    with pytest.raises(InputError, match="nothing to draw"):
        plots.interval_panels({"P2_1": {}}, {"a": "x"})
    with pytest.raises(InputError, match="start energies of 'search' in P2_1: 1 of 2"):
        plots.energy_boxes({"P2_1": {"search": {"start": [1.0, np.nan]}}}, {"start": "E (meV)"})
    with pytest.raises(InputError, match="four columns differ"):
        plots.budget_curves({"P2_1": {"search": (X, X, X, X[1:])}})


def test_bounds_are_drawn_open_and_endless_intervals_with_arrows():
    figure = FIGURES["interval_panels"]()
    first, second = figure.axes
    markers = {line.get_marker(): line for axes in (first, second) for line in axes.lines if len(line.get_xdata()) == 1}
    assert {"<", ">", "o", "s"} <= set(markers)
    value = [line for line in second.lines if line.get_marker() == "s"]
    assert value[0].get_markerfacecolor() == second.get_facecolor()
    assert [text.get_text().strip() for text in second.texts] == ["no hit"]
    assert markers["o"].get_markerfacecolor() == markers["o"].get_markeredgecolor()


def test_boxes_hold_the_middle_half():
    figure = plots.energy_boxes({"P2_1": {"search": {"end": np.arange(101.0)}}}, {"end": "E (meV)"})
    (box,) = figure.axes[0].patches
    assert (box.get_x(), box.get_width()) == (25.0, 50.0)


def test_symbols_become_mathtext():
    assert plots.symbol_text("P2_12_12_1") == "$P2_{1}2_{1}2_{1}$"
    assert plots.symbol_text("P-1") == r"$P\bar{1}$"


def test_labels_are_spread_in_order():
    placed = spread([0.0, 0.1, 5.0, 0.05], 1.0)
    assert np.diff(np.sort(placed)).min() >= 1.0 - 1e-6
    assert list(np.argsort(placed)) == [0, 3, 1, 2]


def test_powder_peaks_have_their_width_and_place():
    grid = np.linspace(10, 30, 4001)
    profile = peak_profile(grid, [20.0], [50.0])
    assert grid[profile.argmax()] == pytest.approx(20.0)
    assert np.ptp(grid[profile > 0.5]) == pytest.approx(PEAK_WIDTH, abs=0.01)
    figure = plots.powder_patterns({"alpha": reference_structure()})
    assert "2θ" in figure.axes[0].get_xlabel()


def test_colours_are_not_the_only_difference():
    assert len(MARKERS) >= 9


def test_names_of_equal_energies_stay_inside_the_axes():
    levels = {"end": {f"crystal {k}": 0.001 * k for k in range(8)}, "start": {f"crystal {k}": 90.0 for k in range(8)}}
    figure = plots.energy_ranking({"start": levels["start"], "end": levels["end"]})
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    heights = [text.xyann[1] for text in axes.texts]
    assert len(heights) == 8
    assert low < min(heights) < max(heights) < high


def test_a_model_without_an_order_has_no_rank_correlation_in_its_title():
    figure = plots.parity_plot([1.0, 2.0, 3.0], {"the mean": [2.0, 2.0, 2.0]}, xlabel="a (meV)", ylabel="b (meV)")
    assert "rank corr. –" in figure.axes[0].get_title(loc="left")


def test_a_histogram_says_what_it_counts():
    figure = plots.energy_histogram({"S1": [1.0, 2.0]}, counted="NH₂ groups")
    assert figure.axes[0].get_ylabel() == "NH₂ groups"
