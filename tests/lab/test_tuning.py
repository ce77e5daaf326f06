"""Choosing a setting from recordings, and the files that say it."""

import html
import io
import re

import numpy as np
import pytest
from rich.console import Console

from jaxcache import JitCache, Trace, format_size, optimum, parse_size, replay
from jaxcache.lab.tuning.answer import answer, compare, setting_of
from jaxcache.lab.tuning.page import page, write_page
from jaxcache.lab.tuning.report import Tuned, Verified, print_tuning, write_tuning
from jaxcache.lab.tuning.search import Recording, search

from .._support.results import result

MIB = 1024**2


def trace(keys, seed=0):
    draw = np.random.default_rng(seed)
    sizes, costs = draw.integers(MIB // 2, 2 * MIB, 40), draw.exponential(size=40)
    return Trace.from_arrays(keys=keys, size_bytes=sizes[keys], compile_seconds=costs[keys])


@pytest.fixture
def recordings():
    draw = np.random.default_rng(1)
    keys = np.minimum(draw.zipf(1.3, 600) - 1, 39)
    return [Recording("none", trace(keys), 1.0), Recording("pow2", trace(keys // 8), 3.0)]


def test_the_chosen_setting_is_the_cheapest_of_what_was_replayed_at_its_limit(recordings):
    tuning = search(recordings, ["lru", "gdsf", "fifo"], memory_limit=6 * MIB)
    assert len(tuning.candidates) == 6
    least = min(one.total_seconds for one in tuning.candidates)
    assert tuning.best.total_seconds <= 1.02 * least
    by_name = {one.buckets: one.trace for one in recordings}
    for one in tuning.candidates:
        exact = replay(by_name[one.buckets], one.replayed.policy, 6 * MIB)
        assert one.replayed.misses == exact.misses
        assert one.bound_seconds <= one.replayed.compile_seconds
        assert one.bound_seconds == pytest.approx(optimum(by_name[one.buckets], 6 * MIB).lower_bound_seconds, rel=0.02)


def test_without_a_limit_the_knee_is_taken_and_nothing_on_the_front_is_beaten(recordings):
    tuning = search(recordings, ["lru", "gdsf"])
    assert {one.buckets for one in tuning.ranked} == {"none", "pow2"}
    assert tuning.best.limit_bytes < recordings[0].trace.working_set_bytes
    for one in tuning.front():
        for other in tuning.candidates:
            smaller = other.replayed.peak_bytes < one.replayed.peak_bytes
            assert not (smaller and other.total_seconds < one.total_seconds)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_has_a_limit_is_recommended_nothing_that_takes_longer(seed):
    draw = np.random.default_rng(seed)
    recorded = trace(np.minimum(draw.zipf(1.2, 300) - 1, 39), seed)
    limit = int(draw.uniform(0.1, 1.5) * recorded.working_set_bytes)
    least = min(replay(recorded, policy, limit).compile_seconds for policy in ("lru", "gdsf"))
    tuning = search([Recording("none", recorded, 1.0)], ["lru", "gdsf"], present_limit=limit)
    assert tuning.best.total_seconds <= 1.02 * (least + 1.0)
    assert replay(recorded, tuning.best.replayed.policy, tuning.best.limit_bytes).misses == tuning.best.replayed.misses


def test_a_recommended_limit_is_a_tenth_above_what_is_needed_and_a_given_one_is_kept(recordings):
    recorded = recordings[:1]
    tuning = search(recorded, ["lru"])
    knee = tuning.curves["none"].knee_bytes()
    assert tuning.has_headroom
    assert 1.1 * knee <= tuning.best.limit_bytes <= 1.15 * knee
    few = Recording("none", trace(np.arange(300) % 3), 0.0)
    assert search([few], ["lru"]).best.limit_bytes >= 1.1 * few.trace.working_set_bytes
    for given in ({"memory_limit": 6 * MIB}, {"limits": [6 * MIB]}):
        assert (
            search(recorded, ["lru"], **given).best.limit_bytes,
            search(recorded, ["lru"], **given).has_headroom,
        ) == (
            6 * MIB,
            False,
        )


@pytest.mark.parametrize(
    ("eviction", "limit"),
    [("lru", 3 * MIB), ("lru", 45 * MIB), ("gdsf", 90 * MIB), ("lru", 900 * MIB), ("fifo", 12 * MIB)],
)
def test_the_answer_says_of_today_what_the_replays_say(recordings, eviction, limit):
    recorded = recordings[:1]
    now = search(recorded, [eviction], memory_limit=limit).best
    tuning = search(recorded, ["lru", "gdsf", "fifo"], present_limit=limit)
    says, saved = answer("a program", tuning, now), now.total_seconds - tuning.best.total_seconds
    if saved >= 0.05 * now.total_seconds:
        assert f"Worth it: it takes {saved:.1f} s ({saved / now.total_seconds:.0%}) less than with" in says
    elif (spared := now.replayed.peak_bytes - tuning.best.replayed.peak_bytes) >= 0.05 * now.replayed.peak_bytes:
        assert f"Worth it for the memory: it holds {format_size(spared)} less than" in says
    else:
        assert "Keep what you have" in says
        assert not re.search(r"gain (-|0\.0)", says)
    rows = {row[0]: row for row in compare(tuning, now)}
    if more := re.search(r"holds ([\d.]+) MiB (more|less)", says):
        held = [parse_size(rows[name][6], "held") / MIB for name in ("now", "recommended")]
        assert abs(held[0] - held[1]) == pytest.approx(float(more[1]), abs=0.2)
        assert (more[2] == "less") == (held[1] < held[0])
    assert list(rows) == ["now", "recommended", "jax.jit alone"]
    used = recorded[0].trace
    once = [float(used.compile_seconds[signature]) for signature in np.unique(used.signatures)]
    assert rows["jax.jit alone"][2:6] == (f"{sum(once):.2f}", "1.00", f"{sum(once) + 1:.2f}", str(len(once)))
    assert rows["now"][5] == str(replay(used, eviction, limit).misses)


def test_padding_that_costs_more_than_it_saves_is_not_recommended(recordings):
    cheap, padded = recordings
    dear = Recording("pow2", padded.trace, 1e6)
    assert search([cheap, dear], ["lru"]).best.buckets == "none"
    assert search([cheap, padded], ["lru"]).best.buckets == "pow2"


def test_real_runs_go_to_the_ranked_first_and_then_to_the_next_policies_at_the_recommended_limit(recordings):
    tuning = search(recordings, ["lru", "gdsf", "fifo"])
    four = tuning.contenders(4)
    assert four[:2] == list(tuning.ranked)
    assert len({one.setting for one in four}) == 4
    assert {(one.buckets, one.limit_bytes) for one in four[2:]} == {(tuning.best.buckets, tuning.best.limit_bytes)}
    assert four[2].total_seconds <= four[3].total_seconds
    assert tuning.contenders(0) == []


def test_equal_settings_are_the_same_whoever_replayed_them(recordings):
    one, other = (search(recordings[:1], ["lru"], memory_limit=6 * MIB).best for _ in range(2))
    assert one.setting == other.setting == ("none", "lru", 6 * MIB)


def test_nothing_to_replay_is_said():
    empty = Trace.from_arrays(keys=[], size_bytes=[], compile_seconds=[])
    with pytest.raises(ValueError, match="at least one request, but is empty"):
        search([Recording("none", empty, 0.0)])


def test_the_files_say_the_setting_and_a_cache_takes_it(recordings, tmp_path):
    tuning = search(recordings, ["lru", "gdsf"])
    tuned = Tuned("a program", "python -m flows.tune x", tuning, (), None, None, {"pow2": (8, 16)})
    write_tuning(tuned, tmp_path)
    cache = JitCache.from_file(tmp_path / "best.yaml")  # without a warning: the buckets are there
    assert cache.limit_bytes == tuning.best.limit_bytes
    assert tuning.best.buckets == "pow2"
    assert dict(cache.buckets) == {"*": (8, 16)}
    text = (tmp_path / "tune.md").read_text()
    assert f"eviction={tuning.best.replayed.policy}" in text.splitlines()[2]
    assert "| pow2 |" in text
    assert (tmp_path / "curves_none.svg").read_text().startswith("<svg")
    assert (tmp_path / "experiment" / "best.yaml").read_text() == (tmp_path / "best.yaml").read_text()
    printed = io.StringIO()
    print_tuning(tuned, Console(file=printed, width=160))
    assert "For a program: eviction=" in printed.getvalue()


def test_the_page_says_what_the_report_says_and_asks_nobody(recordings, tmp_path):
    now = search(recordings[:1], ["lru"], memory_limit=8 * MIB).best
    tuning = search(recordings, ["lru", "gdsf"], present_limit=8 * MIB)
    tuned = Tuned(
        "<b>a program</b>", "x & y", tuning, (Verified(now, None),), Verified(now, None), None, {"pow2": (8, 16)}
    )
    write_tuning(tuned, tmp_path)
    text = write_page(tuned, tmp_path).read_text()
    assert "<b>a program</b>" not in text
    assert {"&lt;b&gt;a program&lt;/b&gt;", "x &amp; y"} <= set(
        re.findall(r"&lt;.*?&gt;a program&lt;/b&gt;|x &amp; y", text)
    )
    for row in compare(tuning, now):
        assert all(f">{cell}</td>" in text for cell in row)
    assert text.count("data:image/svg+xml;base64,") == 2
    assert re.findall(r"(?:src|href)=\"(?!data:)([^#\"]*)", text) == []
    assert "Lengths: 8, 16." in text


def test_the_page_writes_a_limit_as_a_size_with_its_unit(recordings, tmp_path):
    tuning = search(recordings[:1], ["lru"], memory_limit=8 * MIB)
    tuned = Tuned("a program", "x", tuning, (), None, None, {})
    write_tuning(tuned, tmp_path)
    text = html.unescape(write_page(tuned, tmp_path).read_text())
    assert '<code>jaxcache.install("8MiB", eviction="lru")</code>' in text


def test_the_terminal_s_tables_fit_80_columns_and_cut_no_value(recordings):
    tuning = search(recordings, ["lru", "gdsf_admit"])
    checked = tuple(Verified(candidate, None) for candidate in tuning.contenders(2))
    printed = io.StringIO()
    tuned = Tuned("a program", "x", tuning, checked, checked[0], None, {})
    print_tuning(tuned, Console(file=printed, width=80))
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in printed.getvalue()
    for candidate in tuning.ranked:
        replayed = candidate.replayed
        numbers = [f"{candidate.total_seconds:.2f}", f"{replayed.compile_seconds:.2f}", str(replayed.misses)]
        assert any(
            [candidate.buckets, replayed.policy] == line.split()[:2] and set(numbers) <= set(line.split())
            for line in lines
        )


@pytest.mark.parametrize("share", [1.0, 1.04, 1.4])
def test_where_runs_refute_the_prediction_the_runs_are_told(recordings, tmp_path, share):
    tuning = search(recordings[:1], ["lru", "gdsf"], memory_limit=8 * MIB)
    first, second = tuning.contenders(2)

    def ran(candidate, share):
        seconds = candidate.replayed.compile_seconds
        done = result(cost_seconds=seconds * share)
        return Verified(
            candidate, done.model_copy(update={"timing": done.timing.model_copy(update={"run_seconds": 1})})
        )

    tuned = Tuned("a program", "python -m flows.tune x", tuning, (ran(first, share),), ran(second, 1.0), None, {})
    write_tuning(tuned, tmp_path)
    said = [(tmp_path / "tune.md").read_text(), page(tuned, tmp_path), (tmp_path / "best.yaml").read_text()]
    for text in said:
        assert ("did not do as predicted" in text) == (share == 1.4)
    if share == 1.4:
        totals = {each: 1 + each.replayed.compile_seconds * of for each, of in ((first, share), (second, 1.0))}
        best = min(totals, key=totals.get)
        assert (
            f"Of those, {setting_of(best)} took the fewest seconds of compiling and running, {totals[best]:.1f} s"
            in (said[0])
        )
        assert "Worth it" not in said[0]
