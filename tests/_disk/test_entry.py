"""The file of an entry: nothing but what was written is ever read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcache._disk.entry_format import EntryFault, EntryMeta, decode, encode

META = EntryMeta("jit_f-1", "0123", 1.25, 1e9)
SECRET = b"k" * 32


@given(st.binary(max_size=300), st.text(min_size=1), st.floats(0, 1e9), st.sampled_from([None, SECRET]))
def test_what_is_written_is_read(payload, key, seconds, secret):
    meta = EntryMeta(key, "0123", seconds, 1e9)
    assert decode(encode(meta, payload, secret), key, "0123", secret) == (meta, payload)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_no_truncation_is_read(secret):
    content = encode(META, b"payload" * 10, secret)
    for length in range(len(content)):
        with pytest.raises(EntryFault):
            decode(content[:length], META.key, META.fingerprint, secret)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_no_flipped_bit_is_read(secret):
    content = encode(META, b"payload", secret)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EntryFault):
            decode(bytes(flipped), META.key, META.fingerprint, secret)


@given(st.binary(max_size=200))
def test_no_foreign_file_is_read(content):
    with pytest.raises(EntryFault):
        decode(content, META.key, META.fingerprint, None)


def test_an_entry_of_another_key_build_or_secret_is_not_read():
    content = encode(META, b"payload", SECRET)
    for key, fingerprint, secret, reason in [
        ("jit_g-1", "0123", SECRET, "foreign"), ("jit_f-1", "4567", SECRET, "foreign"),
        ("jit_f-1", "0123", b"x" * 32, "wrong_signature"), ("jit_f-1", "0123", None, "signed"),
    ]:  # fmt: skip
        with pytest.raises(EntryFault) as told:
            decode(content, key, fingerprint, secret)
        assert told.value.reason == reason
    with pytest.raises(EntryFault) as told:
        decode(encode(META, b"payload", None), "jit_f-1", "0123", SECRET)
    assert told.value.reason == "unsigned"
