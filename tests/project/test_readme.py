"""The code of README and documents runs, and prints what stands below it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n(?:```\n(.*?)```)?", re.DOTALL)  # code, and what it prints right below it


def examples():
    for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
        for number, found in enumerate(EXAMPLE.finditer(path.read_text())):
            yield pytest.param(found[1], found[2] or "", id=f"{path.relative_to(PROJECT)}-{number}")


@pytest.mark.parametrize(("code", "shown"), list(examples()))
def test_every_example_prints_what_stands_below_it(code, shown, capsys):
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == shown


def test_the_program_that_is_run_unchanged_prints_what_the_readme_shows_but_for_its_seconds():
    command, shown = re.search(r"```\npython (-m jaxcache run .*?)\n```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True
    )
    printed = without_numbers(done.stdout + done.stderr)
    assert [line for line in shown.splitlines() if without_numbers(line.removesuffix("…")) not in printed] == []


def without_numbers(text):
    return re.sub(r"[\d.]+( [KMG]iB)?", "0", re.sub(r" +", " ", text))


def test_every_make_target_that_the_readme_names_is_there():
    targets = set(re.findall(r"\bmake ([a-z-]+)\b", README)) - {"help"}
    makefile = (PROJECT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets), targets


def test_the_readme_is_one_screen_of_each_thing():
    assert len(README.splitlines()) <= 150
