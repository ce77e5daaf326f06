"""Which NVIDIA GPUs a process may use. Neither JAX nor CUDA is asked: they would take them."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..._jax.fingerprint import installed_plugins

VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPU = re.compile(r"^GPU (\d+): (.*?) *\(UUID: ([^)]+)\)", re.MULTILINE)  # a line of nvidia-smi -L


def find_gpus() -> list[str]:
    """Return each GPU as what ``CUDA_VISIBLE_DEVICES`` must be for it alone; none without a driver.

    Raises:
        ValueError: If ``CUDA_VISIBLE_DEVICES`` names one that is not there.
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

    CUDA counts devices by their position in it, and ignores the first negative or empty entry and what follows.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return None
    entries: list[str] = []
    for entry in (part.strip() for part in given.split(",")):
        if not entry or entry.startswith("-"):
            break
        entries.append(entry)
    return entries


def visible_entry(index: int) -> str:
    """Return what ``CUDA_VISIBLE_DEVICES`` must be for the GPU that is now number ``index``.

    Raises:
        RuntimeError: If fewer are visible.
    """
    entries = visible_entries()
    if entries is None:
        return str(index)
    if index >= len(entries):
        raise RuntimeError(f"asked for GPU {index}, but {VISIBLE}={os.environ[VISIBLE]} leaves {len(entries)}")
    return entries[index]


def models_and_identities(entries: Sequence[str]) -> list[tuple[str, str]]:
    """Return what the driver calls the GPU of each entry of ``CUDA_VISIBLE_DEVICES``, and its UUID.

    Of what is not listed, such as a part of a GPU, no model, and the entry.
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
    """Whether JAX has a plugin for CUDA installed, and ``JAX_PLATFORMS`` does not keep it from it."""
    asked = os.environ.get("JAX_PLATFORMS")
    if asked and not {"cuda", "gpu"} & set(asked.lower().split(",")):
        return False
    return any("cuda" in plugin for plugin in installed_plugins())


def _installed() -> tuple[int, list[str]]:
    """Return how many GPUs the driver shows, and the UUIDs of them and of their parts, as far as they are known."""
    listed = _listed()
    if listed is None:  # in a container that has the driver but not its programs
        return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in Path("/dev").glob("nvidia*")), []
    return len(re.findall(r"^GPU \d+:", listed, re.MULTILINE)), re.findall(r"UUID: ([^)]+)\)", listed)


def _listed() -> str | None:
    """Return what ``nvidia-smi -L`` lists, nothing if it fails, and None if it is not there."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except FileNotFoundError:
        return None
    except (OSError, subprocess.SubprocessError):
        return ""
