"""The request log as others read it: which files there are, whole lines, and no way out of it."""

import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backend.errors import BadSetting, UnknownFile
from backend.monitoring.csv_log import CsvLog
from backend.monitoring.files import MAX_LISTED, Excerpt, LogFile, list_files, open_file
from backend.monitoring.rows import RealtimeRow, columns, header, timestamp

NAME = "synthesis_gpu_high_20261123_025440.csv"
HEADER = b"timestamp,request_id\r\n"
ROWS = [f"2026-11-23T02:54:4{number}Z,{'r' * number}\r\n".encode() for number in range(10)]
HOSTILE = [
    *("", ".", "..", "../secret.csv", "/etc/passwd", "../../etc/passwd", "notes.txt", "x" * 5000),
    *("%2e%2e%2fsecret.csv", "synthesis_..%2f_20261123_025440.csv", NAME + "/", "./" + NAME),
    *("synthesis_/../../secret_20261123_025440.csv", "synthesis_a/b_20261123_025440.csv"),
    *("synthesis_a\\b_20261123_025440.csv", "synthesis_a\0b_20261123_025440.csv", NAME + "\0"),
    *(NAME + "\n", NAME.upper(), NAME + ".tmp", NAME + "::$DATA", "C:" + NAME),
    *("synthesis_ü_20261123_025440.csv", "synthesis_gpu_high_٢٠261123_025440.csv"),
    *("hardware_specs_../x.json", "hardware_specs_.json", "hardware_specs_a.b.json"),
    *("synthesis_a\udcff_20261123_025440.csv", "hardware_specs_gpu_high.4242.tmp"),
]


def row(number: int = 0) -> RealtimeRow:
    return RealtimeRow(timestamp(number), 1.0, 2.0, None, None, None, number)


def content(excerpt: Excerpt) -> bytes:
    """All of it; closes it."""
    pieces = []
    while piece := excerpt.read():
        pieces.append(piece)
    excerpt.close()
    read = b"".join(pieces)
    assert len(read) == excerpt.length_bytes
    return read


def lines_within(lines: list[bytes], last_bytes: int) -> list[bytes]:
    """The last of `lines` that together take no more than `last_bytes`."""
    return [each for i, each in enumerate(lines) if len(b"".join(lines[i:])) <= last_bytes]


def test_every_kind_is_listed_the_newest_first(tmp_path: Path) -> None:
    names = [
        *("hardware_specs_gpu_high.json", NAME, "realtime_m1_air_20261123_025441_2.csv"),
        "synthesis_intel_i5_20269999_999999.csv",  # no such day
    ]
    for age_s, name in enumerate(reversed(names)):
        (tmp_path / name).write_bytes(b"x" * (10 + age_s))
        os.utime(tmp_path / name, ns=(0, (1_800_000_000 + age_s) * 10**9))
    listing = list_files(tmp_path)
    newest = timestamp(1_800_000_003)
    assert listing.files[0] == LogFile(names[0], "hardware", "gpu_high", 13, newest, None)
    assert [file.name for file in listing.files] == names
    assert [file.kind for file in listing.files[1:]] == ["synthesis", "realtime", "synthesis"]
    assert [file.tier for file in listing.files[1:]] == ["gpu_high", "m1_air", "intel_i5"]
    began = [file.started_at for file in listing.files[1:]]
    assert began == ["2026-11-23T02:54:40.000Z", "2026-11-23T02:54:41.000Z", None]
    assert listing.total == 4


def test_what_the_log_writes_is_listed_with_its_moment(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "a tier/of its own", 1 << 20)
    before = datetime.now(UTC).replace(microsecond=0)
    log.append(row())
    log.write_hardware_specs({"cpu": "a fast one"})
    log.close()
    files = {file.kind: file for file in list_files(tmp_path).files}
    assert files.keys() == {"realtime", "hardware"}
    assert {file.tier for file in files.values()} == {"a-tier-of-its-own"}
    assert files["realtime"].started_at
    assert before <= datetime.fromisoformat(files["realtime"].started_at) <= datetime.now(UTC)
    assert content(open_file(tmp_path, files["hardware"].name)).endswith(b"}\n")


def test_only_the_newest_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    for number in range(MAX_LISTED + 3):
        name = f"realtime_x_20261123_{number:06}.csv"
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    listing = list_files(tmp_path)
    assert listing.total == MAX_LISTED + 3
    assert len(listing.files) == MAX_LISTED
    assert listing.files[0].name == f"realtime_x_20261123_{MAX_LISTED + 2:06}.csv"


def test_nothing_logged_is_an_empty_list(tmp_path: Path) -> None:
    for directory in (None, tmp_path, tmp_path / "not yet there"):
        assert list_files(directory).total == 0
        with pytest.raises(UnknownFile):
            open_file(directory, NAME)


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match="SHOAL_METRICS_DIR"):
        list_files(tmp_path / "file")
    with pytest.raises(UnknownFile):
        open_file(tmp_path / "file", NAME)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "metrics"
    (folder / "synthesis_a").mkdir(parents=True)
    (tmp_path / "secret.csv").write_bytes(HEADER)
    (tmp_path / "secret_20261123_025440.csv").write_bytes(HEADER)
    (folder / NAME).write_bytes(HEADER)
    (folder / "notes.txt").write_bytes(HEADER)
    with pytest.raises(UnknownFile) as told:
        open_file(folder, name)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 2000
    assert content(open_file(folder, NAME)) == HEADER


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
@pytest.mark.parametrize("target", ["/etc/passwd", "other.csv", "nowhere", "."])
def test_links_are_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "other.csv").write_bytes(HEADER)
    (tmp_path / NAME).symlink_to(target)
    assert list_files(tmp_path).total == 0
    with pytest.raises(UnknownFile):
        open_file(tmp_path, NAME)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system cannot refuse to follow")
