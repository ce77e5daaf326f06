"""Figures of docs/measured.md and of the README, written from the JSON files of the benchmarks.

    python docs/measured.py           # `make measured`; `make bench` measures first

The texts are the templates docs/measured.md.jinja and docs/measured_readme.md.jinja. Of each benchmark and JAX version,
the newest file that has a figure counts. A figure that no file has ends the program, and is named.
"""

import difflib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PROJECT = Path(__file__).resolve().parent.parent
DOCS, RESULTS = PROJECT / "docs", PROJECT / "benchmarks" / "results"
PAGE, README = DOCS / "measured.md", PROJECT / "README.md"
SECTION, NEXT_SECTION = "## Measured\n", "## Where to go on\n"  # of the README
STALE = re.compile(r" \(\d+ commits? to its code since\)")  # as of the moment at which the page was written
CODE = {  # what each benchmark measures, below src/jaxcache unless it begins with another folder
    "adaptive": ("_policies",),
    "attribution": ("_process", "_jax"),
    "buckets": ("_padding/choose.py",),
    "disk": ("_disk",),
    "foreign_traces": ("_policies", "_replay", "lab/tuning"),
    "hit_path": ("_cache", "_calls", "_jax"),
    "hit_path_installed": ("_process", "_cache", "_calls", "_jax"),
    "loops": ("_loops",),
    "memory": ("_cache", "_jax"),
    "policies": ("_policies",),
    "process": ("_process", "_cache", "_jax"),
    "pytest_plugin": ("_process", "_disk"),
    "reload_costs": ("_policies", "_jax"),
    "remote": ("_remote", "_disk"),
    "replay": ("_replay", "_policies"),
    "replayed_seeds": ("lab",),
    "scale": ("flows",),
    "slurm_sweep": ("flows/workers", "flows/running", "lab/running"),
    "sweep_overhead": ("flows", "lab"),
    "sweep_peers": ("flows", "lab"),
    "torture_sweep": ("flows",),
    "tune": ("flows", "lab", "_replay"),
    "tune_monte_carlo": ("flows", "lab", "_replay"),
    "watching": ("_process", "_jax"),
    "warm_start": ("_code_key", "_disk", "_cache"),
    "warm_start_uncollected": ("_code_key", "_disk", "_cache"),
}


class MissingFigure(LookupError):
    """No file of ``benchmarks/results`` has a figure that a template asks for."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a benchmark has written."""

    benchmark: str
    jax: str
    date: datetime
    machine: str
    measured: dict[str, Any]

    def get(self, path: tuple[str, ...]) -> Any:
        """Return what stands at a path of keys, or None."""
        value: Any = self.measured
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def read_results(folder: Path = RESULTS) -> list[Result]:
    """Return all results, the newest first."""
    results = []
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        date, machine = datetime.fromisoformat(content["date"]), f"{content['processor']}, {content['cores']} cores"
        results.append(Result(content["benchmark"], content["jax"], date, machine, content["measured"]))
    return sorted(results, key=lambda result: result.date, reverse=True)


