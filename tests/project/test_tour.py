"""The tour runs, and each of its sections says what it should."""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_the_tour_walks_through_every_section():
    command = [sys.executable, str(PROJECT / "examples" / "tour.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    parts = re.split(r"\n== (.*?) ==\n", done.stdout)[1:]
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(sections) == 8
    text = "\n".join(sections.values())
    for words in ("CONVERGED after", "residual", "least squares: [3", "±", "refused: padding changes the answer",
                  "misses: new shape: x axis 1: was 100, is 7", "raise the limit"):  # fmt: skip
        assert words in text, words
    assert all(len(section.splitlines()) <= 24 for section in sections.values())  # one screen each
