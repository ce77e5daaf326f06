"""The map: what is replayed equals what was measured, and its words never contradict its tables."""

import io
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from jaxcache import POLICIES, CostTable, format_size, optimum, replay
from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.first_look import first_look
from jaxcache.lab.analysis.map_choice import CLOSE
from jaxcache.lab.analysis.other_seeds import SEEDS, find_other_seeds, padded_lengths, predict_buckets, read_recipe
from jaxcache.lab.analysis.policy_map import limits_between
from jaxcache.lab.analysis.recorded import RecordedProgram
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.buckets import PowersOfTwo
from jaxcache.lab.layout import COSTS, REFERENCES, REPORT, REQUESTS, RESULTS_PARQUET
from jaxcache.lab.report.markdown import markdown
from jaxcache.lab.report.page import page
from jaxcache.lab.report.tables import results_table
from jaxcache.lab.report.terminal import print_summary
from jaxcache.lab.report.write import write_report

from .._support.mapped import SHAPES, mapped_grid, mapped_result, requests_of, write_mapped
from .._support.results import failed, write_sweep

MIB = 2**20
SHOWN = 0.051  # figures are shown with one digit


def found(place, results, **options):
    return Findings(read_sweep(write_mapped(place, results, **options)))


def text_of(findings):
    printed = io.StringIO()
    print_summary(findings, Console(file=printed, width=80))
    return printed.getvalue()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    place = write_mapped(tmp_path_factory.mktemp("map") / "a sweep", mapped_grid(seeds=(0, 1)))
    write_report(place)
    return place


def test_the_map_is_every_policy_at_a_dozen_limits_with_the_bound_and_both_ends(written):
    (program_map,) = Findings(read_sweep(written)).maps
    traces = [requests_of(result.config) for result in mapped_grid(policies=("lru",), limits=("1MiB",), seeds=(0, 1))]
    assert program_map.policies == tuple(POLICIES)
    limits = program_map.own_limits
    assert 6 <= len(limits) <= 20
    assert limits[0] <= min(trace.size_bytes.min() for trace in traces) * 8
    assert limits[-1] >= max(trace.working_set_bytes for trace in traces)
    for policy in ("lru", "gdsf", "adaptive"):
        for limit in limits[:-1]:
            expected = np.mean([replay(t, policy, limit, seed=n).compile_seconds for n, t in enumerate(traces)])
            assert program_map.seconds(policy, limit) == pytest.approx(expected)
    for limit in limits:
        assert program_map.bound_seconds(limit) <= min(program_map.seconds(p, limit) for p in POLICIES) + 1e-9
        exact = np.mean([optimum(trace, limit).lower_bound_seconds for trace in traces])
        assert program_map.bound_seconds(limit) == pytest.approx(exact, rel=0.01)
    assert program_map.unlimited_seconds == pytest.approx(np.mean([t.compile_seconds.sum() for t in traces]))
    assert program_map.seconds("fifo", limits[-1]) == program_map.unlimited_seconds
    uncached = np.mean([t.compile_seconds[t.signatures].sum() for t in traces])
    assert program_map.uncached_seconds == pytest.approx(uncached)


def test_measured_trials_are_held_against_their_prediction_in_every_form(written):
    findings = Findings(read_sweep(written))
    said = "8 of 8 measured trials equal their prediction."
    assert findings.agreement == said
    printed = " ".join(text_of(findings).split())
    for text in (printed, (written / REPORT).read_text(), page(findings)):
        assert said.removesuffix(".")[2:] in text
    assert (written / "map.png").read_bytes().startswith(b"\x89PNG")
    svg = (written / "map.svg").read_text()
    assert all(word in svg for word in ("every call compiled: ", "no limit (jax.jit): ", "gdsf", "take "))


