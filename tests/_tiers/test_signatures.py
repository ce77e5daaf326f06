"""Signed entries: who reads cannot forge; what no trusted key has signed is never loaded, from whatever tier."""

import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from jaxcache import DiskCache
from jaxcache._disk.entry_format import EntryFault, EntryMeta, decode, encode
from jaxcache._disk.key_ring import SIGNATURE_BYTES, make_key, read_keys

from .conftest import PARTS

META = EntryMeta("jit_f-1", "0123", 1.5, 1700000000.0, "jax 0.12, cpu")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "next", "stranger"):
        make_key(folder / name)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def quiet(logged_warnings):
    yield
    logged_warnings.clear()


def ring(keys, *names, sign=None):
    read = read_keys([keys / f"{name}.pub" for name in names] or None, sign and keys / sign)
    assert read is not None
    return read.others


def test_who_trusts_another_key_leaves_entries_where_they_are(keys, tmp_path, quiet):
    options = {"fingerprint": PARTS, "trusted_keys": [keys / "ours.pub"], "sign_key": keys / "ours"}
    with DiskCache(tmp_path / "signed", **options) as ours:
        ours.put("jit_f-1", b"value", 1.0)
    with DiskCache(tmp_path / "signed", fingerprint=PARTS, trusted_keys=[keys / "stranger.pub"]) as stranger:
        checked = stranger.verify()
    assert (checked.bad, checked.unchecked) == (0, 1)
    with DiskCache(tmp_path / "signed", **options) as ours:
        assert ours.get("jit_f-1") == b"value"


def entry_of(root):
    (path,) = root.glob("entries/*/*/*.entry")
    return path


def test_a_signature_is_of_ed25519_as_any_other_program_checks_it(keys):
    content = encode(META, b"payload" * 9, ring(keys, sign="ours"))
    private = serialization.load_pem_private_key((keys / "ours").read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    private.public_key().verify(content[-SIGNATURE_BYTES:], content[:56])  # raises if it is none
    meta, payload = decode(content, "jit_f-1", "0123", ring(keys, "ours"))
    assert (payload, meta.origin, meta.signer) == (b"payload" * 9, META.origin, (keys / "ours.pub").read_text().strip())


@given(data=st.data())
def test_no_changed_byte_and_no_cut_is_loaded(keys, data):
    content = encode(META, b"payload", ring(keys, sign="ours"))
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]
    for spoiled in (flipped, content[:at], content + b"x"):
        with pytest.raises(EntryFault):
            decode(spoiled, "jit_f-1", "0123", ring(keys, "ours"))


@pytest.mark.parametrize(
    ("signed_with", "key", "fingerprint", "reason"),
    [
        ("stranger", "jit_f-1", "0123", "untrusted"),
        (None, "jit_f-1", "0123", "unsigned"),
        (b"k" * 32, "jit_f-1", "0123", "signed"),
        ("ours", "jit_g-1", "0123", "foreign"),
        ("ours", "jit_f-1", "4567", "foreign"),
    ],
)
def test_what_is_forged_unsigned_renamed_or_of_another_build_is_not_loaded(keys, signed_with, key, fingerprint, reason):
    authentication = ring(keys, sign=signed_with) if isinstance(signed_with, str) else signed_with
    with pytest.raises(EntryFault) as refused:
        decode(encode(META, b"payload", authentication), key, fingerprint, ring(keys, "ours"))
    assert refused.value.reason == reason


def test_a_stranger_who_names_the_trusted_key_is_not_believed(keys):
    trusted = (keys / "ours.pub").read_text().strip()
    forger = ring(keys, sign="stranger")
    forged = encode(META, b"evil", type(forger)(forger.trusted, forger.private, trusted))
    with pytest.raises(EntryFault) as refused:
        decode(forged, "jit_f-1", "0123", ring(keys, "ours"))
    assert refused.value.reason == "wrong_signature"


def test_signed_entries_are_read_from_layers_and_the_remote_and_others_are_not(open_cache, tmp_path, keys, quiet):
    pytest.importorskip("obstore")
    (tmp_path / "store").mkdir(mode=0o777)
    (tmp_path / "store").chmod(0o777)  # anybody may write to it: signatures decide
    remote = (tmp_path / "store").as_uri()
    trusted = [keys / "ours.pub"]
    for name, key in [("ours", "jit_f-1"), ("stranger", "jit_g-1")]:
        with open_cache(name, sign_key=keys / name, remote=remote) as publisher:
            publisher.put(key, name.encode(), 1.0)
        assert publisher.process_counts().published == 1
    with open_cache("reader", trusted_keys=trusted, remote=remote) as reader:
        assert (reader.get("jit_f-1"), reader.get("jit_g-1")) == (b"ours", None)
        reader.put("jit_h-1", b"own", 1.0)
        assert reader.get("jit_h-1") == b"own"
    assert reader.process_counts().published == 0  # nobody else would load it
    layers = [tmp_path / "stranger", tmp_path / "ours"]
    with open_cache("layered", trusted_keys=trusted, layers=layers) as layered:
        assert (layered.get("jit_f-1"), layered.get("jit_g-1"), layered.get("jit_h-1")) == (b"ours", None, None)
    with open_cache("reader", trusted_keys=trusted) as again:
        assert (again.get("jit_f-1"), again.get("jit_h-1")) == (b"ours", b"own")


