"""Recordings are encoded, and codes decoded, beside the speech; each is answered once."""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.core import ReferenceCodes, VoicePrompt
from backend.engine.engine import Engine, Progress
from backend.model.config import DECODE_FRAMES
from backend.model.dac import DAC, Encoder
from backend.model.stream import Stream
from backend.worker.messages import (
    Abort,
    DecodeCodes,
    Decoded,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    FromWorker,
    Pcm,
    Shutdown,
    frame,
)
from backend.worker.pipe import Reader
from tests.test_worker_loop import CODEC_ID, WAIT_S, Worker, loaded, recording, request, samples

Encode = Callable[[Encoder, Tensor, Stream | None], Tensor]


BOOKS, KNOWN = 4, 64
"""Of the tiny codec: its code books, and the codes in each."""


def kept(frames: int, codec_id: str = CODEC_ID, most: int = KNOWN) -> ReferenceCodes:
    """Codes of a voice that was saved; `most` is what none of them reaches."""
    grid = np.random.default_rng(frames).integers(0, most, (BOOKS, frames), "<u2")
    return ReferenceCodes(grid.tobytes(), BOOKS, codec_id, frames / 100)


class Gate:
    """Holds the codec up within a recording's first piece."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self.is_open = threading.Event()
        self.is_reached = threading.Event()
        self.pieces = 0

    def encode(self, encoder: Encoder, audio: Tensor, stream: Stream | None = None) -> Tensor:
        self.pieces += 1
        self.is_reached.set()
        assert self.is_open.wait(WAIT_S)
        return self._encode(encoder, audio, stream)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(Encoder.forward)

    def encode(encoder: Encoder, audio: Tensor, stream: Stream | None = None) -> Tensor:
        return gate.encode(encoder, audio, stream)

    monkeypatch.setattr(Encoder, "forward", encode)
    yield gate
    gate.is_open.set()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(loaded())
    yield worker
    worker.leave()


def test_speech_goes_on_while_a_recording_is_encoded(worker: Worker, gate: Gate) -> None:
    worker.inbox.put(EncodeVoice("voice", recording(2.0)))
    assert gate.is_reached.wait(WAIT_S)
    assert isinstance(worker.speak("Hello.")[-1], Done)
    gate.is_open.set()
    assert isinstance(worker.answers("voice")["voice"][-1], Encoded)


def test_a_burst_is_answered_one_after_another(worker: Worker) -> None:
    names = [f"voice{index}" for index in range(5)]
    for name in names:
        worker.inbox.put(EncodeVoice(name, recording(1.5)))
    answers = worker.answers(*names)
    assert list(answers) == names
    kinds = [[type(message) for message in messages] for messages in answers.values()]
    assert kinds == [[Encoded]] * 5
    assert len({answer[0].codes.codes for answer in answers.values()}) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("audio", "says"),
    [(b"no audio", "cannot be decoded"), (b"", "empty"), (recording(0.2), "0.2 s of sound")],
)
def test_what_cannot_be_encoded_is_said(worker: Worker, audio: bytes, says: str) -> None:
    failed = worker.encode(audio)
    assert isinstance(failed, Failed)
    assert failed.code == "bad_reference"
    assert says in failed.message
    assert isinstance(worker.encode(recording(1.5)), Encoded)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't"), "not enough memory"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_one_that_fails_harms_nobody_else(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "forward", lambda *_: (_ for _ in ()).throw(error))
        failed = worker.encode(recording(1.5))
    assert isinstance(failed, Failed)
    wanted = "out_of_memory" if "memory" in says else "engine_failed"
    assert failed.code == wanted
    assert says in failed.message
    assert isinstance(worker.encode(recording(1.5)), Encoded)
    assert isinstance(worker.speak("Hello.")[-1], Done)


def test_an_abort_is_answered_at_once_and_ends_it_at_the_next_piece(
    worker: Worker, gate: Gate
) -> None:
    for name in ("first", "waiting", "last"):
        worker.inbox.put(EncodeVoice(name, recording(2.0)))
    assert gate.is_reached.wait(WAIT_S)
    worker.inbox.put(Abort("waiting"))
    worker.inbox.put(Abort("first"))
    for name in ("waiting", "first"):
        (failed,) = worker.answers(name)[name]
        assert isinstance(failed, Failed)
        assert failed.code == "aborted"
    assert gate.pieces == 1
    gate.is_open.set()
    assert isinstance(worker.answers("last")["last"][-1], Encoded)
    whole = -(-200 // 32)
    assert gate.pieces == 1 + whole, "one of the first, none of the second, all of the last"
    worker.inbox.put(Abort("last"))  # it is over: no answer
    assert isinstance(worker.speak("Hello.")[-1], Done)


def test_a_name_in_use_is_refused(worker: Worker, gate: Gate) -> None:
    worker.inbox.put(EncodeVoice("voice", recording(1.5)))
    assert gate.is_reached.wait(WAIT_S)
    for again in (EncodeVoice("voice", recording(1.5)), request("voice", "Hello.")):
        worker.inbox.put(again)
        (refused,) = worker.answers("voice")["voice"]
        assert isinstance(refused, Failed)
        assert refused.code == "bad_field"
    gate.is_open.set()
    assert isinstance(worker.answers("voice")["voice"][-1], Encoded)


def test_leaving_does_not_wait_for_a_recording(gate: Gate) -> None:
    worker = Worker(loaded())
    for name in ("first", "waiting"):
        worker.inbox.put(EncodeVoice(name, recording(2.0)))
    assert gate.is_reached.wait(WAIT_S)
    worker.inbox.put(Shutdown())
    worker.thread.join(timeout=WAIT_S)
    assert not worker.thread.is_alive()
    for messages in worker.answers("first", "waiting").values():
        assert isinstance(messages[-1], Failed)
        assert messages[-1].code == "aborted"


def test_frames_are_made_in_step_with_the_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same speech and the same codes come out when both threads compute at once."""
    worker = Worker(loaded(end_scale=0.0))
    alone = worker.encode(recording(2.0))
    plain = [m.samples for m in worker.speak("a" * 20) if isinstance(m, Pcm)]
    assert isinstance(alone, Encoded)
    is_speaking, step = threading.Event(), Engine.step

    def seen(engine: Engine) -> list[Progress]:
        is_speaking.set()
        return step(engine)

    monkeypatch.setattr(Engine, "step", seen)
    worker.inbox.put(request("one", "a" * 20))
    assert is_speaking.wait(WAIT_S)
    for index in range(8):
        worker.inbox.put(EncodeVoice(str(index), recording(2.0)))
    answers = worker.answers("one", *map(str, range(8)))
    assert [m.samples for m in answers["one"] if isinstance(m, Pcm)] == plain
    for index in range(8):
        (encoded,) = answers[str(index)]
        assert isinstance(encoded, Encoded)
        assert encoded.codes == alone.codes
    worker.leave()


