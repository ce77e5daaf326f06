"""Which directory a sweep writes to: a new one, or that of the same sweep if it was cut off.

A sweep is recognised by content: the ids of its trials, which hold their settings and the sources, and its cost table.
Whoever works in a directory holds a lock on it that the system drops with the process.
"""

import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from jaxcache.lab.analysis.sweep import MANIFEST, Manifest
from jaxcache.lab.running.launch import RESULT, TRIALS, scratch, usable_result
from jaxcache.lab.trial import write_json

from ..planning.plan import Plan, UsageError, added, summands

_LOCK, _CLAIMS = "sweep.lock", ".claims.lock"
_RESUME = "sweep.resume="
_CUT_OFF = (None, "interrupted")


def claim(plan: Plan) -> Path:
    """Return the directory for this sweep, locked until the process ends, its manifest written.

    It is the one that ``sweep.resume`` names; else the newest of the same sweep that is unfinished; else a new one. The
    one that is named may be finished, if results of it were damaged since.

    Raises:
        UsageError: If ``sweep.resume`` names no unfinished sweep of these trials, or the sweep is under way elsewhere.
    """
    with _claiming(plan.sweep.directory):
        given = plan.sweep.resume
        if given is not None:
            _check(plan, given)
        found = given or next(_unfinished(plan), None)
        if found is None:
            _tell_of_other_sources(plan)
        directory = found or _new_directory(plan)
        hold(directory)
        if found is None:
            write_json(directory / MANIFEST, _manifest(plan))
        for trial in directory.glob("*/*/"):  # of a process that had done its work when the sweep was killed
            shutil.rmtree(scratch(trial), ignore_errors=True)
        return directory


@contextlib.contextmanager
def _claiming(directory: Path) -> Iterator[None]:
    """Be alone: two that start at once must not both find nothing."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(directory / _CLAIMS))
        except OSError as error:
            raise UsageError(f"sweep.directory={directory} cannot be written to ({error.strerror})") from error
        yield


def begin(plan: Plan, directory: Path) -> None:
    """Make a directory of the caller's choice that of a sweep which is about to start."""
    directory.mkdir(parents=True)
    write_json(directory / MANIFEST, _manifest(plan))


def hold(directory: Path) -> None:
    """Lock a sweep's directory until this process ends; a process may do so more than once.

    Raises:
        UsageError: If another process holds it.
    """
    lock = FileLock(directory / _LOCK, is_singleton=True, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError(
            f"this very sweep is under way in {directory}; wait for it, or give another sweep.directory"
        ) from None
    except OSError as error:
        raise UsageError(f"the sweep's directory {directory} cannot be written to ({error.strerror})") from error
    _held.append(lock)


_held: list[FileLock] = []  # a lock that nobody refers to is dropped


def read_manifest(directory: Path) -> Manifest | None:
    """Return what the sweep of a directory says of itself, or None if nothing that can be read is there."""
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def mark_reported(directory: Path) -> None:
    """Note that a sweep has its report: until then, it is unfinished."""
    manifest = read_manifest(directory)
    if manifest is not None:
        write_json(directory / MANIFEST, manifest.model_copy(update={"reported": True}))


def command(directory: Path) -> str:
    """Return what to type to go on with a sweep."""
    return f"python -m flows.sweep {shlex.quote(f'sweep.resume={directory}')}"


def advice(directory: Path) -> str:
    """Return what to do after the flow broke: go on, or, with all trials done, make the report."""
    manifest = read_manifest(directory)
    if manifest is not None and manifest.ended not in _CUT_OFF:
        return f"All trials are done: python -m flows.report {shlex.quote(str(directory))}"
    return f"To go on: {command(directory)}"


def saved_words(words: list[str]) -> list[str]:
    """Return the words of the sweep that ``sweep.resume=<directory>`` names, with what is given beside it.

    Of each list, if they are several.
    """
    word = next(one for one in words if one.startswith(_RESUME))
    manifest = read_manifest(Path(word.partition("=")[2].strip("'\"")))
    saved = () if manifest is None else manifest.words
    anew = {one.partition("=")[0] for one in words}
    return added([*(one for one in each if one.partition("=")[0] not in anew), *words] for each in summands(saved))


def _check(plan: Plan, directory: Path) -> None:
    manifest = read_manifest(directory)
    if manifest is None:
        raise UsageError(f"sweep.resume={directory} is not the directory of a sweep")
    if not _is_unfinished(manifest) and not _is_damaged(directory, manifest):
        raise UsageError(f"sweep.resume={directory} is finished; leave sweep.resume out to run it anew")
    if not _same(plan, manifest):
        raise UsageError(
            f"sweep.resume={directory} is of other trials, costs or sources; give it alone, or leave it out"
        )


def _unfinished(plan: Plan) -> Iterator[Path]:
    """Yield the directories of this sweep in which there is something left to do, the newest first."""
    for path in sorted(plan.sweep.directory.glob(f"*/{MANIFEST}"), reverse=True):
        manifest = read_manifest(path.parent)
        if manifest is not None and _is_unfinished(manifest) and _same(plan, manifest):
            yield path.parent


def _tell_of_other_sources(plan: Plan) -> None:
    """Say that the newest sweep of these words is unfinished, but cannot be gone on with: its trials were others."""
    for path in sorted(plan.sweep.directory.glob(f"*/{MANIFEST}"), reverse=True):
        manifest = read_manifest(path.parent)
        if manifest is not None and manifest.words == plan.command:
            if manifest.ended in _CUT_OFF:
                print(
                    f"sweep: {path.parent} is an unfinished sweep of this command, but of other sources, configs or "
                    "costs: starting anew",
                    file=sys.stderr,
                )
            return


def _is_unfinished(manifest: Manifest) -> bool:
    return manifest.ended in _CUT_OFF or not manifest.reported


def _is_damaged(directory: Path, manifest: Manifest) -> bool:
    """Return whether a trial of a finished sweep has left a result that cannot be used."""
    trials = (directory / TRIALS / trial for trial in manifest.order)
    return any((trial / RESULT).exists() and usable_result(trial) is None for trial in trials)


def _same(plan: Plan, manifest: Manifest) -> bool:
    ids = {planned.trial_id for planned in plan.trials}
    return ids == set(manifest.order) and manifest.costs_hash == plan.costs.digest


def _new_directory(plan: Plan) -> Path:
    directory = plan.sweep.directory / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    directory.mkdir()
    return directory


def _manifest(plan: Plan) -> Manifest:
    return Manifest(
        command=" ".join(["python -m flows.sweep", *plan.command]),
        words=plan.command,
        order=tuple(planned.trial_id for planned in plan.trials),
        costs_hash=plan.costs.digest,
        persistent=tuple(sorted({planned.trial.persistent.mode for planned in plan.trials})),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
