"""The README's code runs, and prints what it says."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)


def block_with(word):
    (found,) = (block for block in BLOCKS if word in block)
    return found


def test_the_first_example_prints_what_its_comment_says(capsys):
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    (expected,) = re.findall(r"# (1 2 \{.*\})", BLOCKS[0])
    assert capsys.readouterr().out.splitlines()[0] == expected


def test_the_second_example_prints_what_follows_it(capsys):
    exec(compile(BLOCKS[1], "README.md", "exec"), {})
    text = (PROJECT / "README.md").read_text()
    (told, counted) = re.search(r"prints `(.*)` and `(.*)`\.", text).groups()
    assert capsys.readouterr().out.splitlines() == [told, counted]


def test_the_directory_example_prints_what_follows_it(capsys):
    exec(compile(block_with("use_directory"), "README.md", "exec"), {})
    assert f"prints `{capsys.readouterr().out.strip()}`" in (PROJECT / "README.md").read_text()


def test_the_masked_example_prints_what_follows_it(capsys):
    exec(compile(block_with("mask"), "README.md", "exec"), {})
    assert f"prints `{capsys.readouterr().out.strip()}`" in (PROJECT / "README.md").read_text()


def test_the_recorded_example_prints_what_follows_it(capsys):
    exec(compile(block_with("record=path"), "README.md", "exec"), {})
    told = re.search(r"prints `(lru .*)`, `(.*)` and `(.*)`\.", (PROJECT / "README.md").read_text()).groups()
    assert capsys.readouterr().out.splitlines() == list(told)


def test_every_file_and_target_that_the_readme_names_is_there():
    text = (PROJECT / "README.md").read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)\b", text)) - {"help"}
    makefile = (PROJECT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets), targets
    named = re.findall(r"\b(?:conf|docs|benchmarks)/[\w/.-]+\w(?![\w<])", text)
    assert [path for path in named if not (PROJECT / path).exists()] == []
