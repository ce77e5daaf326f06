"""Keep what a benchmark measured, with the versions and the machine that it was measured on."""

import json
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"


def quartiles(ratios: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {"median": round(float(median), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def record(
    name: str, measured: dict[str, Any], *, label: str | None = None, folder: Path = RESULTS, **more: Any
) -> Path:
    """Write ``<folder>/<name>_<date>_jax-<version>_<label>.json`` and return its path.

    The label is the platform unless given; ``more`` is written beside the versions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    device = jax.devices()[0]
    path = folder / f"{name}_{now:%Y-%m-%d}_jax-{jax.__version__}_{label or device.platform}.json"
    processor = _processor()
    content = {
        "benchmark": name,
        "measured": measured,
        "date": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "device": device.device_kind,
        "processor": processor,
        "cores": os.cpu_count(),
        **more,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _processor() -> str:
    """Return the model's name, which Python does not know on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return models[0] if models else platform.processor() or platform.machine()
