"""NVIDIA GPUs that a process may use, listed without JAX or CUDA, which would allocate memory on them."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..._jax.plugins import installed_plugins

VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPU = re.compile(r"^GPU (\d+): (.*?) *\(UUID: ([^)]+)\)", re.MULTILINE)  # a line of nvidia-smi -L


def find_gpus() -> list[str]:
    """Return each GPU as the value of ``CUDA_VISIBLE_DEVICES`` that shows it alone; none without a driver.

    Raises:
        ValueError: If ``CUDA_VISIBLE_DEVICES`` names a GPU that does not exist.
    """
    there, names = _installed()
    if not there:
        return []
    visible = visible_entries()
    if visible is None:
        return [str(index) for index in range(there)]
    for entry in visible:
        if entry.isdigit() and int(entry) >= there:
            raise ValueError(
                f"{VISIBLE}={os.environ[VISIBLE]} names GPU {entry}, but this machine has {there}, numbered from 0; "
                "unset it, or name one of those"
            )
        if not entry.isdigit() and names and not any(name.startswith(entry) for name in names):
            raise ValueError(
                f"{VISIBLE}={os.environ[VISIBLE]} names {entry}, which nvidia-smi -L does not list; "
                "unset it, or name one that is listed"
            )
    return visible


def visible_entries() -> list[str] | None:
    """Return the entries of ``CUDA_VISIBLE_DEVICES`` that CUDA heeds, or None if it is not set.

    CUDA numbers devices by their position in it, and ignores the first negative or empty entry and all after it.
    """
    value = os.environ.get(VISIBLE)
    if value is None:
        return None
    entries: list[str] = []
    for entry in (part.strip() for part in value.split(",")):
        if not entry or entry.startswith("-"):
            break
        entries.append(entry)
    return entries


def visible_entry(index: int) -> str:
    """Return the value of ``CUDA_VISIBLE_DEVICES`` that shows the GPU that is now number ``index``.

    Raises:
        RuntimeError: If fewer GPUs are visible.
    """
    entries = visible_entries()
    if entries is None:
        return str(index)
    if index >= len(entries):
        raise RuntimeError(f"asked for GPU {index}, but {VISIBLE}={os.environ[VISIBLE]} leaves {len(entries)}")
    return entries[index]


def models_and_identities(entries: Sequence[str]) -> list[tuple[str, str]]:
    """Return the model name and the UUID of the GPU of each entry of ``CUDA_VISIBLE_DEVICES``.

    An entry that the driver does not list, such as a part of a GPU, has no model, and itself in place of the UUID.
    """
    listed = _GPU.findall(_listed() or "")
    return [
        next(
            ((model, identity) for number, model, identity in listed
             if entry == number or (not entry.isdigit() and identity.startswith(entry))),
            ("", entry),
        )
        for entry in entries
    ]  # fmt: skip


def jax_can_use_gpus() -> bool:
    """Return whether JAX has a CUDA plugin installed that ``JAX_PLATFORMS`` does not exclude."""
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms and not {"cuda", "gpu"} & set(platforms.lower().split(",")):
        return False
    return any("cuda" in plugin for plugin in installed_plugins())


def _installed() -> tuple[int, list[str]]:
    """Return how many GPUs the driver shows, and the UUIDs of them and of their parts, as far as it lists them."""
    listed = _listed()
    if listed is None:  # in a container that has the driver but not its programs
        return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in Path("/dev").glob("nvidia*")), []
    return len(re.findall(r"^GPU \d+:", listed, re.MULTILINE)), re.findall(r"UUID: ([^)]+)\)", listed)


def _listed() -> str | None:
    """Return the output of ``nvidia-smi -L``, empty if it fails, and None if the program is missing."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except FileNotFoundError:
        return None
    except (OSError, subprocess.SubprocessError):
        return ""
