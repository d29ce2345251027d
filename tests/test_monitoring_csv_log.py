"""The files: rows whole or not at all, whatever kills the process or fills the disk."""

import csv
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from backend.monitoring.csv_log import RETRY_S, CsvLog
from backend.monitoring.rows import RealtimeRow, SynthesisRow, columns, timestamp
from backend.monitoring.sample import Observed
from backend.monitoring.synthesis import Ending, synthesis_row
from tests.monitored import logged, start, stats

NAMED_BY_THE_CHANGELOG = (
    "rtf,tokens_per_second,peak_gpu_util_pct,audio_duration_s,generated_tokens",
    "fish_tokens_per_sec,fish_bandwidth_gb_s,fish_gpu_memory_gb,fish_generation_time_s,"
    "vq_features_shape",
)
ROW = synthesis_row(start(), Ending("success", 2.0, audio_s=4.0, stats=stats()), Observed(), 0.0)


def moment(number: int) -> RealtimeRow:
    return RealtimeRow(timestamp(float(number)), 50.0, 40.5, None, None, None, running=1)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text, strict=True))


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_columns_are_the_changelogs() -> None:
    header = ",".join(columns(SynthesisRow))
    for named in NAMED_BY_THE_CHANGELOG:
        assert named in header
    assert columns(RealtimeRow) == (
        *("timestamp", "cpu_pct", "memory_pct", "gpu_memory_mb", "gpu_util_pct", "temperature_c"),
        "running",
    )


def test_names_and_contents_of_the_files(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "metrics", "gpu_high", 1 << 20)
    assert not (tmp_path / "metrics").exists()  # nothing before the first row
    log.append(ROW)
    log.append(moment(7))
    log.write_hardware_specs({"gpu": "NVIDIA H200", "cores": 16})
    (synthesis,) = tmp_path.glob("metrics/synthesis_gpu_high_????????_??????.csv")
    (realtime,) = tmp_path.glob("metrics/realtime_gpu_high_????????_??????.csv")
    (row,) = read(synthesis)  # readable while the log is still open
    assert row["request_id"] == "r"
    assert row["success"] == "true"
    assert row["finish_reasons"] == "end;frame_limit"
    assert row["fish_gpu_memory_gb"] == ""
    assert read(realtime) == [
        {
            "timestamp": "1970-01-01T00:00:07.000Z",
            "cpu_pct": "50.0",
            "memory_pct": "40.5",
            "gpu_memory_mb": "",
            "gpu_util_pct": "",
            "temperature_c": "",
            "running": "1",
        }
    ]
    assert synthesis.read_bytes().count(b"\r\n") == 2  # as RFC 4180 has it
    specs = json.loads((tmp_path / "metrics/hardware_specs_gpu_high.json").read_text())
    assert specs == {"gpu": "NVIDIA H200", "cores": 16}
    assert len(list((tmp_path / "metrics").iterdir())) == 3
    log.close()


def test_cells_are_quoted(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "t", 1 << 20)
    log.append(replace(ROW, warnings='5" long, and more', vq_features_shape="[10, 1213]"))
    log.close()
    (file,) = tmp_path.glob("*.csv")
    assert '"[10, 1213]"' in file.read_text()
    (row,) = read(file)
    assert row["warnings"] == '5" long, and more'
    assert row["vq_features_shape"] == "[10, 1213]"


@pytest.mark.parametrize(
    ("sent", "logged_as"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("  @SUM(A1)", "'  @SUM(A1)"),
        ("\t-2+3", "' -2+3"),
        ("two\r\nlines\x00", "two  lines "),
        ("ę日本" + "x" * 1000, "ę日本" + "x" * 297),
        ("plain-id", "plain-id"),
    ],
)
def test_text_from_outside_is_made_plain(tmp_path: Path, sent: str, logged_as: str) -> None:
    log = CsvLog(tmp_path, "t", 1 << 20)
    log.append(replace(ROW, request_id=sent, error_message=sent))
    log.close()
    (row,) = read(next(tmp_path.glob("*.csv")))
    assert row["request_id"] == row["error_message"] == logged_as


def test_numbers_that_are_none_leave_their_cell_empty(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "t", 1 << 20)
    log.append(replace(ROW, rtf=float("inf"), compute_rtf=float("nan"), first_audio_s=1 / 3))
    log.close()
    (row,) = read(next(tmp_path.glob("*.csv")))
    assert (row["rtf"], row["compute_rtf"], row["first_audio_s"]) == ("", "", "0.3333")


def test_rotation_loses_nothing_and_never_reuses_a_name(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "t", 4096)
    for number in range(60):
        log.append(replace(ROW, request_id=str(number)))
    log.close()
    files = list(tmp_path.glob("synthesis_t_*.csv"))
    assert len(files) > 3  # all within a second or two, so some had the same time
    assert all(file.stat().st_size <= 4096 for file in files)
    rows = [row["request_id"] for file in files for row in read(file)]
    assert sorted(rows, key=int) == [str(number) for number in range(60)]


