"""A recording in JSON or msgpack, in every way in which programs write bytes there."""

import base64
import json
import textwrap
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.api.json_body import from_base64, with_buffers_in_base64
from backend.errors import BadField
from tests.fish_requests import spoken
from tests.scripted import client
from tests.test_api_recordings import run

AUDIO = b"RIFF" + bytes(range(256)) * 3
ALIKE: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "76 columns": lambda text: "\n".join(textwrap.wrap(text, 76)),
    "64 columns, CRLF": lambda text: "\r\n".join(textwrap.wrap(text, 64)) + "\r\n",
    "blanks": lambda text: " \t".join(textwrap.wrap(text, 3)),
    "for URLs": lambda text: text.replace("+", "-").replace("/", "_"),
    "for URLs, without padding": lambda text: text.translate({43: "-", 47: "_", 61: None}),
    "without padding": lambda text: text.rstrip("="),
    "too much padding": lambda text: text + "===",
    "padding on a line of its own": lambda text: text.rstrip("=") + "\n==",
    "data URL": lambda text: f"data:audio/wav;base64,{text}",
    "data URL of a recorder": lambda text: f"data:audio/webm;codecs=opus;base64,{text}",
    "data URL of a camera": lambda text: f'DATA:video/webm;codecs="vp8,opus";BASE64,{text}',
    "data URL of no type": lambda text: f"data:;base64,{text}",
    "data URL on lines": lambda text: " data:audio/mp4;base64,\n" + "\n".join(
        textwrap.wrap(text, 76)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_base64_is_read_however_it_is_written(name: str, cut: int) -> None:
    audio = AUDIO[: len(AUDIO) - cut]
    assert from_base64(ALIKE[name](base64.b64encode(audio).decode())) == audio


@pytest.mark.parametrize("name", ALIKE)
def test_so_is_what_is_longer_than_a_piece(name: str) -> None:
    for size in (196_606, 196_608, 400_001):
        audio = (AUDIO * 600)[:size]
        assert from_base64(ALIKE[name](base64.b64encode(audio).decode())) == audio


@pytest.mark.parametrize(
    "wrong",
    [
        *("A", "AAAAA", "AA!A", "AA.A", "QQ==QQ==", "QQ==\nQUJD", "=QUJD", "QUJD,QUJD", "QU%3D"),
        *("/home/anna/voice.wav", "https://example.org/voice.wav", "voice", "é"),
        *("data:audio/wav,RIFF", "data:audio/wav;base64", f"data:{'a' * 300};base64,QUJD"),
        "A" * 262_142 + "==" + "QUJD",
        "A" * 300_000 + "data:;base64,QUJD",
        "\ud800",
    ],
)
def test_what_is_no_base64_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        from_base64(wrong)


def test_base64_takes_its_own_length_of_memory() -> None:
    text = "\n".join(["QUJD" * 19] * 200_000)
    tracemalloc.start()
    try:
        from_base64(text)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(text)
    finally:
        tracemalloc.stop()


# -- numbers ---------------------------------------------------------------------------------------


def node(audio: bytes) -> dict[str, Any]:
    """What `JSON.stringify` makes of a Buffer."""
    return {"type": "Buffer", "data": list(audio)}


@pytest.mark.parametrize("field", ["audio", "speaker_file"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t", " :\r\n ")])
@pytest.mark.parametrize("made", [node, list], ids=["Buffer", "list"])
def test_bytes_as_numbers_become_base64(
    field: str, separators: tuple[str, str], made: Callable[[bytes], Any]
) -> None:
    body = {"a": [1, 2], "references": [{field: made(AUDIO), "text": 'a "audio":[1]'}], "z": "ä"}
    said = json.dumps(body, separators=separators).encode()
    body["references"][0][field] = base64.b64encode(AUDIO).decode()  # type: ignore[index]
    assert json.loads(with_buffers_in_base64(said)) == body


@pytest.mark.parametrize(
    "other",
    [
        {"text": 'the words "audio":{"type":"Buffer","data":[1]} are text'},
        {"data": node(b"no field of a file")},
        {"audio": {"type": "Buffer", "data": []}},
        {"audio": []},
        {"audio": {"type": "Buffer", "data": "QUJD"}},
        {"audio": {"data": [1], "type": "Buffer"}},
        {"audio": {"type": "Blob", "data": [1]}},
        {"audio": [1.5]},
        {"audio": [-1]},
        {"audio": [[1]]},
    ],
)
def test_all_else_stays_as_it_is(other: dict[str, Any]) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        said = json.dumps(other, separators=separators).encode()
        assert with_buffers_in_base64(said) == said


@pytest.mark.parametrize("numbers", ["256", "1,,2", "1 2", "01", ",1", "1,2,,", "9" * 5_000])
def test_numbers_that_are_no_bytes_are_refused(numbers: str) -> None:
    said = b'{"audio":{"type":"Buffer","data":[ %b ]}}' % numbers.encode()
    if numbers == ",1":
        assert with_buffers_in_base64(said) == said  # it is no list; the JSON is told to be wrong
        return
    with pytest.raises(BadField, match="numbers"):
        with_buffers_in_base64(said)


def test_a_long_buffer_is_read_in_pieces() -> None:
    audio = AUDIO * 1_500
    said = json.dumps({"speaker_file": node(audio)}).encode()
    tracemalloc.start()
    try:
        body = with_buffers_in_base64(said)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * len(said)
    finally:
        tracemalloc.stop()
    assert from_base64(json.loads(body)["speaker_file"]) == audio


@pytest.mark.parametrize(
    "part", [b'"audio":[1,', b'"audio":', b'"audio":[ ', b'"audio" : {"type":"Buffer","data":[1 ']
)
def test_what_only_begins_like_one_is_passed_over_once(part: bytes) -> None:
    """Were it looked at from each beginning to the end, this would not end."""
    said = b"{" + part * (4_000_000 // len(part))
    assert with_buffers_in_base64(said) == said
    spaced = part + b" " * 4_000_000
    assert with_buffers_in_base64(spaced) == spaced


# -- on the routes ---------------------------------------------------------------------------------


def test_every_route_takes_them(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    plain = base64.b64encode(AUDIO).decode()
    ways = [plain, "\n".join(textwrap.wrap(plain, 76)), f"data:audio/wav;base64,{plain}"]
    sent = [*ways, node(AUDIO), list(AUDIO)]

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            for number, audio in enumerate(sent):
                bodies = {
                    "/tts": {"text": "Hello.", "seed": 1, "speaker_file": audio},
                    "/v1/tts": {"text": "Hello.", "seed": 1, "references": [{"audio": audio}]},
                    "/voices": {"name": f"voice {number}", "audio": audio},
                    "/v1/references/add": {"id": f"reference {number}", "audio": audio},
                }
                for path, body in bodies.items():
                    answer = await http.post(path, json=body)
                    assert answer.is_success, (path, answer.text)
                packed = msgspec.msgpack.encode(bodies["/v1/tts"])
                kind = {"Content-Type": "application/msgpack"}
                answer = await http.post("/v1/tts", content=packed, headers=kind)
                assert answer.is_success, answer.text

    run(work())
    heard = spoken(log)
    assert len(heard) == 3 * len(sent)
    assert all(each["references"] == heard[0]["references"] for each in heard)


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        ({"type": "Buffer", "data": [256]}, "numbers"),
        ({"type": "Buffer", "data": []}, "base64"),
        ({"type": "Blob"}, "base64"),
        ("data:audio/wav;base64,", "empty"),
        ("====", "empty"),
        ("https://example.org/a.wav", "base64"),
    ],
)
def test_what_is_no_file_is_said(tmp_path: Path, audio: object, says: str) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for path, body in (
                ("/tts", {"text": "Hello.", "speaker_file": audio}),
                ("/voices", {"name": "anna", "audio": audio}),
                ("/v1/tts", {"text": "Hello.", "references": [{"audio": audio}]}),
            ):
                answer = await http.post(path, json=body)
                assert answer.status_code == 422, answer.text
                assert says in answer.json()["detail"]

    run(work())


def test_a_large_list_in_msgpack_is_refused(tmp_path: Path) -> None:
    fields = {"text": "Hello.", "references": [{"audio": node(bytes(2_200_000))}]}
    packed = msgspec.msgpack.encode(fields)

    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            kind = {"Content-Type": "application/msgpack"}
            answer = await http.post("/v1/tts", content=packed, headers=kind)
            assert answer.status_code == 422
            assert "msgpack's bytes" in answer.json()["detail"]

    run(work())
