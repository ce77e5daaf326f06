"""The files of a report, written beside those of the sweep."""

from pathlib import Path

from ..analysis.findings import Findings
from ..analysis.sweep import Sweep, read_sweep
from ..files import write_file
from ..layout import MAP_PNG, MAP_SVG, PAGE, PLOTS, REPORT
from .charts import figures
from .images import map_plot, write_plots
from .markdown import markdown
from .page import page
from .tables import write_results


def write_report(directory: Path, plots: bool = False) -> Sweep:
    """Read a sweep's files and write its report, tables and map beside them; return what was read.

    Args:
        directory: Of the sweep.
        plots: Write every chart as SVG and PNG too.

    Raises:
        FileNotFoundError: If the directory is not a sweep's.
    """
    sweep = read_sweep(directory)
    findings = Findings(sweep)
    chart = map_plot(findings)
    if chart is not None:
        chart.save(directory / MAP_SVG)
        chart.save(directory / MAP_PNG, ppi=144)
    text = "\n".join(markdown(findings, plotted=chart is not None)) + "\n"
    write_file(directory / REPORT, text, durable=False)
    write_file(directory / PAGE, page(findings), durable=False)
    write_results(findings)
    if plots:
        write_plots(figures(findings), directory / PLOTS)
    return sweep
