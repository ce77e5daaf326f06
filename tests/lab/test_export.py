"""The tidy tables and their documentation."""

import csv
import math
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.sweep import read_sweep
from jaxcache.lab.layout import RESULTS_CSV, RESULTS_PARQUET
from jaxcache.lab.report.page_tables import trials
from jaxcache.lab.report.tables import COLUMNS, schema_lines, write_results
from jaxcache.lab.workloads import Answer

from .._support.results import failed, result, write_sweep
from .._support.trials import small_trial

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "results.md"


def test_there_is_one_row_a_trial_in_the_order_of_the_sweep(tmp_path):
    made = [result("lru", 1), failed(seed=2), result("gdsf", 0, limit=None)]
    sweep = read_sweep(write_sweep(tmp_path / "s", made))
    write_results(Findings(sweep))
    rows = pq.read_table(sweep.directory / RESULTS_PARQUET).to_pylist()
    assert [row["trial_id"] for row in rows] == [one.trial_id for one in made]
    assert [(row["eviction"], row["seed"], row["memory_limit"], row["cost_seconds"]) for row in rows] == [
        ("lru", 1, 2 * 1024**2, 10.0), ("lru", 2, 2 * 1024**2, None), ("gdsf", 0, None, 10.0),
    ]  # fmt: skip
    assert [row["program"] for row in rows] == ["monte_carlo, zipf"] * 3
    assert rows[1]["reason"] == "the process was killed by SIGKILL"
    assert (rows[0]["unbounded_seconds"], rows[0]["uncached_seconds"], rows[0]["loading_seconds"]) == (2.0, 50.0, 0.4)
    with (sweep.directory / RESULTS_CSV).open() as file:
        same = list(csv.DictReader(file))
    assert [row["trial_id"] for row in same] == [row["trial_id"] for row in rows]
    assert [float(row["cost_seconds"] or "nan") for row in same][::2] == [10.0, 10.0]


@pytest.mark.parametrize("error", [0.5, math.inf, math.nan])
def test_a_wrong_answer_is_a_failed_trial_however_wrong_it_is(tmp_path, error):
    answer = Answer(measure="difference", error=error, tolerance=0.0)
    wrong = failed("wrong result", seed=1).model_copy(update={"answer": answer})
    sweep = read_sweep(write_sweep(tmp_path / "s", [wrong, result()]))
    assert (len(sweep.failed), sweep.damaged) == (1, ())
    assert repr(sweep.results[0].answer) == repr(answer)
    path = tmp_path / "s" / "trials" / wrong.trial_id / "result.json"
    path.write_text(re.sub(r'"error": ?[^,}]+', '"error": null', path.read_text()))  # as version 0.1 wrote infinity
    assert read_sweep(tmp_path / "s").results[0].answer.error == math.inf


def test_the_page_and_the_table_name_program_and_buckets_of_failed_trials_too(tmp_path):
    config = small_trial(
        "monte_carlo", eviction={"name": "lru"}, seed=1, precision="bfloat16", buckets={"name": "pow2"}
    )
    made = [failed(seed=1).model_copy(update={"config": config}), result(seed=2)]
    sweep = read_sweep(write_sweep(tmp_path / "s", made))
    write_results(Findings(sweep))
    rows = pq.read_table(sweep.directory / RESULTS_PARQUET).to_pylist()
    page = trials(sweep)["data"]
    names = [column["name"] for column in page["columns"]]
    shown = [dict(zip(names, row, strict=True)) for row in page["rows"]]
    for name in ("program", "buckets", "eviction"):
        assert [row[name] for row in shown] == [row[name] for row in rows]
    assert (shown[0]["program"], shown[0]["buckets"]) == ("monte_carlo, zipf, bfloat16", "pow2")


def test_a_sweep_without_results_has_all_columns_and_no_row(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "s", []))
    write_results(Findings(sweep))
    table = pq.read_table(sweep.directory / RESULTS_PARQUET)
    assert (table.num_rows, table.column_names) == (0, [column.name for column in COLUMNS])


def test_the_schema_is_documented():
    assert "\n".join(schema_lines()) in DOCUMENT.read_text()


def test_units_are_in_the_file_itself(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "s", [result()]))
    write_results(Findings(sweep))
    schema = pq.read_schema(sweep.directory / RESULTS_PARQUET)
    assert schema.field("cost_seconds").metadata[b"meaning"].endswith(b", s")
