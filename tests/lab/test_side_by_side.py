"""Several sweeps laid side by side."""

import pytest

from flows import report
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.layout import RESULT
from jaxcache.lab.report.compare_sweeps import changes, side_by_side

from .._support.results import result, write_sweep
from .._support.trials import WORKLOADS


def sweep(place, seconds, seeds=8, **settings):
    return read_sweep(write_sweep(place, [result(seed=n, cost_seconds=seconds + n, **settings) for n in range(seeds)]))


def test_what_changed_is_told_with_its_interval(tmp_path):
    before, after = sweep(tmp_path / "a", 20.0), sweep(tmp_path / "b", 10.0)
    overall, by_cell = changes(before, after)
    seconds = next(one.comparison for one in overall if one.measure == "reference compile s")
    assert seconds.verdict == "less"
    assert 0.5 <= seconds.ratio.low < seconds.ratio.mean < seconds.ratio.high < 0.7
    assert [(one.where, one.comparison.verdict) for one in by_cell] == [("lru 2 MiB monte_carlo zipf", "less")]


def test_equal_sweeps_show_no_difference(tmp_path):
    before, after = sweep(tmp_path / "a", 20.0), sweep(tmp_path / "b", 20.0)
    overall, _ = changes(before, after)
    assert {one.comparison.verdict for one in overall} == {"no difference seen"}
    assert {one.comparison.ratio.mean for one in overall} == {1.0}


def test_what_only_one_has_is_named_and_not_paired(tmp_path):
    text = "\n".join(side_by_side([sweep(tmp_path / "a", 20.0), sweep(tmp_path / "b", 10.0, eviction="gdsf")]))
    assert "no successful trial of the same config and seed in common" in text
    assert "only the earlier has: lru 2 MiB monte_carlo zipf" in text
    assert "only the later has: gdsf 2 MiB monte_carlo zipf" in text


def test_settings_that_differ_are_named_and_tell_cells_of_one_label_apart(tmp_path):
    longer = {**WORKLOADS["monte_carlo"], "requests": 99}
    made = [sweep(tmp_path / "a", 20.0, seeds=2), sweep(tmp_path / "b", 20.0, seeds=2, workload=longer)]
    text = "\n".join(side_by_side(made))
    assert "- `workload.requests` was 8, is 99\n" in text
    assert "only the earlier has: lru 2 MiB monte_carlo zipf workload.requests=8\n" in text
    assert "only the later has: lru 2 MiB monte_carlo zipf workload.requests=99\n" in text
    assert "persistent" not in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"limit": "8MiB"}, "`memory_limit` was 2MiB, is 8MiB"),
        ({"limit": 8388609}, "`memory_limit` was 2MiB, is 8388609"),
        ({"limit": None}, "`memory_limit` was 2MiB, is none"),
        ({"eviction": "gdsf"}, "`eviction.name` was lru, is gdsf"),
        ({"persistent": {"mode": "fresh", "limit": "1MiB"}}, "`persistent.mode` was off, is fresh"),
    ],
)
def test_whatever_setting_differs_is_named(tmp_path, changes, named):
    text = "\n".join(side_by_side([sweep(tmp_path / "a", 20.0), sweep(tmp_path / "b", 20.0, **changes)]))
    assert f"- {named}\n" in text


def test_seeds_that_differ_are_named(tmp_path):
    later = read_sweep(write_sweep(tmp_path / "b", [result(seed=n) for n in (8, 9)]))
    assert "- `seed` was 0, 1, is 8, 9\n" in "\n".join(side_by_side([sweep(tmp_path / "a", 20.0, seeds=2), later]))


def test_a_damaged_result_is_named_with_what_to_do(tmp_path):
    before = sweep(tmp_path / "a", 20.0)
    sweep(tmp_path / "b", 20.0)
    victim = sorted((tmp_path / "b").glob(f"trials/*/{RESULT}"))[0]
    victim.write_bytes(b"\xff\x00")
    text = "\n".join(side_by_side([before, read_sweep(tmp_path / "b")]))
    assert f"of the later, `{victim.relative_to(tmp_path / 'b')}` is no JSON" in text
    assert f"sweep.resume={tmp_path / 'b'} runs them again" in text
    assert "7 of 8 trials succeeded, 1 has a damaged result" in text


def test_other_versions_and_cost_tables_are_told(tmp_path):
    before = sweep(tmp_path / "a", 20.0)
    moved = [one.model_copy(update={
        "costs_hash": "other",
        "environment": one.environment.model_copy(update={"packages": {**one.environment.packages, "jax": "9.9"}}),
    }) for one in before.results]  # fmt: skip
    text = "\n".join(side_by_side([before, read_sweep(write_sweep(tmp_path / "b", moved))]))
    assert ", is 9.9" in text
    assert "their cost tables differ" in text
    assert "| reference compile s |" not in text  # of each sweep all seeds share one measurement
    assert "Misses by setting:" in text


def test_three_sweeps_are_each_held_against_the_first(tmp_path):
    made = [sweep(tmp_path / name, seconds) for name, seconds in (("a", 20.0), ("b", 10.0), ("c", 5.0))]
    text = "\n".join(side_by_side(made))
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## b against a", "## c against a"]


def test_the_command_prints_and_writes_it(tmp_path, capsys):
    for name in "ab":
        sweep(tmp_path / name, 20.0)
    assert report.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "b against a" in capsys.readouterr().out
    assert "no difference seen" in (tmp_path / "b" / "comparison.md").read_text()


def test_a_directory_that_is_no_sweep_is_refused(tmp_path, capsys):
    sweep(tmp_path / "a", 20.0)
    assert report.main([str(tmp_path / "a"), str(tmp_path)]) == 2
    assert "is not the directory of a sweep" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_every_chart_is_written_as_a_file_on_demand(tmp_path, suffix):
    sweep(tmp_path / "a", 20.0, seeds=2)
    assert report.main(["--plots", str(tmp_path / "a")]) == 0
    names = {path.name.rpartition("-")[0] for path in (tmp_path / "a" / "plots").glob(f"*.{suffix}")}
    assert names >= {"time", "causes", "memory", "latency", "lengths"}
