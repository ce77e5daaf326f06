"""Random programs, changed at random: equal keys are of programs that compute the same, wherever the change is."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcache._code_key.digest import CannotBeKeyed

from .program import digest, imported
from .random_programs import IMPORTS, PARTS, mutate, outcome, program_of

PROGRAMS = st.lists(
    st.tuples(st.sampled_from(sorted(PARTS)), st.sampled_from(sorted(IMPORTS)), st.integers(0, 5), st.integers(0, 5)),
    min_size=1,
    max_size=4,
).map(program_of)
NUMBERS = st.integers(0, 10_000)


def key_and_outcome(files):
    """Return the program's key and what it computes; no key if it has none, and neither if it cannot be imported."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with imported(Path(folder) / "folder", files) as app:
                try:
                    key = digest(app.program)
                except CannotBeKeyed:
                    key = None
                return key, outcome(app.program)
        except Exception:
            return None, None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS, st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_programs_of_equal_keys_compute_the_same(files, changes):
    seen = {}
    versions = [files, *(mutate(files, *change) for change in changes)]
    for version in versions:
        key, computed = (None, None) if version is None else key_and_outcome(version)
        if key is not None:
            assert seen.setdefault(key, computed) == computed


@pytest.mark.parametrize("how", sorted(IMPORTS.keys() - {"within"}))  # it is traced as ever, and told so
@pytest.mark.parametrize("kind", PARTS)
def test_each_part_of_a_program_has_a_key_that_its_numbers_change(kind, how):
    seen = {}
    for a, b in [(2, 3), (2, 3), (4, 3), (2, 5)]:
        key, computed = key_and_outcome(program_of([(kind, how, a, b)]))
        assert key is not None
        seen.setdefault(key, []).append(computed)
    assert len(seen) == 3
    assert max(map(len, seen.values())) == 2
