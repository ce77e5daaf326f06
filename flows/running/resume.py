"""Directory of a sweep: a new one, or that of the same sweep if it was interrupted.

A sweep is recognised by content: its cost table and the ids of its trials, which are hashes of settings and sources. A
process that works in a directory holds a lock on it, which the system releases when the process ends.
"""

import contextlib
import itertools
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from jaxcache.lab.analysis.sweep import Manifest
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import CLAIMS_LOCK, MANIFEST, RESULT, SWEEP_LOCK, TRIALS, scratch
from jaxcache.lab.running.earlier_results import usable_result

from ..planning.errors import UsageError
from ..planning.invocation import command_of
from ..planning.overrides import join_lists, split_lists
from ..planning.plan import Plan
from ..workers.slurm.submission import check_not_under_way

_RESUME = "sweep.resume="
_INTERRUPTED = (None, "interrupted")
_MOST_OTHERS = 20  # sweeps that are looked through for runs of killed processes


def claim(plan: Plan) -> Path:
    """Return the directory for this sweep, locked until the process ends, its manifest written.

    It is the directory that ``sweep.resume`` names; else the newest unfinished one of the same sweep; else a new one.
    A sweep that is named may be finished if some of its results were damaged since, or if its failed trials are to run
    again: it is unfinished then, and their results are removed.

    Raises:
        UsageError: If ``sweep.resume`` names no unfinished sweep of these trials, or the sweep is under way elsewhere.
    """
    with _claiming(plan.sweep.directory):
        resumed = resumed_directory(plan)
        if resumed is None:
            _print_if_sources_changed(plan)
        else:
            check_not_under_way(resumed)
        directory = resumed or _new_directory(plan)
        hold(directory)
        if resumed is None:
            write_json(directory / MANIFEST, _manifest(plan))
        if plan.sweep.retry_failed:
            _drop_failed_results(directory)
        for trial in directory.glob("*/*/"):  # left by processes that had done their work when the sweep was killed
            shutil.rmtree(scratch(trial), ignore_errors=True)
        return directory


def resumed_directory(plan: Plan) -> Path | None:
    """Return the directory of the sweep that this one would go on with; None if it would start anew.

    Raises:
        UsageError: If ``sweep.resume`` names no unfinished sweep of these trials.
    """
    named = plan.sweep.resume
    if named is not None:
        _check(plan, named)
    return named or next(_unfinished(plan), None)


@contextlib.contextmanager
def _claiming(directory: Path) -> Iterator[None]:
    """Lock the choice of a directory: of two equal sweeps that start at once, the second must see the first."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(directory / CLAIMS_LOCK))
        except OSError as error:
            raise UsageError(f"sweep.directory={directory} cannot be written to ({error.strerror})") from error
        yield


def begin(plan: Plan, directory: Path) -> None:
    """Create a directory of the caller's choice for a sweep that is about to start, with its manifest."""
    directory.mkdir(parents=True)
    write_json(directory / MANIFEST, _manifest(plan))