def test_a_prediction_that_is_not_met_is_said_first_and_the_measured_trials_are_trusted(tmp_path):
    results = mapped_grid()
    wrong = results[0].statistics.model_copy(update={"misses": 99, "cost_seconds": 77.0})
    results[0] = results[0].model_copy(update={"statistics": wrong})
    findings = found(tmp_path / "s", results)
    assert findings.agreement.startswith("Only 3 of 4 measured trials equal their prediction; the furthest is lru")
    assert "77.0 s measured" in findings.agreement
    assert findings.choice is None
    assert findings.sentence == findings.decision.sentence
    assert findings.advice == [] or all(advice.basis != "replayed" for advice in findings.advice)
    write_report(findings.sweep.directory)
    text = (findings.sweep.directory / REPORT).read_text()
    assert text.index("Only 3 of 4") < text.index(findings.sentence)
    html = page(findings)
    assert html.index("Only 3 of 4") < html.index('class="sentence"')
    assert text_of(findings).startswith("Only 3 of 4 measured trials")
    table = pq.read_table(findings.sweep.directory / RESULTS_PARQUET)
    assert set(table["status"].to_pylist()) == {"completed"}  # no prediction is handed on that is not met


def test_what_the_reference_recorded_is_no_best_or_worst_of_trials_that_made_other_requests(tmp_path):
    varied, kept = mapped_grid(limits=("512KiB",)), mapped_grid(limits=("512KiB",), workloads=("least_squares",))
    fewer = varied[0].statistics.model_copy(update={"cost_seconds": varied[0].statistics.cost_seconds - 0.5})
    varied[0] = varied[0].model_copy(update={"statistics": fewer})
    findings = found(tmp_path / "s", varied + kept)
    text, html = "\n".join(markdown(findings, plotted=False)), page(findings)
    for row in cells(text, "workload"):
        is_known = row["workload"] == "least_squares"
        for column in ("no limit", "every call compiled", "over bound"):
            assert (row[column] != "–") == is_known, column
    assert "the requests of some trials are not those that their reference run recorded" in html
    assert "priced by the costs.json of their trials" not in html
    tiles = re.findall(r'<div class="tile"><b>.*?</b><span>(.*?)</span>', html)
    assert tiles
    assert not any("bound" in name or "no limit" in name for name in tiles)
    bounds = results_table(findings)["bound_seconds"].to_pylist()[: len(varied + kept)]
    assert [bound is None for bound in bounds] == [one in varied for one in findings.sweep.results]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(0, "1 of 1 measured trial equals its prediction."), (1, "Only 0 of 1 measured trial equals its prediction; the")],
)
def test_one_measured_trial_is_no_plural(tmp_path, wrong, said):
    (only,) = mapped_grid(["lru"], ["1MiB"], [0])
    off = only.statistics.model_copy(update={"misses": only.statistics.misses + wrong})
    findings = found(tmp_path / "s", [only.model_copy(update={"statistics": off})])
    assert findings.agreement.startswith(said)


def test_the_first_look_at_a_program_predicts_what_its_trials_will_measure(written):
    prices = CostTable.load(written / COSTS)
    measured = mapped_grid()
    look = first_look(written, measured[0].program_id, [result.config for result in measured], prices)
    seconds = {(result.config.eviction.name, result.config.memory_limit): result.statistics.cost_seconds
               for result in measured}  # fmt: skip
    least = sorted(seconds.values())[:3]
    assert re.findall(r"(\d+\.\d) s", look) == [f"{each:.1f}" for each in least]
    assert look.startswith("predicted: ")
    assert look.endswith("; the fewest of 4 settings")
    assert first_look(written, "unknown", [result.config for result in measured], prices) == ""


def test_predictions_are_rows_of_the_table_marked_as_such(written):
    rows = pq.read_table(written / RESULTS_PARQUET).to_pylist()
    predicted = [row for row in rows if row["status"] == "predicted"]
    assert len(rows) - len(predicted) == 8
    assert {row["eviction"] for row in predicted} == set(POLICIES)
    assert {row["trial_id"] for row in predicted} == {None}
    some = next(row for row in predicted if (row["eviction"], row["memory_limit"], row["seed"]) == ("gdsf", MIB, 1))
    expected = replay(requests_of(mapped_result("gdsf", "1MiB", 1).config), "gdsf", MIB, seed=1)
    assert (some["misses"], some["cost_seconds"]) == (expected.misses, expected.compile_seconds)
    assert some["bound_seconds"] <= some["cost_seconds"]


