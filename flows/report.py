"""``python -m flows.report outputs/<sweep>``: make a report again from a sweep's files, without running anything."""

import argparse
import sys
from pathlib import Path

from jaxcache.lab.report import REPORT, headline, print_summary, terminal, write_report


def main(words: list[str] | None = None) -> int:
    """Write the report; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.report", description=__doc__)
    parser.add_argument("directory", type=Path, help="of a sweep, such as outputs/2026-01-31_12-00-00-000000")
    directory = parser.parse_args(words).directory
    try:
        sweep = write_report(directory)
    except OSError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    console = terminal()
    print_summary(sweep, console)
    console.print(f"{headline(sweep)}. Report: {directory / REPORT}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