def hold(directory: Path) -> None:
    """Lock a sweep's directory until this process ends; a process may do so more than once.

    Raises:
        UsageError: If another process holds it.
    """
    lock = FileLock(directory / SWEEP_LOCK, is_singleton=True, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError(
            f"this very sweep is under way in {directory}; wait for it, or give another sweep.directory"
        ) from None
    except OSError as error:
        raise UsageError(f"the sweep's directory {directory} cannot be written to ({error.strerror})") from error
    _held.append(lock)


_held: list[FileLock] = []  # a lock without a reference would be released


def abandoned_runs(directory: Path) -> list[str]:
    """Return the Prefect runs of unfinished sweeps beside a directory whose process is gone, of the newest few."""
    others = (path.parent for path in sorted(directory.parent.glob(f"*/{MANIFEST}"), reverse=True))
    newest = itertools.islice((other for other in others if other != directory), _MOST_OTHERS)
    manifests = {other: read_manifest(other) for other in newest}
    unfinished = {
        other: manifest.run_url
        for other, manifest in manifests.items()
        if manifest is not None and manifest.run_url is not None and manifest.ended is None
    }
    if not unfinished:
        return []
    with _claiming(directory.parent):  # a sweep that begins meanwhile must not find its directory held by this look
        return [run_url for other, run_url in unfinished.items() if not _is_held(other)]


def _is_held(directory: Path) -> bool:
    """Return whether a process works in a sweep's directory."""
    lock = FileLock(directory / SWEEP_LOCK, is_singleton=False)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of a sweep's directory, or None if it is missing or damaged."""
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _drop_failed_results(directory: Path) -> None:
    """Remove the results of failed trials, once the manifest says that the sweep is unfinished."""
    manifest = read_manifest(directory)
    assert manifest is not None  # it was checked before the directory was locked
    write_json(directory / MANIFEST, manifest.model_copy(update={"ended": None, "reported": False}))
    for path in _failed_results(directory, manifest):
        path.unlink()


def _failed_results(directory: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield the result files of the trials that failed."""
    for trial_id in manifest.order:
        result = usable_result(directory / TRIALS / trial_id)
        if result is not None and result.status == "failed":
            yield directory / TRIALS / trial_id / RESULT


def mark_reported(directory: Path) -> None:
    """Record in the manifest that a sweep has its report: until then it is unfinished."""
    manifest = read_manifest(directory)
    if manifest is not None:
        write_json(directory / MANIFEST, manifest.model_copy(update={"reported": True}))


def command(directory: Path, retry_failed: bool = False) -> str:
    """Return the command that resumes a sweep, or that runs its failed trials again."""
    return f"{command_of('sweep')} {shlex.quote(f'{_RESUME}{directory}')}" + " sweep.retry_failed=true" * retry_failed


def advice(directory: Path) -> str:
    """Return what to do after the flow failed: resume, or, with all trials done, make the report."""
    manifest = read_manifest(directory)
    if manifest is not None and manifest.ended not in _INTERRUPTED:
        return f"All trials are done: {command_of('report')} {shlex.quote(str(directory))}"
    return f"To go on: {command(directory)}"


def saved_words(words: list[str]) -> list[str]:
    """Return the overrides of the sweep that ``sweep.resume=<directory>`` names, with ``words`` added to each list.

    Another runner comes without the settings of the one before.
    """
    word = next(word for word in words if word.startswith(_RESUME))
    manifest = read_manifest(Path(word.partition("=")[2].strip("'\"")))
    saved = () if manifest is None else manifest.words
    replaced = {word.partition("=")[0] for word in words}
    others = ("runner.",) if "runner" in replaced else ()
    return join_lists(
        [
            *(word for word in overrides if word.partition("=")[0] not in replaced and not word.startswith(others)),
            *words,
        ]
        for overrides in split_lists(saved)
    )


def _check(plan: Plan, directory: Path) -> None:
    manifest = read_manifest(directory)
    if manifest is None:
        raise UsageError(
            f"sweep.resume={directory} is not the directory of a sweep: it has no {MANIFEST} that can be read"
        )
    if not _is_unfinished(manifest) and not _is_damaged(directory, manifest):
        has_failed = next(_failed_results(directory, manifest), None) is not None
        if plan.sweep.retry_failed and not has_failed:
            raise UsageError(f"sweep.retry_failed=true: no trial of {directory} failed; leave both out to run it anew")
        if not plan.sweep.retry_failed:
            again = "add sweep.retry_failed=true to run its failed trials again, or " if has_failed else ""
            raise UsageError(f"sweep.resume={directory} is finished; {again}leave sweep.resume out to run it anew")
    if not _same(plan, manifest):
        raise UsageError(f"sweep.resume={directory} {_why_another(plan, manifest)}")


def _unfinished(plan: Plan) -> Iterator[Path]:
    """Yield the unfinished directories of this sweep, the newest first."""
    for path in sorted(plan.sweep.directory.glob(f"*/{MANIFEST}"), reverse=True):
        manifest = read_manifest(path.parent)
        if manifest is not None and _is_unfinished(manifest) and _same(plan, manifest):
            yield path.parent


def _print_if_sources_changed(plan: Plan) -> None:
    """Print that the newest sweep of this command is unfinished but cannot be resumed, if its trials differ."""
    for path in sorted(plan.sweep.directory.glob(f"*/{MANIFEST}"), reverse=True):
        manifest = read_manifest(path.parent)
        if manifest is not None and manifest.words == plan.command:
            if manifest.ended in _INTERRUPTED:
                print(
                    f"sweep: {path.parent} is an unfinished sweep of this command, but the sources, configs or costs "
                    "have changed since: starting anew",
                    file=sys.stderr,
                )
            return


def _is_unfinished(manifest: Manifest) -> bool:
    return manifest.ended in _INTERRUPTED or not manifest.reported


def _is_damaged(directory: Path, manifest: Manifest) -> bool:
    """Return whether a trial of a finished sweep has a result file that cannot be used."""
    trials = (directory / TRIALS / trial for trial in manifest.order)
    return any((trial / RESULT).exists() and usable_result(trial) is None for trial in trials)


def _same(plan: Plan, manifest: Manifest) -> bool:
    ids = {planned.trial_id for planned in plan.trials}
    return ids == set(manifest.order) and manifest.costs_hash == plan.costs.digest


def _why_another(plan: Plan, manifest: Manifest) -> str:
    """Return in what a sweep differs from this one, and what to do."""
    if _words_of_trials(plan.command) != _words_of_trials(manifest.words):
        return "is of other trials than this command; give it alone, or leave it out to start anew"
    changed = (
        "its cost table has" if manifest.costs_hash != plan.costs.digest else "its program, configs or sources have"
    )
    return (
        f"cannot go on: {changed} changed since, and new trials could not be compared with those that ran; leave "
        "sweep.resume and sweep.retry_failed out to run all of them as it is now"
    )


def _words_of_trials(words: Sequence[str]) -> list[str]:
    """Return the words that say what is run, without those that say where and how."""
    return [word for word in words if word.partition("=")[0].partition(".")[0] not in ("sweep", "runner", "server")]


def _new_directory(plan: Plan) -> Path:
    directory = plan.sweep.directory / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    directory.mkdir()
    return directory


def _manifest(plan: Plan) -> Manifest:
    return Manifest(
        command=f"{command_of('sweep')} {shlex.join(plan.command)}".rstrip(),
        words=plan.command,
        order=tuple(planned.trial_id for planned in plan.trials),
        costs_hash=plan.costs.digest,
        persistent=tuple(sorted({planned.trial.persistent.mode for planned in plan.trials})),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
