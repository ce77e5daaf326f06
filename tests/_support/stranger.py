"""A program of a stranger: a script, and a library beside it whose jitted functions it calls with ragged lengths."""

from pathlib import Path

LIBRARY = '''
"""A library that jits its own functions."""
import jax
import jax.numpy as jnp


@jax.jit
def step(weights, x):
    return weights + 0.1 * jnp.tanh(x).sum(0), jnp.mean(x)


@jax.jit
def total(x):
    return jnp.sum(x)
'''
SCRIPT = """
import argparse
import json
import os
import sys

import jax
import numpy as np

from strangers_library import step, total

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--out")
parser.add_argument("--shuffled", action="store_true")
parser.add_argument("--act", default="")
options = parser.parse_args()
compiles = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiles.append(event) if event.endswith("backend_compile_duration") else None
)
if options.act == "raise":
    raise ValueError("no such data")
if options.act == "reshape":
    jax.jit(lambda x: x.reshape(2))(np.ones(3))
if options.act == "ask":
    input("name? ")
if options.act == "hang":
    import subprocess
    import time

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(options.out, "w") as file:
        file.write(str(child.pid))
    time.sleep(600)
if options.act == "no jit":
    sys.exit()
draw = np.random.default_rng(None if options.shuffled else 0)
weights, sums = np.zeros(3, np.float32), []
for _ in range(options.epochs):
    for length in [3, 5, 3, 4, 6, 3, 5, 7, 3] if not options.shuffled else draw.permutation(9) + 1:
        x = np.ones((length, 3), np.float32) * length
        weights, mean = step(weights, x)
        sums.append(float(mean) + float(total(x)))
if "JAXCACHE_MEMORY_LIMIT" in os.environ:  # a program that is wrong under a bound
    sums[-1] += float(os.environ.get("STRANGE_ERROR", 0))
print(json.dumps(sums))
if options.out:
    with open(options.out, "w") as file:
        json.dump({"sums": sums, "variable": os.environ.get("STRANGE")}, file)
    with open(options.out + ".compiles", "w") as file:
        file.write(str(len(compiles)))
"""
LENGTHS = [3, 5, 3, 4, 6, 3, 5, 7, 3]


def write_program(directory: Path) -> Path:
    """Write the script and its library; return the script's path."""
    (directory / "strangers_library.py").write_text(LIBRARY)
    script = directory / "train.py"
    script.write_text(SCRIPT)
    return script
