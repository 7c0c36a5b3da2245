"""What was measured, as files, tables and figures."""

from lessons_lib.report.exercises import show_guess, show_order, use_solution_until_right
from lessons_lib.report.model_card import write_card
from lessons_lib.report.names import display_difference, display_name
from lessons_lib.report.plots import (
    PALETTE,
    WIDTH,
    list_rows,
    plot_calibration,
    plot_confusion,
    plot_curves,
    plot_intervals,
    plot_series,
    show_figure,
    use_course_style,
)
from lessons_lib.report.results import (
    Results,
    ResultsError,
    collect_results,
    find_results,
    read_machine,
    read_predictions,
    read_results,
    tabulate_differences,
    tabulate_metrics,
    write_results,
)
from lessons_lib.report.schematic import show_schematic
from lessons_lib.report.widgets import text_playground

__all__ = [
    "PALETTE",
    "WIDTH",
    "Results",
    "ResultsError",
    "collect_results",
    "display_difference",
    "display_name",
    "find_results",
    "list_rows",
    "plot_calibration",
    "plot_confusion",
    "plot_curves",
    "plot_intervals",
    "plot_series",
    "read_machine",
    "read_predictions",
    "read_results",
    "show_figure",
    "show_guess",
    "show_order",
    "show_schematic",
    "tabulate_differences",
    "tabulate_metrics",
    "text_playground",
    "use_course_style",
    "use_solution_until_right",
    "write_card",
    "write_results",
]
