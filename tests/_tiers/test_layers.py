"""Layers: read after the directory, in order; never written; a bad entry of theirs is a miss."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

import jaxcache
from jaxcache import DiskCache, DiskCacheWarning, UntrustedDirectoryError
from jaxcache._disk.files import entry_id_of
from jaxcache._process.environment import export, use_directory_of_environment
from tests._support.interpreters import run_python

from .conftest import PARTS


def make_layer(path, entries, **options):
    """Make a layer as the build of an image does: entries, nothing else, nobody may write to it."""
    with DiskCache(path, fingerprint=PARTS, **options) as cache:
        for key, value in entries.items():
            cache.put(key, value, 2.0)
    shutil.rmtree(path / "index", ignore_errors=True)
    return path


def path_in(layer, cache, key):
    entry_id = entry_id_of(cache.fingerprint.id, key)
    return layer / "entries" / entry_id.fingerprint / entry_id.name[:2] / f"{entry_id.name}.entry"


def contents(path):
    """Every file with its content, and the times and modes of all."""
    return {
        each.relative_to(path): (each.stat().st_mtime_ns, each.stat().st_mode, each.is_file() and each.read_bytes())
        for each in [path, *path.rglob("*")]
    }


def test_layers_are_read_in_order_after_the_directory_and_counted(open_cache, tmp_path):
    image = make_layer(tmp_path / "image", {"a": b"of image", "b": b"of image"})
    team = make_layer(tmp_path / "team", {"b": b"of team", "c": b"of team"})
    cache = open_cache("local", layers=[image, team])
    cache.put("a", b"of local", 1.0)
    assert [cache.get(key) for key in "abcd"] == [b"of local", b"of image", b"of team", None]
    counts = cache.stats().process
    assert (counts.hits, counts.layer_hits, counts.misses, counts.copied) == (3, 2, 1, 0)
    assert counts.seconds_saved == pytest.approx(5.0, abs=0.2)
    assert cache.stats().entries == 1
    assert (cache.contains("b"), cache.contains("d")) == (True, False)


def test_nothing_of_a_layer_changes(open_cache, tmp_path):
    layer = make_layer(tmp_path / "layer", {"a": b"value"})
    path_in(layer, open_cache("local"), "broken").parent.mkdir(parents=True, exist_ok=True)
    path_in(layer, open_cache("local"), "broken").write_bytes(b"JAXCACHE")
    before = contents(layer)
    cache = open_cache("local", layers=[layer], copy_layer_hits=True)
    assert cache.get("a") == b"value"
    with pytest.warns(DiskCacheWarning, match=f"the layer {layer} has an entry that cannot be used"):
        assert cache.get("broken") is None
    cache.put("broken", b"mended", 1.0)
    assert cache.get("broken") == b"mended"
    assert contents(layer) == before


def test_what_a_layer_holds_is_copied_if_that_is_asked_for(open_cache, tmp_path):
    layer = make_layer(tmp_path / "layer", {"a": b"value"})
    cache = open_cache("local", layers=[layer], copy_layer_hits=True)
    assert cache.get("a") == b"value"
    shutil.rmtree(layer)
    assert cache.get("a") == b"value"
    stats = cache.stats()
    assert (stats.hits, stats.layer_hits, stats.copied, stats.puts, stats.entries) == (2, 1, 1, 0, 1)
    assert stats.seconds_spent == 0.0
    (row,) = cache.index.rows()
    assert (row.compile_seconds, row.frequency) == (2.0, 2)


def test_a_copy_keeps_the_limit(open_cache, tmp_path):
    layer = make_layer(tmp_path / "layer", dict.fromkeys("abc", b"x" * 3000))
    cache = open_cache("local", layers=[layer], copy_layer_hits=True, limit="8KB")
    assert all(cache.get(key) is not None for key in "abcabc")
    assert cache.stats().size_bytes <= 8000
    assert cache.stats().layer_hits > 3


@pytest.mark.parametrize("spoil", ["truncated", "flipped", "renamed", "empty", "folder", "link"])
def test_a_bad_entry_of_a_layer_is_passed_over_for_the_next(open_cache, tmp_path, spoil):
    bad = make_layer(tmp_path / "bad", {"a": b"the program", "b": b"another"})
    good = make_layer(tmp_path / "good", {"a": b"the program"})
    cache = open_cache("local", layers=[bad, good])
    path = path_in(bad, cache, "a")
    content = path.read_bytes()
    if spoil == "truncated":
        path.write_bytes(content[:-1])
    elif spoil == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif spoil == "renamed":
        path.write_bytes(path_in(bad, cache, "b").read_bytes())
    elif spoil == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir() if spoil == "folder" else path.symlink_to(path_in(good, cache, "a"))
    with pytest.warns(DiskCacheWarning, match="the layer .*bad has an entry that cannot be used"):
        assert cache.get("a") == b"the program"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        assert cache.get("a") == b"the program"
    assert cache.process_counts().faults == 2


def test_a_layer_that_is_not_there_is_told_of_and_left_out(open_cache, tmp_path):
    with pytest.warns(DiskCacheWarning, match="gone is not there"):
        cache = open_cache("local", layers=[tmp_path / "gone"])
    assert cache.get("a") is None


def test_a_layer_that_cannot_be_reached_is_told_of_and_left_out(open_cache, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(DiskCacheWarning, match="layer cannot be reached"):
        cache = open_cache("local", layers=[tmp_path / "file" / "layer"])
    assert cache.get("a") is None


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ("/opt/jax", TypeError, r"layers must be a list of directories, such as \['/opt/jax'\], but is '/opt/jax'"),
        ([""], ValueError, "layers must name directories, but has an empty name"),
        ([__file__], NotADirectoryError, "layers must be a directory, but .* is not one"),
    ],
)
def test_what_are_no_layers_is_refused_in_words(tmp_path, layers, error, message):
    with pytest.raises(error, match=message):
        DiskCache(tmp_path, layers=layers)


def test_a_layer_that_others_may_write_to_is_refused_unless_there_is_a_key(tmp_path, open_cache):
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    layer = make_layer(tmp_path / "layer", {"a": b"value"}, key_file=key)
    layer.chmod(0o777)
    with pytest.raises(UntrustedDirectoryError, match=r"layers .*layer can be written to by others"):
        DiskCache(tmp_path / "local", layers=[layer])
    assert open_cache("with key", layers=[layer], key_file=key).get("a") == b"value"


@pytest.fixture
def reachable():
    """A folder that other users reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away, and takes another user's place")
