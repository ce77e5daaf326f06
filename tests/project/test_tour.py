"""The tour runs as its notebook, which is made from it, and each of its sections says what it should."""

import json
import warnings
from pathlib import Path

import pytest

import jaxcache

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "docs")
    import tour_notebook

    return tour_notebook


def test_the_notebook_is_made_from_the_tour_and_walks_through_every_section(notebook):
    cells = notebook.from_program((PROJECT / "examples" / "tour.py").read_text())
    kept = json.loads((PROJECT / "examples" / "tour.ipynb").read_text())["cells"]
    assert [cell["source"] for cell in kept] == [cell["source"] for cell in cells], "make examples makes it again"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jaxcache.MissStormWarning)  # of the cache that is too small on purpose
        ran = notebook.run(cells)
    texts = ["".join(output["text"]) for cell in ran for output in cell.get("outputs", [])]
    assert len(texts) == 8
    assert all(len(text.splitlines()) <= 24 for text in texts)  # one screen each
    for words in ("CONVERGED after", "residual", "least squares: [3", "±", "refused: padding changes the answer",
                  "misses: new shape: x axis 1: was 100, is 7", "raise the limit"):  # fmt: skip
        assert words in "".join(texts), words
