"""Devices of this machine, and how a process is pinned to one of them."""

import os
from collections.abc import Sequence

from ..trial import Device
from .gpus import VISIBLE, find_gpus, jax_can_use_gpus, models_and_identities, visible_entry


def available_cores() -> list[int]:
    """Return the CPU cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def find_devices(
    platform: str = "auto",
    workers: int | None = None,
    gpus: Sequence[int] | None = None,
    gpu_memory_fraction: float | None = None,
) -> list[Device]:
    """Return one device for each worker.

    Args:
        platform: ``cpu``, ``gpu``, or ``auto`` for GPUs where there are any and JAX has a plugin for them.
        workers: Number of devices; None for every GPU, or for one CPU slot for every two cores, but at least two slots
            where there are two cores. Slots have the same number of cores each, so that all compute alike.
        gpus: Positions of the GPUs among the visible ones; None for all.
        gpu_memory_fraction: Share of a GPU's memory that a process allocates ahead; None to allocate as needed.

    Raises:
        ValueError: If a GPU does not exist, or there are fewer devices than workers.
    """
    if gpus is not None and platform == "cpu":
        raise ValueError(f"runner.gpus={list(gpus)} needs runner.device=gpu, but runner.device is cpu")
    wanted = platform == "gpu" or gpus is not None
    count = len(find_gpus()) if wanted or (platform == "auto" and jax_can_use_gpus()) else 0
    if wanted and not count:
        setting = "runner.device is gpu" if gpus is None else f"runner.gpus is {list(gpus)}"
        raise ValueError(f"{setting}, but nvidia-smi lists no GPU; write runner.device=cpu runner.gpus=null")
    if not count:
        return _cpu_slots(workers)
    chosen = _chosen(gpus, count)
    if workers is not None and workers > len(chosen):
        raise ValueError(f"runner.workers must be at most {len(chosen)}, the number of GPUs, but is {workers}")
    indices = chosen[: workers or len(chosen)]
    described = models_and_identities([visible_entry(index) for index in indices])
    return _alike(
        [
            Device(platform="gpu", index=index, memory_fraction=gpu_memory_fraction, model=model, identity=identity)
            for index, (model, identity) in zip(indices, described, strict=True)
        ]
    )


def _alike(gpus: list[Device]) -> list[Device]:
    """Refuse GPUs of different models: results are compared bit for bit, and sums may round differently."""
    models = {gpu.model for gpu in gpus}
    if len(models) > 1:
        same = [gpu.index for gpu in gpus if gpu.model == gpus[0].model]
        raise ValueError(
            f"a sweep compares its trials, so its GPUs must be alike, but they are {', '.join(sorted(models))}; "
            f"name some of one kind, such as runner.gpus=[{','.join(map(str, same))}]"
        )
    return gpus


def _chosen(gpus: Sequence[int] | None, count: int) -> list[int]:
    if gpus is None:
        return list(range(count))
    if not gpus or len(set(gpus)) < len(gpus):
        raise ValueError(f"runner.gpus must name each GPU once, such as [0,1], but is {list(gpus)}")
    absent = [index for index in gpus if index >= count]
    if absent:
        there = "is only GPU 0" if count == 1 else f"are only GPUs 0 to {count - 1}"
        raise ValueError(f"runner.gpus={list(gpus)} names GPU {absent[0]}, but there {there}; null means every one")
    return list(gpus)


def _cpu_slots(workers: int | None) -> list[Device]:
    cores = available_cores()
    slots = workers or max(min(2, len(cores)), len(cores) // 2)
    if slots > len(cores):
        raise ValueError(f"runner.workers must be at most {len(cores)}, the number of CPU cores, but is {slots}")
    share = len(cores) // slots
    return [
        Device(platform="cpu", index=slot, cores=tuple(cores[slot * share : (slot + 1) * share]))
        for slot in range(slots)
    ]


def pin_to_device(device: Device) -> str:
    """Pin this process to a device, before JAX has started a backend; return the device as JAX sees it.

    A process may do so once, since fewer GPUs are visible afterwards.

    Raises:
        RuntimeError: If the device is a GPU and JAX started another backend.
    """
    import jax  # imported late: devices are listed without it

    location = pin_environment(device)
    if device.platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    seen = jax.devices()[0]
    if device.platform == "gpu" and seen.platform != "gpu":
        raise RuntimeError(
            f"asked for GPU {device.index}, but JAX started {seen.platform}: is a CUDA jaxlib installed?"
        )
    kind = f" {seen.device_kind}" if seen.device_kind != seen.platform else ""
    return f"{seen.platform}{kind} {location}"


def pin_environment(device: Device) -> str:
    """Pin this process, and those that it starts, to a device; start no backend. Return where that is, for people."""
    return _show_one_gpu(device) if device.platform == "gpu" else _pin_to_cores(device)


def _show_one_gpu(device: Device) -> str:
    entry = visible_entry(device.index)
    if VISIBLE not in os.environ:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # so that numbers are those of nvidia-smi
    os.environ[VISIBLE] = entry
    if device.memory_fraction is None:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    else:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "true"
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(device.memory_fraction)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    return entry


def _pin_to_cores(device: Device) -> str:
    """Pin this thread, and with it the threads that XLA starts, one for each core that it may use."""
    if not device.cores:
        return str(device.index)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, device.cores)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):  # read by libraries imported after this
        os.environ[name] = str(len(device.cores))
    return f"on {len(device.cores)} of {os.cpu_count()} cores"
