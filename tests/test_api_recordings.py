"""What an upload takes: memory is leased for it, and it is let go once it is encoded."""

import asyncio
import base64
import gc
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.audio.container import decoding_bytes, max_memory_bytes
from backend.hardware.leases import Lease
from backend.hardware.memory import Demand, MemoryBudgetManager
from tests.scripted import children, client, server
from tests.test_api_fish_live import live
from tests.test_worker_client import until_logged

SIZE = 3_000_000
SLOW = "slow"
"""What the scripted worker says for two seconds."""


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def recording() -> bytes:
    return b"RIFF" + bytes(SIZE)


def held() -> list[int]:
    """Lengths of the bytes as long as a recording that anything in this process still has."""
    gc.collect()
    found = {
        id(each): len(each)
        for tracked in gc.get_objects()
        for each in gc.get_referents(tracked)
        if type(each) in (bytes, bytearray) and len(each) >= SIZE
    }
    return list(found.values())


def multipart(is_streamed: bool) -> tuple[str, bytes]:
    fields = {"text": SLOW, "stream": str(is_streamed).lower()}
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    disposition = b'form-data; name="speaker_file"; filename="a.wav"'
    parts.append(b"--x\r\nContent-Disposition: " + disposition + b"\r\n\r\n")
    return "multipart/form-data; boundary=x", b"".join([*parts, recording(), b"\r\n--x--\r\n"])


def in_json() -> tuple[str, bytes]:
    fields = {"text": SLOW, "stream": True, "speaker_file": base64.b64encode(recording()).decode()}
    return "application/json", json.dumps(fields).encode()


def of_fish() -> tuple[str, bytes]:
    fields = {"text": SLOW, "references": [{"audio": recording(), "text": ""}]}
    return "application/msgpack", msgspec.msgpack.encode(fields)


async def post(port: int, path: str, kind: str, body: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
    for start in range(0, len(body), 1 << 16):  # no buffer of this side is as long as a recording
        writer.write(body[start : start + (1 << 16)])
        await writer.drain()
    return writer


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/tts", lambda: multipart(is_streamed=True)),
        ("/tts", lambda: multipart(is_streamed=False)),
        ("/tts", in_json),
        ("/v1/tts", of_fish),
    ],
    ids=["streamed", "whole", "json", "fish"],
)
def test_speech_does_not_hold_its_recording(
    tmp_path: Path, path: str, made: Callable[[], tuple[str, bytes]]
) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}, data_dir=tmp_path) as http:
            before = held()
            writer = await post(http.base_url.port or 0, path, *made())
            await until_logged(log, "Speak")
            assert held() == before
            writer.close()

    run(work())


def test_a_recording_is_leased_what_its_file_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased: list[Demand] = []
    lease = MemoryBudgetManager.lease

    def noted(manager: MemoryBudgetManager, demand: Demand) -> Lease:
        leased.append(demand)
        return lease(manager, demand)

    monkeypatch.setattr(MemoryBudgetManager, "lease", noted)
    plain, contained = b"RIFF" + bytes(100_000), b"OggS" + bytes(100_000)

    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for audio in (plain, contained):
                files = {"speaker_file": ("a", audio)}
                answer = await http.post("/tts", data={"text": "Hello."}, files=files)
                assert answer.status_code == 200, answer.text

    run(work())
    counted = [*dict.fromkeys(demand.decoding_bytes for demand in leased if demand.encoded_s)]
    assert counted == [decoding_bytes(plain), decoding_bytes(contained)]
    assert counted[0] > 2 * len(plain)
    assert counted[1] - counted[0] == max_memory_bytes(contained), "a process of its own decodes it"


def test_a_live_conversation_does_not_hold_its_recording(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with live({"log_file": str(log)}, data_dir=tmp_path) as (socket, _):
            before = held()
            await begun(socket.start)
            await socket.say("text", text=f"{SLOW}. And on.")
            await until_logged(log, "Speak")
            assert held() == before

    async def begun(start: Callable[..., Awaitable[None]]) -> None:
        await start(text="", references=[{"audio": recording(), "text": ""}])

    run(work())
