"""Figures of the project in one style: functions of plain data that return a matplotlib figure."""

from nanh2lib.report.plots.choices import choice_panels
from nanh2lib.report.plots.dataset import (
    contact_bars,
    contact_distributions,
    energy_histogram,
    space_group_histogram,
    volume_energy_scatter,
)
from nanh2lib.report.plots.efficiency import budget_curves, energy_boxes, interval_panels
from nanh2lib.report.plots.energies import (
    energy_ranking,
    energy_volume_curve,
    parity_plot,
    powder_patterns,
)
from nanh2lib.report.plots.lines import count_bars, line_plot, scatter_groups
from nanh2lib.report.plots.model import (
    guidance_sweep,
    loss_curves,
    noise_schedule_plot,
)
from nanh2lib.report.plots.scaling import worker_timeline
from nanh2lib.report.plots.style import (
    OKABE_ITO,
    ReportFigure,
    plot_theme,
    symbol_text,
    themed,
)

__all__ = [
    "OKABE_ITO",
    "ReportFigure",
    "budget_curves",
    "choice_panels",
    "contact_bars",
    "contact_distributions",
    "count_bars",
    "energy_boxes",
    "energy_histogram",
    "energy_ranking",
    "energy_volume_curve",
    "guidance_sweep",
    "interval_panels",
    "line_plot",
    "loss_curves",
    "noise_schedule_plot",
    "parity_plot",
    "plot_theme",
    "powder_patterns",
    "scatter_groups",
    "space_group_histogram",
    "symbol_text",
    "themed",
    "volume_energy_scatter",
    "worker_timeline",
]