def test_roots_layers_are_read_by_others_and_other_users_are_not(reachable):
    layer = make_layer(reachable / "layer", {"a": b"value"})
    for each in [layer, *layer.rglob("*")]:
        each.chmod(0o755 if each.is_dir() else 0o644)
    program = """
import os, sys
from jaxcache import DiskCache, UntrustedDirectoryError
layer, local = sys.argv[1:]
os.setuid(12345)
parts = {"jax": "test", "cpu": "test"}
print(DiskCache(local, fingerprint=parts, layers=[layer]).get("a"))
"""
    local = reachable / "local"
    local.mkdir()
    os.chown(local, 12345, 12345)
    assert run_python(program, layer, local).stdout == "b'value'\n"
    os.chown(layer, 23456, 23456)
    refused = run_python(program, layer, local).stderr
    assert f"layers {layer} belongs to user 23456" in refused


def test_layers_reach_the_processes_that_a_program_starts(tmp_path, monkeypatch):
    layer = tmp_path / "layer"
    layer.mkdir(0o700)
    environment = {"LAYERS": "kept"}
    export(environment, tmp_path / "local", {"layers": [layer, layer], "copy_layer_hits": True, "limit": None})
    assert environment["JAXCACHE_LAYERS"] == f"{layer}{os.pathsep}{layer}"
    used = []
    monkeypatch.setattr(
        "jaxcache._process.environment.use_directory", lambda path, **options: used.append((path, options))
    )
    use_directory_of_environment(environment)
    assert used == [(str(tmp_path / "local"), {"layers": [str(layer), str(layer)], "copy_layer_hits": True})]
    export(environment, tmp_path / "local", {"layers": []})
    assert "JAXCACHE_LAYERS" not in environment


def test_the_remote_and_the_keys_reach_the_processes_that_a_program_starts(tmp_path, monkeypatch):
    (tmp_path / "team.key.pub").write_text("ed25519:AAAA\n")
    asked = {
        "remote": "s3://b/x",
        "publish": False,
        "single_flight": False,
        "trusted_keys": [tmp_path / "team.key.pub", "ed25519:BBBB"],
    }
    environment, used = {}, []
    export(environment, tmp_path / "local", asked)
    monkeypatch.setattr("jaxcache._process.environment.use_directory", lambda path, **options: used.append(options))
    use_directory_of_environment(environment)
    assert used == [{**asked, "trusted_keys": ["ed25519:AAAA", "ed25519:BBBB"]}]


def test_a_directory_of_a_program_is_the_layer_of_another_and_a_store_reaches_a_third(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import jax\nprint(float(jax.jit(lambda x: x * 3 + 1)(2.0)))\n")
    run = [sys.executable, "-m", "jaxcache", "run", "--summary"]

    def summary(*options):
        done = subprocess.run([*run, *options, program], capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (0, "7.0\n"), done.stderr
        return next(line for line in done.stderr.splitlines() if "directory:" in line)

    (tmp_path / "store").mkdir(mode=0o700)
    remote = ["--remote", (tmp_path / "store").as_uri()] if importlib.util.find_spec("obstore") else []
    assert " 0 loaded, 1 written" in summary("--dir", tmp_path / "image", *remote)
    layered = summary("--dir", tmp_path / "local", "--layer", tmp_path / "none", "--layer", tmp_path / "image")
    assert " 1 loaded (1 from layers), 0 written" in layered
    if remote:
        assert " 1 loaded (1 from the remote), 0 written" in summary("--dir", tmp_path / "elsewhere", *remote)
    refused = subprocess.run([*run, "--layer", "x", program], capture_output=True, text=True, timeout=120, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "name it by --dir beside --layer x" in refused.stderr


def test_use_directory_takes_layers(tmp_path):
    (tmp_path / "layer").mkdir(0o700)
    shared = jaxcache.use_directory(tmp_path / "local", layers=[tmp_path / "layer"])
    shared.close()
    with pytest.raises(TypeError, match="layers must be a list"):
        jaxcache.use_directory(tmp_path / "local", layers=tmp_path / "layer")
