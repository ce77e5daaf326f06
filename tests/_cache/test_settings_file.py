"""JitCache.from_file takes what flows.tune writes, and says what is wrong with anything else."""

import pickle

import numpy as np
import pytest

from jaxcache import JitCache, bucketed
from tests._support.interpreters import run_python

BEST = """\
# @package _global_
defaults:
  - override /eviction: gdsf
  - override /buckets: optimal
memory_limit: 5598544 # 5.3 MiB
hydra: # the program that this was found for; a cache does not read it
  sweeper:
    params:
      workload: "monte_carlo"
"""


def double(x):
    return 2 * x


def halve(x):
    return x / 2


@pytest.fixture
def file(tmp_path):
    return tmp_path / "best.yaml"


def test_the_limit_and_the_policy_come_from_the_file_and_arguments_win(file):
    file.write_text(BEST)
    with pytest.warns(UserWarning, match=r"best\.yaml was found for buckets, optimal: without jaxcache\.bucketed"):
        cache = JitCache.from_file(file)
    assert cache.limit_bytes == 5598544
    assert type(cache._state.residents._policy).__name__ == "Gdsf"
    file.write_text(BEST.replace("optimal", "none"))
    assert JitCache.from_file(str(file), limit="8MiB").limit_bytes == 8 * 1024**2


def test_the_buckets_come_from_the_file_and_a_bucketed_function_takes_those_of_its_name(file):
    file.write_text(BEST + 'bucket_lengths:\n  "*": [4, 8]\n  double: [16]\n')

    cache = JitCache.from_file(file)  # a warning would be an error: functions can pad
    assert dict(cache.buckets) == {"*": (4, 8), "double": (16,)}
    functions = [bucketed(fun, cache=cache, check=False) for fun in (double, halve)]
    for function in (*functions, pickle.loads(pickle.dumps(functions[0]))):
        np.testing.assert_array_equal(function(np.arange(1.0, 4.0)), function.__wrapped__(np.arange(1.0, 4.0)))
    assert [dict(function.stats().by_bucket) for function in functions] == [{(16,): 1}, {(4,): 1}]
    assert JitCache.from_file(file, buckets={"halve": (32,)}).buckets == {"halve": (32,)}


def test_a_function_without_buckets_is_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"buckets must be given for <lambda>, such as \(64, 128, 256\), or be those of its ca"
    ):
        bucketed(lambda x: x, cache=JitCache(buckets={"g": (8,)}))
    with pytest.raises(ValueError, match="which has none; it has some for g"):
        bucketed(abs, cache=JitCache(buckets={"g": (8,)}))


def test_plain_settings_do_too(file):
    file.write_text("eviction: lru\nmemory_limit: 64MiB\n")
    assert JitCache.from_file(file).limit_bytes == 64 * 1024**2
    file.write_text("eviction: lru\nmemory_limit: null\n")
    assert JitCache.from_file(file).limit_bytes is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eviction: lru\nmemory_limit: 1MiB\nspeed: 3\n", "has the key 'speed'; known are eviction, memory_limit"),
        ("memory_limit: 1MiB\n", "has no eviction"),
        ("eviction: lru\n", "has no memory_limit"),
        ("- 3\n", r"holds \[3\]"),
        ("a: [\n", "cannot be read"),
        ("defaults: 3\neviction: lru\nmemory_limit: 1MiB\n", "defaults must be a list such as .*, but is 3"),
        ("eviction: lru\nmemory_limit: 1MiB\nbucket_lengths: 8\n", "bucket_lengths must be lengths by function"),
        ("eviction: lru\nmemory_limit: 1MiB\nbucket_lengths: {f: 8}\n", r"bucket_lengths\['f'\] must be ascending"),
        ("eviction: lru\nmemory_limit: 1MiB\nbucket_lengths: {f: [8, 4]}\n", r"\['f'\] must be ascending whole"),
        ("eviction: lruu\nmemory_limit: 1MiB\n", "eviction must be"),
        ("eviction: lru\nmemory_limit: -1\n", "limit must be positive"),
    ],
)
def test_what_is_wrong_is_named(file, text, message):
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        JitCache.from_file(file)


def test_what_is_no_text_is_named(file):
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"but .*best\.yaml cannot be read"):
        JitCache.from_file(file)


def test_without_pyyaml_the_extra_is_named(file):
    file.write_text(BEST)
    program = (
        "import sys; sys.modules['yaml'] = None\n"
        f"import jaxcache\ntry: jaxcache.JitCache.from_file({str(file)!r})\nexcept ImportError as e: print(e)"
    )
    done = run_python(program, check=True)
    assert done.stdout == "JitCache.from_file needs PyYAML: pip install 'jaxcache[lab]'\n"
