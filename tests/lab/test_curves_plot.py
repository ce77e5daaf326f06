"""The picture of the curves has what its text says."""

from dataclasses import replace

import pytest

from jaxcache import curves
from jaxcache.lab.tuning.curves_plot import draw

from .._replay.test_replay import zipf


def values(chart, layer):
    told = chart.to_dict()
    data = told["layer"][layer]["data"]
    return told["datasets"][data["name"]] if "name" in data else data["values"]


def test_the_picture_has_every_policy_the_bound_the_knee_and_the_present_setting(tmp_path):
    trace = zipf(1500, 50, 0)
    recorded = replace(trace, setting={"eviction": "fifo", "limit_bytes": trace.working_set_bytes // 4, "seed": 0})
    drawn = curves(recorded, ["lru", "fifo", "gdsf"], steps=50)
    chart = draw(drawn)
    assert {row["policy"] for row in values(chart, 0)} == {"lru", "fifo", "gdsf"}
    assert len(values(chart, 0)) == 3 * len(drawn.limits_bytes)
    assert [row["seconds"] for row in values(chart, 2)] == drawn.lower_bound_seconds.tolist()
    assert values(chart, 3) == [{"limit": drawn.knee_bytes() / 2**20}]
    assert drawn.present is not None
    assert [row["seconds"] for row in values(chart, 4)] == [drawn.present.compile_seconds]
    chart.save(str(tmp_path / "curves.svg"))
    assert "compile seconds, replayed" in (tmp_path / "curves.svg").read_text()


def test_a_policy_that_was_not_replayed_is_refused():
    with pytest.raises(ValueError, match="policies must be among lru, but 'gdsf' is not"):
        draw(curves(zipf(100, 10, 0), ["lru"], steps=5), ["gdsf"])
