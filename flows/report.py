"""``python -m flows.report outputs/<sweep>``: make a report again, or lay several side by side; nothing is run."""

import argparse
import sys
from pathlib import Path

from rich.markdown import Markdown

from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.files import write_file
from jaxcache.lab.layout import COMPARISON, PAGE
from jaxcache.lab.report.compare_sweeps import side_by_side
from jaxcache.lab.report.rows import headline
from jaxcache.lab.report.terminal import print_summary, terminal
from jaxcache.lab.report.write import write_report

from .planning.invocation import command_of


def main(words: list[str] | None = None) -> int:
    """Write the report, or the comparison; return the exit code."""
    parser = argparse.ArgumentParser(
        prog=command_of("report"), description="Make a report again, or lay several side by side; nothing is run."
    )
    parser.add_argument(
        "directories", type=Path, nargs="+", metavar="directory",
        help="of a sweep, such as outputs/2026-01-31_12-00-00-000000; of several, the first is what others are held "
        f"against, and {COMPARISON} is written into the last",
    )  # fmt: skip
    parser.add_argument("--plots", action="store_true", help="write every chart as SVG and PNG too, into plots/")
    options = parser.parse_args(words)
    try:
        return _compare(options.directories) if len(options.directories) > 1 else _report(options)
    except OSError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2


def _report(options: argparse.Namespace) -> int:
    directory: Path = options.directories[0]
    findings = write_report(directory, plots=options.plots)
    console = terminal()
    print_summary(findings, console)
    console.print(f"{headline(findings.sweep)}. Report: {directory / PAGE}", highlight=False, soft_wrap=True)
    return 0


def _compare(directories: list[Path]) -> int:
    text = "\n".join(side_by_side([read_sweep(directory) for directory in directories])) + "\n"
    path = directories[-1] / COMPARISON
    write_file(path, text, durable=False)
    console = terminal()
    console.print(Markdown(text))
    console.print(f"Written to {path}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
