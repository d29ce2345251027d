"""The server's request log read back: rows of every version, and files that are being written."""

from ui.report.log import Row, cells_of, read_rows

HEADER = "request_id,outcome,text_length,spoken_length,rtf\n"


def test_rows_are_read_with_what_was_spoken() -> None:
    data = f"{HEADER}r1,done,500,400,0.5\nr2,failed,20,,\n".encode()
    assert read_rows(data) == [Row(400.0, 0.5, "done"), Row(20.0, None, "failed")]


def test_a_line_that_is_being_written_is_left_out() -> None:
    assert read_rows(f"{HEADER}r1,done,5,5,0.5\nr2,done,9,9,0.".encode()) == [Row(5.0, 0.5, "done")]


def test_a_line_of_another_width_is_left_out() -> None:
    data = f"{HEADER}r1,done,5,5\nr2,done,5,5,1,6\nr3,done,5,5,1\n".encode()
    assert read_rows(data) == [Row(5.0, 1.0, "done")]


def test_an_older_version_logs_fewer_columns() -> None:
    assert read_rows(b"request_id,text_length\nr1,7\n") == [Row(7.0, None, "")]
    assert read_rows(b"request_id,rtf\nr1,2\n") == [Row(None, 2.0, "")]


def test_numbers_that_are_none_are_not_taken() -> None:
    data = f"{HEADER}r1,done,nan,inf,nan\nr2,done,x,y,z\n".encode()
    assert read_rows(data) == [Row(None, None, "done")] * 2


def test_quoted_cells_hold_commas_and_newlines() -> None:
    data = b'request_id,detail\r\nr1,"one, two\nthree"\r\n'
    assert list(cells_of(data)) == [{"request_id": "r1", "detail": "one, two\nthree"}]


def test_empty_and_foreign_bytes() -> None:
    assert read_rows(b"") == []
    assert read_rows(b"\xff\xfe\x00") == []
    assert read_rows("request_id,outcome\nr\xff,done\n".encode("latin-1")) == [
        Row(None, None, "done")
    ]
