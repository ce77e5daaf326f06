"""Which devices there are, and how a process is held to one of them."""

import os
import subprocess

import jax

from .trial import Device


def available_cores() -> list[int]:
    """Return the CPU cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def gpu_count() -> int:
    """Return how many NVIDIA GPUs the driver shows; 0 without a driver. JAX is not asked: it would take them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([index for index in visible.split(",") if index.strip() not in ("", "-1")])
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def find_devices(platform: str = "auto", workers: int | None = None) -> list[Device]:
    """Return one device for each worker.

    Args:
        platform: ``cpu``, ``gpu``, or ``auto`` for GPUs where there are any.
        workers: How many; None for every GPU, or for one CPU slot for every two cores, but at least two slots where
            there are two cores. Slots share the cores evenly, the same number each, so that all compute alike.

    Raises:
        ValueError: If there are fewer devices than workers.
    """
    gpus = gpu_count() if platform in ("auto", "gpu") else 0
    if platform == "gpu" and not gpus:
        raise ValueError("runner.device is gpu, but nvidia-smi lists no GPU; write runner.device=cpu")
    if gpus:
        if workers is not None and workers > gpus:
            raise ValueError(f"runner.workers must be at most {gpus}, the number of GPUs, but is {workers}")
        return [Device(platform="gpu", index=index) for index in range(workers or gpus)]
    cores = available_cores()
    slots = workers or max(min(2, len(cores)), len(cores) // 2)
    if slots > len(cores):
        raise ValueError(f"runner.workers must be at most {len(cores)}, the number of CPU cores, but is {slots}")
    share = len(cores) // slots
    return [
        Device(platform="cpu", index=slot, cores=tuple(cores[slot * share : (slot + 1) * share]))
        for slot in range(slots)
    ]


def hold_to(device: Device) -> str:
    """Hold this process to a device, before JAX has started a backend; return the device as JAX sees it.

    Raises:
        RuntimeError: If a GPU was asked for and JAX started something else.
    """
    if device.platform == "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = str(device.index)
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    else:
        jax.config.update("jax_platforms", "cpu")
        if device.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, device.cores)
    seen = jax.devices()[0]
    if device.platform == "gpu" and seen.platform != "gpu":
        raise RuntimeError(
            f"asked for GPU {device.index}, but JAX started {seen.platform}: is a CUDA jaxlib installed?"
        )
    kind = f" {seen.device_kind}" if seen.device_kind != seen.platform else ""
    place = f" on {len(device.cores)} of {os.cpu_count()} cores" if device.cores else f" {device.index}"
    return f"{seen.platform}{kind}{place}"
