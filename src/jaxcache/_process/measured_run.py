"""``python -m jaxcache._process.measured_run SETTINGS.json``: one run of an unchanged program, with what it cost.

A sweep starts it in the program's own interpreter, of which it needs the core alone. The settings and the figures are
JSON files, whose keys are the fields of :class:`Settings` and of :func:`_figures`. The program is run as by
``python -m jaxcache run``; a target, ``module:function``, is called with the cache instead.
"""

import atexit
import contextlib
import dataclasses
import importlib
import json
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from .._cache.jit_cache import JitCache
from .._calls.misses import MissStormWarning
from .._disk.disk_cache import DiskCache
from .._disk.use_directory import use_directory
from .._jax import compile_events
from .._jax import interfaces as _jax
from .._primitives.atomic_files import write_file
from .environment import export, export_install
from .install import install
from .run_program import ProgramNotFound, read_script, run_module, run_script


@dataclass(frozen=True)
class Settings:
    """Input of one run.

    Attributes:
        kind: ``script``, ``module`` or ``target``.
        program: Path of the script, name of the module, or ``module:function``.
        args: Arguments of the program.
        figures: File that the figures are written to as the process ends.
        cached: Whether ``jax.jit`` is that of a cache; False for JAX's own.
        limit: Bytes of the cache; None for no limit.
        eviction: Its policy.
        seed: For policies that draw.
        costs: Cost table of the cache; None to measure.
        costs_out: File that the cost table is written to; None for none.
        record: Directory for the requests, whose name ends in ``.npz``; None for no recording.
        directory: Directory of compiled programs; None turns off JAX's persistent cache.
        directory_limit: Its limit in bytes.
        directory_eviction: Its policy.
        layers: Directories that are read after it.
        remote: Object store that is asked last; None for none.
        progress: File that the requests so far are written to while it runs; None for none.
        requests: Expected number of requests; None if it is not known.
    """

    kind: str
    program: str
    args: list[str]
    figures: str
    cached: bool = True
    limit: int | None = None
    eviction: str = "gdsf"
    seed: int = 0
    costs: str | None = None
    costs_out: str | None = None
    record: str | None = None
    directory: str | None = None
    directory_limit: int | None = None
    directory_eviction: str = "lru"
    layers: Sequence[str] = ()
    remote: str | None = None
    progress: str | None = None
    requests: int | None = None


class _Progress:
    """Thread that writes the number of requests so far, and their hits, to a file."""

    _EVERY_SECONDS = 0.5

    def __init__(self, file: str, requests: int | None, cache: JitCache) -> None:
        self._file, self._requests, self._cache = file, requests, cache
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Write from now on, if that has not begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="jaxcache-progress", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Write no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _write(self) -> None:
        written = 0
        while not self._ended.wait(self._EVERY_SECONDS):
            stats = JitCache.stats(self._cache)  # without what JAX holds besides, which takes longer to find out
            served = stats.hits + stats.misses
            if served == written:
                continue
            progress = {"served": served, "requests": self._requests, "hit_rate": stats.hit_rate}
            with contextlib.suppress(OSError):  # a full disk ends no program
                write_file(self._file, json.dumps(progress), durable=False)
            written = served


class _Compiles:
    """Counter of everything that the process compiles, whoever asks for it."""

    def __init__(self, progress: _Progress | None) -> None:
        self._progress = progress
        self.compiled = self.loaded = 0
        self.seconds = self.loading_seconds = 0.0

    def on_traced(self, name: str, seconds: float) -> None:
        """Do nothing: tracing is a part of lowering, or of no compile."""

    def on_lowered(self, name: str, seconds: float) -> None:
        """Count the seconds of making a module."""
        self.seconds += seconds

    def on_compiling(self, name: str) -> None:
        """Have progress written from the first compile on: a process without JAX's threads may fork without a word."""
        if self._progress is not None:
            self._progress.begin()

    def on_compiled(self, name: str, seconds: float, loaded: bool) -> None:
        """Count a program."""
        self.seconds += seconds
        self.loading_seconds += seconds if loaded else 0.0
        self.loaded += loaded
        self.compiled += not loaded


def main(argv: list[str]) -> int:
    """Run the program that a file of settings names.

    Raises:
        BaseException: Whatever the program raises.
    """
    settings = Settings(**json.loads(Path(argv[1]).read_text()))
    try:
        _prepared(settings)()
    except ProgramNotFound as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _prepared(settings: Settings) -> Callable[[], None]:
    """Set the cache up; return what runs the program."""
    code = read_script(settings.program) if settings.kind == "script" else None
    warnings.simplefilter("ignore", MissStormWarning)  # a trial under a tight limit misses often on purpose
    disk = _use_directory(settings)
    cache = _cache_of(settings)
    progress = None
    if cache is not None and settings.progress is not None:
        progress = _Progress(settings.progress, settings.requests, cache)
    _write_at_exit(settings, cache, disk, progress)
    if settings.kind == "script":
        return partial(run_script, settings.program, settings.args, code)
    if settings.kind == "module":
        return partial(run_module, settings.program, settings.args)
    return partial(_call, settings, cache)


