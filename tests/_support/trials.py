"""Small trials for tests."""

from typing import Any

from jaxcache.lab.trial import Trial

WORKLOADS: dict[str, dict[str, Any]] = {
    "iterative_solver": {"name": "iterative_solver", "requests": 8, "tolerance": 1e-5, "max_steps": 500},
    "monte_carlo": {"name": "monte_carlo", "requests": 8, "paths": 256, "steps": 8, "volatility": 0.2},
    "gradient_optimization": {
        "name": "gradient_optimization", "requests": 8, "features": 5, "rows": 200, "rows_per_length": 2,
        "learning_rate": 0.05, "tolerance": 1e-3,
    },
    "optimization_loop": {
        "name": "optimization_loop", "requests": 8, "features": 4, "rows_per_length": 8, "tolerance": 1e-3,
        "max_steps": 50,
    },
    "least_squares": {
        "name": "least_squares", "requests": 8, "rows_per_length": 16, "noise": 0.05, "tolerance": 1e-3,
    },
}  # fmt: skip


def small_trial(workload: str | dict[str, Any] = "iterative_solver", **changes: Any) -> Trial:
    config: dict[str, Any] = {
        "workload": WORKLOADS[workload] if isinstance(workload, str) else workload,
        "shapes": {"name": "zipf", "smallest": 4, "largest": 20, "distinct": 3, "exponent": 1.0},
        "eviction": {"name": "lru"},
        "memory_limit": "2MiB",
        "persistent": {"mode": "off"},
        "seed": 0,
    }
    return Trial.model_validate({**config, **changes})
