"""Pictures of the diagrams in the documents, drawn by mermaid in Chromium: docs/diagrams/<page>-<number>.svg.

    python docs/diagrams.py           # `make diagrams`, after a diagram was changed; needs npm and Chromium

A site that draws them itself would load mermaid, five megabytes, with every page; GitHub draws what stands in the text.
"""

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from headless import headless_browser

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "diagrams"
MERMAID = "12.3.0"
FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SETTINGS = {
    "startOnLoad": False, "theme": "neutral", "htmlLabels": False, "deterministicIds": True,
    "flowchart": {"htmlLabels": False, "useMaxWidth": True}, "fontFamily": "sans-serif", "securityLevel": "strict",
}  # fmt: skip
_DRAW = """async ([name, source, settings]) => {
    mermaid.initialize(settings);
    return (await mermaid.render(name, source)).svg;
}"""


def diagrams(page: Path) -> dict[Path, str]:
    """Return the picture's file and the text of each diagram of a document; of a page that is made, none."""
    sources = FENCE.findall(page.read_text()) if page.exists() else []
    return {PICTURES / f"{page.stem}-{number}.svg": source for number, source in enumerate(sources, 1)}


def is_current(picture: Path, source: str) -> bool:
    """Return whether a picture is of this text."""
    return picture.exists() and picture.read_text().startswith(_mark(source))


def with_pictures(page: Path, markdown: str) -> str:
    """Return a document's text with its diagrams as pictures.

    Raises:
        LookupError: If a picture is missing or of another text.
    """
    pictures = diagrams(page)
    stale = [picture.name for picture, source in pictures.items() if not is_current(picture, source)]
    if stale:
        raise LookupError(f"docs/diagrams has no picture of a diagram as it is: {', '.join(stale)}; run make diagrams")
    names = iter(pictures)
    return FENCE.sub(lambda _: "[![diagram]({0})]({0})".format(f"diagrams/{next(names).name}"), markdown)


def draw(sources: dict[Path, str]) -> None:
    """Draw diagrams into their files.

    Raises:
        RuntimeError: If there is no Chromium.
    """
    with tempfile.TemporaryDirectory() as directory, headless_browser() as browser:
        if browser is None:
            raise RuntimeError("drawing diagrams needs Chromium: install it, or name it by CHROMIUM=<path>")
        script = _mermaid(Path(directory))
        page = browser.new_page()
        page.set_content("<!doctype html><body></body>")
        page.add_script_tag(path=script)
        for picture, source in sources.items():
            svg = page.evaluate(_DRAW, [picture.stem, source, _SETTINGS])
            svg = svg.replace('style="max-width', 'style="background-color: white; max-width', 1)  # for dark pages
            picture.write_text(f"{_mark(source)}\n{svg.strip()}\n")


def _mermaid(directory: Path) -> Path:
    subprocess.run(["npm", "pack", "--silent", f"mermaid@{MERMAID}"], cwd=directory, check=True, timeout=120)
    with tarfile.open(directory / f"mermaid-{MERMAID}.tgz") as archive:
        archive.extract("package/dist/mermaid.min.js", directory, filter="data")
    return directory / "package" / "dist" / "mermaid.min.js"


def _mark(source: str) -> str:
    return f"<!-- mermaid {MERMAID}, text {hashlib.sha256(source.encode()).hexdigest()[:16]} -->"


def main() -> int:
    """Draw what is missing or of another text; return the exit code."""
    PICTURES.mkdir(exist_ok=True)
    wanted = {picture: source for page in sorted(DOCS.glob("*.md")) for picture, source in diagrams(page).items()}
    for picture in set(PICTURES.glob("*.svg")) - set(wanted):
        picture.unlink()
    stale = {picture: source for picture, source in wanted.items() if not is_current(picture, source)}
    if stale:
        draw(stale)
    print(f"docs/diagrams: {len(stale)} of {len(wanted)} drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
