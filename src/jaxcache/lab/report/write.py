"""The files of a report, written beside those of the sweep."""

from pathlib import Path

from ..analysis.findings import Findings
from ..analysis.sweep import read_sweep
from ..files import write_file
from ..layout import PAGE, PLOTS, REPORT
from .charts import figures
from .images import write_map, write_plots
from .markdown import markdown
from .page import page
from .tables import write_results


def write_report(directory: Path, plots: bool = False) -> Findings:
    """Read a sweep's files and write its report, tables and map beside them; return what was found.

    Args:
        directory: Of the sweep.
        plots: Write every chart as SVG and PNG too.

    Raises:
        FileNotFoundError: If the directory is not a sweep's.
    """
    findings = Findings(read_sweep(directory))
    plotted = write_map(findings, directory)
    text = "\n".join(markdown(findings, plotted=plotted)) + "\n"
    write_file(directory / REPORT, text, durable=False)
    write_file(directory / PAGE, page(findings), durable=False)
    write_results(findings)
    if plots:
        write_plots(figures(findings), directory / PLOTS)
    return findings
