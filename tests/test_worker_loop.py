"""The worker's loop in a thread, with a tiny checkpoint: every request is answered."""

import io
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from backend.audio.read import read_reference
from backend.codec.one_by_one import OneByOne
from backend.core import EngineInfo, QualityCost, ReferenceCodes, SamplingParams, VoicePrompt
from backend.engine.engine import Engine, Progress
from backend.engine.runner import Runner
from backend.errors import BadCheckpoint
from backend.worker import loop
from backend.worker.device import resolve
from backend.worker.loaded import Loaded, stage_of
from backend.worker.loop import Inbox, WorkerLoop
from backend.worker.messages import (
    Abort,
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
    Measured,
    Pcm,
    Shutdown,
    Speak,
)
from tests.engines import tiny
from tests.monitored import logged

SAMPLING = SamplingParams(temperature=0.9, top_p=0.95, seed=11)
WAIT_S = 60
CODEC_ID = "tiny"
Answer = Pcm | Done | Encoded | Decoded | Failed


def loaded(max_batch: int = 4, end_scale: float = 1.0) -> Loaded:
    """What `load` makes, around the tiny checkpoint."""
    checkpoint = tiny(end_scale)
    card, codec = checkpoint.info, checkpoint.codec_config
    info = EngineInfo(
        "shoal",
        card.name,
        "cpu",
        "fp32",
        codec.sample_rate_hz,
        codec.frame_samples,
        codec.num_codebooks,
        checkpoint.parameters,
        checkpoint.weight_bytes,
        checkpoint.config.max_seq_len,
        card.max_segment_characters,
        2.0,
        card.languages,
        torch_version="",
        pid=0,
        memory_mb=0.0,
        load_s=0.0,
        codec_id=CODEC_ID,
    )
    engine, stage = Engine(checkpoint.model, max_batch), stage_of(checkpoint.codec, max_batch)
    return Loaded(checkpoint, resolve("cpu", "fp32"), engine, stage, info)


class Worker:
    """A `WorkerLoop` in a thread and what it said."""

    def __init__(self, held: Loaded) -> None:
        self.held = held
        self.inbox = Inbox()
        self.said: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
        self.loads: list[Load] = []
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            WorkerLoop(self.held, self.inbox, self._hear).run()
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.error = error

    def _hear(self, *messages: FromWorker) -> None:
        for message in messages:
            self.said.put(message)

    def answers(self, *request_ids: str) -> dict[str, list[FromWorker]]:
        """What is said of these requests until each is over; of no other is anything said."""
        heard: dict[str, list[FromWorker]] = {request_id: [] for request_id in request_ids}
        over = 0
        while over < len(request_ids):
            message = self.said.get(timeout=WAIT_S)
            if isinstance(message, Load):
                self.loads.append(message)
            if isinstance(message, Answer):
                assert message.request_id in heard, message
                heard[message.request_id].append(message)
                over += not isinstance(message, Pcm)
        return heard

    def speak(self, text: str, **options: Any) -> list[FromWorker]:
        """One request to its end."""
        self.inbox.put(request("one", text, **options))
        return self.answers("one")["one"]

    def encode(self, audio: bytes) -> FromWorker:
        """The answer to one recording."""
        self.inbox.put(EncodeVoice("voice", audio))
        (answer,) = self.answers("voice")["voice"]
        return answer

    def decode(self, codes: ReferenceCodes) -> list[FromWorker]:
        """What is said of one voice's codes."""
        self.inbox.put(DecodeCodes("codes", codes))
        return self.answers("codes")["codes"]

    def leave(self) -> None:
        """Ask it to leave and see that it does."""
        self.inbox.put(Shutdown())
        self.thread.join(timeout=WAIT_S)
        assert not self.thread.is_alive()


def request(request_id: str, text: str, **options: Any) -> Speak:
    return Speak(request_id, text, **{"sampling": SAMPLING, **options})


def recording(seconds: float) -> bytes:
    file = io.BytesIO()
    tone = 0.5 * np.sin(np.arange(int(seconds * 16_000)) * 0.05)
    soundfile.write(file, tone, 16_000, format="WAV")
    return file.getvalue()


def samples(messages: list[FromWorker]) -> np.ndarray:
    return np.concatenate([np.frombuffer(m.samples, "<f4") for m in messages if isinstance(m, Pcm)])


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(loaded())
    yield worker
    worker.leave()