def test_no_recording_is_kept_until_the_next_one_comes(worker: Worker) -> None:
    assert isinstance(worker.encode(recording(1.5)), Encoded)
    deadline_s = time.monotonic() + WAIT_S
    while any(type(each) is EncodeVoice for each in gc.get_objects()):
        assert time.monotonic() < deadline_s, "it is still held"
        threading.Event().wait(0.01)


def test_no_message_is_kept_until_the_next_one_comes() -> None:
    out, into = os.pipe()
    delivered = threading.Event()
    with os.fdopen(out, "rb") as pipe, os.fdopen(into, "wb") as sent:
        reader = Reader(pipe, lambda _: delivered.set(), lambda *_: None)
        reader.start()
        sent.write(frame(EncodeVoice("voice", bytes(100_000))))
        sent.flush()
        assert delivered.wait(WAIT_S)
        deadline_s = time.monotonic() + WAIT_S
        while _longest_local(reader) >= 100_000:
            assert time.monotonic() < deadline_s, "it is still held"
            threading.Event().wait(0.01)
        sent.write(frame(Shutdown()))
        sent.flush()
        reader.join(WAIT_S)


def _longest_local(thread: threading.Thread) -> int:
    """Bytes of the longest message that a variable of `thread` holds."""
    found, frame = 0, sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        values = frame.f_locals.values()
        found = max([found, *(len(value) for value in values if isinstance(value, bytes))])
        frame = frame.f_back
    return found


# -- codes to sound --------------------------------------------------------------------------------


class HeldDecoder:
    """Lets the codec decode only what is spoken, until it is opened."""

    def __init__(self) -> None:
        self.is_open, self.is_reached = threading.Event(), threading.Event()
        self.pieces = 0

    def decode(self, codec: DAC, codes: Tensor, stream: Stream | None = None) -> Tensor:
        if threading.current_thread().name == "encode":
            self.pieces += 1
            self.is_reached.set()
            assert self.is_open.wait(WAIT_S)
        return _decode(codec, codes, stream)


_decode = DAC.decode


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldDecoder]:
    held = HeldDecoder()

    def decode(codec: DAC, codes: Tensor, stream: Stream | None = None) -> Tensor:
        return held.decode(codec, codes, stream)

    monkeypatch.setattr(DAC, "decode", decode)
    yield held
    held.is_open.set()