def test_what_was_planted_in_the_directory_itself_is_not_loaded(open_cache, tmp_path, keys, quiet):
    with open_cache("stranger", sign_key=keys / "stranger") as stranger:
        stranger.put("jit_f-1", b"evil", 1.0)
    with open_cache("local", sign_key=keys / "ours") as ours:
        ours.put("jit_f-1", b"good", 1.0)
    shutil.copy(entry_of(tmp_path / "stranger"), entry_of(tmp_path / "local"))
    with open_cache("local", trusted_keys=[keys / "ours.pub"]) as local:
        assert local.get("jit_f-1") is None
        assert local.process_counts().misses_by_reason == {"untrusted": 1}


def test_keys_that_the_environment_names_are_as_those_of_an_argument(open_cache, tmp_path, keys, monkeypatch, quiet):
    with open_cache("stranger", sign_key=keys / "stranger") as stranger:
        stranger.put("jit_f-1", b"evil", 1.0)
    monkeypatch.setenv("JAXCACHE_SIGN_KEY", str(keys / "ours"))
    with open_cache("ours") as ours:
        ours.put("jit_g-1", b"good", 1.0)
    monkeypatch.delenv("JAXCACHE_SIGN_KEY")
    monkeypatch.setenv("JAXCACHE_TRUSTED_KEYS", f"{keys / 'next.pub'},{keys / 'ours.pub'}")
    with open_cache("reader", layers=[tmp_path / "stranger", tmp_path / "ours"]) as reader:
        assert (reader.get("jit_f-1"), reader.get("jit_g-1")) == (None, b"good")


def test_keys_are_rotated_by_trusting_both_for_a_while(open_cache, tmp_path, keys, quiet):
    for name in ("ours", "next"):
        with open_cache(name, sign_key=keys / name) as publisher:
            publisher.put(f"jit_{name}-1", name.encode(), 1.0)
    layers = [tmp_path / "ours", tmp_path / "next"]

    def loaded(folder, *trusted):
        with open_cache(folder, trusted_keys=[keys / f"{name}.pub" for name in trusted], layers=layers) as cache:
            return [cache.get("jit_ours-1"), cache.get("jit_next-1")]

    assert loaded("before", "ours") == [b"ours", None]
    assert loaded("meanwhile", "ours", "next") == [b"ours", b"next"]
    assert loaded("after", "next") == [None, b"next"]


@pytest.mark.parametrize(
    ("trusted", "error", "message"),
    [
        ([], ValueError, "trusted_keys must name a key"),
        ("team.pub", TypeError, "trusted_keys must be a list"),
        (["ed25519:AAAA"], ValueError, "trusted_keys must be public keys"),
        (["ed25519:%%%"], ValueError, "trusted_keys must be public keys"),
        (["no such file"], FileNotFoundError, "no such file"),
    ],
)
def test_what_are_no_keys_is_refused_in_words(tmp_path, trusted, error, message):
    with pytest.raises(error, match=message):
        DiskCache(tmp_path / "local", trusted_keys=trusted)


def test_a_private_key_that_others_can_read_or_that_is_none_is_refused(tmp_path, keys):
    shutil.copy(keys / "ours", tmp_path / "open")
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(ValueError, match=r"sign_key .*can be read by others; mend it with\n  chmod go-rwx"):
        DiskCache(tmp_path / "local", sign_key=tmp_path / "open")
    (tmp_path / "none").write_text("no key")
    (tmp_path / "none").chmod(0o600)
    with pytest.raises(ValueError, match="sign_key must be a key as `jaxcache keygen` makes it"):
        DiskCache(tmp_path / "local", sign_key=tmp_path / "none")


def test_a_shared_key_and_pairs_of_keys_do_not_go_together(tmp_path, keys, monkeypatch):
    monkeypatch.setenv("JAXCACHE_KEY", "k" * 32)
    with pytest.raises(ValueError, match="trusted_keys and sign_key go without key_file"):
        DiskCache(tmp_path / "local", trusted_keys=[keys / "ours.pub"])


def test_a_signed_program_is_verified_by_the_command(open_cache, tmp_path, keys):
    with open_cache("local", sign_key=keys / "ours") as cache:
        cache.put("jit_f-1", b"value", 1.0)
        assert (cache.verify().good, cache.verify().bad) == (1, 0)
    with DiskCache(tmp_path / "local", fingerprint=PARTS) as without:  # counts it, and leaves it alone
        assert without.get("jit_f-1") is None
        assert without.verify().unchecked == 1


def test_cryptography_is_asked_for_only_where_there_are_keys(tmp_path):
    program = """
import sys
from jaxcache import DiskCache
with DiskCache(sys.argv[1], fingerprint={"a": "b"}) as cache:
    cache.put("key", b"value", 1.0)
print(sorted({"cryptography", "obstore"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "local"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
