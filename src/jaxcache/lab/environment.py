"""Environment that a result was obtained in: versions, machine, commit."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "scipy", "prefect", "hydra-core", "omegaconf", "pydantic")
_SOURCES = Path(__file__).resolve().parents[1]


class Environment(BaseModel):
    """Versions, machine and commit that a result depends on.

    Attributes:
        code_version: Hash of jaxcache's source files.
        git_commit: Commit of the working directory's repository; None without one.
        git_dirty: Whether tracked files differ from that commit.
        lock_hash: SHA-256 of ``requirements.lock``; None without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    python: str
    packages: dict[str, str]
    system: str
    processor: str
    cores: int
    code_version: str
    git_commit: str | None
    git_dirty: bool | None
    lock_hash: str | None

    def computes_as(self, other: "Environment") -> bool:
        """Return whether packages and processor are equal, so that a program gives the same bits in both."""
        return (self.packages, self.processor) == (other.packages, other.processor)


@functools.cache
def code_version(root: Path = _SOURCES) -> str:
    """Return the hash of the source files under a directory, by default jaxcache's."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@functools.cache
def environment() -> Environment:
    """Return the present environment, which a process reads once."""
    lock = Path("requirements.lock")
    installed = {dist.name.lower(): dist.version for dist in map(_distribution, _PACKAGES) if dist is not None}
    status = _git("status", "--porcelain", "--untracked-files=no")
    return Environment(
        python=platform.python_version(),
        packages=installed,
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        code_version=code_version(),
        git_commit=_git("rev-parse", "HEAD"),
        git_dirty=None if status is None else bool(status),
        lock_hash=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
    )


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
