"""What a body may cost: each is one that stopped the server or filled its memory, or nearly is."""

import asyncio
import base64
import json
import re
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from pydantic import ValidationError

from backend.api import bulk, live_body, schemas
from backend.api.arrival import FIELDS_BYTES
from backend.api.fish.body import decode
from backend.api.fish.live import _Event
from backend.api.json_body import from_base64, read_object
from backend.api.listing import Listing
from backend.api.schemas import MAX_LINES, SpeechFields
from backend.core import ReferenceCodes
from backend.errors import BadField, quoted
from backend.voices.store import VoiceStore
from tests.scripted import client

TEXT = {"text": "Hello from the test."}
JSON = {"Content-Type": "application/json"}
FLOODS = {
    "numbers": (b'{"dialogue":[', b"1,", b"1]}"),
    "lists": (b'{"text":[', b"[],", b"1]}"),
    "lines": (b'{"dialogue":[', b'{"text":""},', b"1]}"),
    "fields": (b'{"text":"a"', b',"b":1', b"}"),
    "depth": (b'{"text":', b"[", b"1"),
}


def flood(kind: str, size_bytes: int) -> bytes:
    start, piece, end = FLOODS[kind]
    return start + piece * (size_bytes // len(piece)) + end


def fail(*_: object, **__: object) -> None:
    raise AssertionError("this is too much work for what was sent")


def refused(body: bytes) -> str:
    with pytest.raises(BadField) as caught:
        read_object(body)
    return str(caught.value)


# -- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_values_is_refused_before_any_is_built(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = flood(kind, 8_000_000)
    monkeypatch.setattr("json.loads", fail)
    monkeypatch.setattr("msgspec.json.decode", fail)
    tracemalloc.start()
    try:
        assert "commas and brackets; send at most 131072" in refused(body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "path", ["/tts", "/estimate-memory", "/normalize", "/voices", "/v1/references/add"]
)
def test_a_flood_costs_little_more_than_its_bytes(path: str) -> None:
    async def work() -> None:
        async with client() as http:
            body = flood("numbers", 1_500_000)
            tracemalloc.start()
            answer = await http.post(path, content=body, headers=JSON)
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert answer.status_code == 422
            assert peak_bytes < 4_000_000

    asyncio.run(work())


def test_the_longest_text_may_be_all_commas() -> None:
    line = {"text": "," * 100, "voice": "anna"}
    body = json.dumps({"dialogue": [line] * MAX_LINES, "prompt_text": "," * 5000}).encode()
    assert len(read_object(body)["dialogue"]) == MAX_LINES


def test_openai_and_fish_count_too() -> None:
    async def work() -> None:
        async with client() as http:
            body = flood("lists", 1_500_000)
            answer = await http.post("/v1/audio/speech", content=body, headers=JSON)
            assert answer.status_code == 400
            assert "commas" in answer.json()["error"]["message"]
            body = b'{"text":"a","references":[' + b'{"audio":1},' * 100_000 + b"1]}"
            answer = await http.post("/v1/tts", content=body, headers=JSON)
            assert answer.status_code == 422
            assert "commas" in answer.json()["message"]

    asyncio.run(work())


def test_a_message_of_a_live_connection_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.loads", fail)
    with pytest.raises(BadField, match="JSON"):
        live_body.parse_message('{"type":"text","text":[' + "[]," * 100_000 + "1]}")


def test_what_is_no_json_is_refused_at_every_size() -> None:
    for body in (b"{", b'{"a":' + b"9" * 5000 + b"}", b'{"a":"\xff"}', b"[" * 50_000):
        assert "not valid JSON" in refused(body)
        assert "not valid JSON" in refused(b" " * FIELDS_BYTES + body)
    assert "no object" in refused(b"[]")


def test_a_field_given_twice_is_the_last() -> None:
    for blanks in (b"", b" " * FIELDS_BYTES):
        assert read_object(blanks + b'{"text":"a","text":"b"}') == {"text": "b"}


def test_one_emoji_does_not_widen_a_recording() -> None:
    body = '{"text":"😀","speaker_file":"'.encode() + b"A" * (2 * FIELDS_BYTES) + b'"}'
    tracemalloc.start()
    try:
        values = read_object(body)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * len(body)
    finally:
        tracemalloc.stop()
    assert values["text"] == "😀"
    assert len(values["speaker_file"]) == 2 * FIELDS_BYTES


def test_base64_in_pieces_is_base64() -> None:
    for size in (0, 1, 2, 3, 500_000):
        data = bytes(range(250)) * (size // 250) + b"x" * (size % 250)
        assert from_base64(base64.b64encode(data).decode()) == data
    for wrong in ("A", "A" * 262_144 + "!", "A" * 262_144 + "A", "ä", None, 5, ["AAAA"]):
        with pytest.raises(ValueError):
            from_base64(wrong)


# -- what is beside uploads ------------------------------------------------------------------------


def test_fields_beside_uploads_have_their_own_limit() -> None:
    async def work() -> None:
        async with client() as http:
            too_long = "a" * (FIELDS_BYTES + 1)
            audio = base64.b64encode(b"RIFF").decode()
            much = {"text": too_long, "speaker_file": audio}
            wav = {"speaker_file": ("a.wav", b"RIFF")}
            posts: list[dict[str, Any]] = [
                {"json": much},
                {"json": {**TEXT, "x" * FIELDS_BYTES: 1}},
                {"data": {"text": too_long}, "files": wav},
                {"data": {f"f{i}": "a" * (FIELDS_BYTES // 8) for i in range(9)}, "files": wav},
            ]
            for post in posts:
                answer = await http.post("/tts", **post)
                assert answer.status_code == 413, answer.text
                assert str(FIELDS_BYTES) in answer.json()["detail"]
            both = {"text": "hi", "speaker_file": base64.b64encode(bytes(3_000_000)).decode()}
            assert (await http.post("/tts", json=both)).status_code == 200

    asyncio.run(work())


@pytest.mark.parametrize(
    ("path", "fields", "status", "says"),
    [
        ("/tts", {**TEXT, "prompt_text": "a" * 5001}, 422, "prompt_text.*5000"),
        ("/tts", {**TEXT, "voice": "a" * 65}, 422, "voice.*64"),
        ("/tts", {**TEXT, "language": "a" * 100_000}, 422, "language"),
        ("/tts", {"text": "a" * 100_001}, 413, "100000"),
        ("/tts", {"dialogue": [{"text": "a", "voice": "a" * 65}]}, 422, "voice.*64"),
        ("/tts", {"dialogue": [{"text": "a"}] * 1001}, 422, "dialogue.*1000"),
        ("/voices", {"name": "a" * 100_000, "audio": "UklGRg=="}, 422, "name.*64"),
        ("/voices", {"name": "a", "transcript": "a" * 5001}, 422, "transcript.*5000"),
        ("/voices", {"name": "a", "description": "a" * 1001}, 422, "description.*1000"),
        ("/v1/references/add", {"id": "a" * 99_999, "audio": "UklGRg=="}, 422, "id.*64"),
        ("/v1/tts", {**TEXT, "reference_id": "a" * 257}, 422, "reference_id.*256"),
        ("/v1/tts", {**TEXT, "format": "a" * 99_999}, 422, "format.*wav"),
    ],
)
def test_every_string_has_a_limit(
    path: str, fields: dict[str, Any], status: int, says: str
) -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(path, json=fields)
            assert answer.status_code == status, answer.text
            assert_short_and_says(answer, says)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("name", "most"), [("model", 256), ("voice", 256), ("instructions", 10_000)]
)
def test_every_string_of_openai_has_a_limit(name: str, most: int) -> None:
    async def work() -> None:
        fields = {"model": "fish", "input": "Hello.", "voice": "alloy"}
        async with client() as http:
            answer = await http.post("/v1/audio/speech", json=fields | {name: "a" * (most + 1)})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == name
            assert_short_and_says(answer, f"{name}.*{most}")
            answer = await http.post("/v1/audio/speech", json=fields | {name: "a" * most})
            assert answer.status_code == (404 if name == "voice" else 200), answer.text

    asyncio.run(work())


def assert_short_and_says(answer: httpx.Response, says: str) -> None:
    assert len(answer.content) < 1000
    assert re.search(says, answer.text), answer.text


# -- errors ----------------------------------------------------------------------------------------


def test_the_first_error_ends_it() -> None:
    floods: list[list[Any]] = [
        [1] * MAX_LINES,
        [{"text": "a"}, *[{"text": 1}] * 500],
        [{f"a{i}": 1 for i in range(1000)}],
        [{"text": "a"}] * 100_000,
    ]
    for dialogue in floods:
        with pytest.raises(ValidationError) as caught:
            SpeechFields.model_validate({"dialogue": dialogue})
        assert caught.value.error_count() <= 2  # the first, and that there are too few for it


def test_a_misspelt_field_of_a_line_is_told() -> None:
    with pytest.raises(BadField, match=r"dialogue\.0: unknown field 'txt'; did you mean text\?"):
        schemas.parse_fields({"dialogue": [{"txt": "a"}]})


def test_no_more_than_the_beginning_is_compared_or_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("difflib.get_close_matches", fail)
    with pytest.raises(BadField, match="Unknown field 'ab") as caught:
        schemas.parse_fields({"ab" * 500_000: 1})
    assert len(str(caught.value)) < 500

    class Long(list[int]):
        __repr__ = fail  # type: ignore[assignment]

    with pytest.raises(BadField, match=r"text: .*got a list"):
        schemas.parse_fields({"text": Long([1])})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("anna", "'anna'"),
        ("a\x1b[2J", r"'a\x1b[2J'"),
        ("x" * 1_000_000, "'" + "x" * 56 + "..."),
        (5, "5"),
        (float("nan"), "nan"),
        (None, "None"),
        ([1, 2], "a list"),
        ({"a": 1}, "an object"),
    ],
)
def test_what_was_sent_is_quoted_shortly(value: object, shown: str) -> None:
    assert quoted(value) == shown


def test_a_tag_that_is_none_is_not_searched_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def fullmatch(self, problem: str) -> None:
            assert len(problem) <= 400

    monkeypatch.setattr("backend.api.fish.body._PLACE", Short())
    event = msgspec.msgpack.encode({"event": " - at `$.a" * 100_000})
    with pytest.raises(BadField) as caught:
        decode(event, "msgpack", _Event)
    assert len(str(caught.value)) < 500


def test_a_content_type_is_not_quoted_whole() -> None:
    async def work() -> None:
        async with client() as http:
            for path in ("/tts", "/v1/tts"):
                sent = {"Content-Type": "a\\" * 5000}
                answer = await http.post(path, content=b"{}", headers=sent)
                assert answer.status_code == 422
                assert len(answer.content) < 500

    asyncio.run(work())


# -- forms -----------------------------------------------------------------------------------------


def form(charset: str = "", size: int = 10) -> dict[str, Any]:
    text = b"a" * size + b"-" + b"a" * size
    body = b'--X\r\nContent-Disposition: form-data; name="text"\r\n\r\n' + text + b"\r\n--X--\r\n"
    return {
        "content": body,
        "headers": {"Content-Type": f"multipart/form-data; boundary=X{charset}"},
    }


@pytest.mark.parametrize("path", ["/tts", "/voices", "/voices/import", "/model"])
@pytest.mark.parametrize("named", ["punycode", "undefined", "idna", "utf-16", '"a\\0b"'])
def test_forms_are_utf_8_only(path: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette.requests.Request.form", fail)

    async def work() -> None:
        async with client() as http:
            answer = await http.post(path, **form(f"; charset={named}"))
            assert answer.status_code == 422, answer.text
            assert "send UTF-8" in answer.text

    asyncio.run(work())


def test_utf_8_may_be_named() -> None:
    async def work() -> None:
        async with client() as http:
            for named in ("", "; charset=utf-8", '; charset="UTF-8"', "; charset=utf8"):
                assert (await http.post("/tts", **form(named))).status_code == 200
            urlencoded = "application/x-www-form-urlencoded; charset="
            for named, status in (("UTF-8", 200), ("punycode", 422)):
                headers = {"Content-Type": urlencoded + named}
                answer = await http.post("/tts", content=b"text=hi", headers=headers)
                assert answer.status_code == status

    asyncio.run(work())


@pytest.mark.parametrize(
    "part",
    [
        b'Content-Disposition: form-data; name="text"\r\nX: ' + b"a" * 5000,
        b'Content-Disposition: form-data; name="' + b"a" * 5000 + b'"',
        b'Content-Disposition: form-data; name="speaker_file"; filename="' + b"a" * 5000 + b'"',
        b"\r\n".join(b"X%d: 1" % i for i in range(100)),
    ],
)
def test_headers_of_a_part_are_bounded(part: bytes) -> None:
    async def work() -> None:
        async with client() as http:
            body = b"--X\r\n" + part + b"\r\n\r\nhi\r\n--X--\r\n"
            headers = {"Content-Type": "multipart/form-data; boundary=X"}
            answer = await http.post("/tts", content=body, headers=headers)
            assert answer.status_code == 422
            assert "form cannot be read" in answer.json()["detail"]

    asyncio.run(work())


# -- who else is served ----------------------------------------------------------------------------


def test_what_is_large_waits_for_its_like_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()
    threads: list[str] = []

    def held(body: bytes) -> dict[str, Any]:
        threads.append(threading.current_thread().name)
        if len(body) > bulk._AT_ONCE_BYTES:
            assert go_on.wait(60)
        return read_object(body)

    monkeypatch.setattr("backend.api.dependencies.read_object", held)

    async def work() -> None:
        async with client() as http:
            many = {"text": "hi", "prompt_text": "", "voice": "a" * 20_000}
            posts = [asyncio.create_task(http.post("/tts", json=many)) for _ in range(20)]
            while len(threads) < 2:
                await asyncio.sleep(0)
            assert (await http.post("/tts", json=TEXT)).status_code == 200
            assert len(threads) == 3, "two at a time"
            go_on.set()
            assert {answer.status_code for answer in await asyncio.gather(*posts)} == {422}

    asyncio.run(work())
    assert sum(name.startswith("bulk") for name in threads) == 20
    assert threads.count(threading.main_thread().name) == 1


def test_the_deadline_counts_from_the_headers() -> None:
    async def work() -> None:
        async with client() as http:

            async def slow() -> AsyncIterator[bytes]:
                yield b'{"text":'
                await asyncio.sleep(0.06)
                yield b'"hello"}'

            headers = {**JSON, "X-Timeout-S": "0.05"}
            for path in ("/tts", "/v1/tts"):
                answer = await http.post(path, content=slow(), headers=headers)
                assert answer.status_code == 504, path
            voice = json.dumps({"name": "late", "audio": base64.b64encode(b"RIFF").decode()})

            async def slow_voice() -> AsyncIterator[bytes]:
                await asyncio.sleep(0.06)
                yield voice.encode()

            answer = await http.post("/voices", content=slow_voice(), headers=headers)
            assert answer.status_code == 504, answer.text
            number = {**JSON, "X-Timeout-S": "9" * 1000}
            answer = await http.post("/tts", json=TEXT, headers=number)
            assert answer.status_code == 422

    asyncio.run(work())


# -- lists of voices -------------------------------------------------------------------------------

LISTS = ("/voices", "/v1/audio/voices", "/v1/references/list?format=json", "/model?title=a")


def test_lists_are_made_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    listed: Callable[[VoiceStore], Any] = VoiceStore.list

    def noted(store: VoiceStore) -> Any:
        threads.append(threading.current_thread().name)
        return listed(store)

    monkeypatch.setattr(VoiceStore, "list", noted)

    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for path in LISTS:
                answer = await http.get(path)
                assert answer.status_code == 200
                assert answer.headers["content-type"] == "application/json"
                answer.json()

    asyncio.run(work())
    assert len(threads) == len(LISTS)
    assert all(name.startswith("bulk") for name in threads)


def test_a_list_is_encoded_once_until_there_are_other_voices(tmp_path: Path) -> None:
    encoded: list[int] = []

    def encode(voices: tuple[Any, ...]) -> bytes:
        encoded.append(len(voices))
        return b"%d" % len(voices)

    listing, store = Listing(encode), VoiceStore(tmp_path, 10, 1 << 20)
    codes = ReferenceCodes(bytes(8), 1, "c", 0.2)
    assert listing.of(store) == listing.of(store) == b"0"
    store.create("anna", codes)
    assert listing.of(store) == listing.of(store) == b"1"
    store.update("anna", name="anja")
    assert listing.of(store) == b"1"
    store.delete("anja")
    assert listing.of(store) == listing.of(store) == b"0"
    assert encoded == [0, 1, 1, 0]
    assert listing.of(VoiceStore(tmp_path / "other", 10, 1 << 20)) == b"0"


# -- digits ----------------------------------------------------------------------------------------


def test_digits_do_not_go_round_the_text_limit(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, max_text_length=400) as http:
            digits = {"text": "7" * 400}
            answer = await http.post("/tts", data=digits)
            assert answer.headers["X-Text-Truncated"] == "true"
            assert int(answer.headers["X-Truncated-Text-Length"]) < 300
            assert "figures" in answer.headers["X-Warning"]
            assert spoken_characters(log) <= 3 * 400
            answer = await http.post("/tts", data={**digits, "long_text": "reject"})
            assert answer.status_code == 413
            assert "figures" in answer.json()["detail"]
            answer = await http.post("/tts", data={**digits, "long_text": "split"})
            assert answer.headers["X-Text-Truncated"] == "false"
            prose = "On 3 May 2024 at 15:30 we sold 40 of them for $1,250.50 each. " * 6
            answer = await http.post("/tts", data={"text": prose, "long_text": "reject"})
            assert answer.headers["X-Text-Truncated"] == "false"

    asyncio.run(work())


def spoken_characters(log: Path) -> int:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return sum(len(line["text"]) for line in lines)
