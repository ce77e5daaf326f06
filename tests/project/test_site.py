"""The site: built without a warning, complete, and readable from disk without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxcache
from tests._support.browser import chromium

PROJECT = Path(__file__).resolve().parents[2]
REFERENCE = {path: path.read_text() for path in sorted((PROJECT / "docs" / "reference").glob("*.md"))}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", directory],
        cwd=PROJECT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, timeout=300, check=True,
    )  # fmt: skip
    return directory


def test_every_public_name_has_one_place_in_the_reference_and_an_example_there():
    listed = {path: re.findall(r"^::: jaxcache\.(\w+)$", text, flags=re.MULTILINE) for path, text in REFERENCE.items()}
    names = [name for names in listed.values() for name in names]
    assert sorted(names) == sorted(set(jaxcache.__all__) - {"__version__"})
    examples = {path: re.search(r"```python\n(.*?)```", text, re.DOTALL)[1] for path, text in REFERENCE.items()}
    assert [
        name for path, names in listed.items() for name in names if not re.search(rf"\b{name}\b", examples[path])
    ] == []


def test_every_public_name_has_its_signature_on_the_site(site):
    pages = "".join((site / "reference" / f"{path.stem}.html").read_text() for path in REFERENCE)
    assert [name for name in jaxcache.__all__ if f'id="jaxcache.{name}"' not in pages] == ["__version__"]


def test_every_command_and_every_setting_is_on_the_site(site):
    settings = (site / "settings.html").read_text()
    options = [path.relative_to(PROJECT) for path in (PROJECT / "conf").rglob("*.yaml") if "hydra" not in path.parts]
    assert [path for path in options if str(path) not in settings] == []
    commands = (site / "commands.html").read_text()
    assert all(f"flows.{name}" in commands for name in ("sweep", "tune", "report"))
    assert "--memory-limit" in commands


def test_every_diagram_is_a_picture_of_its_text(site, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import diagrams

    pictures = {
        picture: source for page in PROJECT.glob("docs/*.md") for picture, source in diagrams.diagrams(page).items()
    }
    assert [picture.name for picture, source in pictures.items() if not diagrams.is_current(picture, source)] == []
    assert {path.name for path in diagrams.PICTURES.iterdir()} == {picture.name for picture in pictures}
    page = (site / "architecture.html").read_text()
    assert [picture.name for picture in pictures if f'src="diagrams/{picture.name}"' not in page] == []
    assert "flowchart LR" not in page
    monkeypatch.setattr(diagrams, "MERMAID", "of another version")
    with pytest.raises(LookupError, match=r"architecture-1\.svg, .*; run make diagrams"):
        diagrams.with_pictures(PROJECT / "docs" / "architecture.md", "")


def test_the_search_works_from_disk_and_nothing_is_asked_of_elsewhere(site):
    asked = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "reference" / "cache.html").as_uri())
        page.locator("input[name=query]").focus()
        page.keyboard.type("use_directory")
        page.get_by_text("matching documents").wait_for()
        assert "shared-directory.html" in page.locator(".md-search-result__list").inner_html()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
