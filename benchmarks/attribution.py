"""Share of a process's tracing, lowering and compiling seconds that a watch attributes to a line of the user's code.

    python -m benchmarks.attribution

Each program runs in a process of its own, under plain `jax.jit` and with `jaxcache.install` before it. The seconds are
those of JAX's own events, as an observer of this benchmark's counts them: what lies within another span of the same
thread is counted once. A record is attributed if its call site is a line of the program's own file. The goal is 95 %.
Programs with libraries that are not installed are left out.
"""

import argparse
import ast
import importlib.util
import json
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import jax
from jax import monitoring

import jaxcache
from benchmarks import warm_start
from benchmarks.record import record

_COMPILING = "/jax/core/compile/"
_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EQUINOX = """
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax

model = eqx.nn.MLP(4, 1, 32, 2, key=jax.random.PRNGKey(0))
optimizer = optax.adam(1e-2)
state = optimizer.init(eqx.filter(model, eqx.is_array))

@eqx.filter_jit
def step(model, state, x, y):
    loss, grads = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(x) - y) ** 2))(model)
    updates, state = optimizer.update(grads, state, model)
    return loss, eqx.apply_updates(model, updates), state

for batch in (8, 16, 8, 24, 5):
    x = np.random.default_rng(batch).normal(size=(batch, 4)).astype(np.float32)
    loss, model, state = step(model, state, x, x.sum(1, keepdims=True))
    print(float(loss), float(jnp.abs(model.layers[0].weight).max()))
"""
FLAX = """
import jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx

class Model(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(4, 32, rngs=rngs), nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))

model = Model(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

@nnx.jit
def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss

for batch in (8, 16, 8, 24, 5):
    x = np.random.default_rng(batch).normal(size=(batch, 4)).astype(np.float32)
    print(float(step(model, optimizer, x, x.sum(1, keepdims=True))))
"""
SOURCES = {"equinox": EQUINOX, "flax": FLAX}
SCRIPTS = {  # the suite compiles nothing by itself
    path.stem.replace("_", " "): str(path) for path in sorted(_EXAMPLES.glob("*.py")) if path.stem != "suite"
}


def can_run(source: str) -> bool:
    """Return whether all that a program imports is installed."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return all(importlib.util.find_spec(name.partition(".")[0]) for name in names)


class _Spans:
    """Seconds within JAX's events, by thread: spans within others are counted once."""

    def __init__(self) -> None:
        self._spans: dict[int, list[tuple[float, float]]] = {}
        monitoring.register_event_duration_secs_listener(self._on_end)

    def _on_end(self, event: str, duration_secs: float, **_: object) -> None:
        if event.startswith(_COMPILING):
            now = time.perf_counter()
            self._spans.setdefault(threading.get_ident(), []).append((now - duration_secs, now))

    def seconds(self) -> float:
        """Return the length of the union of all spans, summed over threads."""
        total = 0.0
        for spans in self._spans.values():
            reached = float("-inf")
            for began, ended in sorted(spans):
                total += max(0.0, ended - max(began, reached))
                reached = max(reached, ended)
        return total


def attribute(program: str, file: str, limit: str | None) -> dict[str, Any]:
    """Run a program in this process; return its seconds in all, and those attributed to lines of its own."""
    if limit is not None:
        jaxcache.install(limit)
    spans, watched = _Spans(), jaxcache.watch()
    with watched:
        if program in warm_start.PROGRAMS:
            jax.block_until_ready(warm_start.PROGRAMS[program](jax.jit))
        else:
            runpy.run_path(file, run_name="__main__")
    records = [*watched.compiles, *watched.traced]
    own = [each for each in records if Path(each.call_site.rpartition(":")[0]).resolve() == Path(file).resolve()]
    others = sorted({each.call_site for each in records} - {each.call_site for each in own})
    seconds = spans.seconds()
    return {
        "seconds": seconds,
        "recorded": sum(each.seconds for each in records) / seconds,
        "attributed": sum(each.seconds for each in own) / seconds,
        "programs": len(watched.compiles),
        "sites_elsewhere": others[:10],
    }  # fmt: skip


def elsewhere(program: str, file: str, limit: str | None) -> dict[str, Any]:
    """Do one measurement in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.attribution", "--program", program, "--file", file]
    command += [] if limit is None else ["--limit", limit]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print and record the shares."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attribution", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for name in ("--program", "--file", "--limit"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.program:
        print(json.dumps(attribute(options.program, options.file, options.limit)))
        return
    files = {name: str(warm_start.__file__) for name in warm_start.PROGRAMS}
    files |= {name: file for name, file in SCRIPTS.items() if can_run(Path(file).read_text())}
    with tempfile.TemporaryDirectory() as folder:
        for name, source in SOURCES.items():
            if can_run(source):
                files[name] = f"{folder}/{name}_loop.py"
                Path(files[name]).write_text(source)
        measured = {}
        for name, file in files.items():
            measured[name] = {kind: elsewhere(name, file, limit) for kind, limit in
                              (("jax.jit", None), ("installed", "1GiB"))}  # fmt: skip
            for kind, shares in measured[name].items():
                print(f"{name:18} {kind:10} {shares['attributed']:6.1%} of {shares['seconds']:6.2f} s, "
                      f"{shares['programs']} programs {shares['sites_elsewhere'] or ''}")  # fmt: skip
    print(f"written to benchmarks/results/{record('attribution', measured).name}")


if __name__ == "__main__":
    main()