def test_limits_are_what_people_type_and_reach_from_the_smallest_signature_to_all():
    assert [limit / MIB for limit in limits_between(MIB, 10 * MIB)] == [0.75, 1, 1.5, 2, 3, 4, 6, 8, 12]
    assert len(limits_between(1, 2**40)) <= 20
    assert limits_between(5, 5) == [256 * 1024]


# What cannot be replayed, or has nothing to tell.


def test_a_sweep_without_recorded_requests_says_so_and_shows_what_was_measured(tmp_path):
    place = write_mapped(tmp_path / "s", mapped_grid())
    for path in place.glob(f"{REFERENCES}/*/{REQUESTS}"):
        path.unlink()
    findings = Findings(read_sweep(place))
    assert (findings.maps, findings.choice, findings.agreement) == ((), None, "")
    html = page(findings)
    assert "were not recorded (by an older version, or because a reference run failed)" in html
    assert 'id="map"' in html  # the measured settings


@pytest.mark.parametrize(
    ("changes", "limits"),
    [
        ({"requests": 1}, ("512KiB", "1MiB")),
        ({"shapes": {**SHAPES, "distinct": 1, "smallest": 9, "largest": 9}}, ("512KiB",)),
        ({}, ("64MiB", None)),  # everything fits
        ({"shapes": {**SHAPES, "smallest": 600, "largest": 700}}, ("256KiB",)),  # nothing fits
    ],
    ids=["one request", "one signature a call", "everything fits", "nothing fits"],
)
def test_sweeps_at_the_edges_have_a_report(tmp_path, changes, limits):
    findings = found(tmp_path / "s", mapped_grid(limits=limits, **changes))
    assert findings.choice is not None
    check_words(findings)
    write_report(findings.sweep.directory)


def test_nothing_is_said_of_a_program_whose_reference_failed_too(tmp_path):
    gone = [failed(eviction=policy, workload="least_squares") for policy in ("lru", "gdsf")]
    place = write_mapped(tmp_path / "s", mapped_grid())
    write_sweep(place, gone, references=False)
    said = " ".join(Findings(read_sweep(place)).notes)
    assert re.search(r"least_squares[^.]* has no successful trial, so nothing is said of it\.", said), said


def test_trials_that_all_failed_leave_no_map_and_no_fault(tmp_path):
    findings = found(tmp_path / "s", [failed(eviction="lru"), failed(eviction="gdsf")])
    assert findings.choice is None
    write_report(findings.sweep.directory)
    assert "there is nothing to compare" in (findings.sweep.directory / REPORT).read_text()


# The answer.


