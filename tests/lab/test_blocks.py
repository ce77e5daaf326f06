"""Blocks of a recording: intervals that cover, no false winner, and silence where the assumptions do not hold."""

import numpy as np
import pytest

from jaxcache import Trace, replay
from jaxcache._replay.trace import Event
from jaxcache.lab.analysis.blocks import BLOCKS, FEWEST_REQUESTS, find_blocks
from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.policy_map import ProgramMap
from jaxcache.lab.analysis.recorded import RecordedProgram
from jaxcache.lab.analysis.sweep import Program, read_sweep
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import REFERENCES, REQUESTS, RESULT
from jaxcache.lab.report.markdown import markdown
from jaxcache.lab.result import TrialResult

from .._support.mapped import mapped_grid, mapped_result, write_mapped

SIGNATURES = 30
LIMIT = 6_000_000
DRAW = np.random.default_rng(5)
SIZES, SECONDS = DRAW.integers(100_000, 2_000_000, SIGNATURES), DRAW.lognormal(0, 0.7, SIGNATURES)


def recorded(keys, alike=False):
    return RecordedProgram(Trace.from_arrays(
        keys=keys.tolist(), size_bytes=np.full(len(keys), 10**6) if alike else SIZES[keys],
        compile_seconds=np.ones(len(keys)) if alike else SECONDS[keys],
    ))  # fmt: skip


def program_map(recording):
    program = Program("program", "own", "float32", "off", "p")
    return ProgramMap(program, "none", {0: recording}, 0, ("lru", "gdsf"), (LIMIT,), ())


def near_repeats(seed, count):
    """Requests of which three in five repeat one of the last eight."""
    draw, keys = np.random.default_rng(seed), []
    chances = np.arange(1, SIGNATURES + 1, dtype=float) ** -1
    for _ in range(count):
        repeats = keys and draw.random() < 0.6
        keys.append(keys[-1 - int(draw.integers(min(8, len(keys))))] if repeats
                    else int(draw.choice(SIGNATURES, p=chances / chances.sum())))  # fmt: skip
    return np.array(keys)


def test_intervals_of_one_recording_cover_the_mean_of_many():
    """Of 20 recordings of one kind, each interval of 95 % is held against the mean of all the others."""
    pairs, logs = [], []
    for seed in range(20):
        (pair,) = find_blocks([program_map(recorded(near_repeats(seed, 300)))]).compare(("gdsf", "lru"), LIMIT)
        pairs.append(pair)
        logs.append(np.log(pair.ratio.mean))
    truths = [np.exp((sum(logs) - own) / (len(logs) - 1)) for own in logs]
    covered = [pair.ratio.low <= truth <= pair.ratio.high for pair, truth in zip(pairs, truths, strict=True)]
    assert sum(covered) >= 17  # 19 on the mean; 16 or fewer come three times in two hundred
    assert np.median([pair.ratio.high / pair.ratio.low for pair in pairs]) < 1.6  # they say something


def test_policies_that_are_equal_by_theory_have_no_false_winner():
    """Requests drawn evenly among equal programs: lru, fifo and random then miss alike (W. F. King, 1971)."""
    claims = 0
    for seed in range(20):
        keys = np.random.default_rng(seed).integers(SIGNATURES, size=250)
        compared = find_blocks([program_map(recorded(keys, alike=True))]).compare(("lru", "fifo", "random"), LIMIT)
        claims += any(pair.verdict in ("less", "more") for pair in compared)
    assert claims <= 3  # 5 % of 20 is 1; 4 or more come once in sixty times


def test_a_policy_that_is_better_throughout_is_shown_to_be():
    """A loop over one program more than fits, which lru never hits and mru-like policies mostly do."""
    keys = np.arange(600) % 7
    (pair,) = find_blocks([program_map(recorded(keys, alike=True))]).compare(("random", "lru"), LIMIT)
    assert pair.verdict == "less"
    assert pair.ratio.high < 1
    assert pair.repeats == BLOCKS


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (np.arange(FEWEST_REQUESTS - 1) % 7, "199 requests is too short"),
        (np.repeat(np.arange(20), 15), "changes on the way"),  # data that grow, and no shape comes again
        (np.arange(40_000) % 7, "would take long"),
    ],
)
def test_where_the_assumptions_do_not_hold_nothing_is_said_and_why(keys, reason):
    blocks = find_blocks([program_map(recorded(keys))])
    assert blocks.recordings == ()
    assert reason in blocks.reason


def test_programs_made_ahead_or_cleared_are_not_torn_apart():
    trace = recorded(np.arange(300) % 7).trace
    events = np.zeros(300, np.uint8)
    events[7] = Event.WARM
    odd = Trace(trace.signatures, trace.labels, trace.size_bytes, trace.compile_seconds, trace.mappings, events)
    assert "made ahead" in find_blocks([program_map(RecordedProgram(odd))]).reason


def test_the_report_says_how_sure_a_recording_of_ones_own_makes_it_or_why_it_does_not(tmp_path):
    texts = {}
    for count in (150, 400):
        place = write_mapped(tmp_path / str(count), mapped_grid(policies=("lru",), limits=("1MiB",)))
        path = place / REFERENCES / mapped_result("lru", "1MiB").program_id / REQUESTS
        trace, keys = Trace.load(path), near_repeats(1, count)
        rows = keys % len(trace.labels)  # requests of one length then differ, so that no other seed can be drawn
        replaced = Trace(rows, trace.labels, trace.size_bytes, trace.compile_seconds, trace.mappings,
                         np.zeros(count, np.uint8))  # fmt: skip
        replaced.save(path)
        measured = replay(replaced, "lru", "1MiB")
        _rewrite(place, measured)
        texts[count] = "\n".join(markdown(Findings(read_sweep(place)), plotted=False))
    assert "other requests is not known: a recording of 150 requests is too short, 200 are needed." in texts[150]
    assert "by a bootstrap over blocks, each 10% of a recording." in texts[400]
    assert "seeds replayed" not in texts[400]


def _rewrite(place, measured):
    """Let the one trial of a sweep have measured what the replay of its new recording says."""
    (path,) = place.glob(f"trials/*/{RESULT}")
    trial = TrialResult.model_validate_json(path.read_bytes())
    statistics = trial.statistics.model_copy(update={
        "hits": measured.hits, "misses": measured.misses, "evictions": measured.evictions,
        "cost_seconds": measured.compile_seconds, "peak_bytes": measured.peak_bytes,
    })  # fmt: skip
    write_json(path, trial.model_copy(update={"statistics": statistics}))