def kinds(messages: list[FromWorker]) -> list[type[FromWorker]]:
    return [type(message) for message in messages]


@pytest.mark.parametrize("frames", [1, DECODE_FRAMES, 1000])
def test_codes_are_heard_in_pieces(worker: Worker, frames: int) -> None:
    codes = kept(frames)
    said = worker.decode(codes)
    pieces = -(-frames // DECODE_FRAMES)
    assert kinds(said) == [*[Pcm] * pieces, Decoded]
    grid = np.frombuffer(codes.codes, "<u2").reshape(BOOKS, -1).astype(np.int64)
    with torch.inference_mode():
        whole = worker.held.checkpoint.codec.decode(torch.from_numpy(grid)[None])[0].numpy()
    assert np.allclose(samples(said), whole, atol=1e-4)


def test_a_recording_is_heard_as_it_was(worker: Worker) -> None:
    encoded = worker.encode(recording(1.5))
    assert isinstance(encoded, Encoded)
    heard = samples(worker.decode(encoded.codes))
    assert len(heard) == encoded.codes.frames * 80


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (kept(5, codec_id="another"), "codec of another checkpoint"),
        (replace(kept(8), num_codebooks=2), "codec of another checkpoint"),
        (replace(kept(8), codes=b""), "no whole number"),
        (replace(kept(8), codes=bytes(63)), "no whole number"),
        (kept(1001), "no whole number of 1 to"),
        (replace(kept(8), codes=b"\xff\xff" * 32), "codes that this checkpoint does not know"),
        (replace(kept(8), codes=bytes(62) + b"\x40\0"), "codes that this checkpoint does not know"),
        (replace(kept(8), codes=b"\x40\0" + bytes(62)), "codes that this checkpoint does not know"),
    ],
)
def test_codes_that_are_none_never_reach_an_embedding(
    worker: Worker, codes: ReferenceCodes, says: str
) -> None:
    worker.inbox.put(DecodeCodes("codes", codes))
    worker.inbox.put(request("one", "Hello.", references=(VoicePrompt(codes),)))
    answers = worker.answers("codes", "one")
    for (failed,) in answers.values():
        assert isinstance(failed, Failed)
        assert failed.code == "bad_reference"
        assert says in failed.message
    assert kinds(worker.decode(kept(8))) == [Pcm, Decoded]
    assert isinstance(worker.speak("Hello.", references=(VoicePrompt(kept(8)),))[-1], Done)
    assert worker.error is None


def test_speech_goes_on_while_codes_are_decoded(worker: Worker, held: HeldDecoder) -> None:
    worker.inbox.put(DecodeCodes("codes", kept(100)))
    assert held.is_reached.wait(WAIT_S)
    assert isinstance(worker.speak("Hello.")[-1], Done)
    held.is_open.set()
    assert isinstance(worker.answers("codes")["codes"][-1], Decoded)


def test_an_abort_ends_the_decoding_at_the_next_piece(worker: Worker, held: HeldDecoder) -> None:
    for name in ("first", "waiting", "last"):
        worker.inbox.put(DecodeCodes(name, kept(100)))
    assert held.is_reached.wait(WAIT_S)
    for name in ("waiting", "first"):
        worker.inbox.put(Abort(name))
        (failed,) = worker.answers(name)[name]
        assert isinstance(failed, Failed)
        assert failed.code == "aborted"
    held.is_open.set()
    assert kinds(worker.answers("last")["last"]) == [*[Pcm] * 5, Decoded]
    assert held.pieces == 1 + 5, "one of the first, none of the second, all of the last"
    assert isinstance(worker.speak("Hello.")[-1], Done)  # and no more is said of the others


def test_codes_that_fail_harm_nobody_else(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DAC, "decode", lambda *_: (_ for _ in ()).throw(MemoryError()))
        (failed,) = worker.decode(kept(8))
    assert isinstance(failed, Failed)
    assert (failed.code, "not enough memory" in failed.message) == ("out_of_memory", True)
    assert kinds(worker.decode(kept(8))) == [Pcm, Decoded]


def test_leaving_does_not_wait_for_codes(held: HeldDecoder) -> None:
    worker = Worker(loaded())
    for name in ("first", "waiting"):
        worker.inbox.put(DecodeCodes(name, kept(100)))
    assert held.is_reached.wait(WAIT_S)
    worker.inbox.put(Shutdown())
    worker.thread.join(timeout=WAIT_S)
    assert not worker.thread.is_alive()
    for messages in worker.answers("first", "waiting").values():
        assert isinstance(messages[-1], Failed)
        assert messages[-1].code == "aborted"