class Figures:
    """Figures as templates ask for them, and which results they came from.

    Args:
        results: The newest first.
    """

    def __init__(self, results: list[Result]) -> None:
        self._results = results
        self.used: list[Result] = []

    def versions(self, benchmark: str) -> list[str]:
        """Return the JAX versions that a benchmark was run on, ascending."""
        names = {result.jax for result in self._results if result.benchmark == benchmark}
        return sorted(names, key=lambda name: [int(part) for part in name.split(".")])

    def value(self, benchmark: str, *path: str, jax: str | None = None) -> Any:
        """Return the newest figure at a path of keys, of one JAX version or of any.

        Raises:
            MissingFigure: If no file has it.
        """
        for result in self._results:
            if result.benchmark == benchmark and jax in (None, result.jax) and result.get(path) is not None:
                if result not in self.used:
                    self.used.append(result)
                return result.get(path)
        of_version = f" on JAX {jax}" if jax else ""
        raise MissingFigure(f"benchmarks/results has no figure {' / '.join((benchmark, *path))}{of_version}")

    def source(self, *benchmarks: str) -> str:
        """Return a line that says when, on which JAX and where these were run, and whether their code is newer.

        Raises:
            MissingFigure: If one of them has no file.
        """
        parts = []
        for benchmark in benchmarks:
            newest: dict[str, Result] = {}
            for result in self._results:
                if result.benchmark == benchmark:
                    newest.setdefault(result.jax, result)
            if not newest:
                raise MissingFigure(f"benchmarks/results has no file of {benchmark}")
            parts += [self._dated(newest[jax]) for jax in self.versions(benchmark)]
        machines = {result.machine for result in self._results if result.benchmark in benchmarks}
        return f"*{'; '.join(dict.fromkeys(parts))}. {' and '.join(sorted(machines))}.*"

    def _dated(self, result: Result) -> str:
        commits = commits_since(result.date, CODE[result.benchmark])
        stale = f" ({commits} commit{'s' * (commits > 1)} to its code since)" if commits else ""
        return f"JAX {result.jax} on {result.date:%Y-%m-%d}{stale}"

    def dates(self) -> str:
        """Return the first and the last day of the results used so far."""
        days = sorted({result.date.date().isoformat() for result in self.used})
        return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def commits_since(date: datetime, code: tuple[str, ...]) -> int:
    """Return how many commits have changed files of these folders since; 0 where git does not know."""
    paths = [name if name.startswith("flows") else f"src/jaxcache/{name}" for name in code]
    command = ["git", "rev-list", "--count", f"--since={date.isoformat()}", "HEAD", "--", *paths]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    return int(done.stdout) if done.returncode == 0 else 0


def render(template: str, results: list[Result]) -> str:
    """Return a template with its figures.

    Raises:
        MissingFigure: If a figure is in no result.
    """
    figures = Figures(results)
    environment = Environment(
        loader=FileSystemLoader(DOCS), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters |= {
        "fixed": lambda value, digits=2: f"{value:.{digits}f}",
        "whole": lambda value: f"{value:,.0f}",
        "kib": lambda value: f"{value / 2**10:,.0f}",
        "mib": lambda value: f"{value / 2**20:,.0f}",
        "percent": lambda value: f"{value:.0%}",
    }
    names = {"value": figures.value, "versions": figures.versions, "source": figures.source, "dates": figures.dates}
    return environment.get_template(template).render(names)


def page(results: list[Result]) -> str:
    """Return docs/measured.md."""
    return render("measured.md.jinja", results)


def readme(text: str, results: list[Result]) -> str:
    """Return the README with its section of figures made again."""
    before, _, rest = text.partition(SECTION)
    section = render("measured_readme.md.jinja", results)
    return before + SECTION + section + NEXT_SECTION + rest.partition(NEXT_SECTION)[2]


def differences(results: list[Result]) -> list[str]:
    """Return the lines of the page and of the README that the results do not hold; marks of age do not count.

    Raises:
        MissingFigure: If a figure is in no result.
    """
    written = PAGE.read_text(), README.read_text()
    made = page(results), readme(written[1], results)
    lines: list[str] = []
    for path, old, new in zip((PAGE, README), written, made, strict=True):
        wrong = difflib.ndiff(STALE.sub("", old).splitlines(), STALE.sub("", new).splitlines())
        lines += [f"{path.name}: {line[2:]}" for line in wrong if line.startswith("- ")]
    return lines


def main() -> int:
    """Write both; return the exit code."""
    results = read_results()
    try:
        PAGE.write_text(page(results))
        README.write_text(readme(README.read_text(), results))
    except MissingFigure as error:
        print(f"measured: {error}; run its benchmark, or take the figure out of the template", file=sys.stderr)
        return 1
    print(f"{PAGE.relative_to(PROJECT)} and README.md have the figures of {len(results)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
