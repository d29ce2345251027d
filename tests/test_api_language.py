"""The language of what is spoken, on every route: as a request names it, or a voice carries it."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from backend.core import ReferenceCodes
from backend.voices import sealed
from backend.voices.store import VoiceStore
from tests.fish_requests import MSGPACK, pack, run, spoken, unpack
from tests.scripted import client, server
from tests.test_api_live import hear, hear_until, live, say

TEXT = "Timer 5."
"""No word of it is German."""
ROUTES = ("form", "json", "events", "openai", "fish", "msgpack")
OPENAI = {"model": "tts-1", "voice": "alloy", "input": TEXT}


def texts(log: Path) -> list[str]:
    return [each["text"] for each in spoken(log)]


async def ask(http: httpx.AsyncClient, route: str, fields: dict[str, Any]) -> httpx.Response:
    """One request to speak `TEXT`, on any route that answers audio."""
    match route:
        case "form":
            return await http.post("/tts", data={"text": TEXT, **fields})
        case "json":
            return await http.post("/tts", json={"text": TEXT, **fields})
        case "events":
            return await http.post("/tts", json={"text": TEXT, "stream": "events", **fields})
        case "openai":
            return await http.post("/v1/audio/speech", json=OPENAI | fields)
        case "fish":
            return await http.post("/v1/tts", json={"text": TEXT, **fields})
        case "msgpack":
            body = pack({"text": TEXT, **fields})
            return await http.post("/v1/tts", content=body, headers=MSGPACK)
        case "estimate":
            return await http.post("/estimate-memory", json={"text": TEXT, **fields})
    raise AssertionError(route)


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_takes_it(route: str, tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}) as http:
            for fields in (
                *({"language": "de"}, {"language": "de-DE"}, {"lang_code": "German"}),
                *({"language": "auto", "lang_code": "DE"}, {}, {"language": "auto"}),
            ):
                answer = await ask(http, route, fields)
                assert answer.status_code == 200, answer.text

    run(work())
    assert texts(log) == ["Timer fünf."] * 4 + ["Timer five."] * 2


@pytest.mark.parametrize(
    "route", ["form", "json", "events", "openai", "fish", "msgpack", "estimate"]
)
@pytest.mark.parametrize("field", ["language", "lang_code"])
def test_one_that_is_not_known_is_refused_by_name(route: str, field: str) -> None:
    async def work() -> None:
        async with client() as http:
            answer = await ask(http, route, {field: "Klingon"})
            assert answer.status_code == (400 if route == "openai" else 422)
            told = answer.json()
            message = told["error"]["message"] if route == "openai" else told["detail"]
            assert message.startswith(f"{field}: 'Klingon' is not known; use one of auto, en")
            if route == "openai":
                assert told["error"]["param"] == field
            differ = await ask(http, route, {"language": "de", "lang_code": "fr"})
            assert differ.status_code == answer.status_code
            assert "language and lang_code are the same" in differ.text

    run(work())


def test_live_routes_take_it(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with server({"spoken_file": str(log)}) as http:
            async with live(http) as socket:
                start = {"type": "session.start", "lang_code": "de_DE"}
                await say(socket, start, {"type": "text", "text": TEXT}, {"type": "end"})
                said, _ = await hear(socket)
                assert said[-1]["type"] == "done"
            async with live(http) as socket:
                await say(socket, {"type": "session.start", "language": "Klingon"})
                refused = await hear_until(socket, "error")
                assert refused["detail"].startswith("language: 'Klingon' is not known")
            url = str(http.base_url.copy_with(scheme="ws")).rstrip("/") + "/v1/tts/live"
            async with connect(url) as fish:
                request = {"text": "", "format": "pcm", "language": "Deutsch"}
                for event in (
                    {"event": "start", "request": request},
                    {"event": "text", "text": TEXT},
                    {"event": "stop"},
                ):
                    await fish.send(pack(event))
                events = [unpack(frame) async for frame in fish if isinstance(frame, bytes)]
                assert events[-1] == {"event": "finish", "reason": "stop"}

    run(work())
    assert texts(log) == ["Timer fünf."] * 2


def test_live_text_is_in_one_language(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with server({"spoken_file": str(log)}) as http, live(http) as socket:
            pieces = ("Das ist nicht so gut. ", "Okay, 5! ", "У меня 3 кота. ", "Timer 7.")
            for piece in pieces:
                await say(socket, {"type": "text", "text": piece})
            await say(socket, {"type": "end"})
            said, _ = await hear(socket)
            assert said[-1]["type"] == "done"

    run(work())
    assert texts(log) == [
        *("Das ist nicht so gut.", "Okay, fünf!", "У меня три кота.", "Timer sieben."),
    ]


def test_a_voice_that_carries_a_language_is_read_in_it(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    upload = {"audio": ("voice.wav", b"RIFF a recording")}

    async def work() -> None:
        async with server({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            form = {"name": "Anna", "language": "de-DE"}
            made = await http.post("/voices", data=form, files=upload)
            assert made.json()["language"] == "de"
            files = [("voices", b"RIFF of eva")]
            model = await http.post("/model", data={"title": "eva", "language": "de"}, files=files)
            assert model.json()["languages"] == ["de"]
            data = {"id": "ida", "language": "German"}
            added = await http.post("/v1/references/add", data=data, files=upload)
            assert added.status_code == 200
            exported = (await http.get("/voices/Anna/export")).content
            imported = await http.post(
                "/voices/import", data={"name": "Uta"}, files={"file": ("a.voice", exported)}
            )
            assert imported.json()["language"] == "de"
            listed = (await http.get("/voices")).json()["voices"]
            assert {v["name"]: v["language"] for v in listed} == dict.fromkeys(
                ("Anna", "eva", "ida", "Uta"), "de"
            )
            told = (await http.get("/v1/audio/voices")).json()["data"]
            assert {each["language"] for each in told} == {"de"}

            for voice in ("Anna", "eva", "ida", "Uta"):
                await http.post("/tts", data={"text": TEXT, "voice": voice})
            await http.post("/tts", data={"text": TEXT, "voice": "Anna", "language": "en"})
            await http.post("/tts", data={"text": "У меня 3 кота.", "voice": "Anna"})
            await http.post("/v1/audio/speech", json=OPENAI | {"voice": "Anna"})
            await http.post("/v1/tts", json={"text": TEXT, "reference_id": "Anna"})
            async with live(http) as socket:
                start = {"type": "session.start", "voice": "Anna"}
                await say(socket, start, {"type": "text", "text": TEXT}, {"type": "end"})
                await hear(socket)
            dialogue = [{"text": TEXT, "voice": "Anna"}, {"text": TEXT}]
            await http.post("/tts", json={"dialogue": dialogue})

            changed = await http.patch("/voices/Anna", json={"language": "auto"})
            assert changed.json()["language"] == ""
            await http.post("/tts", data={"text": TEXT, "voice": "Anna"})
            patched = await http.patch("/model/eva", data={"language": "fr"})
            assert patched.json()["languages"] == ["fr"]
            kept = await http.patch("/model/eva", data={"description": "calm"})
            assert kept.json()["languages"] == ["fr"]

    run(work())
    german, english = "Timer fünf.", "Timer five."
    assert texts(log) == [
        *([german] * 4),
        *(english, "У меня три кота."),
        *([german] * 3),
        *(german, english),
        english,
    ]


def test_the_default_voice_carries_its_language_too(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    store = VoiceStore(tmp_path / "voices", 10, 1 << 20)
    store.create("Anna", ReferenceCodes(bytes(20), 1, "scripted", 0.1), language="de")

    async def work() -> None:
        worker = {"spoken_file": str(log)}
        async with client(worker, data_dir=tmp_path, default_voice="Anna") as http:
            await http.post("/tts", data={"text": TEXT})
            upload = {"speaker_file": ("voice.wav", b"RIFF a recording")}
            await http.post("/tts", data={"text": TEXT}, files=upload)

    run(work())
    assert texts(log) == ["Timer fünf.", "Timer five."]


@pytest.mark.parametrize(
    ("route", "form", "file"),
    [
        ("/voices", {"name": "Anna"}, "audio"),
        ("/model", {"title": "Anna"}, "voices"),
        ("/v1/references/add", {"id": "Anna"}, "audio"),
    ],
)
def test_a_voice_is_not_saved_in_a_language_that_is_none(
    route: str, form: dict[str, str], file: str, tmp_path: Path
) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            sent = form | {"language": "Klingon"}
            answer = await http.post(route, data=sent, files={file: ("voice.wav", b"RIFF")})
            assert answer.status_code == 422
            assert "language: 'Klingon' is not known" in answer.json()["detail"]
            assert (await http.get("/voices")).json()["voices"] == []

    run(work())


def test_a_voice_that_was_saved_without_languages_is_read(tmp_path: Path) -> None:
    """As files of earlier versions are: their voices have no such field."""
    store = VoiceStore(tmp_path / "voices", 10, 1 << 20)
    voice = store.create("Anna", ReferenceCodes(bytes(20), 1, "scripted", 0.1))
    path = tmp_path / "voices" / f"{voice.id}.voice"
    saved = sealed.read(path, dict, 1 << 20)
    del saved["voice"]["language"]
    path.write_bytes(sealed.seal(saved))
    found = VoiceStore(tmp_path / "voices", 10, 1 << 20)
    assert found.list()[0].language == ""
    assert found.update("Anna", language="de").language == "de"
    # One of a later version, which knows more languages.
    saved["voice"]["language"] = "tlh"
    path.write_bytes(sealed.seal(saved))

    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answer = await http.post("/tts", data={"text": TEXT, "voice": "Anna"})
            assert answer.status_code == 200

    run(work())