def test_a_link_that_takes_the_place_of_a_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and its opening."""
    (tmp_path / NAME).symlink_to("/etc/passwd")
    monkeypatch.setattr(Path, "lstat", Path.stat)
    with pytest.raises(UnknownFile):
        open_file(tmp_path, NAME)


def test_a_folder_of_that_name_is_no_file(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert list_files(tmp_path).total == 0
    with pytest.raises(UnknownFile):
        open_file(tmp_path, NAME)


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes on Windows")
def test_a_pipe_of_that_name_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / NAME)
    assert list_files(tmp_path).total == 0
    with pytest.raises(UnknownFile):
        open_file(tmp_path, NAME)
    (tmp_path / "file").touch()
    regular = (tmp_path / "file").lstat()
    monkeypatch.setattr(Path, "lstat", lambda _: regular)
    with pytest.raises(UnknownFile):
        open_file(tmp_path, NAME)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"synthesis_\xff_20261123_025440.csv")).touch()
    (tmp_path / 'synthesis_"; x=_20261123_025440.csv').touch()
    assert list_files(tmp_path).total == 0


@pytest.mark.parametrize("torn", [b"", b"2", b"2026-11-23T02:5,half a r", b'"quoted, and'])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / NAME).write_bytes(HEADER + b"".join(ROWS) + torn)
    assert content(open_file(tmp_path, NAME)) == HEADER + b"".join(ROWS)
    last = open_file(tmp_path, NAME, len(ROWS[9]))
    assert content(last) == HEADER + ROWS[9]


def test_a_file_without_a_whole_line_is_empty(tmp_path: Path) -> None:
    for written in (b"", HEADER[:7]):
        (tmp_path / NAME).write_bytes(written)
        for last_bytes in (1, 1 << 20):
            assert content(open_file(tmp_path, NAME, last_bytes)) == b""


def test_what_is_written_later_is_not_read(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(HEADER + ROWS[0])
    excerpt = open_file(tmp_path, NAME)
    with (tmp_path / NAME).open("ab") as file:
        file.write(ROWS[1])
    assert content(excerpt) == HEADER + ROWS[0]


def test_the_last_lines_are_whole_for_every_number_of_bytes(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(HEADER + b"".join(ROWS))
    everything = len(HEADER) + sum(map(len, ROWS))
    for last_bytes in range(1, everything + 2):
        excerpt = open_file(tmp_path, NAME, last_bytes)
        kept = lines_within(ROWS, last_bytes)
        assert content(excerpt) == HEADER + b"".join(kept), last_bytes
        assert excerpt.is_cut == (len(kept) < len(ROWS))


def test_the_end_of_a_huge_file_is_all_that_is_read(tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.write(HEADER)
        file.seek(1 << 33)  # a hole: reading it would take minutes
        file.write(b"\n" + b"".join(ROWS))
    excerpt = open_file(tmp_path, NAME, sum(map(len, ROWS)))
    assert excerpt.is_cut
    assert content(excerpt) == HEADER + b"".join(ROWS)


def test_a_long_file_comes_in_pieces(tmp_path: Path) -> None:
    written = HEADER + b"".join(ROWS) * 20_000
    (tmp_path / NAME).write_bytes(written)
    with (tmp_path / NAME).open("ab") as file:
        file.write(ROWS[0][:-1])
    excerpt = open_file(tmp_path, NAME)
    first, second = excerpt.read(), excerpt.read()
    assert first == HEADER
    assert len(second) < len(written) / 10
    excerpt.close()
    assert content(open_file(tmp_path, NAME)) == written


def test_a_file_that_became_shorter_ends_early(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(HEADER + b"".join(ROWS) * 20_000)
    excerpt = open_file(tmp_path, NAME)
    os.truncate(tmp_path / NAME, 5)
    read = b""
    while piece := excerpt.read():
        read += piece
    excerpt.close()
    assert len(read) < excerpt.length_bytes


def test_every_row_is_in_one_of_the_files_after_rotation(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "gpu_high", 4096)
    for number in range(500):
        log.append(row(number))
    log.close()
    listing = list_files(tmp_path)
    assert listing.total == len(listing.files) > 3
    told = [content(open_file(tmp_path, file.name)).splitlines() for file in listing.files]
    assert {lines[0] for lines in told} == {header(RealtimeRow).strip()}
    numbers = sorted(int(line.rpartition(b",")[2]) for lines in told for line in lines[1:])
    assert numbers == list(range(500))


def test_lines_are_whole_while_they_are_written(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "gpu_high", 1 << 20)
    log.append(row())
    (file,) = list_files(tmp_path).files
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            log.append(row(7))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for last_bytes in range(100, 4000, 13):
            read = content(open_file(tmp_path, file.name, last_bytes))
            commas = {line.count(b",") for line in read.split(b"\r\n")[:-1]}
            assert commas == {len(columns(RealtimeRow)) - 1}
    finally:
        is_over.set()
        writer.join()
        log.close()
