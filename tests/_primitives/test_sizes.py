import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [(4096, 4096), ("4096", 4096), ("64MiB", 64 * 1024**2), ("64 mib", 64 * 1024**2), ("1.5KiB", 1536),
     ("2GB", 2_000_000_000), ("1TiB", 1024**4), ("7B", 7), ("3k", 3000), (np.int64(4096), 4096), (np.uint8(7), 7)],
)  # fmt: skip
def test_sizes_are_read_with_their_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "12 parsecs", "1e3MiB", "0x10", "nan"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="limit must be a size such as 64MiB") as error:
        parse_size(text, "limit")
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("value", [0, -5, "-64MiB", "0B"])
def test_sizes_must_be_positive(value):
    with pytest.raises(ValueError, match=f"limit must be positive, such as 64MiB, but is {value}"):
        parse_size(value, "limit")


@pytest.mark.parametrize("value", [None, True, [1], b"64MiB"])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match="limit must be a size"):
        parse_size(value, "limit")


def test_whole_sizes_are_shown_without_a_fraction():
    assert [format_size(n) for n in (0, 512, 1536, 64 * 1024**2, 3 * 1024**4)] == [
        "0 B", "512 B", "1.5 KiB", "64 MiB", "3 TiB",
    ]  # fmt: skip


@given(st.integers(1, 1000 * 1024**4))
def test_a_unit_has_fewer_than_1024_of_the_one_below(size):
    assert float(format_size(size).split()[0]) < 1024


def test_just_below_a_unit_is_one_of_it():
    assert [format_size(n) for n in (1023, 1024**2 - 1, 1024**3 - 1)] == ["1023 B", "1.0 MiB", "1.0 GiB"]


@given(st.integers(1, 2**60))
def test_what_is_shown_can_be_read_back_to_within_its_last_digit(size):
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)
