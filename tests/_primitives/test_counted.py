"""Numbers in words: one thing has no plural."""

from jaxcache._primitives.counted import counted, counted_entries


def test_one_thing_has_no_plural():
    assert [counted(number, "hit") for number in (0, 1, 2, 1000)] == ["0 hits", "1 hit", "2 hits", "1,000 hits"]
    assert (counted(1, "miss", "misses"), counted(2, "miss", "misses")) == ("1 miss", "2 misses")
    assert (counted_entries(1), counted_entries(2)) == ("1 entry", "2 entries")
