"""Fingerprints: versions, the very build, devices, driver and CPU, which must be equal for programs to be shared."""

import csv
import functools
import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LIBRARIES = (".so", ".dylib", ".pyd", ".dll")
_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Short id of a build and machine, and the parts that it stands for."""

    id: str
    parts: Mapping[str, str]


def fingerprint_of(parts: Mapping[str, str]) -> Fingerprint:
    """Return the fingerprint of named parts: equal ids mean equal parts."""
    text = "\n".join(f"{name}={parts[name]}" for name in sorted(parts))
    return Fingerprint(hashlib.sha256(text.encode()).hexdigest()[:16], dict(parts))


@functools.cache
def machine_parts() -> Mapping[str, str]:
    """Return the parts for this process. Starts JAX's backend, so ask for it only once a program compiles.

    JAX's key knows the version of jaxlib and not its build: two builds of one version have met in shared directories
    and run each other's programs. So the hash of the shared libraries is a part, as pip wrote it down at installation.
    """
    import jax  # here: who only looks at a directory does not wait for it
    from jax import lib as jaxlib

    devices = jax.local_devices()
    client = devices[0].client
    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,  # pyright: ignore[reportPrivateImportUsage]
        "build": _build(),
        "platform": devices[0].platform,
        "platform_version": str(getattr(client, "platform_version", "")),
        "device_kinds": ", ".join(sorted({device.device_kind for device in devices})),
        "driver": _first_line(_NVIDIA, "NVRM"),
        "cpu": f"{platform.system()} {platform.machine()} {_cpu_features()}",
    }


def _build() -> str:
    """Return a hash over the shared libraries of jaxlib, and of plug-ins if JAX has a backend beside the CPU's."""
    names = {"jaxlib", "libtpu"}
    if _may_use_plugins():  # to look for them is to read a file of every distribution that is installed
        points = importlib.metadata.entry_points(group="jax_plugins")
        names |= {point.dist.name for point in points if point.dist is not None}
    hashes = [f"{name}:{line}" for name in sorted(names) for line in _library_hashes(name)]
    if not any(line.startswith("jaxlib:") for line in hashes):  # not installed as a wheel: a local build
        spec = importlib.util.find_spec("jaxlib")
        hashes += [
            line for folder in (spec and spec.submodule_search_locations) or () for line in _library_stats(folder)
        ]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _may_use_plugins() -> bool:
    """Return whether JAX has started another backend than that of the CPU, or does not tell."""
    try:
        from jax._src import xla_bridge  # jax.extend.backend, which has the same, takes a tenth of a second to import

        return set(xla_bridge.backends()) != {"cpu"}
    except Exception:
        return True


def _library_hashes(name: str) -> list[str]:
    """Return the shared libraries of a distribution with their hashes, from the text that pip has written."""
    try:
        record = importlib.metadata.distribution(name).read_text("RECORD") or ""
    except importlib.metadata.PackageNotFoundError:
        return []
    rows = csv.reader(line for line in record.splitlines() if any(suffix in line for suffix in _LIBRARIES))
    hashes = {file: text.partition("=")[2] for file, text, *_ in rows if file.endswith(_LIBRARIES)}
    return sorted(f"{file}={value}" for file, value in hashes.items() if value)


def _library_stats(path: str) -> list[str]:
    folder = Path(path)
    libraries = sorted(library for library in folder.rglob("*") if library.suffix in _LIBRARIES)
    stats = [(library.relative_to(folder), library.stat()) for library in libraries]
    return [f"{name}={stat.st_size}/{stat.st_mtime_ns}" for name, stat in stats]


def _cpu_features() -> str:
    """Return a hash of what the CPU can do: XLA compiles for it, on accelerators' hosts too."""
    features = _first_line(_CPUINFO, "flags") or _first_line(_CPUINFO, "Features") or platform.processor()
    return hashlib.sha256(" ".join(sorted(features.split())).encode()).hexdigest()[:12]


def _first_line(path: Path, begins: str) -> str:
    try:
        with path.open() as lines:
            return next((line.strip() for line in lines if line.startswith(begins)), "")
    except OSError:
        return ""
