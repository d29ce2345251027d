"""The worker's loop in a thread, with a tiny checkpoint: every request is answered, in order."""

import io
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from backend.codec.reference import ReferenceEncoder
from backend.codec.stream import FrameDecoder
from backend.core import EngineInfo, SamplingParams
from backend.engine.engine import Engine, Step
from backend.engine.runner import Runner
from backend.worker import loop
from backend.worker.device import resolve
from backend.worker.load import Loaded
from backend.worker.loop import Inbox, WorkerLoop
from backend.worker.messages import (
    OPEN_SEGMENTS,
    Abort,
    ClearCaches,
    Cleared,
    Configure,
    Configured,
    Done,
    Failed,
    FromWorker,
    Load,
    Pcm,
    Shutdown,
    Speak,
)
from backend.worker.speech import PAUSE_S
from tests.engines import tiny

SAMPLING = SamplingParams(temperature=0.9, top_p=0.95, seed=11)
WAIT_S = 60


def loaded(max_batch: int = 4, end_scale: float = 1.0) -> Loaded:
    """What `load` makes, around the tiny checkpoint."""
    checkpoint = tiny(end_scale)
    card, codec = checkpoint.card, checkpoint.codec_config
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
    )
    engine = Engine(checkpoint.model, max_batch)
    references = ReferenceEncoder(checkpoint.codec, info.max_reference_s)
    return Loaded(checkpoint, resolve("cpu", "fp32"), engine, references, info)


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
            WorkerLoop(self.held, self.inbox, self.said.put).run()
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.error = error

    def answers(self, *request_ids: str) -> dict[str, list[FromWorker]]:
        """What is said of these requests until each is over."""
        heard: dict[str, list[FromWorker]] = {request_id: [] for request_id in request_ids}
        over = 0
        while over < len(request_ids):
            message = self.said.get(timeout=WAIT_S)
            if isinstance(message, Load):
                self.loads.append(message)
            if isinstance(message, Pcm | Done | Failed) and message.request_id in heard:
                heard[message.request_id].append(message)
                over += not isinstance(message, Pcm)
        return heard

    def speak(self, *segments: str, **options: object) -> list[FromWorker]:
        """One request to its end."""
        self.inbox.put(request("one", *segments, **options))
        return self.answers("one")["one"]

    def leave(self) -> None:
        """Ask it to leave and see that it does."""
        self.inbox.put(Shutdown())
        self.thread.join(timeout=WAIT_S)
        assert not self.thread.is_alive()


def request(request_id: str, *segments: str, **options: object) -> Speak:
    return Speak(request_id, segments, **{"sampling": SAMPLING, **options})  # type: ignore[arg-type]


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


def test_segments_are_heard_in_order_with_a_pause_between(worker: Worker) -> None:
    texts = ("First.", "Second one.", "3", "The fourth.", "5th")
    *pieces, done = worker.speak(*texts)
    assert isinstance(done, Done)
    order = [piece.segment for piece in pieces if isinstance(piece, Pcm)]
    assert order == sorted(order)
    stats = done.stats
    assert stats.segments == 5
    pauses = round(PAUSE_S * 8000) * 4
    heard = samples(pieces)
    assert len(heard) == stats.frames * 80 + pauses
    assert stats.audio_s == pytest.approx(len(heard) / 8000)
    assert np.abs(heard).max() <= 1


def test_the_speech_is_that_of_the_engine_and_the_codec(worker: Worker) -> None:
    """A segment of a long request against the same frames decoded by hand."""
    *pieces, done = worker.speak("Hello.", "You.")
    assert isinstance(done, Done)
    again = samples(worker.speak("Hello.", "You."))
    assert np.array_equal(samples(pieces), again)
    other = samples(worker.speak("Hello.", "You.", sampling=replace(SAMPLING, seed=12)))
    assert not np.array_equal(again[: len(other)], other[: len(again)])


def test_statistics_are_plausible(worker: Worker) -> None:
    *_, done = worker.speak("Hello there.", "And more of it.")
    assert isinstance(done, Done)
    stats = done.stats
    assert stats.prompt_tokens == sum(14 + len(t) for t in ("Hello there.", "And more of it."))
    assert stats.generated_tokens == stats.frames + stats.finish_reasons.count("end")
    assert 0 < stats.first_audio_s <= stats.total_s
    assert 0 < stats.prefill_s < stats.total_s
    assert 0 < stats.decode_s < 2 * stats.total_s
    assert stats.frames_per_s > 1
    assert stats.fish_bandwidth_gb_s > 0
    # No more than every step's weights over the shortest time the steps can have taken.
    assert 0 < stats.weight_read_gb_s < 500
    assert 10 < stats.peak_memory_mb < 100_000


