"""``--dry-run``: what a sweep would run, for how long, and with how much disk."""

import json

from flows.planning.plan import make_plan
from flows.sweep import main
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import RESULT
from tests._support.results import failed, result, write_sweep

WORDS = ("workload=monte_carlo", "persistent=off", "runner.device=cpu", "runner.workers=2")


def test_nothing_is_started_or_written_and_what_is_unknown_is_named(tmp_path, capsys):
    directory = tmp_path / "nowhere"
    assert main([*WORDS, "eviction=lru,gdsf", f"sweep.directory={directory}", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Would run 2 trials and 1 reference run, 2 at a time."
    assert lines[1] == "Time: unknown: no earlier sweep in sweep.directory has run monte_carlo like this"
    assert lines[2].startswith("Disk: unknown, as no earlier sweep has run the like; ")
    assert lines[-1] == "Nothing was started. Leave out --dry-run to start it."
    assert not directory.exists()


def earlier(planned, seconds, **changes):
    """A result of a trial of the plan that took some seconds."""
    timing = result().timing.model_copy(update={"work_seconds": seconds})
    trial = planned.trial.model_copy(update=changes)
    return result().model_copy(
        update={"trial_id": trial.id, "program_id": trial.program_id, "config": trial, "timing": timing}
    )


def test_time_and_disk_are_those_of_the_earlier_trials_that_are_most_alike(tmp_path, capsys):
    words = (*WORDS, "eviction=lru,gdsf", "seed=0,1", f"sweep.directory={tmp_path}")
    lru, gdsf = sorted(
        (planned for planned in make_plan(words).trials if planned.trial.seed == 0),
        key=lambda planned: planned.trial.eviction.name, reverse=True,
    )  # fmt: skip
    other = earlier(gdsf, 900.0, workload=gdsf.trial.workload.model_copy(update={"requests": 7}))
    write_sweep(tmp_path / "2026-01-01", [earlier(lru, 10.0, seed=5), earlier(gdsf, 30.0, seed=5), other])
    assert main([*words, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Would run 4 trials and 2 reference runs, 2 at a time."
    # (2 × 10 + 2 × 30 s of trials + 2 references of 2 s to compile and 1 s under jax.jit) / 2 workers
    assert lines[1] == "Time: about 43 s, by earlier sweeps, without start and report"
    assert lines[2].startswith("Disk: about ")


def test_finished_trials_of_an_unfinished_sweep_are_not_counted(tmp_path, capsys):
    words = (*WORDS, "eviction=lru,gdsf,fifo", f"sweep.directory={tmp_path}")
    first, second, _ = make_plan(words).trials
    sweep = write_sweep(tmp_path / "2026-01-01", [earlier(first, 1.0), earlier(second, 1.0)], ended="interrupted")
    manifest = sweep / "sweep.json"
    ids = [planned.trial_id for planned in make_plan(words).trials]
    saved = {**json.loads(manifest.read_text()), "order": ids, "costs_hash": make_plan(words).costs.digest}
    manifest.write_text(json.dumps(saved))
    outcome = failed().model_copy(update={"trial_id": second.trial_id})
    write_json(sweep / "trials" / second.trial_id / RESULT, outcome)
    for retry, count in ((), 1), (("sweep.retry_failed=true", f"sweep.resume={sweep}"), 2):
        assert main([*words, *retry, "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"Would run {count} trial")
        assert lines[1] == f"Would go on in {sweep}: {3 - count} of 3 trials finished."


def test_bad_values_are_refused_in_one_line(capsys):
    for words in (["eviction=lruu"], ["sweep.retry_failed=true"], ["sweep.resume=nowhere"]):
        assert main([*words, "--dry-run"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("sweep: ")
