"""Frame, bound and trials of a sweep are priced by one table, whatever each reference has measured itself."""

import numpy as np
import pytest

from jaxcache import Cost, CostTable, Trace, optimum, replay
from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.files import write_json
from jaxcache.lab.layout import COSTS, REFERENCE, REFERENCES, REQUESTS
from jaxcache.lab.report.page import page
from jaxcache.lab.result import Reference

from .._support.results import result, write_sweep

MIB = 2**20
NAMES = [f"f(float32[{n}])" for n in range(6)]
SIZES = np.array([1, 1, 2, 1, 2, 1]) * MIB
TABLE = np.array([2.0, 1.0, 4.0, 3.0, 0.5, 6.0])  # seconds, as the sweep's table has them


def requests_of(seed, seconds=TABLE):
    keys = np.random.default_rng(seed).integers(0, 6, 40)
    names = [NAMES[key] for key in keys]
    return Trace.from_arrays(keys=names, size_bytes=SIZES[keys], compile_seconds=seconds[keys])


def replayed(policy, seed):
    counted = replay(requests_of(seed), policy, 3 * MIB)
    made = result(policy, seed, "3MiB", cost_seconds=counted.compile_seconds, hits=counted.hits, misses=counted.misses)
    statistics = made.statistics.model_copy(update={"evictions": counted.evictions})
    return made.model_copy(update={"statistics": statistics})


@pytest.fixture
def directory(tmp_path):
    """Two seeds under two policies; the second reference has measured all that both share at five times the seconds."""
    runs = [(policy, seed) for policy in ("lru", "gdsf") for seed in (0, 1)]
    made = [replayed(policy, seed) for policy, seed in runs]
    place = write_sweep(tmp_path / "s", made)
    CostTable({name: Cost(int(size), float(s)) for name, size, s in zip(NAMES, SIZES, TABLE, strict=True)}).save(
        place / COSTS
    )
    for (_, seed), one in zip(runs, made, strict=True):
        home = place / REFERENCES / one.program_id
        own = TABLE * (5 if seed else 1)
        requests_of(seed, own).save(home / REQUESTS)
        reference = Reference.model_validate_json((home / REFERENCE).read_bytes())
        rows = {name: (int(size), float(s)) for name, size, s in zip(NAMES, SIZES, own, strict=True)}
        told = {"costs": rows, "unbounded_cost_seconds": own.sum(), "uncached_cost_seconds": 40 * own.mean()}
        write_json(home / REFERENCE, reference.model_copy(update=told))
    return place


def test_frame_and_bound_are_those_of_the_requests_at_the_table_of_the_sweep(directory):
    traces = [requests_of(seed) for seed in (0, 1)]
    for group in read_sweep(directory).groups:
        assert group.frame.unbounded_seconds == pytest.approx(np.mean([t.compile_seconds.sum() for t in traces]))
        uncached = np.mean([t.compile_seconds[t.signatures].sum() for t in traces])
        assert group.frame.uncached_seconds == pytest.approx(uncached)
        bound = np.mean([optimum(t, 3 * MIB, steps=200).lower_bound_seconds for t in traces])
        assert group.bound_seconds == pytest.approx(bound)
        seconds = group.mean("cost_seconds")
        assert group.frame.unbounded_seconds <= group.bound_seconds <= seconds <= group.frame.uncached_seconds
    assert "no limit, as under jax.jit alone" in page(Findings(read_sweep(directory)))


@pytest.mark.parametrize("damage", ["", "{", '{"signatures": {"f": {}}}'])
def test_without_the_table_and_with_references_that_disagree_there_is_no_frame_and_that_is_said(directory, damage):
    (directory / COSTS).write_text(damage)
    sweep = read_sweep(directory)
    assert [(group.frame, group.bound_seconds) for group in sweep.groups] == [(None, None)] * 2
    assert [path for path, _ in sweep.unreadable] == [COSTS]
    text = page(Findings(sweep))
    assert "is no cost table" in text
    assert "no limit, as under jax.jit alone" not in text


def test_a_trace_that_is_cut_short_is_named_and_the_frame_of_a_reference_at_other_prices_not_taken(directory):
    (victim,) = {one.program_id for one in read_sweep(directory).results if one.config.seed == 1}
    path = directory / REFERENCES / victim / REQUESTS
    path.write_bytes(path.read_bytes()[:100])
    sweep = read_sweep(directory)
    assert [one.path for one in sweep.unreadable] == [str(path.relative_to(directory))]
    assert all(group.frame is None for group in sweep.groups)


def test_a_sweep_without_traces_has_the_frames_of_references_at_the_prices_of_the_table(directory):
    for path in directory.glob(f"{REFERENCES}/*/{REQUESTS}"):
        path.unlink()
    groups = [group.at_seeds({seed}) for group in read_sweep(directory).groups for seed in (0, 1)]
    assert [group.frame is None for group in groups] == [False, True] * 2
    assert groups[0].frame.unbounded_seconds == TABLE.sum()


def test_a_trial_at_other_prices_has_no_bound(directory):
    sweep = read_sweep(directory, bounds={})
    impossible = {(one.program_id, one.config.memory_limit): 1e9 for one in sweep.results}
    assert [group.bound_seconds for group in read_sweep(directory, impossible).groups] == [None, None]