def test_without_a_seed_two_calls_differ(worker: Worker) -> None:
    free = replace(SAMPLING, seed=None)
    first, second = (samples(worker.speak("Hello.", sampling=free)) for _ in range(2))
    assert len(first) != len(second) or not np.array_equal(first, second)


def test_a_reference_steers_and_is_trimmed_with_a_warning(worker: Worker) -> None:
    plain = samples(worker.speak("Hello."))
    *steered, done = worker.speak("Hello.", reference_audio=recording(3.0), reference_text="Ah.")
    assert isinstance(done, Done)
    assert "trimmed" in done.stats.warnings[0]
    assert done.stats.prompt_tokens > 200
    heard = samples(steered)
    assert len(plain) != len(heard) or not np.array_equal(plain, heard)


@pytest.mark.parametrize(
    ("segments", "options", "code"),
    [
        (("Hello.",), {"reference_audio": b"no audio"}, "bad_reference"),
        (("Hello.", "x" * 600), {}, "prompt_too_long"),
        ((), {}, "blank_text"),
        ((" ",), {}, "blank_text"),
    ],
)
def test_what_cannot_be_spoken_fails_at_once_with_its_code(
    worker: Worker, segments: tuple[str, ...], options: dict[str, object], code: str
) -> None:
    (failed,) = worker.speak(*segments, **options)
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert isinstance(worker.speak("Still there?")[-1], Done)


def test_requests_side_by_side_are_all_answered_as_if_alone(worker: Worker) -> None:
    names = [f"r{i}" for i in range(6)]
    alone = {}
    for name in names:
        alone[name] = samples(worker.speak(f"I am {name}.", "So."))
    for name in names:
        worker.inbox.put(request(name, f"I am {name}.", "So."))
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


def test_a_long_text_keeps_only_a_few_segments_open() -> None:
    worker = Worker(loaded(max_batch=16))
    done = worker.speak(*["Word."] * 40)[-1]
    assert isinstance(done, Done)
    assert done.stats.segments == 40
    assert max(load.running + load.waiting for load in worker.loads) == OPEN_SEGMENTS
    worker.leave()


@pytest.mark.parametrize("segments", [("a" * 30,), ("a" * 30,) * 5])
def test_abort_reaches_a_running_sequence_within_two_frames(
    segments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, inbox = loaded(end_scale=0.0), Inbox()
    steps, told, rows = 0, {}, []
    step = Engine.step

    def counted(engine: Engine) -> Step:
        nonlocal steps
        steps += 1
        rows.append(engine.running)
        if steps == 30:
            inbox.put(Abort("one"))
        if steps == 40:
            inbox.put(None)
        return step(engine)

    def send(message: FromWorker) -> None:
        if isinstance(message, Failed):
            assert message.code == "aborted"
            told[message.request_id] = steps

    monkeypatch.setattr(Engine, "step", counted)
    inbox.put(request("one", *segments))
    inbox.put(request("two", "b" * 30))
    WorkerLoop(held, inbox, send).run()
    assert told == {"one": 30, "two": 40}
    assert rows[29] == min(len(segments), 3) + 1
    assert rows[30:] == [1] * 10


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
    monkeypatch.setattr(Runner, "step", lambda _: (_ for _ in ()).throw(RuntimeError("broken")))
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
    push = FrameDecoder.push
    monkeypatch.setattr(FrameDecoder, "push", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    (failed,) = worker.speak("Hello.")
    assert isinstance(failed, Failed)
    assert failed.code == "engine_failed"
    monkeypatch.setattr(FrameDecoder, "push", push)
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


def test_cleared_references_are_forgotten(worker: Worker) -> None:
    worker.speak("Hello.", reference_audio=recording(1.5))
    assert worker.held.references.held_bytes > 0
    worker.inbox.put(ClearCaches())
    cleared = next_of(worker, Cleared)
    assert isinstance(cleared, Cleared) and cleared.freed_bytes >= 0
    assert worker.held.references.held_bytes == 0


def test_open_segments_can_be_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    held = loaded()
    most = 0
    step = Engine.step

    def watched(engine: Engine) -> Step:
        nonlocal most
        most = max(most, engine.running + engine.waiting)
        return step(engine)

    monkeypatch.setattr(Engine, "step", watched)
    worker = Worker(held)
    assert isinstance(worker.speak("One.", "Two.", "Three.", open_segments=1)[-1], Done)
    assert most == 1
    worker.leave()
