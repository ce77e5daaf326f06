"""Runs of a program as wholes, from made-up results: they stand beside each other in every form of the report."""

import dataclasses
import io
import sys

import pytest
from rich.console import Console

from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import PAGE, REFERENCE, REPORT
from jaxcache.lab.report.program_rows import program_rows, repeat_sentences
from jaxcache.lab.report.terminal import print_summary
from jaxcache.lab.report.write import write_report
from jaxcache.lab.result import ProgramReference, ProgramRun, Reference

from .._support.results import result, write_sweep
from .._support.trials import small_trial

MIB = 1024**2


def ran(wall_seconds, compile_seconds, programs, mib):
    return ProgramRun(
        wall_seconds=wall_seconds, compile_seconds=compile_seconds, programs=programs, peak_rss_bytes=mib * MIB
    )


@pytest.fixture
def swept(tmp_path):
    """A sweep of a program with two seeds, whose recordings of one seed differ."""
    results = []
    for seed, wall_seconds in ((0, 10.0), (1, 12.0)):
        workload = {
            "name": "program",
            "script": "/p/train.py",
            "args": "--n 1",
            "directory": "/p",
            "python": sys.executable,
        }
        trial = small_trial(workload, shapes={"name": "own"}, seed=seed)
        results.append(result(seed=seed).model_copy(update={
            "config": trial, "trial_id": trial.id, "program_id": trial.program_id, "label": trial.label,
            "program": ran(wall_seconds, 5.0, 37, 400),
        }))  # fmt: skip
    directory = write_sweep(tmp_path / "s", results)
    for each, note in zip(results, ("", "request 3 is f(x) in one run and g(x) in another"), strict=True):
        path = directory / "references" / each.program_id / REFERENCE
        reference = Reference.model_validate_json(path.read_bytes())
        program = ProgramReference(
            recorded=ran(6.0, 4.0, 9, 300), plain=ran(5.0, 3.5, 9, 500), repeats=not note, repeat_note=note
        )
        write_json(path, reference.model_copy(update={"program": program}), durable=False)
    return directory


def test_settings_stand_beside_the_recording_and_jax_jit_alone(swept):
    assert program_rows(read_sweep(swept)) == [
        ("train.py", "jax.jit alone", "2", "5.00", "3.50", "9", "500 MiB"),
        ("train.py", "recorded, no limit", "2", "6.00", "4.00", "9", "300 MiB"),
        ("train.py", "lru at 2 MiB, off", "2", "11.00", "5.00", "37", "400 MiB"),
    ]


def test_every_form_of_the_report_says_whether_requests_repeat(swept):
    sweep, printed = read_sweep(swept), io.StringIO()
    (sentence,) = repeat_sentences(sweep)
    assert sentence.startswith("The requests of train.py do not repeat: request 3 is f(x) in one run and g(x) in anoth")
    print_summary(write_report(swept), Console(file=printed, width=200))
    for text in ((swept / REPORT).read_text(), (swept / PAGE).read_text(), printed.getvalue()):
        assert "jax.jit alone" in text
        assert "do not repeat: request 3" in text


def test_what_jax_holds_beside_the_cache_is_said_where_it_takes_from_the_limit(swept):
    sweep = read_sweep(swept)
    (each, *_) = sweep.references.values()
    held = each.program.model_copy(
        update={"recorded": ran(6.0, 4.0, 9, 300).model_copy(update={"outside_bytes": 20 * MIB})}
    )
    references = {**sweep.references, each.program_id: each.model_copy(update={"program": held})}
    sentences = repeat_sentences(dataclasses.replace(sweep, references=references))
    assert sentences[1].startswith("JAX itself held 20 MiB of train.py beside the cache")


def test_a_sweep_of_the_lab_s_own_workloads_has_no_such_rows(tmp_path):
    directory = write_sweep(tmp_path / "s", [result()])
    assert program_rows(read_sweep(directory)) == []
    write_report(directory)
    assert "Whole runs of your programs" not in (directory / REPORT).read_text()
