"""What the terminal shows of running trials."""

from rich.console import Console

from flows.running.progress import Progress
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import scratch
from jaxcache.lab.running.progress_file import TrialProgress
from tests._support.results import failed, result, write_sweep


def shown(progress) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(progress.render())
    return capture.get()


def test_each_running_trial_has_a_row_with_its_device_and_how_far_it_is(tmp_path):
    progress = Progress(trials=5, references=2, quiet=True)
    assert "measuring what each program costs, 0 of 2 done; then 5 trials" in shown(progress)
    for name in ("here", "elsewhere"):
        scratch(tmp_path / name).mkdir(parents=True)
        progress.trial_started(f"seed={name}", tmp_path / name, f"gpu of {name}")
    write_json(scratch(tmp_path / "here") / "advance.json", TrialProgress(served=30, requests=120, hit_rate=0.5))
    here, elsewhere, totals = shown(progress).splitlines()[1:]
    assert here.split() == ["seed=here", "gpu", "of", "here", "0", "s", "30/120", "50.0%"]
    assert elsewhere.split() == ["seed=elsewhere", "gpu", "of", "elsewhere", "0", "s", "–", "–"]
    assert "0 done · 0 failed · 2 running · 3 left" in totals


def test_references_show_how_far_they_are_and_how_many_are_done(tmp_path, capsys):
    progress = Progress(trials=5, references=2)
    scratch(tmp_path).mkdir(parents=True)
    progress.reference_started("reference monte_carlo", tmp_path)
    write_json(scratch(tmp_path) / "advance.json", TrialProgress(served=30, requests=120, hit_rate=0.5))
    row, totals = shown(progress).splitlines()[1:]
    assert row.split() == ["reference", "monte_carlo", "–", "0", "s", "30/120", "50.0%"]
    assert "0 of 2 done; then 5 trials" in totals
    progress.reference_ended("reference monte_carlo")
    reference = read_sweep(write_sweep(tmp_path / "sweep", [result()])).references
    progress.reference_done("reference monte_carlo", next(iter(reference.values())), "predicted: lru 8 MiB 3.0 s")
    assert "1 of 2 done; then 5 trials" in shown(progress)
    said = capsys.readouterr().err
    assert said == (
        "[1/2] reference monte_carlo: 50 requests, 6 programs, 2.0 s to compile each once; predicted: lru 8 MiB 3.0 s\n"
    )


def test_requests_of_what_nobody_has_counted_yet_stand_alone(tmp_path):
    progress = Progress(trials=5, references=2, quiet=True)
    scratch(tmp_path).mkdir(parents=True)
    progress.trial_started("seed=0", tmp_path, "cpu 0")
    write_json(scratch(tmp_path) / "advance.json", TrialProgress(served=30, requests=None, hit_rate=0.5))
    assert shown(progress).splitlines()[1].split() == ["seed=0", "cpu", "0", "0", "s", "30", "50.0%"]


def test_one_of_a_kind_is_no_plural(capsys, tmp_path):
    progress = Progress(trials=1, references=1)
    assert shown(progress).rstrip().endswith("0 of 1 done; then 1 trial")
    reference = next(iter(read_sweep(write_sweep(tmp_path / "sweep", [result()])).references.values()))
    progress.reference_done("it", reference.model_copy(update={"requests": 1, "distinct": 1}))
    progress.resuming(tmp_path, [result()])
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("[1/1] it: 1 request, 1 program, 2.0 s to compile each once")
    assert said[1] == f"Going on in {tmp_path}: 1 of 1 trial finished already."


def test_a_resumed_sweep_counts_from_the_trials_that_an_earlier_run_finished(tmp_path, capsys):
    progress = Progress(trials=4)
    progress.resuming(tmp_path, [result(seed=0), failed(seed=1)])
    assert progress.percent == 50
    progress.trial_started("seed=2", tmp_path, "cpu 0")
    assert "2 done · 1 failed · 1 running · 1 left" in shown(progress)
    progress.trial_done("seed=2", result(seed=2))
    assert capsys.readouterr().err.splitlines()[-1].startswith("[3/4] done    seed=2")


def test_a_long_time_that_is_left_is_in_minutes_and_hours(tmp_path, monkeypatch):
    now = 60.0
    monkeypatch.setattr("flows.running.progress.time.monotonic", lambda: now)
    progress = Progress(trials=5, quiet=True)
    left = []
    for hour in range(1, 4):
        progress.trial_started(f"seed={hour}", tmp_path, "cpu 0")
        now += 1800  # a trial takes half an hour
        progress.trial_done(f"seed={hour}", result())
        left.append(shown(progress).splitlines()[-1].rpartition("about ")[2].rstrip())
    assert left == ["2.0 h left", "90 min left", "60 min left"]


def test_the_time_that_is_left_counts_down_between_trials_that_end(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("flows.running.progress.time.monotonic", lambda: now)
    progress = Progress(trials=4, quiet=True)
    scratch(tmp_path).mkdir(parents=True)
    progress.trial_started("seed=0", tmp_path, "cpu 0")
    left = []
    for served in (25, 50, 75):
        now += 10  # a trial takes 40 s
        write_json(scratch(tmp_path) / "advance.json", TrialProgress(served=served, requests=100, hit_rate=0.5))
        left.append(shown(progress).splitlines()[-1].rpartition("about ")[2])
    assert left == ["150 s left", "140 s left", "130 s left"]


def test_what_is_done_makes_room_and_counts(tmp_path):
    progress = Progress(trials=2, quiet=True)
    progress.trial_started("seed=0", tmp_path, "cpu 0")
    progress.trial_done("seed=0", result())
    assert progress.percent == 50
    assert "1 done · 0 failed · 0 running · 1 left" in shown(progress)
    progress.trial_interrupted("never started")


def test_a_failure_is_told_with_its_reason_and_square_brackets_are_no_markup(capsys, tmp_path):
    progress = Progress(trials=1)
    progress.trial_started("shapes=[1,2]", tmp_path, "cpu 0")
    progress.trial_done("shapes=[1,2]", result(status="failed", reason="out of [memory]"))
    assert capsys.readouterr().err == "[1/1] failed  shapes=[1,2]: out of [memory]\n"


def test_who_leaves_at_once_is_told_how_to_go_on(capfd):
    Progress(2).abandon("python -m flows.sweep sweep.resume=x")
    said = capfd.readouterr().err
    assert said.splitlines()[-2:] == ["Left at once; finished trials are kept. To go on:",
                                      "python -m flows.sweep sweep.resume=x"]  # fmt: skip


def test_quiet_says_nothing(capsys):
    with Progress(trials=1, quiet=True) as progress:
        progress.say("anything")
    assert capsys.readouterr().err == ""
