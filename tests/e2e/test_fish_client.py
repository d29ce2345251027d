"""The published fish-audio-sdk, both generations of it, on a real server: only the URL differs."""

import asyncio
import io
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import fish_audio_sdk as legacy
import fishaudio  # type: ignore[import-untyped] # it ships no types
import httpx
import numpy as np
import ormsgpack
import pytest
import soundfile
from fishaudio.types import (  # type: ignore[import-untyped]
    FlushEvent,
    Prosody,
    ReferenceAudio,
    TTSConfig,
)
from numpy.typing import NDArray

from tests.e2e.serving import Served, serving

pytestmark = pytest.mark.timeout(300)

KEY = "a-key-for-the-tests"
TEXT = "The children walked home along the river."
LONGER = "Nobody said a word until dark. Then the rain began, and they ran. It was late."


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(SHOAL_API_KEYS=f"tests:{KEY}") as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[fishaudio.FishAudio]:
    with fishaudio.FishAudio(api_key=KEY, base_url=server.url) as opened:
        yield opened


@pytest.fixture
def session(server: Served) -> Iterator[legacy.Session]:
    with legacy.Session(KEY, base_url=server.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def recording(server: Served) -> bytes:
    """A few seconds of speech, as a wav file."""
    with fishaudio.FishAudio(api_key=KEY, base_url=server.url) as opened:
        config = TTSConfig(sample_rate=24_000)
        return bytes(opened.tts.convert(text=TEXT, format="wav", config=config))


def heard(data: bytes, seconds: float = 0.5) -> NDArray[np.float32]:
    """The samples of audio in any container, which must be speech of at least so long."""
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    assert len(samples) / rate_hz > seconds
    assert np.sqrt(np.mean(samples**2)) > 0.005, "it is silent"
    return np.asarray(samples)


def is_mp3(data: bytes) -> bool:
    return data[:3] == b"ID3" or (data[0] == 0xFF and data[1] & 0xE0 == 0xE0)


def a_title() -> str:
    return f"voice {secrets.token_hex(4)}"


# -- speech ----------------------------------------------------------------------------------------


def test_speech_as_the_sdk_asks_for_it(client: fishaudio.FishAudio) -> None:
    audio = client.tts.convert(text=TEXT)
    assert is_mp3(audio)
    heard(audio)


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus"])
def test_formats(client: fishaudio.FishAudio, audio_format: Any) -> None:
    heard(client.tts.convert(text=TEXT, format=audio_format))


def test_pcm_and_sample_rate(client: fishaudio.FishAudio) -> None:
    config = TTSConfig(format="pcm", sample_rate=16_000)
    samples = np.frombuffer(client.tts.convert(text=TEXT, config=config), "<i2")
    assert len(samples) > 16_000
    assert np.abs(samples).max() > 1000


def test_speed(client: fishaudio.FishAudio) -> None:
    def seconds(speed: float) -> float:
        config = TTSConfig(temperature=0.0, prosody=Prosody(speed=speed))
        audio = client.tts.convert(text=TEXT, format="wav", config=config)
        return float(soundfile.info(io.BytesIO(audio)).duration)

    assert seconds(2.0) == pytest.approx(seconds(1.0) / 2, rel=0.05)


def test_streamed_audio_is_whole(client: fishaudio.FishAudio) -> None:
    heard(client.tts.stream(text=LONGER, format="wav").collect(), 1.0)


def test_speech_in_the_voice_of_a_recording(client: fishaudio.FishAudio, recording: bytes) -> None:
    own = [ReferenceAudio(audio=recording, text=TEXT)]
    heard(client.tts.convert(text="Good morning.", references=own, format="wav"), 0.3)


def test_errors_are_the_sdks_own(client: fishaudio.FishAudio, server: Served) -> None:
    with pytest.raises(fishaudio.NotFoundError, match="nobody"):
        client.tts.convert(text=TEXT, reference_id="nobody")
    with pytest.raises(fishaudio.APIError, match="blank") as blank:
        client.tts.convert(text=" ")
    assert blank.value.status == 400
    with pytest.raises(fishaudio.APIError) as undecodable:
        client.tts.convert(text=TEXT, references=[ReferenceAudio(audio=b"no sound", text="x")])
    assert undecodable.value.status == 422
    with (
        fishaudio.FishAudio(api_key="wrong", base_url=server.url) as stranger,
        pytest.raises(fishaudio.AuthenticationError, match="key"),
    ):
        stranger.tts.convert(text=TEXT)


def test_async_client(server: Served) -> None:
    async def work() -> None:
        async with fishaudio.AsyncFishAudio(api_key=KEY, base_url=server.url) as client:
            heard(await client.tts.convert(text=TEXT, format="wav"))
            pieces = [piece async for piece in await client.tts.stream(text=TEXT, format="wav")]
            heard(b"".join(pieces))
            assert (await client.voices.list()).total >= 0

            async def texts() -> AsyncIterator[str]:
                for word in LONGER.split(" "):
                    yield word + " "

            spoken = b"".join(
                [piece async for piece in client.tts.stream_websocket(texts(), format="wav")]
            )
            heard(spoken, 1.0)

    asyncio.run(work())


# -- live ------------------------------------------------------------------------------------------


def test_live_speech(client: fishaudio.FishAudio, recording: bytes) -> None:
    def texts() -> Iterator[str | FlushEvent]:
        yield "Good mor"
        yield "ning."
        yield FlushEvent()
        yield " It rains"

    own = [ReferenceAudio(audio=recording, text=TEXT)]
    pieces = list(client.tts.stream_websocket(texts(), references=own, format="mp3"))
    assert len(pieces) > 1
    heard(b"".join(pieces))


def test_live_errors(client: fishaudio.FishAudio) -> None:
    with pytest.raises(fishaudio.WebSocketError):
        list(client.tts.stream_websocket(iter([TEXT]), reference_id="nobody"))


# -- voices ----------------------------------------------------------------------------------------


def test_voices(client: fishaudio.FishAudio, recording: bytes) -> None:
    title = a_title()
    made = client.voices.create(title=title, voices=[recording], texts=[TEXT], description="Ours.")
    assert made.title == title
    assert made.description == "Ours."
    assert made.state == "trained"
    assert client.voices.get(made.id) == made
    page = client.voices.list(title=title, self_only=True, page_size=5)
    assert (page.total, page.items) == (1, [made])
    heard(client.tts.convert(text="Good morning.", reference_id=made.id, format="wav"), 0.3)
    other = a_title()
    client.voices.update(made.id, title=other, cover_image=b"\x89PNG", tags=["x"])
    client.voices.update(made.id)
    assert client.voices.get(made.id).title == other
    client.voices.delete(made.id)
    with pytest.raises(fishaudio.NotFoundError):
        client.voices.get(made.id)


def test_account(client: fishaudio.FishAudio) -> None:
    assert client.account.get_credits(check_free_credit=True).credit > 0
    package = client.account.get_package()
    assert package.balance == package.total


# -- the older generation --------------------------------------------------------------------------


def test_legacy_speech_comes_in_pieces(session: legacy.Session, recording: bytes) -> None:
    pieces = list(session.tts(legacy.TTSRequest(text=LONGER)))
    assert len(pieces) > 1  # the newer generation waits for all of it itself
    heard(b"".join(pieces), 1.0)
    own = [legacy.ReferenceAudio(audio=recording, text=TEXT)]
    heard(b"".join(session.tts(legacy.TTSRequest(text=TEXT, references=own, format="wav"))))


def test_legacy_voices_and_account(session: legacy.Session, recording: bytes) -> None:
    title = a_title()
    made = session.create_model(title=title, voices=[recording], texts=[TEXT])
    assert session.get_model(made.id).title == title
    assert session.list_models(title=title).total == 1
    heard(b"".join(session.tts(legacy.TTSRequest(text=TEXT, reference_id=made.id))))
    session.update_model(made.id, description="Changed.")
    assert session.get_model(made.id).description == "Changed."
    session.delete_model(made.id)
    with pytest.raises(legacy.HttpCodeErr) as refused:
        list(session.tts(legacy.TTSRequest(text=TEXT, reference_id=made.id)))
    assert refused.value.status == 404
    with pytest.raises(legacy.HttpCodeErr) as gone:
        session.get_model(made.id)
    assert gone.value.status == 404
    assert made.id in gone.value.message
    assert session.get_api_credit().credit > 0
    assert session.get_package().balance > 0


def test_legacy_live(server: Served) -> None:
    with legacy.WebSocketSession(KEY, base_url=server.url) as session:
        request = legacy.TTSRequest(text="", format="wav")
        heard(b"".join(session.tts(request, iter(LONGER.split(" ")))))
        with pytest.raises(legacy.WebSocketErr):
            list(session.tts(legacy.TTSRequest(text="", reference_id="nobody"), iter([TEXT])))


# -- the Fish server's own clients -----------------------------------------------------------------


def test_what_the_fish_servers_clients_do(server: Served, recording: bytes) -> None:
    authorization = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=authorization, timeout=240) as http:
        assert http.get("/v1/health").json() == {"status": "ok"}
        name = a_title()
        added = http.post(
            "/v1/references/add",
            params={"format": "json"},
            data={"id": name, "text": TEXT},
            files={"audio": ("reference.wav", recording, "audio/wav")},
        )
        assert added.json()["success"] is True
        assert name in http.get("/v1/references/list?format=json").json()["reference_ids"]
        for chosen in (
            {"reference_id": name, "references": []},
            {"reference_id": None, "references": [{"audio": recording, "text": TEXT}]},
        ):
            request = {
                "text": "Good morning.",
                "chunk_length": 300,
                "format": "wav",
                "latency": "normal",
                "seed": 1,
                "use_memory_cache": "off",
                "normalize": True,
                "streaming": False,
                "max_new_tokens": 1024,
                "top_p": 0.8,
                "repetition_penalty": 1.1,
                "temperature": 0.8,
                **chosen,
            }
            answer = http.post(
                "/v1/tts",
                params={"format": "msgpack"},
                content=ormsgpack.packb(request),
                headers={"content-type": "application/msgpack"},
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "audio/wav"
            heard(answer.content, 0.3)
        deletion = {"reference_id": name}
        deleted = http.request("DELETE", "/v1/references/delete", json=deletion)
        assert ormsgpack.unpackb(deleted.content)["success"] is True
