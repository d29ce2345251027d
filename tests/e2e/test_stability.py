"""`benchmarks/stability.py` in short: the shipped voice under two real limits, nothing lost."""

import argparse
import sys
from pathlib import Path

import pytest

from benchmarks.inside import limited
from benchmarks.stability import MOST_TOGETHER, fill, measure, mix, table, waves
from benchmarks.stability_picture import OUTCOMES, picture

ARGUMENTS = argparse.Namespace(requests=50, spoken_characters=30, model_dir=None, data_dir=None)


@pytest.mark.skipif(sys.platform != "linux", reason="limits like these are Linux's")
@pytest.mark.parametrize("limit_mb", [512, 1024])
def test_nothing_is_killed_and_nothing_without_an_answer(limit_mb: int) -> None:
    with limited(limit_mb) as limit:
        if limit.group is None:
            pytest.skip("no cgroup can be made here")
        row = measure(limit, ARGUMENTS, control=True)
    assert row["is_server_alive"], row
    assert (row["oom_kills"], row["worker_restarts"]) == (0, 0), row
    assert (row["failed"], row["unanswered"]) == (0, 0), row
    assert row["left"] == 5
    assert row["spoken"] + row["spoken and says so"] + row["refused"] == 45
    assert row["spoken"] > 0 and row["spoken and says so"] > 0, row
    assert 0 < row["peak_mb"] <= limit_mb


def test_the_mix_is_the_same_each_time() -> None:
    wanted = mix(500, 400)
    assert wanted == mix(500, 400)
    assert min(each.characters for each in wanted) < 12
    assert max(each.characters for each in wanted) > 4_000
    assert sum(each.leaves for each in wanted) == 50
    assert sum(each.has_recording for each in wanted) == 100
    assert [len(wave) for wave in waves(wanted)][: MOST_TOGETHER + 1] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert [each for wave in waves(wanted) for each in wave] == wanted


def test_what_was_measured_is_drawn(tmp_path: Path) -> None:
    row = {"checkpoint": "demo", "limit_mb": 512, "control": "on", "requests": 10}
    row |= {"spoken_characters": 60, "oom_kills": 0, "peak_mb": 336}
    spoken: dict[str, object] = {name: number for number, name in enumerate(OUTCOMES)}
    spoken |= {"spoken_of_admitted_pct": 12.5}
    refused = row | {"control": "off", "at_start": "It takes <more> memory."}
    drawn = picture([row | spoken, refused])
    assert drawn.count("<title>") == len(OUTCOMES)
    assert "&lt;more&gt;" in drawn
    shown = table([row | spoken, refused])
    assert "| demo | 512 | on | 10 | 60 | 1 (1) | 2 | 3 | 4 | 5 | 12.5 | 0 | 336 |  |" in shown
    assert "| demo | 512 | off | 10 | 60 | does not start |" in shown


def test_the_table_goes_between_its_marks() -> None:
    row = {"checkpoint": "demo", "limit_mb": 512, "control": "on", "requests": 10}
    row |= {"spoken_characters": 60, "at_start": "It takes more memory."}
    page = (
        "# Before\n\n<!-- what benchmarks.stability says -->\n\nold\n\n<!-- so far -->\n\nAfter.\n"
    )
    once = fill(page, [row])
    assert once.startswith("# Before") and once.endswith("After.\n") and "old" not in once
    assert table([row]) in once and fill(once, [row]) == once
