"""What the benchmark says of its raw results."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.load import LoadError, parse, script
from benchmarks.results import Results, shares
from benchmarks.run import main
from benchmarks.soak import growth


def _row(turn, server, cell, **fields):
    return {"round": turn, "model": "m", "server": server, "cell": cell, **fields}


def _cell(turn, rate, errors=0):
    return _row(turn, "ours", "png:8", rate=rate, p50=10.0, p99=14.0, errors=errors)


FLOORS = [_row(turn, "floor", "png", rate=rate) for turn, rate in enumerate((100, 200, 100))]


def test_a_share_is_of_the_same_rounds_floor():
    rows = [*FLOORS, _cell(0, 110), _cell(1, 240), _cell(2, 130)]
    assert shares(rows, "m", "ours", "png:8") == pytest.approx([1.1, 1.2, 1.3])
    assert "**120%**<br>110% to 130%" in report.render(rows, {})


def test_a_round_without_a_floor_gives_no_share():
    assert shares([_cell(7, 110)], "m", "ours", "png:8") == []


def test_failed_requests_are_marked():
    assert "%** (!)" not in report.render([*FLOORS, _cell(0, 110)], {})
    assert "**110%** (!)" in report.render([*FLOORS, _cell(0, 110, errors=1)], {})


def test_the_latency_table_gives_the_ratio():
    assert "10.0 / 14.0 (1.4)" in report.render([*FLOORS, _cell(0, 110)], {})


def test_columns_are_ordered_by_number_not_by_text():
    assert sorted(["png:8", "tensor:1", "png:32", "jpeg:8"], key=report.cell_order) == [
        "png:8",
        "png:32",
        "jpeg:8",
        "tensor:1",
    ]


def test_a_stopped_run_knows_what_it_has(tmp_path):
    path = tmp_path / "raw.jsonl"
    Results(path).add(**_cell(0, 110))
    again = Results(path)
    assert again.has((0, "m", "ours", "png:8"))
    assert not again.has((1, "m", "ours", "png:8"))


def test_the_summary_of_wrk_counts_bad_answers_as_errors():
    line = (
        'BENCH {"requests":1000,"microseconds":2000000,"p50":1500,"p99":3000,"longest":9000,'
        '"connect":0,"read":1,"write":0,"status":100,"timeout":0}'
    )
    measured = parse(f"Running 2s test\n  100 requests\n{line}\n")
    assert measured.rate == 450
    assert (measured.p50, measured.p99, measured.longest) == (1.5, 3.0, 9.0)
    assert measured.errors == 101


def test_output_without_a_summary_is_an_error():
    with pytest.raises(LoadError, match="no summary"):
        parse("Running 2s test")


def test_the_script_names_its_bodies_and_the_binary_header(tmp_path):
    lua = script("tensor", "/v2/models/x/infer", [tmp_path / "a.bin"])
    assert str(tmp_path / "a.bin") in lua
    assert '["Inference-Header-Content-Length"] = ' in lua
    assert "%%" not in lua


def test_growth_leaves_the_warm_up_out():
    assert growth([50.0, 90.0, *[100.0] * 10], warm_up=2) == 0
    assert growth([*[100.0] * 5, *[110.0] * 5], warm_up=0) == pytest.approx(0.1)
    assert growth([100.0], warm_up=0) == 0


def test_a_table_that_is_written_later_tells_of_the_runs_that_were_measured(tmp_path):
    first, second = Results(tmp_path / "raw.jsonl"), {"commit": "bbb", "date": "today"}
    for facts, turn in (({"commit": "aaa", "date": "today"}, 0), (second, 1), (second, 2)):
        first.note(facts)
        first.add(**_cell(turn, 110))
    again = Results(tmp_path / "raw.jsonl")
    assert again.rows == [_cell(turn, 110) for turn in range(3)]
    assert again.facts() == {"commit": "aaa; bbb", "date": "today"}
    again.note(second)
    assert (tmp_path / "raw.jsonl").read_text().count('"facts"') == 2


def test_writing_the_table_alone_measures_and_claims_nothing(tmp_path):
    raw, page = tmp_path / "raw.jsonl", tmp_path / "page.md"
    results = Results(raw)
    results.note({"commit": "aaa"})
    results.add(**_cell(0, 110))
    before = raw.read_text()
    assert main(["--report-only", "--raw", str(raw), "--output", str(page)]) == 0
    assert "| commit | aaa |" in page.read_text()
    assert "| date |" not in page.read_text()
    assert raw.read_text() == before
