"""Logs of several runs as tables: whole rows of every version, compared in plain figures."""

import pandas as pd
import pytest

from ui.report import runs

OLD = b"timestamp,tier,outcome,text_length,rtf\n2026-11-20T10:00:00.000Z,pi,success,80,4\n"
NEW = (
    b"timestamp,tier,outcome,text_length,spoken_length,rtf,tokens_per_second,queue_s\n"
    b"2026-11-21T10:00:00.000Z,gpu,success,900,400,0.5,40,0\n"
    b"2026-11-21T10:00:01.000Z,gpu,failed,20,20,,,0\n"
    b"2026-11-21T10:00:02.000Z,,success,20,20,1.5,20,0\n"
    b"2026-11-21T10:00:03.000Z,gpu,succ"
)


@pytest.fixture
def rows() -> pd.DataFrame:
    return runs.table({"old.csv": OLD, "new.csv": NEW})


def test_every_whole_row_is_there_with_its_file(rows: pd.DataFrame) -> None:
    assert list(rows[runs.RUN]) == ["old.csv", "new.csv", "new.csv", "new.csv"]
    assert rows["rtf"].sum() == 6.0
    assert str(rows["timestamp"].dtype).startswith("datetime64") and rows["timestamp"].notna().all()


def test_no_file_no_row() -> None:
    assert runs.table({}).empty and runs.table({"a.csv": b""}).empty
    assert runs.spoken(runs.table({})).empty


def test_lengths_are_of_what_was_spoken(rows: pd.DataFrame) -> None:
    spoken = runs.spoken(rows)
    assert list(spoken["characters"]) == [80, 400, 20]
    assert list(spoken["tier"]) == ["pi", "gpu", "?"]


def test_tiers_side_by_side(rows: pd.DataFrame) -> None:
    tiers = runs.by_tier(rows).set_index("Tier")
    assert tiers.loc["gpu", "RTF, median"] == 0.5 and tiers.loc["pi", "Requests"] == 1


def test_two_runs_compared(rows: pd.DataFrame) -> None:
    compared = runs.compare(rows, "old.csv", "new.csv").set_index("")
    assert list(compared.index) == ["RTF"], "what only one of them has cannot be compared"
    assert compared.loc["RTF", "First, median"] == "4"
    assert compared.loc["RTF", "Second, median"] == "1"
    assert compared.loc["RTF", "Ratio, median"] == "0.25 ×"
    assert compared.loc["RTF", "Second, p95"] == "1.45"


def test_nothing_divided_by_nothing(rows: pd.DataFrame) -> None:
    waited = runs.compare(rows, "new.csv", "new.csv").set_index("").loc["Waited, s"]
    assert waited["Ratio, median"] == "–"


def test_what_kind_of_log_it_is() -> None:
    assert runs.is_requests(OLD) and not runs.is_samples(OLD)
    samples = b"timestamp,cpu_pct,memory_pct,gpu_memory_mb,gpu_util_pct\n"
    assert runs.is_samples(samples) and not runs.is_requests(samples)
    assert not runs.is_requests(b"\xff\xfe") and not runs.is_samples(b"a,b\n1,2\n")


def test_a_plot_takes_rows_evenly() -> None:
    many = pd.DataFrame({"n": range(1000)})
    thin = runs.thinned(many, 300)
    assert len(thin) <= 300 and thin["n"].iloc[-1] > 990
    assert len(runs.thinned(many, 1000)) == 1000 and runs.thinned(many.head(0), 10).empty


def test_only_what_was_chosen(rows: pd.DataFrame) -> None:
    assert len(runs.only(rows, {"tier": [], "nothing": ["x"]})) == 4
    assert len(runs.only(rows, {"tier": ["gpu"], "outcome": ["success"]})) == 1