def test_a_second_server_begins_a_file_of_its_own(tmp_path: Path) -> None:
    logs = [CsvLog(tmp_path, "t", 1 << 20) for _ in range(3)]
    for number in range(9):
        logs[number % 3].append(moment(number))
    for log in logs:
        log.close()
    assert sorted(len(read(file)) for file in tmp_path.glob("*.csv")) == [3, 3, 3]


def test_a_deleted_file_is_followed_by_another(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("an open file cannot be deleted on Windows")
    log = CsvLog(tmp_path / "metrics", "t", 1 << 20)
    log.append(moment(1))
    (first,) = tmp_path.glob("metrics/*.csv")
    first.unlink()
    (tmp_path / "metrics").rmdir()
    log.append(moment(2))
    log.close()
    (second,) = tmp_path.glob("metrics/*.csv")
    assert [row["timestamp"] for row in read(second)] == ["1970-01-01T00:00:02.000Z"]


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path: Path) -> None:
    in_the_way = tmp_path / "metrics"
    in_the_way.write_text("a file")
    clock = Clock()
    log = CsvLog(in_the_way, "t", 1 << 20, clock)
    with logged() as lines:
        log.write_hardware_specs({})
        for number in range(50):
            log.append(ROW)
            log.append(moment(number))
            clock.now_s += RETRY_S / 10
        assert len(lines) == 1
        assert lines[0].startswith("WARNING The request log cannot be written")
        assert log.problem
        in_the_way.unlink()
        clock.now_s += RETRY_S
        log.append(ROW)
        assert log.problem == ""
        assert lines[1] == "INFO The request log is written again; 100 rows are lost.\n"
    log.close()
    assert len(read(next(in_the_way.glob("synthesis*.csv")))) == 1


@contextmanager
def largest_file_bytes(limit: int) -> Iterator[None]:
    """Let the system refuse what would make a file larger, in the middle of a write too."""
    resource = importlib.import_module("resource")  # there is none on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_whole_rows_and_one_warning(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no file size limits on Windows")
    clock = Clock()
    log = CsvLog(tmp_path, "t", 1 << 20, clock)
    with logged() as lines:
        with largest_file_bytes(3000):
            for number in range(20):
                log.append(replace(ROW, request_id=str(number)))
                clock.now_s += RETRY_S
        (file,) = tmp_path.glob("*.csv")
        fitted = len(read(file))
        assert 1 <= fitted < 20
        assert [line.split()[0] for line in lines] == ["WARNING"]
        log.append(replace(ROW, request_id="after"))
    log.close()
    assert file.read_bytes().endswith(b"\r\n")
    assert [row["request_id"] for row in read(file)] == [*map(str, range(fitted)), "after"]
    assert list(tmp_path.glob("*.csv")) == [file]  # a full disk is not littered with empty files


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from backend.monitoring.csv_log import CsvLog
from tests.test_monitoring_csv_log import ROW, moment
log = CsvLog(Path(sys.argv[1]), "t", 1 << 24)
number = 0
while True:
    log.append(replace(ROW, request_id=str(number), warnings="w" * 290, error_message="e" * 290))
    log.append(moment(number))
    print(number, flush=True)
    number += 1
"""


def test_kill_9_loses_at_most_the_row_being_written(tmp_path: Path) -> None:
    for attempt in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(1 + 100 * attempt)]  # it has begun
        child.kill()
        told += child.stdout.read().split()
        child.stdout.close()
        child.wait()
        acknowledged = int(told[-1]) if told else 0
        for kind in (SynthesisRow, RealtimeRow):
            name = "synthesis" if kind is SynthesisRow else "realtime"
            files = sorted(tmp_path.glob(f"{name}_t_*.csv"), key=lambda file: file.stat().st_mtime)
            assert len(files) == attempt + 1
            lines = files[-1].read_bytes().decode().split("\r\n")
            whole = list(csv.reader(lines[:-1]))  # what follows the last line end may be torn
            assert all(len(row) == len(columns(kind)) for row in whole)
            assert len(whole) - 1 in (acknowledged + 1, acknowledged + 2)
            if kind is SynthesisRow:
                assert [row[1] for row in whole[1:]] == [str(n) for n in range(len(whole) - 1)]


def test_a_torn_last_line_stays_the_last_of_its_file(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "t", 1 << 20)
    log.append(ROW)
    log.close()
    (torn,) = tmp_path.glob("*.csv")
    torn.write_bytes(torn.read_bytes()[:-20])
    before = torn.read_bytes()
    again = CsvLog(tmp_path, "t", 1 << 20)
    again.append(ROW)
    again.close()
    assert torn.read_bytes() == before
    (fresh,) = set(tmp_path.glob("*.csv")) - {torn}
    assert len(read(fresh)) == 1
