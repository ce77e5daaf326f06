"""Pages of the site that come from elsewhere: README, gallery, the commands' own help, the settings in ``conf``.

A hook of MkDocs, used by ``make docs``. Links from the README into ``docs`` and from there to files above are turned.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import diagrams
import gallery
import measured
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parent.parent
_ABOVE = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_STATEFUL = ("stats", "list", "verify", "prune", "clear", "doctor", "import", "run", "ci-key")
_FLOWS = ("sweep", "tune", "report", "server", "deploy", "worker")


def on_pre_build(**_: Any) -> None:
    """End the build where README or docs/measured.md have figures that no file of benchmarks/results holds."""
    try:
        wrong = measured.differences(measured.read_results())
    except measured.MissingFigure as error:
        raise PluginError(str(error)) from error
    if wrong:
        raise PluginError("\n".join(["no file of benchmarks/results has these figures; see make measured", *wrong]))


def on_files(files: Files, *, config: Any) -> Files:
    """Add the generated pages, and the examples that pages link to."""
    generated = {"index.md": _from_above(PROJECT / "README.md"), "commands.md": _commands(), "settings.md": _settings()}
    generated |= {name: _from_above(PROJECT / name) for name in _ABOVE}
    generated |= {"gallery.md": gallery.gallery_page(), "tour.md": gallery.tour_page()}
    generated["LICENSE.txt"] = (PROJECT / "LICENSE").read_text()
    for example in sorted([*gallery.EXAMPLES.glob("*.py"), gallery.NOTEBOOK]):
        generated[f"examples/{example.name}"] = example.read_text()
    for name, content in generated.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links to files above ``docs``, which the site has beside its pages; show diagrams, and figures' age."""
    if page.file.src_uri == measured.PAGE.name:
        return measured.page(measured.read_results())
    try:
        markdown = diagrams.with_pictures(PROJECT / "docs" / page.file.src_uri, markdown)
    except LookupError as error:
        raise PluginError(str(error)) from error
    return re.sub(rf"\]\(\.\./({'|'.join(_ABOVE)})", r"](\1", markdown)


def _from_above(path: Path) -> str:
    return path.read_text().replace("](docs/", "](").replace("](LICENSE)", "](LICENSE.txt)")


def _commands() -> str:
    commands = [["-m", "jaxcache", name] for name in _STATEFUL] + [["-m", f"flows.{name}"] for name in _FLOWS]
    texts = [f"## python {' '.join(command)}\n\n```\n{_help(command)}\n```\n" for command in commands]
    return "\n".join(["# Commands\n\nEach of them says the same with `--help`.\n", *texts])


def _help(command: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def _settings() -> str:
    files = sorted((PROJECT / "conf").rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    texts = [
        f"## {path.relative_to(PROJECT)}\n\n```yaml\n{path.read_text().strip()}\n```\n"
        for path in files
        if "hydra" not in path.parts
    ]
    return "\n".join(["# Settings of a sweep\n\nEvery file of `conf`, which a command line overrides.\n", *texts])