def test_the_speech_is_that_of_the_engine_and_the_codec(worker: Worker) -> None:
    """What is heard against the same frames decoded whole, and again."""
    *pieces, done = worker.speak("Hello.", return_codes=True)
    assert isinstance(done, Done)
    heard, codes = samples(pieces), done.codes
    assert codes is not None
    assert (codes.frames, codes.codec_id, codes.warnings) == (done.stats.frames, CODEC_ID, ())
    assert len(heard) == done.stats.frames * 80
    assert done.stats.audio_s == codes.audio_s == pytest.approx(len(heard) / 8000)
    grid = np.frombuffer(codes.codes, "<u2").reshape(4, -1).astype(np.int64)
    with torch.inference_mode():
        whole = worker.held.checkpoint.codec.decode(torch.from_numpy(grid)[None])[0]
    assert np.allclose(heard, whole.numpy(), atol=1e-5)
    *again, silent = worker.speak("Hello.")
    assert isinstance(silent, Done)
    assert silent.codes is None
    assert np.array_equal(heard, samples(again))
    other = samples(worker.speak("Hello.", sampling=replace(SAMPLING, seed=12)))
    assert not np.array_equal(heard[: len(other)], other[: len(heard)])


def test_statistics_are_plausible(worker: Worker) -> None:
    *_, done = worker.speak("Hello there.")
    assert isinstance(done, Done)
    stats = done.stats
    assert stats.prompt_tokens == 14 + len("Hello there.")
    assert stats.generated_tokens == stats.frames + stats.finish_reasons.count("end")
    assert stats.segments == 1
    assert 0 < stats.first_audio_s <= stats.total_s
    assert 0 < stats.prefill_s < stats.total_s
    assert 0 < stats.decode_s < stats.total_s
    assert stats.frames_per_s > 1
    assert stats.fish_bandwidth_gb_s > 0
    # No more than every step's weights over the shortest time the steps can have taken.
    assert 0 < stats.weight_read_gb_s < 500
    assert 10 < stats.peak_memory_mb < 100_000


def test_without_a_seed_two_calls_differ(worker: Worker) -> None:
    free = replace(SAMPLING, seed=None)
    first, second = (samples(worker.speak("Hello.", sampling=free)) for _ in range(2))
    assert len(first) != len(second) or not np.array_equal(first, second)


def test_a_recording_is_encoded_and_steers(worker: Worker) -> None:
    answer = worker.encode(recording(3.0))
    assert isinstance(answer, Encoded)
    codes = answer.codes
    assert (codes.num_codebooks, codes.frames, codes.audio_s) == (4, 200, 2.0)
    assert "trimmed" in codes.warnings[0]
    heard = read_reference(recording(3.0), 8000, 2.0).samples
    with torch.inference_mode():
        whole = worker.held.checkpoint.codec.encode(torch.from_numpy(heard)[None])[0]
    assert codes.codes == whole.numpy().astype("<u2").tobytes()

    plain = samples(worker.speak("Hello."))
    *steered, done = worker.speak("Hello.", references=(VoicePrompt(codes, "Ah."),))
    assert isinstance(done, Done)
    assert done.stats.prompt_tokens > 200
    heard = samples(steered)
    assert len(plain) != len(heard) or not np.array_equal(plain, heard)
    *_, two = worker.speak("Hello.", references=(VoicePrompt(codes, "Ah."), VoicePrompt(codes)))
    assert isinstance(two, Done)
    assert two.stats.prompt_tokens > 400


def test_what_was_spoken_can_be_gone_on_from(worker: Worker) -> None:
    first = worker.speak("Hello.", return_codes=True)[-1]
    assert isinstance(first, Done)
    assert first.codes is not None
    voice = VoicePrompt(first.codes, "Hello.")
    after = worker.speak("And more.", references=(voice,))[-1]
    assert isinstance(after, Done)
    assert after.stats.prompt_tokens > first.stats.frames


GOOD = ReferenceCodes(bytes(8 * 4), 4, CODEC_ID, 0.04)


