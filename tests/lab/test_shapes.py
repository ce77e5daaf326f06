from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from jaxcache.lab.shapes import Shapes

STREAMS = {"uniform": {}, "zipf": {"exponent": 1.1}, "phased": {"phases": 4}}
EVERY = pytest.mark.parametrize("name", sorted(STREAMS))


def stream(name, smallest=8, largest=96, distinct=20):
    config = {"name": name, "smallest": smallest, "largest": largest, "distinct": distinct, **STREAMS[name]}
    return TypeAdapter(Shapes).validate_python(config)


@EVERY
@given(smallest=st.integers(1, 50), spread=st.integers(0, 60), count=st.integers(1, 80), seed=st.integers(0, 2**32 - 1),
       data=st.data())  # fmt: skip
def test_lengths_are_of_the_distinct_values_in_range_and_repeat_with_the_seed(
    name, smallest, spread, count, seed, data
):
    distinct = data.draw(st.integers(1, spread + 1))
    shapes = stream(name, smallest, smallest + spread, distinct)
    values = shapes.values()
    assert len(set(values.tolist())) == len(values) == distinct
    assert values[0] >= smallest
    assert values[-1] <= smallest + spread
    lengths = shapes.lengths(count, seed)
    assert len(lengths) == count
    assert set(lengths.tolist()) <= set(values.tolist())
    assert np.array_equal(lengths, shapes.lengths(count, seed))


@EVERY
def test_another_seed_gives_another_stream(name):
    assert not np.array_equal(stream(name).lengths(50, 0), stream(name).lengths(50, 1))


def test_zipf_frequencies_fall_as_the_power_of_the_rank():
    counts = sorted(Counter(stream("zipf").lengths(40_000, 5).tolist()).values(), reverse=True)
    weights = np.arange(1, 21) ** -1.1
    assert np.allclose(np.array(counts) / 40_000, weights / weights.sum(), atol=0.01)


def test_uniform_draws_every_length_equally_often():
    counts = Counter(stream("uniform").lengths(40_000, 5).tolist())
    assert np.allclose(np.array(list(counts.values())) / 40_000, 1 / 20, atol=0.01)


def test_phases_each_have_their_own_working_set():
    lengths = stream("phased").lengths(4000, 0)
    often = [{n for n, c in Counter(part.tolist()).items() if c > 50} for part in np.split(lengths, 4)]
    assert [len(own) for own in often] == [5, 5, 5, 5]
    assert len(set.union(*often)) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [({"smallest": 97}, "smallest must be at most largest, 96, but is 97"),
     ({"distinct": 90}, "distinct must be at most 89, the lengths from 8 to 96, but is 90"),
     ({"smallest": 0}, "greater than 0")],
)  # fmt: skip
def test_impossible_streams_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        stream("uniform", **change)