def cells(text, heading):
    """The rows of the first table of ``report.md`` whose first column is this."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def check_words(findings):
    """Hold the sentence, its notes and the suggestions against the tables of the report."""
    text = "\n".join(markdown(findings, plotted=False))
    choice = findings.choice
    points = {row["limit"]: row for row in cells(text, "limit")}
    named = re.match(
        r"Take (\w+) at (no limit|[\d.]+ \wiB)(?:, buckets (\w+))?: ([\d.]+) s of compiling a run(.*?)"
        r"(?:; no policy needs less than ([\d.]+) s there|; no policy needs less there)\.$",
        findings.sentence,
    )
    assert named, findings.sentence
    policy, limit, buckets, seconds, against, bound = named.groups()
    check_buckets(findings, buckets or "none", against)
    check_failed_programs(findings)
    row = points[limit]
    assert float(row["compile s"]) == pytest.approx(float(seconds), abs=1e-9)
    assert row["take"] in (policy, "any")
    least = float(row["no policy below"])
    assert float(bound or seconds) == pytest.approx(least, abs=0 if bound else 2 * SHOWN)
    measured = {
        (one.setting.eviction, one.setting.memory_limit): one.mean("cost_seconds") for one in findings.sweep.groups
        if one.setting.buckets == choice.joint.buckets
    }  # fmt: skip
    if before := re.search(r"in place of ([\d.]+) s with", against):
        assert float(before[1]) > float(seconds)
        if len(choice.joint.maps) == 1 and "every program and seed" not in against:
            assert float(before[1]) == pytest.approx(min(measured.values()), abs=SHOWN)
    if more := re.search(r", ([\d.]+) s more than", against):
        assert float(seconds) - float(more[1]) == pytest.approx(choice.best_run_seconds, abs=2 * SHOWN)
    if "the fewest of all settings run" in against:
        assert float(seconds) <= min(choice.best_run_seconds, float(seconds)) + SHOWN
        assert choice.setting == choice.best_run
    for each in points.values():
        assert float(each["no policy below"]) <= float(each["compile s"]) + SHOWN
        if "within 5 % of no limit" in each["why this limit"]:
            assert float(each["compile s"]) <= CLOSE * float(points["no limit"]["compile s"]) + SHOWN
        if each["known"] == "measured":
            assert any(value == pytest.approx(float(each["compile s"]), abs=SHOWN) for value in measured.values()) or (
                len(choice.joint.maps) > 1
            )
    for table_limit, each in points.items():
        if table_limit == "no limit" or each["take"] in ("any", choice.baseline):
            assert each["over lru"] == "–"
        if ratio := re.fullmatch(r"([\d.]+) \(([\d.]+)–([\d.]+)\)", each["over lru"]):
            mean, low, high = map(float, ratio.groups())
            assert low <= mean <= high
            assert high <= 1 or "within 5 %" in each["why this limit"]
    for advice in findings.advice:
        if advice.basis == "replayed":
            first, last = map(float, re.search(r"([\d.]+) → ([\d.]+) s", advice.expected).groups())
            assert first - last >= max(1.0, 0.05 * first) - 2 * SHOWN
            assert first == pytest.approx(choice.best_run_seconds, abs=SHOWN)
    titles = [advice.suggestion.title for advice in findings.advice]
    assert len(titles) == len(set(titles))


def check_failed_programs(findings):
    """Hold what is said of programs without a successful trial against the results."""
    ran = {one.config.workload.name for one in findings.sweep.results if one.status == "completed"}
    gone = {one.config.workload.name for one in findings.sweep.results} - ran
    text = "\n".join(markdown(findings, plotted=False))
    assert re.findall(r"failed \(all of (\w+), zipf\)", text) == [*gone]
    assert re.findall(r"(\w+), zipf has no successful trial, so only the reference", " ".join(findings.notes)) == [
        *gone
    ]


def check_buckets(findings, taken, against):
    """Hold what is said of buckets against the groups: ``taken`` are those of the setting to take."""
    said = " ".join(findings.notes)
    others = {group.setting.buckets for group in findings.sweep.groups} - {taken}
    assert ("under jax.jit alone" in said) == (taken == "none")
    assert bool(re.search(" without buckets| with these buckets", against)) == bool(
        others and re.search(r"\br[au]n\b", against)
    )
    if compared := re.search(r"Buckets were chosen by (.*?), with the best policy at the limit to take with each: "
                             r"(.*?)\.(?= |$)", said):  # fmt: skip
        figures = [re.match(r"([\d.]+)(?: \+ ([\d.]+))? s with(?:out| (\w+))", one).groups()
                   for one in re.split(", | and ", compared[2])]  # fmt: skip
        totals = [float(compiling) + float(running or 0) for compiling, running, _ in figures]
        assert totals[0] <= min(totals) + 2 * SHOWN
        assert next(name or "none" for *_, name in figures) == taken
        assert {name or "none" for *_, name in figures} <= others | {taken}
        assert ("running together" in compared[1]) == all(running for _, running, _ in figures)
    apart = re.search(r"(\w+) has not run for every program", said)
    assert bool(compared) == bool(others - {apart and apart[1]})


@st.composite
def grids(draw):
    """Incomplete grids of trials: some are missing, some failed; every other one is as predicted."""
    policies = draw(st.lists(st.sampled_from(["lru", "gdsf", "fifo"]), min_size=1, max_size=3, unique=True))
    limits = draw(st.lists(st.sampled_from(["512KiB", "1MiB", "3MiB", None]), min_size=1, max_size=2, unique=True))
    seeds = draw(st.lists(st.sampled_from([0, 1, 7]), min_size=1, max_size=2, unique=True))
    workloads = draw(st.lists(st.sampled_from(["monte_carlo", "least_squares"]), min_size=1, max_size=2, unique=True))
    requests = draw(st.sampled_from([3, 25]))
    buckets = draw(st.lists(st.sampled_from(["none", "pow2"]), min_size=1, max_size=2, unique=True))
    results = [
        one
        for name in buckets
        for one in mapped_grid(policies, limits, seeds, workloads, requests=requests, buckets=name)
    ]
    fates = draw(st.lists(st.sampled_from("+++-."), min_size=len(results), max_size=len(results)))
    kept = []
    for one, fate in zip(results, fates, strict=True):
        if fate == "-":
            gone = {"status": "failed", "reason": "killed", "statistics": None, "timing": None, "memory": None}
            kept.append(one.model_copy(update=gone))
        elif fate == "+":
            kept.append(one)
    return kept


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a failure, whose cause it would hide
@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(results=grids(), running=st.sampled_from([{}, {"none": 1.0, "pow2": 1.5}, {"none": 1.0, "pow2": 90.0}]))
def test_sentence_notes_and_suggestions_agree_with_the_tables_of_incomplete_grids(tmp_path_factory, results, running):
    findings = found(tmp_path_factory.mktemp("grid") / "s", results, run_seconds=running)
    if not findings.sweep.groups:
        assert findings.choice is None
        return
    assert findings.choice is not None
    assert not findings.is_contradicted
    check_words(findings)
    assert findings.sentence in " ".join(text_of(findings).split())


def test_what_to_take_is_held_against_what_was_run_and_against_jax_jit(tmp_path):
    findings = found(tmp_path / "s", mapped_grid(policies=("fifo",), limits=("512KiB",)))
    choice = findings.choice
    assert choice.point.seconds < choice.best_run_seconds
    assert f"in place of {choice.best_run_seconds:.1f} s with what you ran (fifo at 512 KiB)" in findings.sentence
    assert findings.notes[0].startswith("With no limit, as under jax.jit alone, ")
    assert "a compile at every call" not in " ".join([findings.sentence, *findings.notes])
    assert f"memory_limit={choice.point.limit_bytes // 1024}KiB" in findings.override or "MiB" in findings.override


def test_a_policy_that_is_there_to_compare_with_is_drawn_and_never_taken(tmp_path):
    findings = found(tmp_path / "s", mapped_grid(policies=("none", "lru"), limits=("512KiB", "1MiB")))
    assert "none" in findings.maps[0].policies
    assert "none" not in {point.policy for point in findings.choice.points}
    assert not [advice for advice in findings.advice if "eviction=none" in advice.suggestion.override]
    assert all(findings.maps[0].best(limit) != "none" for limit in findings.maps[0].own_limits)


def test_the_terminal_fits_80_columns_and_ends_with_at_most_three_suggestions(written):
    text = text_of(Findings(read_sweep(written)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert text.startswith("Take ")
    assert 1 <= sum(line.startswith("→ ") for line in lines) <= 3
    assert "…" not in text


# Seeds that were not run.


def trials_of(seeds, policy="lru", **changes):
    return {seed: mapped_result(policy, "1MiB", seed, **changes).config for seed in seeds}


def test_requests_of_another_seed_are_those_that_its_run_records():
    trials = trials_of(range(4), requests=200)
    recorded = {seed: RecordedProgram(requests_of(trials[seed])) for seed in (0, 1)}
    others = find_other_seeds(trials, recorded)
    assert (len(others.programs), others.run, others.priced_share) == (SEEDS, (0, 1), 0.0)
    for seed in (2, 3):
        mine, theirs = others.programs[seed].trace, requests_of(trials[seed])
        assert np.array_equal(mine.signatures, theirs.signatures)
        assert mine.size_bytes.tolist() == theirs.size_bytes.tolist()
        assert mine.compile_seconds == pytest.approx(theirs.compile_seconds)


def test_lengths_that_no_reference_has_seen_are_priced_between_their_neighbours_and_counted():
    trials = trials_of([0], requests=25)
    others = find_other_seeds(trials, {0: RecordedProgram(requests_of(trials[0]))})
    assert 0 < others.priced_share <= 0.5
    known = {length: prices_of_size(length) for length in padded_lengths(trials[0], trials[0].buckets, 0).tolist()}
    for program in others.programs.values():
        assert program.trace.size_bytes.max() <= max(known.values())
        assert program.trace.size_bytes.min() >= 40_000


def prices_of_size(length):
    return 60_000 * 2 + 4_000 * length


def test_a_recording_in_which_requests_of_one_length_differ_says_nothing_of_other_seeds():
    (trial,) = trials_of([0]).values()
    trace = requests_of(trial)
    odd = trace.signatures.copy()
    odd[5] = odd[6]
    broken = type(trace)(odd, trace.labels, trace.size_bytes, trace.compile_seconds, trace.mappings, trace.events)
    assert read_recipe(trial, broken) is None
    assert find_other_seeds({0: trial}, {0: RecordedProgram(broken)}) is None


def test_intervals_over_replayed_seeds_cover_what_other_seeds_measure(tmp_path):
    """Of forty seeds that no interval was made from, the mean ratio lies within it."""
    findings = found(tmp_path / "s", mapped_grid(limits=("1MiB",), policies=("lru", "size_based"), requests=80))
    point = next(point for point in findings.choice.points if point.limit_bytes == MIB)
    pair = point.against
    assert pair is not None
    logs = []
    for seed in range(100, 140):
        trace = requests_of(mapped_result("lru", "1MiB", seed, requests=80).config)
        seconds = [replay(trace, name, MIB, seed=seed).compile_seconds for name in (pair.first, pair.second)]
        logs.append(np.log(seconds[0] / seconds[1]))
    assert pair.ratio.low <= float(np.exp(np.mean(logs))) <= pair.ratio.high


def test_equal_policies_have_no_false_winner_among_replayed_seeds(monkeypatch):
    """Policies that differ by chance alone, 60 sweeps: what is called better stays within the level and its noise."""
    from jaxcache.lab.analysis.paired_tests import compare

    false = 0
    for number in range(60):
        draw = np.random.default_rng(number)
        seconds = {
            name: {("program", seed): float(np.exp(draw.normal(3, 0.2))) for seed in range(SEEDS)}
            for name in ("lru", "gdsf", "fifo", "sieve", "lfu", "adaptive")
        }
        false += any(pair.verdict in ("less", "more") for pair in compare(seconds))
    assert false <= 8  # 5 % of 60 is 3; 9 or more come once in 240 times


# Buckets.


def test_buckets_are_predicted_by_their_own_lengths():
    (trial,) = trials_of([0]).values()
    predicted = predict_buckets(trial, RecordedProgram(requests_of(trial)), PowersOfTwo(name="pow2"))
    lengths = trial.shapes.lengths(trial.workload.requests, 0)
    buckets = {int(2 ** np.ceil(np.log2(length))) for length in lengths.tolist()}
    assert len(predicted.trace.labels) == 1 + 2 * len(buckets)
    assert predicted.trace.requests == 1 + 2 * len(lengths)


def test_a_suggestion_of_buckets_says_what_padding_adds(tmp_path):
    findings = found(tmp_path / "s", mapped_grid(limits=("1MiB",), policies=("lru",)))
    (one,) = [advice for advice in findings.advice if advice.suggestion.rule == "buckets"]
    assert re.search(r"compute with \d+% more elements", one.suggestion.evidence)
    assert one.suggestion.override.startswith("buckets=")
    assert "priced off neighbouring lengths" in one.checked


def test_every_panel_names_the_limit_of_the_answer_though_its_program_needs_less(tmp_path):
    small = {**SHAPES, "largest": 12, "distinct": 3}
    grid = [
        *mapped_grid(policies=("lru", "gdsf")),
        *mapped_grid(policies=("lru", "gdsf"), workloads=("least_squares",), shapes=small),
    ]
    findings = Findings(read_sweep(write_mapped(tmp_path / "s", grid)))
    limit = findings.choice.point.limit_bytes
    assert limit > min(each.own_limits[-1] for each in findings.choice.joint.maps)
    named = re.findall(r'"take \w+, ([^"]+)"', page(findings))
    assert set(named) == {format_size(limit)}
