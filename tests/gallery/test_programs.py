"""The gallery: each program prints what its page shows."""

import importlib.util
import re
import runpy
import sys
import warnings
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SIZE = re.compile(r"([\d.]+) ([KMG]?i?B)\b")


@pytest.fixture(scope="module")
def gallery():
    """The module that makes the page."""
    sys.path.insert(0, str(PROJECT / "docs"))
    import gallery

    yield gallery
    sys.path.remove(str(PROJECT / "docs"))


def bytes_in(text):
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    return [float(number) * units[unit] for number, unit in SIZE.findall(text)]


def assert_prints(printed, recorded):
    """Every word and count is the recorded one; sizes differ with JAX and processor, but jaxcache's is the smaller."""
    assert SIZE.sub("SIZE", printed) == SIZE.sub("SIZE", recorded)
    under_jit, here = bytes_in(printed)
    assert here < under_jit


NAMES = sorted(path.stem for path in (PROJECT / "examples" / "outputs").glob("*.txt") if path.stem != "suite")


@pytest.mark.in_turns
@pytest.mark.parametrize("name", NAMES)
def test_a_program_prints_what_its_page_shows(name, gallery, capsys):
    (example,) = (each for each in gallery.PROGRAMS if each.name == name)
    missing = [library for library in example.libraries if importlib.util.find_spec(library) is None]
    if missing:
        pytest.skip(f"needs jaxcache[examples]: {', '.join(missing)}")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # libraries warn of what other libraries will drop
        runpy.run_path(str(example.path), run_name="__main__")
    assert_prints(capsys.readouterr().out, example.output.read_text())


def test_the_second_run_of_a_suite_loads_what_the_first_compiled(gallery):
    printed = re.sub(r"; costliest.*", "", gallery.run(gallery.SUITE))
    seconds = r"[\d.]+ s saved"
    assert re.sub(seconds, "", printed) == re.sub(seconds, "", gallery.SUITE.output.read_text())


def test_every_program_is_in_the_gallery_and_its_recorded_output_too(gallery):
    programs = {path.stem for path in gallery.EXAMPLES.glob("*.py")}
    assert programs == {"tour", *(example.name for example in gallery.GALLERY)}
    assert {path.stem for path in gallery.OUTPUTS.iterdir()} == {*NAMES, "suite"}
    assert len(gallery.GALLERY) >= 10
    lengths = {path.name: len(path.read_text().splitlines()) for path in gallery.EXAMPLES.glob("*.py")}
    assert {name for name, length in lengths.items() if not 20 <= length <= 60} == {"tour.py"}
