"""Traces of a sweep in the Prefect UI: tags, how far it is, and its results. None of them can fail a sweep."""

import base64
import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
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

from jaxcache.lab.layout import MAP_PNG
from jaxcache.lab.trial import Trial

from .progress import Progress

if TYPE_CHECKING:
    from jaxcache.lab.analysis.findings import Findings

PROGRESS, TRIALS, REPORT, SETTINGS, MAP, SUGGESTIONS = (
    "progress", "trials", "report", "settings", "map", "suggestions",
)  # fmt: skip
_EVERY_SECONDS = 3.0
_LAST_SECONDS = 10.0  # that a server may take for the last news


def tag_run(trials: Iterable[Trial]) -> None:
    """Tag the flow run by what it varies, for the UI's filter.

    The run and not its tasks: for each tag of a task Prefect asks the server for a slot, which takes a second or two.
    """
    tags = {tag for trial in trials for tag in (trial.workload.name, trial.eviction.name)}
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), tags=sorted({*flow_run.tags, *tags}))


@contextlib.contextmanager
def publishing(progress: Progress) -> Iterator[None]:
    """Keep an artifact at the share of trials that are done, from a thread that alone writes it, the last too."""
    try:
        artifact = create_progress_artifact(0.0, key=PROGRESS, description="Trials that are done, in percent")
    except Exception:
        yield
        return
    over = threading.Event()

    def publish() -> None:
        shown, goes_on = 0.0, True
        while goes_on:
            goes_on = not over.wait(_EVERY_SECONDS)
            if progress.percent != shown:
                shown = progress.percent
                with contextlib.suppress(Exception):
                    update_progress_artifact(artifact, shown)  # pyright: ignore[reportArgumentType]

    publisher = threading.Thread(target=publish, daemon=True)
    publisher.start()
    try:
        yield
    finally:
        over.set()
        publisher.join(_LAST_SECONDS)


def publish_results(findings: "Findings", task_runs: dict[str, UUID]) -> None:
    """Publish the answer with its map, report, tables and suggestions; trials link to the runs of their tasks."""
    try:
        _publish_results(findings, task_runs)
    except Exception as error:  # what a server refuses, or one that is gone
        get_run_logger().warning("not all of the results are in the UI: %s: %s", type(error).__name__, error)


def _publish_results(findings: "Findings", task_runs: dict[str, UUID]) -> None:
    from jaxcache.lab.report.markdown import markdown, suggestions
    from jaxcache.lab.report.rows import GROUP_COLUMNS, group_row, headline

    sweep, publish = findings.sweep, create_markdown_artifact
    if sweep.groups:
        text = "\n".join(_answer_and_map(findings, sweep.directory / MAP_PNG))
        publish(key=MAP, markdown=text, description=findings.sentence)
    publish(key=REPORT, markdown="\n".join(markdown(findings, plotted=False)), description=headline(sweep))
    publish(
        key=TRIALS,
        markdown="\n".join(_trials(findings, task_runs)),
        description="Each trial, with a link to its task run",
    )
    if not sweep.groups:
        return
    rows: list[dict[str, Any]] = [dict(zip(GROUP_COLUMNS, group_row(group), strict=True)) for group in sweep.groups]
    create_table_artifact(key=SETTINGS, table=rows, description="Measured means over the seeds of each setting")
    publish(
        key=SUGGESTIONS,
        markdown="\n".join(suggestions(findings)),
        description="What to change, and what that would save",
    )


def _answer_and_map(findings: "Findings", plot: Path) -> Iterator[str]:
    """Yield the answer, the picture of the map, and the map in numbers; predicted and measured are told apart in it."""
    from jaxcache.lab.report.markdown import answer, maps

    yield from answer(findings)
    if plot.exists():
        picture = base64.b64encode(plot.read_bytes()).decode()
        # As a data URI in markdown: an image artifact prints the URI below the picture, and file:// shows nothing.
        yield from (f"![Compile seconds of every policy over the memory limit](data:image/png;base64,{picture})", "")
    yield from maps(findings)


def _trials(findings: "Findings", task_runs: dict[str, UUID]) -> Iterator[str]:
    """Yield each trial with what it measured beside its prediction; of failed ones reason and end of stderr."""
    from jaxcache.lab.report.markdown import failures
    from jaxcache.lab.report.markdown_table import markdown_table

    predictions = {
        check.result.trial_id: check.prediction for program_map in findings.maps for check in program_map.checks
    }
    rows: list[tuple[str, ...]] = []
    for result in findings.sweep.results:
        run = task_runs.get(result.trial_id)
        address = None if run is None else url_for("task-run", obj_id=run)
        stats, predicted = result.statistics, predictions.get(result.trial_id)
        rows.append((
            result.label if address is None else f"[{result.label}]({address})",
            result.status,
            "–" if stats is None else f"{stats.cost_seconds:.2f}",
            "–" if predicted is None else f"{predicted.compile_seconds:.2f}",
            "–" if stats is None else f"{stats.hit_rate:.1%}",
            "–" if result.timing is None else f"{result.timing.work_seconds:.1f}",
            result.reason or "",
        ))  # fmt: skip
    columns = ("trial", "status", "compile s, measured", "compile s, predicted", "hits", "trial s", "reason")
    yield from markdown_table(columns, rows)
    if findings.sweep.failed:
        yield from failures(findings.sweep)
