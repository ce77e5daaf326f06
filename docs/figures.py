"""Put the newest sweep of ``experiment=readme`` into the README: its map, its answer, a picture of its page.

Run by ``make figures``. What stands between the two markers in README.md is replaced. The picture needs Chromium; where
there is none, the old one stays.
"""

import shutil
import sys
from pathlib import Path

from headless import headless_browser

from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.sweep import Sweep, read_sweep
from jaxcache.lab.layout import MAP_SVG, PAGE
from jaxcache.lab.report.rows import headline

PROJECT = Path(__file__).resolve().parent.parent
README, PLOT = PROJECT / "README.md", PROJECT / "docs" / "map.svg"
PICTURE = PROJECT / "docs" / "report.png"
_NOTES = 2  # of the answer: what no limit takes, and what one change alone does
BEGIN, END = "<!-- answer: begin -->", "<!-- answer: end -->"


def answer_lines(sweep: Sweep) -> list[str]:
    """Return what the map says, with how sure that is over the seeds replayed, and whether the trials met it."""
    findings = Findings(sweep)
    if findings.choice is None:
        return []
    lines = [f"**{findings.sentence}**", *findings.notes[:_NOTES], findings.agreement]
    return [" ".join(lines)]


def section(sweep: Sweep) -> str:
    """Return what goes between the markers."""
    seen = sweep.results[0].environment
    made = f"*{headline(sweep)}; JAX {seen.packages['jax']} on {seen.cores} CPU cores; made by `make figures`.*"
    return "\n".join([BEGIN, *answer_lines(sweep), made, END])


def photograph(page: Path, picture: Path) -> bool:
    """Take a picture of the top of a page as a browser shows it; return whether there is a browser."""
    with headless_browser() as browser:
        if browser is None:
            return False
        opened = browser.new_page(viewport={"width": 1180, "height": 1120})
        opened.goto(page.resolve().as_uri())
        opened.wait_for_selector("#map svg")
        opened.screenshot(path=picture)
    return True


def main() -> int:
    """Change README.md and the plot; return the exit code."""
    sweeps = sorted((PROJECT / "outputs" / "readme").glob("20*"))
    if not sweeps:
        print(
            "figures: there is no sweep in outputs/readme; run python -m flows.sweep experiment=readme", file=sys.stderr
        )
        return 2
    sweep = read_sweep(sweeps[-1])
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    README.write_text(before + section(sweep) + rest.partition(END)[2])
    shutil.copy(sweeps[-1] / MAP_SVG, PLOT)
    print(f"README.md and docs/{PLOT.name} show {sweeps[-1].name}")
    if not photograph(sweeps[-1] / PAGE, PICTURE):
        print(f"docs/{PICTURE.name} stays as it was: no Chromium is here", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