@pytest.mark.parametrize(
    ("text", "options", "code", "says"),
    [
        ("x" * 600, {}, "prompt_too_long", "context"),
        ("", {}, "blank_text", "nothing"),
        (" ", {}, "blank_text", "nothing"),
        ("Hi.", {"codec_id": "another"}, "bad_reference", "another checkpoint"),
        ("Hi.", {"num_codebooks": 8}, "bad_reference", "another checkpoint"),
        ("Hi.", {"num_codebooks": 0}, "bad_reference", "another checkpoint"),
        ("Hi.", {"codes": b""}, "bad_reference", "0 bytes"),
        ("Hi.", {"codes": bytes(9)}, "bad_reference", "9 bytes"),
        ("Hi.", {"codes": bytes(8 * 513)}, "bad_reference", "1 to 512 frames"),
        ("Hi.", {"codes": bytes(8 * 500)}, "prompt_too_long", "500 of them the reference"),
        ("Hi.", {"codes": b"\xff" * 8}, "bad_reference", "does not know"),
        ("Hi.", {"codes": b"\0" * 6 + b"\x40\0"}, "bad_reference", "does not know"),
    ],
)
def test_what_cannot_be_spoken_fails_at_once_with_its_code(
    worker: Worker, text: str, options: dict[str, Any], code: str, says: str
) -> None:
    references = (VoicePrompt(replace(GOOD, **options)),) if options else ()
    (failed,) = worker.speak(text, references=references)
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert says in failed.message
    assert isinstance(worker.speak("Still there?", references=(VoicePrompt(GOOD),))[-1], Done)


def test_requests_side_by_side_are_all_answered_as_if_alone(worker: Worker) -> None:
    names = [f"r{i}" for i in range(6)]
    alone = {name: samples(worker.speak(f"I am {name}.")) for name in names}
    for name in names:
        worker.inbox.put(request(name, f"I am {name}."))
    answers = worker.answers(*names)
    for name in names:
        assert isinstance(answers[name][-1], Done)
        together = samples(answers[name])
        assert len(together) == len(alone[name])
        assert np.allclose(together, alone[name], atol=1e-4)


def test_a_name_in_use_is_refused(worker: Worker) -> None:
    worker.inbox.put(request("one", "Hello."))
    worker.inbox.put(request("one", "Hello."))
    first = worker.answers("one")["one"][-1]
    assert isinstance(first, Failed)
    assert first.code == "bad_field"
    assert isinstance(worker.answers("one")["one"][-1], Done)


def test_abort_frees_the_row_within_two_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    held, inbox = loaded(end_scale=0.0), Inbox()
    steps, told, rows = 0, {}, []
    step = Engine.step

    def counted(engine: Engine) -> list[Progress]:
        nonlocal steps
        steps += 1
        rows.append(engine.running)
        if steps == 30:
            inbox.put(Abort("one"))
        if steps == 40:
            inbox.put(None)
        return step(engine)

    def send(*messages: FromWorker) -> None:
        for message in messages:
            if isinstance(message, Failed):
                assert message.code == "aborted"
                told[message.request_id] = steps

    monkeypatch.setattr(Engine, "step", counted)
    inbox.put(request("one", "a" * 30))
    inbox.put(request("two", "b" * 30))
    WorkerLoop(held, inbox, send).run()
    assert told == {"one": 30, "two": 40}
    assert rows[29:] == [2, *[1] * 10]


def test_an_unknown_abort_is_no_answer_and_a_waiting_request_can_be_aborted(
    worker: Worker,
) -> None:
    worker.inbox.put(Abort("nobody"))
    for name in ("a", "b"):
        worker.inbox.put(request(name, "Hello."))
    worker.inbox.put(Abort("b"))
    answers = worker.answers("a", "b")
    assert isinstance(answers["a"][-1], Done)
    last = answers["b"][-1]
    assert isinstance(last, Failed)
    assert last.code == "aborted"


def test_leaving_answers_who_is_still_speaking() -> None:
    worker = Worker(loaded(end_scale=0.0))
    for name in ("a", "b", "c"):
        worker.inbox.put(request(name, "x" * 40))
    worker.inbox.put(None)
    answers = worker.answers("a", "b", "c")
    for messages in answers.values():
        assert isinstance(messages[-1], Failed)
        assert messages[-1].code == "aborted"
    worker.thread.join(timeout=WAIT_S)
    assert worker.error is None


