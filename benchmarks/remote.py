"""Warm starts by an object store that is a round trip away, against those by a local directory and by JAX's own cache.

    pip install --target FOLDER 'etils[epath]' s3fs     # JAX's own cache needs them to read s3://
    python -m benchmarks.remote [--programs 100] [--round-trip-ms 50] [--starts 3] [--jax-packages FOLDER]

The store is a server of the S3 protocol on a loopback address, behind a proxy that delays each connection and each
request by a round trip. Every start is a process of its own that compiles, or reads, the same small programs. ``local``
has them in its directory; ``remote`` has an empty one; ``dead`` has a remote that accepts connections and answers
nothing, against ``cold`` without one. ``jax remote`` is JAX's own cache in the same bucket behind the same proxy, and
``jax local`` in a directory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.record import record
from tests._support.object_servers import Proxy, make_bucket, s3_environment, s3_server

Rows = dict[str, list[dict[str, float]]]  # starts by their kind

_CHILD = """
import json, sys, time
import jax, numpy as np
import jaxcache
options = json.loads(sys.argv[1])
directory, programs = options.pop("directory"), options.pop("programs")
jax.devices()
x = np.ones(64, np.float32)
shared, waited = jaxcache.use_directory(directory, **options), 0.0
def timed(function):
    def call(*args, **kwargs):
        global waited
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            waited += time.perf_counter() - began
    return call
if shared._remote is not None:
    for name in ("find", "offer", "close"):
        setattr(shared._remote, name, timed(getattr(shared._remote, name)))
started = time.perf_counter()
for number in range(programs):
    jax.jit(lambda x: jax.numpy.tanh(x * number) @ x + number)(x).block_until_ready()
shared.close()
seconds = time.perf_counter() - started
counts = shared.process_counts()
print(json.dumps({"seconds": seconds, "waited_seconds": waited, "hits": counts.hits,
                  "remote_hits": counts.remote_hits, "published": counts.published, "misses": counts.misses}))
"""
_JAX_CHILD = """
import json, sys, time
import jax, numpy as np
options = json.loads(sys.argv[1])
jax.config.update("jax_compilation_cache_dir", options["directory"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.devices()
x = np.ones(64, np.float32)
started = time.perf_counter()
for number in range(options["programs"]):
    jax.jit(lambda x: jax.numpy.tanh(x * number) @ x + number)(x).block_until_ready()
print(json.dumps({"seconds": time.perf_counter() - started}))
"""


def start(environment: dict[str, str], child: str = _CHILD, **options: object) -> dict[str, float]:
    """Run the programs in a fresh process; return its seconds and counts."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", child, json.dumps(options)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print a table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--jax-packages", metavar="FOLDER", help="with etils and s3fs, for JAX's own cache")
    options = parser.parse_args()
    with s3_server() as port, tempfile.TemporaryDirectory() as scratch:
        make_bucket(port, "bench")
        proxy = Proxy(port, options.round_trip_ms / 1000)
        rows = measure(proxy, Path(scratch), options.programs, options.starts)
        if options.jax_packages:
            rows |= measure_jax(proxy, Path(scratch), options.programs, options.starts, options.jax_packages)
        proxy.close()
    report(rows, options)


def measure(proxy: Proxy, scratch: Path, programs: int, starts: int) -> Rows:
    """Return the starts of each kind, which take turns."""
    environment, remote = s3_environment(proxy.port), "s3://bench/jax"
    rows: Rows = {name: [] for name in ("cold", "published", "local", "remote", "dead")}
    rows["published"].append(start(environment, directory=str(scratch / "first"), programs=programs, remote=remote))
    for number in range(starts):
        local = {"directory": str(scratch / "first"), "programs": programs}
        rows["local"].append(start(environment, **local))
        proxy.requests.clear()
        empty = {"directory": str(scratch / f"remote{number}"), "programs": programs, "remote": remote}
        rows["remote"].append(start(environment, **empty) | {"requests": len(proxy.requests)})
        rows["cold"].append(start(environment, directory=str(scratch / f"cold{number}"), programs=programs))
        proxy.behaviour = "hang"
        rows["dead"].append(
            start(environment, directory=str(scratch / f"dead{number}"), programs=programs, remote=remote)
        )
        proxy.behaviour = "pass"
    return rows


def measure_jax(proxy: Proxy, scratch: Path, programs: int, starts: int, folder: str) -> Rows:
    """Return warm starts of JAX's own cache."""
    environment = {**s3_environment(proxy.port), "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": folder}
    directories = {"jax local": str(scratch / "jax"), "jax remote": "s3://bench/own"}
    rows: Rows = {name: [] for name in directories}
    for number in range(starts + 1):  # the first fills it
        for name, directory in directories.items():
            proxy.requests.clear()
            row = start(environment, _JAX_CHILD, directory=directory, programs=programs)
            if number:
                rows[name].append(row | {"requests": len(proxy.requests)})
    return rows


def report(rows: Rows, options: argparse.Namespace) -> None:
    """Print the medians, and write everything to benchmarks/results."""
    median = {name: statistics.median(each["seconds"] for each in starts) for name, starts in rows.items()}
    ours = {name: starts for name, starts in rows.items() if not name.startswith("jax")}
    waited = {name: statistics.median(each["waited_seconds"] for each in starts) for name, starts in ours.items()}
    over = {
        "remote over local": median["remote"] - median["local"],
        "calls of the remote, all hits": waited["remote"],
        "calls of the remote, publishing": waited["published"],
        "calls of the remote, dead": waited["dead"],
    }
    if "jax remote" in median:
        over["jax remote over jax local"] = median["jax remote"] - median["jax local"]
    requests = max(int(each["requests"]) for each in rows["remote"])
    for name, seconds in {**median, **over}.items():
        print(f"{name:<42} {seconds:7.2f} s")
    print(f"{'requests for all hits, listing, manifest':<42} {requests:4}")
    measured = {"median_seconds": median, "over_seconds": over, "starts": rows, "requests": requests}
    print(f"\nwritten to {record('remote', measured, settings=vars(options))}")


if __name__ == "__main__":
    main()