def _use_directory(settings: Settings) -> DiskCache | None:
    jax.config.update("jax_enable_compilation_cache", settings.directory is not None)
    if settings.directory is None:
        return None
    tiers: dict[str, Any] = {"layers": settings.layers, "remote": settings.remote}
    options = {"limit": settings.directory_limit, "eviction": settings.directory_eviction, **tiers}
    disk = use_directory(settings.directory, **options)
    export(os.environ, Path(settings.directory), options)
    return disk


def _cache_of(settings: Settings) -> JitCache | None:
    """Return the cache, installed unless a target is given it; None to leave ``jax.jit`` alone."""
    chosen: dict[str, Any] = {"seed": settings.seed, "costs": settings.costs, "record": settings.record}
    if settings.kind == "target":
        return JitCache(settings.limit, settings.eviction, enabled=settings.cached, **chosen)
    if not settings.cached:
        return None
    cache = install(settings.limit, settings.eviction, **chosen)
    export_install(os.environ, settings.limit, settings.eviction, None)
    return cache


def _call(settings: Settings, cache: JitCache | None) -> None:
    """Call a target with the cache."""
    name, _, function = settings.program.partition(":")
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    try:
        target: Any = importlib.import_module(name)
        for part in function.split("."):
            target = getattr(target, part)
    except (ModuleNotFoundError, AttributeError) as error:
        raise SystemExit(f"target={settings.program} cannot be called: {error}") from error
    target(cache)


def _write_at_exit(
    settings: Settings, cache: JitCache | None, disk: DiskCache | None, progress: _Progress | None
) -> None:
    """Have the figures written when the process ends, after whatever the program does at its end."""
    compiles = _Compiles(progress)
    compile_events.observe(compiles)
    process, start_rss_bytes = os.getpid(), _resident_bytes("VmRSS")
    began, processor_began = time.perf_counter(), time.process_time()

    def write() -> None:
        if os.getpid() != process:  # a fork that ended as a program does
            return
        if progress is not None:
            progress.end()
        figures = {
            "wall_seconds": time.perf_counter() - began,
            "processor_seconds": time.process_time() - processor_began,
            "start_rss_bytes": start_rss_bytes,
            "peak_rss_bytes": _resident_bytes("VmHWM"),
            **_figures(compiles, cache, disk),
        }
        if cache is not None:
            if settings.costs_out is not None:
                cache.costs().save(settings.costs_out)
            cache.__exit__()  # writes the last requests
            figures["recording_fault"] = cache.recording_fault
        write_file(settings.figures, json.dumps(figures), durable=False)

    atexit.register(write)


def _figures(compiles: _Compiles, cache: JitCache | None, disk: DiskCache | None) -> dict[str, Any]:
    """Return what was counted; ``statistics`` is None without a cache, ``device`` if no backend was started."""
    return {
        "jax": jax.__version__,
        "fault": _jax.FAULT,
        "device": _device(),
        "programs_compiled": compiles.compiled,
        "programs_loaded": compiles.loaded,
        "compile_seconds": compiles.seconds,
        "loading_seconds": compiles.loading_seconds,
        "recording_fault": None,
        "disk_saved_seconds": 0.0 if disk is None else disk.stats().process.seconds_saved,
        "statistics": None if cache is None else _counts(cache.stats()),
    }


def _counts(stats: Any) -> dict[str, Any]:
    """Return a snapshot of counts as JSON has it."""
    fields = {field.name: getattr(stats, field.name) for field in dataclasses.fields(stats)}
    fields.pop("recent_misses", None)
    if "by_function" in fields:
        fields["by_function"] = {name: _counts(counts) for name, counts in fields["by_function"].items()}
    return {name: dict(value) if hasattr(value, "keys") else value for name, value in fields.items()}


def _device() -> str | None:
    try:
        device = jax.devices()[0]
    except Exception:  # a program that never got one
        return None
    kind = f" {device.device_kind}" if device.device_kind != device.platform else ""
    return f"{device.platform}{kind}"


def _resident_bytes(field: str) -> int:
    """Return resident memory, now (``VmRSS``) or at its most (``VmHWM``)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
    except (OSError, StopIteration, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of macOS in bytes, of others in KiB
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv))
