"""What a sweep leaves in the Prefect UI: tags, how far it is, and its results. None of it can fail a sweep."""

import base64
import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from jaxcache.lab.analysis.sweep import Sweep
from jaxcache.lab.result import TrialResult
from jaxcache.lab.trial import Trial

from .progress import Progress

PROGRESS, TRIALS, REPORT, SETTINGS, PLOT, SUGGESTIONS = (
    "progress", "trials", "report", "settings", "tradeoff", "suggestions",
)  # fmt: skip
_EVERY_SECONDS = 3.0


def tag_run(trials: Iterable[Trial]) -> None:
    """Tag the flow run by what it varies, for the UI's filter.

    The run and not its tasks: for each tag of a task Prefect asks the server for a slot, which takes a second or two.
    """
    told = {tag for trial in trials for tag in (trial.workload.name, trial.eviction.name)}
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), tags=sorted({*flow_run.tags, *told}))


@contextlib.contextmanager
def publishing(progress: Progress) -> Iterator[None]:
    """Keep an artifact at the share of trials that are done, from a thread that nobody waits for."""
    try:
        artifact = create_progress_artifact(0.0, key=PROGRESS, description="Trials that are done")
    except Exception:
        yield
        return
    over = threading.Event()

    def publish() -> None:
        shown = 0.0
        while shown < 100 and not over.wait(_EVERY_SECONDS):
            if progress.percent != shown:
                shown = progress.percent
                update_progress_artifact(artifact, shown)  # pyright: ignore[reportArgumentType]

    def publish_quietly() -> None:
        with contextlib.suppress(Exception):
            publish()

    threading.Thread(target=publish_quietly, daemon=True).start()
    try:
        yield
    finally:
        over.set()
    with contextlib.suppress(Exception):
        update_progress_artifact(artifact, progress.percent)  # pyright: ignore[reportArgumentType]


def publish_results(sweep: Sweep, task_runs: dict[str, UUID]) -> None:
    """Publish a sweep's report, tables, plot and suggestions; trials link to the runs of their tasks."""
    try:
        _publish_results(sweep, task_runs)
    except Exception as error:  # what a server refuses, or one that is gone
        get_run_logger().warning("not all of the results are in the UI: %s: %s", type(error).__name__, error)


def _publish_results(sweep: Sweep, task_runs: dict[str, UUID]) -> None:
    from jaxcache.lab.report.markdown import GROUP_COLUMNS, PLOT_PNG, group_row, headline, markdown, suggestions

    said = headline(sweep)
    create_markdown_artifact(key=REPORT, markdown="\n".join(markdown(sweep, plotted=False)), description=said)
    create_markdown_artifact(
        key=TRIALS, markdown="\n".join(_trials(sweep.results, task_runs)), description="Each trial, and its task run"
    )
    if not sweep.groups:
        return
    rows: list[dict[str, Any]] = [dict(zip(GROUP_COLUMNS, group_row(group), strict=True)) for group in sweep.groups]
    create_table_artifact(key=SETTINGS, table=rows, description="Means over the seeds of each setting")
    create_markdown_artifact(
        key=SUGGESTIONS, markdown="\n".join(suggestions(sweep)), description="What to change, and what that would save"
    )
    _publish_plot(sweep.directory / PLOT_PNG)


def _trials(results: Iterable[TrialResult], task_runs: dict[str, UUID]) -> Iterator[str]:
    yield from ("| trial | status | hits | seconds | reason |", "| --- | --- | ---: | ---: | --- |")
    for one in results:
        run = task_runs.get(one.trial_id)
        address = None if run is None else url_for("task-run", obj_id=run)
        name = one.label if address is None else f"[{one.label}]({address})"
        hits = "–" if one.statistics is None else f"{one.statistics.hit_rate:.1%}"
        seconds = "–" if one.timing is None else f"{one.timing.work_seconds:.1f}"
        yield f"| {name} | {one.status} | {hits} | {seconds} | {(one.reason or '').replace('|', chr(92) + '|')} |"


def _publish_plot(plot: Path) -> None:
    picture = base64.b64encode(plot.read_bytes()).decode()
    # As a data URI in markdown: an image artifact prints the URI below the picture, and file:// shows nothing.
    text = f"![Reference compile seconds against the memory limit](data:image/png;base64,{picture})"
    create_markdown_artifact(key=PLOT, markdown=text, description="Reference compile seconds by memory limit")
