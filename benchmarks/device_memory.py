"""How much of a GPU's memory is taken, inside JAX's own pool and outside of it. Needs only jax."""

import gc
import os
import subprocess
from dataclasses import dataclass
from typing import Self

import jax

# JAX's pool is taken at the start and does not grow: what the driver shows beyond it is code and graphs.
POOL = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"}


@dataclass(frozen=True)
class DeviceMemory:
    """What is taken at one moment.

    Attributes:
        pool_bytes: Of JAX's pool, for arrays and constants; None where the device tells nothing, as on CPU.
        driver_bytes: Of the whole device, by the driver: the pool, loaded code, graphs, and other processes'.
    """

    pool_bytes: int | None
    driver_bytes: int | None

    @classmethod
    def now(cls) -> Self:
        """Return what is taken now."""
        gc.collect()
        stats = jax.devices()[0].memory_stats() or {}
        on_gpu = jax.devices()[0].platform == "gpu"
        return cls(stats.get("bytes_in_use"), driver_bytes() if on_gpu else None)

    def grown(self) -> dict[str, int]:
        """Return by how much either is more now; without what is not known."""
        now = self.now()
        pairs = {
            "grown_in_pool": (self.pool_bytes, now.pool_bytes),
            "grown_in_driver": (self.driver_bytes, now.driver_bytes),
        }
        return {
            key: after - before for key, (before, after) in pairs.items() if before is not None and after is not None
        }


def driver_bytes() -> int | None:
    """Return what the driver says is taken of the first visible GPU; None if it cannot be asked."""
    used = ask_driver("memory.used")
    return int(used) * 1024**2 if used is not None and used.isdigit() else None


def ask_driver(field: str) -> str | None:
    """Return a property of the first visible GPU from ``nvidia-smi``; None if it cannot be asked."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", f"--id={gpu}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
