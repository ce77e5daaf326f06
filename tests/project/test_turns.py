"""Long tests that come in turns: none is left out by three commits in a row."""

from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from ..conftest import pytest_collection_modifyitems


def kept(seed, marked):
    """Return the names of the tests that a seed keeps, and of those that it tells pytest it leaves out."""
    items = [
        SimpleNamespace(nodeid=name, path=name[-1], get_closest_marker=lambda _, long=long: long)
        for name, long in marked.items()
    ]
    left_out = []
    config = SimpleNamespace(
        getoption=lambda _: seed,
        hook=SimpleNamespace(pytest_deselected=lambda items: left_out.extend(items)),
    )
    pytest_collection_modifyitems(config, items)
    return [item.nodeid for item in items], [item.nodeid for item in left_out]


@given(first=st.integers(0, 10**6), marked=st.dictionaries(st.text(min_size=1), st.booleans(), max_size=30))
def test_three_seeds_in_a_row_run_each_long_test_once_and_the_others_always(first, marked):
    runs = Counter()
    for seed in range(first, first + 3):
        ran, left_out = kept(seed, marked)
        assert sorted([*ran, *left_out]) == sorted(marked)
        runs.update(ran)
    assert runs == {name: 1 if long else 3 for name, long in marked.items()}


def test_without_a_seed_all_tests_run():
    marked = dict.fromkeys("abcdef", True)
    assert kept(None, marked) == (list(marked), [])