def test_a_broken_engine_is_told_to_all_and_ends_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(loaded())
    monkeypatch.setattr(Runner, "launch", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
    for name in ("a", "b"):
        worker.inbox.put(request(name, "x" * 40))
    answers = worker.answers("a", "b")
    for messages in answers.values():
        assert isinstance(messages[-1], Failed)
        assert messages[-1].code == "engine_failed"
    worker.thread.join(timeout=WAIT_S)
    assert "broken" in str(worker.error)


def test_a_codec_that_fails_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(loaded())
    begin = OneByOne.begin
    monkeypatch.setattr(OneByOne, "begin", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    (failed,) = worker.speak("Hello.")
    assert isinstance(failed, Failed)
    assert failed.code == "engine_failed"
    monkeypatch.setattr(OneByOne, "begin", begin)
    assert isinstance(worker.speak("Hello.")[-1], Done)
    worker.leave()


def test_the_load_is_told_and_ends_at_nothing(worker: Worker) -> None:
    loads: list[Load] = []
    for index in range(6):
        worker.inbox.put(request(str(index), "Hello."))
    over = 0
    while over < 6 or loads[-1] != Load(0, 0):
        message = worker.said.get(timeout=WAIT_S)
        over += isinstance(message, Done)
        if isinstance(message, Load):
            loads.append(message)
    assert max(load.running for load in loads) == 4
    assert max(load.waiting for load in loads) >= 1


def next_of(worker: Worker, kind: type[FromWorker]) -> FromWorker:
    """The next message of that kind."""
    while not isinstance(message := worker.said.get(timeout=WAIT_S), kind):
        pass
    return message


def test_configure_changes_the_running_worker(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int | None] = []
    # torch's number of threads is one of each thread: looked at in the loop's own.
    monkeypatch.setattr(loop, "use_threads", used.append)
    worker.inbox.put(Configure(num_threads=2, cache_limit_mb=1))
    assert next_of(worker, Configured) == Configured(2, 1)
    assert used == [2]
    assert isinstance(worker.speak("Hello.")[-1], Done)


def test_caches_are_cleared(worker: Worker) -> None:
    worker.inbox.put(ClearCaches())
    cleared = next_of(worker, Cleared)
    assert isinstance(cleared, Cleared)
    assert cleared.freed_bytes >= 0


def test_what_will_be_wanted_is_made_ready_while_there_is_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that comes meanwhile is waited with for the one thing at work, no longer."""
    held = loaded()
    prepared, spoken_after = queue.SimpleQueue[str](), list[int]()
    is_there = threading.Event()

    def prepare(name: str, most: int) -> Callable[[], bool]:
        left = iter(range(most))

        def one() -> bool:
            if (number := next(left, None)) is None:
                return False
            assert is_there.wait(WAIT_S)
            if name == "engine" and number == 1:
                worker.inbox.put(request("one", "Hello."))
            prepared.put(name)
            return True

        return one

    def begun(*arguments: Any) -> Any:
        spoken_after.append(prepared.qsize())
        return open_row(*arguments)

    open_row = held.engine.runner.open
    monkeypatch.setattr(held.engine.runner, "open", begun)
    monkeypatch.setattr(held.engine, "prepare", prepare("engine", 4))
    monkeypatch.setattr(held.stage, "prepare", prepare("stage", 2))
    worker = Worker(held)
    is_there.set()
    assert isinstance(worker.answers("one")["one"][-1], Done)
    names = [prepared.get(timeout=WAIT_S) for _ in range(6)]
    assert names == ["engine"] * 4 + ["stage"] * 2
    assert spoken_after == [2]
    worker.leave()


def test_what_nobody_waits_for_is_measured_between_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "MEASURING_AFTER_S", 0.0)
    cost, steps = QualityCost(0.01, 0.99, 4), queue.SimpleQueue[None]()

    def measuring() -> Iterator[QualityCost | None]:
        for _ in range(3):
            steps.get(timeout=WAIT_S)
            yield None
        yield cost

    held = loaded()
    worker = Worker(replace(held, checkpoint=replace(held.checkpoint, measuring=measuring())))
    for _ in range(3):
        worker.inbox.put(request("one", "Hello."))
        steps.put(None)
        assert isinstance(worker.answers("one")["one"][-1], Done)
    while not isinstance(message := worker.said.get(timeout=WAIT_S), Measured):
        assert isinstance(message, Load)
    assert message.cost == cost
    assert isinstance(worker.speak("Hello.")[-1], Done)
    worker.leave()


def test_what_cannot_be_measured_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MEASURING_AFTER_S", 0.0)

    def measuring() -> Iterator[QualityCost | None]:
        yield None
        raise BadCheckpoint("its file is another one now")

    held = loaded()
    with logged("WARNING") as lines:
        worker = Worker(replace(held, checkpoint=replace(held.checkpoint, measuring=measuring())))
        while not any("another one" in line for line in lines):
            assert isinstance(worker.speak("Hello.")[-1], Done)
        worker.leave()
    assert len(lines) == 1


def test_what_cannot_be_made_ready_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    held, tried = loaded(), threading.Event()

    def prepare() -> bool:
        tried.set()
        raise RuntimeError("no room")

    monkeypatch.setattr(held.engine, "prepare", prepare)
    with logged() as lines:
        worker = Worker(held)
        assert tried.wait(WAIT_S)
        for _ in range(2):
            assert isinstance(worker.speak("Hello.")[-1], Done)
        worker.leave()
    assert len([line for line in lines if "no room" in line]) == 1
