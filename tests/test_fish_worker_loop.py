"""The fish-speech worker without the package: a voice of silence in its place."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from backend.core import EngineInfo, ReferenceCodes, SamplingParams, VoicePrompt
from backend.engine.prompt import Reference, frame_limit
from backend.fish_worker import loop
from backend.fish_worker.loaded_package import Loaded
from backend.fish_worker.loop import FishWorker
from backend.fish_worker.package import positions_for
from backend.fish_worker.voice import Generated, Samples, UserText, Voice, _read_users_literally
from backend.fish_worker.voice import _sampling as what_the_package_accepts
from backend.hardware.need import CheckpointShape
from backend.model.tokenizer import Tokenizer
from backend.monitoring.fish_log import FishLog
from backend.worker.device import resolve
from backend.worker.messages import (
    Abort,
    Beat,
    ClearCaches,
    Cleared,
    Configure,
    Configured,
    DecodeCodes,
    Decoded,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    FromWorker,
    Load,
    Pcm,
    Shutdown,
    Speak,
    WayState,
)
from tests.test_worker_loop import recording
from tests.tiny import tiny_checkpoint

BOOKS, FRAME_SAMPLES, RATE_HZ = 4, 80, 8000
WAIT_S = 10.0


@dataclass
class SilentVoice:
    """Makes a frame for each letter; the word "for ever" goes on until somebody stops it."""

    positions: int = 4096
    asked: list[dict[str, Any]] = field(default_factory=list)
    log: FishLog = field(default_factory=FishLog)
    may_decode: threading.Event = field(default_factory=threading.Event)
    is_decoding: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_decode.set()

    def generate(
        self,
        text: str,
        references: Sequence[Reference],
        sampling: SamplingParams,
        max_new_tokens: int,
        between_tokens: Callable[[], None],
    ) -> Generated:
        self.asked.append(
            {"text": text, "references": references, "most": max_new_tokens, "drawn": torch.rand(1)}
        )
        if "break the GPU" in text:
            raise torch.AcceleratorError("device-side assert triggered")
        if "fail" in text:
            raise RuntimeError("an error of the package")
        began_s = time.perf_counter()
        while "for ever" in text:
            between_tokens()
            time.sleep(0.002)
        frames = max_new_tokens - 1 if "endless" in text else len(text)
        for _ in range(frames):
            between_tokens()
        took_s = time.perf_counter() - began_s
        self.log.read(f"Generated {frames + 1} tokens in 2.00 seconds, 30.00 tokens/sec")
        self.log.read("Bandwidth achieved: 0.50 GB/s")
        codes = torch.zeros(BOOKS, frames, dtype=torch.int)
        return Generated(codes, "endless" not in text, 0.25, took_s)

    def encode(self, samples: Samples) -> torch.Tensor:
        return torch.zeros(BOOKS, len(samples) // FRAME_SAMPLES, dtype=torch.int)

    def decode(self, codes: torch.Tensor) -> Samples:
        self.is_decoding.set()
        assert self.may_decode.wait(WAIT_S)
        self.log.read(f"VQ features: {codes.shape}")
        return np.zeros(codes.shape[1] * FRAME_SAMPLES, np.float32)


class Running:
    """A worker that runs in a thread, and everything it has said."""

    def __init__(self, voice: SilentVoice, loaded: Loaded, is_compile_asked: bool = False) -> None:
        self.said: list[FromWorker] = []
        self._heard = threading.Condition()
        self.worker = FishWorker(loaded, self._hear, voice.log, is_compile_asked)
        self.error: OSError | torch.AcceleratorError | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.worker.deliver(message)

    def until(self, wanted: Callable[[FromWorker], bool]) -> FromWorker:
        with self._heard:
            assert self._heard.wait_for(lambda: any(map(wanted, self.said)), WAIT_S), self.said
            return next(filter(wanted, self.said))

    def answer(self, request_id: str) -> Done | Failed:
        def is_answer(message: FromWorker) -> bool:
            return isinstance(message, Done | Failed) and message.request_id == request_id

        return cast(Done | Failed, self.until(is_answer))

    def speaking(self, request_id: str, voice: SilentVoice) -> None:
        """Wait until a request has got to the voice."""
        before = len(voice.asked)
        self.send(speak(request_id, "for ever"))
        deadline_s = time.monotonic() + WAIT_S
        while len(voice.asked) == before:
            assert time.monotonic() < deadline_s
            time.sleep(0.002)

    def close(self) -> None:
        self.send(None)
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()

    def _hear(self, *messages: FromWorker) -> None:
        with self._heard:
            self.said += messages
            self._heard.notify_all()

    def _run(self) -> None:
        try:
            self.worker.run()
        except (OSError, torch.AcceleratorError) as error:
            self.error = error
            self.worker.deliver(None)


def speak(request_id: str, text: str, **sampling: Any) -> Speak:
    return Speak(request_id, text, SamplingParams(**sampling))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"), codebook_size=64, num_codebooks=BOOKS)


@pytest.fixture
def voice() -> SilentVoice:
    return SilentVoice()


@pytest.fixture
def loaded(folder: Path, voice: SilentVoice) -> Loaded:
    shape = CheckpointShape.from_folder(folder)
    info = EngineInfo(
        engine="fish-speech",
        checkpoint="tiny",
        device="cpu",
        precision="fp32",
        sample_rate_hz=RATE_HZ,
        frame_samples=FRAME_SAMPLES,
        num_codebooks=BOOKS,
        parameters=1,
        weight_bytes=4,
        context_tokens=2048,
        max_segment_characters=80,
        max_reference_s=30.0,
        languages=(),
        torch_version="",
        pid=1,
        memory_mb=1.0,
        load_s=0.0,
        cache_limit_bytes=(3 << 20) + 1,
        codec_id="tiny",
    )
    place = resolve("cpu", "fp32")
    return Loaded(cast(Voice, voice), shape, Tokenizer.from_folder(folder), place, info, 1_000_000)


@pytest.fixture
def running(voice: SilentVoice, loaded: Loaded) -> Iterator[Running]:
    running = Running(voice, loaded)
    yield running
    running.close()
    assert running.error is None


def test_a_sentence_is_spoken_and_its_figures_told(running: Running) -> None:
    running.send(speak("a", "three"))
    done = running.answer("a")
    assert isinstance(done, Done)
    (piece,) = [message for message in running.said if isinstance(message, Pcm)]
    assert len(piece.samples) // 4 == 5 * FRAME_SAMPLES
    stats = done.stats
    assert (stats.frames, stats.generated_tokens, stats.segments) == (5, 6, 1)
    assert stats.finish_reasons == ("end",)
    assert stats.audio_s == 5 * FRAME_SAMPLES / RATE_HZ
    assert stats.prefill_s == 0.25
    assert stats.weight_read_gb_s == pytest.approx(5 * 1e6 / stats.decode_s / 1e9)
    assert (stats.fish_tokens_per_s, stats.fish_generation_time_s) == (30.0, 2.0)
    assert (stats.fish_bandwidth_gb_s, stats.vq_features_shape) == (0.5, (BOOKS, 5))
    assert stats.fish_gpu_memory_gb is None
    assert 0 < stats.first_audio_s <= stats.total_s
    assert done.codes is None


def test_a_recording_becomes_codes_that_steer(running: Running, voice: SilentVoice) -> None:
    running.speaking("a", voice)
    running.send(EncodeVoice("v", recording(2.0)), Abort("a"))
    encoded = running.until(lambda message: isinstance(message, Encoded))
    assert isinstance(encoded, Encoded)
    codes = encoded.codes
    assert (codes.num_codebooks, codes.frames, codes.codec_id) == (BOOKS, 200, "tiny")
    text = Speak("b", "four", SamplingParams(), (VoicePrompt(codes, "Ah."),), return_codes=True)
    running.send(text)
    done = running.answer("b")
    assert isinstance(done, Done)
    assert done.codes == ReferenceCodes(bytes(2 * BOOKS * 4), BOOKS, "tiny", 0.04)
    assert done.stats.prompt_tokens > 200
    (reference,) = voice.asked[-1]["references"]
    assert (reference.text, reference.codes.shape) == ("Ah.", (BOOKS, 200))
    running.send(Speak("c", "four", SamplingParams(), (VoicePrompt(replace(codes, codec_id="x")),)))
    refused = running.answer("c")
    assert isinstance(refused, Failed)
    assert refused.code == "bad_reference"


def test_codes_are_heard(running: Running, voice: SilentVoice) -> None:
    codes = ReferenceCodes(bytes(2 * BOOKS * 50), BOOKS, "tiny", 0.5)
    running.send(DecodeCodes("d", codes))
    running.until(lambda message: isinstance(message, Decoded))
    (piece,) = [message for message in running.said if isinstance(message, Pcm)]
    assert (piece.request_id, len(piece.samples)) == ("d", 4 * 50 * FRAME_SAMPLES)
    for bad in (
        replace(codes, codec_id="x"),
        replace(codes, codes=bytes(2 * BOOKS * 1001)),
        replace(codes, codes=b"\x40\0" * BOOKS),
    ):
        voice.is_decoding.clear()
        running.said.clear()
        running.send(DecodeCodes("e", bad))
        refused = running.answer("e")
        assert isinstance(refused, Failed)
        assert refused.code == "bad_reference"
        assert not voice.is_decoding.is_set(), "the package was asked"
    running.send(speak("a", "words"))
    assert isinstance(running.answer("a"), Done)


def test_codes_can_be_given_up_while_they_are_decoded(running: Running, voice: SilentVoice) -> None:
    voice.may_decode.clear()
    running.send(DecodeCodes("d", ReferenceCodes(bytes(2 * BOOKS), BOOKS, "tiny", 0.01)))
    assert voice.is_decoding.wait(WAIT_S)
    running.send(Abort("d"))
    given_up = running.answer("d")
    assert isinstance(given_up, Failed)
    assert given_up.code == "aborted"
    voice.may_decode.set()
    running.send(speak("a", "words"))
    assert isinstance(running.answer("a"), Done)
    assert not any(isinstance(message, Decoded) for message in running.said)


def test_a_recording_that_waits_can_be_given_up(running: Running, voice: SilentVoice) -> None:
    running.speaking("a", voice)
    running.send(EncodeVoice("v", recording(2.0)), EncodeVoice("w", b"no audio"), Abort("v"))
    given_up = running.answer("v")
    assert isinstance(given_up, Failed)
    assert given_up.code == "aborted"
    running.send(Abort("a"))
    failed = running.answer("w")
    assert isinstance(failed, Failed)
    assert failed.code == "bad_reference"


def test_each_request_has_a_peak_of_its_own(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    resets: list[torch.device] = []
    monkeypatch.setattr(loop, "reset_peak", resets.append)
    for request_id in "ab":
        running.send(speak(request_id, "words"))
        running.answer(request_id)
    assert resets == [torch.device("cpu")] * 2


def test_the_figures_are_those_of_one_request(running: Running, voice: SilentVoice) -> None:
    voice.log.read("VQ features: torch.Size([4, 999])")  # of one that was given up
    for request_id in "ab":
        running.send(speak(request_id, "four"))
        done = running.answer(request_id)
        assert isinstance(done, Done)
        assert done.stats.vq_features_shape == (BOOKS, 4)


def test_requests_wait_their_turn_and_the_load_is_told(running: Running) -> None:
    running.send(*(speak(request_id, "some words") for request_id in "abc"))
    for request_id in "abc":
        assert isinstance(running.answer(request_id), Done)
    ends = [message.request_id for message in running.said if isinstance(message, Done)]
    assert ends == list("abc")
    running.until(lambda message: message == Load(0, 0, cache_bytes=(3 << 20) + 1))
    loads = [message for message in running.said if isinstance(message, Load)]
    assert max(load.waiting for load in loads) >= 2
    assert max(load.running for load in loads) == 1


def test_abort_is_answered_at_once_and_the_next_is_spoken(
    running: Running, voice: SilentVoice
) -> None:
    running.speaking("a", voice)
    running.send(speak("b", "words"), speak("c", "never"), Abort("c"), Abort("nobody"))
    waiting = running.answer("c")
    assert isinstance(waiting, Failed)
    running.send(Abort("a"))
    spoken = running.answer("a")
    assert isinstance(spoken, Failed)
    assert waiting.code == spoken.code == "aborted"
    assert isinstance(running.answer("b"), Done)
    assert [asked["text"] for asked in voice.asked] == ["for ever", "words"]
    assert sum(getattr(message, "request_id", "") == "a" for message in running.said) == 1


def test_nothing_is_said_after_the_answer(running: Running, voice: SilentVoice) -> None:
    voice.may_decode.clear()
    running.send(speak("a", "words"), speak("b", "words"))
    assert voice.is_decoding.wait(WAIT_S)
    running.send(Abort("a"))
    assert isinstance(running.answer("a"), Failed)
    voice.may_decode.set()
    assert isinstance(running.answer("b"), Done)
    assert sum(getattr(message, "request_id", "") == "a" for message in running.said) == 1


def test_its_beat_tells_of_every_token_until_the_package_lets_go(
    running: Running, voice: SilentVoice
) -> None:
    worker = running.worker
    assert worker.beat() == Beat(0, "")
    running.speaking("a", voice)
    before = worker.beat()
    while (beat := worker.beat()).steps < before.steps + 5:
        assert beat.busy_with
    voice.may_decode.clear()
    running.send(Abort("a"), speak("b", "held up"))
    assert voice.is_decoding.wait(WAIT_S)
    assert worker.beat() == worker.beat(), "decoding is one step"
    assert worker.beat().busy_with
    voice.may_decode.set()
    running.answer("b")
    running.send(ClearCaches())
    running.until(lambda message: isinstance(message, Cleared))
    assert worker.beat().busy_with == ""


def test_the_same_id_twice_at_once_is_refused(running: Running, voice: SilentVoice) -> None:
    running.speaking("a", voice)
    running.send(speak("a", "again"))
    refused = running.answer("a")
    assert isinstance(refused, Failed)
    assert refused.code == "bad_field"
    running.send(Abort("a"))


def test_shutdown_answers_everybody_and_does_not_wait(running: Running, voice: SilentVoice) -> None:
    running.speaking("a", voice)
    running.send(speak("b", "words"), Shutdown())
    began_s = time.monotonic()
    running.thread.join(WAIT_S)
    assert time.monotonic() - began_s < 2.0
    for request_id in "ab":
        failed = running.answer(request_id)
        assert isinstance(failed, Failed)
        assert (failed.code, failed.message) == ("aborted", "The worker is stopping.")
    running.send(speak("late", "words"))
    assert isinstance(running.answer("late"), Failed)


def test_one_that_fails_harms_nobody_else(running: Running) -> None:
    running.send(speak("a", "words that fail"), speak("b", "words"))
    failed = running.answer("a")
    assert isinstance(failed, Failed)
    assert failed.code == "engine_failed"
    assert "an error of the package" in failed.message
    assert isinstance(running.answer("b"), Done)


def test_a_gpu_that_failed_ends_the_worker(voice: SilentVoice, loaded: Loaded) -> None:
    running = Running(voice, loaded)
    running.send(speak("a", "break the GPU"))
    failed = running.answer("a")
    assert isinstance(failed, Failed)
    assert failed.code == "engine_failed"
    running.thread.join(WAIT_S)
    assert isinstance(running.error, torch.AcceleratorError)


def test_orders_are_obeyed_between_two_tokens(running: Running, voice: SilentVoice) -> None:
    before = torch.get_num_threads()
    running.speaking("a", voice)
    running.send(Configure(num_threads=1, cache_limit_mb=64), ClearCaches())
    # What its cache takes was decided when it was loaded, and is told.
    running.until(lambda message: message == Configured(1, 4))
    running.until(lambda message: isinstance(message, Cleared))
    assert not any(isinstance(message, Done | Failed) for message in running.said)
    running.send(Abort("a"))
    running.answer("a")
    running.send(ClearCaches())
    running.until(lambda message: sum(isinstance(m, Cleared) for m in running.said) == 2)
    torch.set_num_threads(before)


def test_a_speaking_thread_that_dies_ends_the_worker(voice: SilentVoice, loaded: Loaded) -> None:
    def broken(*messages: FromWorker) -> None:
        raise BrokenPipeError

    running = Running(voice, loaded)
    running.worker._send = broken
    with suppress(BrokenPipeError):
        running.send(speak("a", "words"))
    running.send(Configure(1, 1))
    running.thread.join(WAIT_S)
    assert isinstance(running.error, BrokenPipeError)


def test_who_asks_for_compilation_is_told(voice: SilentVoice, loaded: Loaded) -> None:
    running = Running(voice, loaded, is_compile_asked=True)
    state = running.until(lambda message: isinstance(message, WayState))
    assert isinstance(state, WayState)
    assert state.name == "eager"
    assert "without torch.compile" in state.detail
    running.close()


def test_a_runaway_is_stopped(running: Running, voice: SilentVoice) -> None:
    running.send(speak("a", "endless"))
    done = running.answer("a")
    assert isinstance(done, Done)
    limit = frame_limit("endless", RATE_HZ / FRAME_SAMPLES)
    assert done.stats.finish_reasons == ("frame_limit",)
    assert done.stats.frames == done.stats.generated_tokens == limit
    assert voice.asked[0]["most"] == limit + 1


def test_context_that_is_full_is_told(voice: SilentVoice, loaded: Loaded) -> None:
    short = replace(loaded, info=replace(loaded.info, context_tokens=100))
    running = Running(voice, short)
    running.send(speak("a", "endless"))
    done = running.answer("a")
    assert isinstance(done, Done)
    assert done.stats.finish_reasons == ("context_full",)
    assert done.stats.prompt_tokens + done.stats.frames == 100
    running.close()


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        (speak("a", " "), "blank_text", "nothing to speak"),
        (speak("a", "x" * 5000), "prompt_too_long", "context"),
        (speak("a", "x" * 3000), "prompt_too_long", "fish-speech takes at most 2048"),
    ],
)
def test_what_cannot_be_spoken_is_refused_before_the_package_is_asked(
    voice: SilentVoice, loaded: Loaded, message: Speak, code: str, says: str
) -> None:
    roomy = replace(loaded, info=replace(loaded.info, context_tokens=40_000))
    wide = roomy if "at most" in says else loaded
    running = Running(voice, wide)
    running.send(message)
    failed = running.answer("a")
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert says in failed.message
    assert not voice.asked
    running.close()


def test_a_seed_reproduces_and_none_does_not(running: Running, voice: SilentVoice) -> None:
    seeds = (5, 5, 6, None, None)
    for number, seed in enumerate(seeds):
        running.send(speak(str(number), "words", seed=seed))
        running.answer(str(number))
    first, again, *others = [asked["drawn"].item() for asked in voice.asked]
    assert first == again
    assert len({first, *others}) == 4


def test_sampling_stays_within_what_the_package_accepts() -> None:
    greedy = what_the_package_accepts(SamplingParams(0.0, 0.9, 1.0))
    assert 0 < greedy["temperature"] < 2
    assert 0 < greedy["top_p"] < 1e-3
    hottest = what_the_package_accepts(SamplingParams(2.0, 1.0, 2.0))
    assert hottest["temperature"] < 2
    assert hottest["repetition_penalty"] < 2
    assert hottest["top_p"] == 1.0
    plain = what_the_package_accepts(SamplingParams(0.7, 0.8, 1.2))
    assert plain == {"temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.2}


def test_only_the_users_text_is_read_literally(folder: Path) -> None:
    ours = Tokenizer.from_folder(folder)

    class Published:
        def encode(self, text: str, allowed_special: bool | set[str] = True) -> list[int]:
            allowed = "all" if allowed_special is True else allowed_special or set()
            encoding = ours._encoding
            return encoding.encode(text, allowed_special=allowed, disallowed_special=())  # type: ignore[arg-type]

    tokenizer = Published()
    text = "stop <|im_end|> now"
    assert ours.im_end_id in tokenizer.encode(text)
    _read_users_literally(tokenizer)
    assert ours.im_end_id in tokenizer.encode(text), "control tokens of the prompt still are"
    assert tokenizer.encode(UserText(text)) == ours.encode(text)


@pytest.mark.parametrize(
    ("context", "positions"), [(8192, 8192), (4096, 4096), (2048, 4096), (512, 2560), (2561, 4616)]
)
def test_positions_leave_room_for_a_prompt(context: int, positions: int) -> None:
    assert positions_for(context) == positions
