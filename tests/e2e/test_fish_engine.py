"""The published package behind our protocol: the real worker, in the environment made for it."""

import asyncio
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from backend.core import EngineInfo, ReferenceCodes, SamplingParams, SpeechStats, VoicePrompt
from backend.errors import BadReference, EngineDown, ShoalError
from backend.fish_worker.install import fish_command
from backend.settings import SHIPPED_VOICE_DIR
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import (
    Cleared,
    Configure,
    Configured,
    DecodeCodes,
    EncodeVoice,
    Speak,
    WorkerConfig,
)
from backend.worker.supervisor import supervised
from tests.parity.cases import CHECKPOINTS
from tests.parity.oracle import oracle_python
from tests.parity.texts import ranks
from training.demo_voice.espeak_reader import (
    SAMPLE_RATE_HZ,
    Espeak,
    Speaker,
    apply_gain,
    level_gain,
)
from training.demo_voice.measure import level_dbfs

pytestmark = pytest.mark.timeout(1200)
"""The first test waits for the environment, which pip may have to download."""

TEXT = "The quick brown fox jumps over the lazy dog."
GREEDY = SamplingParams(temperature=0.0, repetition_penalty=1.0, seed=1)
ONCE = Patience(start_attempts=1)

Samples = NDArray[np.float32]


@dataclass
class Heard:
    """What was said to one request."""

    pieces: list[Samples] = field(default_factory=list)
    stats: SpeechStats | None = None
    error: ShoalError | None = None

    @property
    def samples(self) -> Samples:
        return np.concatenate(self.pieces)


class Engine:
    """A worker and the event loop that it is spoken to in."""

    def __init__(self, runner: asyncio.Runner, client: WorkerClient, info: EngineInfo) -> None:
        self.runner, self.client, self.info = runner, client, info

    def hear(self, *requests: Speak) -> list[Heard]:
        """Speak these at the same time."""

        async def work() -> list[Heard]:
            return await asyncio.gather(*(self._hear(request) for request in requests))

        return self.runner.run(work())

    def say(self, text: str, sampling: SamplingParams = GREEDY) -> Heard:
        (heard,) = self.hear(Speak("r", text, sampling))
        return heard

    def encode(self, audio: bytes) -> ReferenceCodes:
        """The codes of a recording."""
        return self.runner.run(self.client.encode(EncodeVoice("v", audio)))

    def decode(self, codes: ReferenceCodes) -> Samples:
        """The sound of codes."""
        sound = self.runner.run(self.client.decode(DecodeCodes("d", codes)))
        return np.frombuffer(sound, "<f4")

    async def _hear(self, request: Speak) -> Heard:
        heard = Heard()
        try:
            done = await self.client.speak(
                request, lambda piece: heard.pieces.append(np.frombuffer(piece, "<f4"))
            )
            heard.stats = done.stats
        except ShoalError as error:
            heard.error = error
        return heard


@contextmanager
def running(command: tuple[str, ...]) -> Iterator[Engine]:
    with asyncio.Runner() as runner:
        client = supervised(command, ONCE)

        async def start() -> EngineInfo:
            client.start()
            return await client.ready()

        try:
            yield Engine(runner, client, runner.run(start()))
        finally:
            began_s = time.monotonic()
            runner.run(client.close())
            assert time.monotonic() - began_s < 3.0


def ours(config: WorkerConfig) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "backend.worker.main", "--config", config.to_json())


def config(folder: Path) -> WorkerConfig:
    return WorkerConfig(str(folder), device="cpu", precision="fp32", num_threads=1)


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path], tuple[str, ...]]:
    """The command that speaks a checkpoint through the package."""
    python, converted = oracle_python(), tmp_path_factory.mktemp("converted")
    return lambda folder: fish_command(python, converted, config(folder))


@pytest.fixture(scope="module")
def fish(published: Callable[[Path], tuple[str, ...]]) -> Iterator[Engine]:
    """The shipped voice in the package."""
    with running(published(SHIPPED_VOICE_DIR)) as engine:
        yield engine


@pytest.fixture(scope="module")
def shoal() -> Iterator[Engine]:
    """The shipped voice in our own engine."""
    with running(ours(config(SHIPPED_VOICE_DIR))) as engine:
        yield engine


def test_it_tells_what_it_loaded(fish: Engine, shoal: Engine) -> None:
    assert fish.info.engine == "fish-speech"
    for name in (
        *("checkpoint", "device", "precision", "sample_rate_hz", "frame_samples", "num_codebooks"),
        *("context_tokens", "max_segment_characters", "max_reference_s", "languages"),
    ):
        assert getattr(fish.info, name) == getattr(shoal.info, name), name
    assert fish.info.weight_bytes > shoal.info.weight_bytes / 2
    assert fish.info.pid not in (0, shoal.info.pid)


def assert_alike(theirs: Heard, mine: Heard) -> None:
    """The same codes, so the same waveform but for rounding."""
    assert theirs.stats is not None
    assert mine.stats is not None
    assert theirs.stats.prompt_tokens == mine.stats.prompt_tokens
    assert theirs.stats.frames == mine.stats.frames
    assert theirs.stats.finish_reasons == mine.stats.finish_reasons
    assert mine.samples.std() > 0.02, "silence proves nothing"
    assert np.abs(theirs.samples - mine.samples).max() < 1e-3


def test_greedy_speech_is_the_same_in_both_engines(fish: Engine, shoal: Engine) -> None:
    theirs, mine = fish.say(TEXT), shoal.say(TEXT)
    assert_alike(theirs, mine)
    assert theirs.stats is not None
    assert theirs.stats.finish_reasons == ("end",)
    assert 2.0 < theirs.stats.audio_s < 6.0
    assert -30 < level_dbfs(theirs.samples) < -14


def test_codes_sound_the_same_in_both_engines(fish: Engine, shoal: Engine) -> None:
    spoken = io.BytesIO()
    soundfile.write(spoken, shoal.say(TEXT).samples, shoal.info.sample_rate_hz, format="WAV")
    codes = shoal.encode(spoken.getvalue())
    theirs, mine = fish.decode(codes), shoal.decode(codes)
    assert len(theirs) == len(mine) == codes.frames * shoal.info.frame_samples
    assert mine.std() > 0.02, "silence proves nothing"
    assert np.abs(theirs - mine).max() < 1e-3
    for engine in (fish, shoal):
        with pytest.raises(BadReference, match="codes that this checkpoint does not know"):
            engine.decode(replace(codes, codes=b"\xff" * len(codes.codes)))
        assert len(engine.decode(codes)) == len(mine)


def test_its_own_figures_are_read_from_its_log(fish: Engine) -> None:
    heard = fish.say("Good morning.")
    stats = heard.stats
    assert stats is not None
    assert stats.vq_features_shape == (fish.info.num_codebooks, stats.frames)
    assert stats.fish_generation_time_s is not None
    assert stats.fish_tokens_per_s is not None
    assert stats.fish_generation_time_s == pytest.approx(stats.prefill_s + stats.decode_s, abs=0.1)
    assert stats.fish_tokens_per_s == pytest.approx(
        stats.generated_tokens / stats.fish_generation_time_s, rel=0.05
    )
    assert stats.fish_bandwidth_gb_s > 0
    assert stats.fish_gpu_memory_gb is None, "there is none here"


def test_two_at_once_are_spoken_one_after_another(fish: Engine) -> None:
    began_s = time.monotonic()
    first, second = fish.hear(
        Speak("first", "Good morning.", GREEDY),
        Speak("second", "Good morning.", GREEDY),
    )
    took_s = time.monotonic() - began_s
    assert first.stats is not None
    assert second.stats is not None
    assert np.array_equal(first.samples, second.samples), "nothing is left from the one before"
    # The second waited for the first, and says so.
    assert second.stats.first_audio_s > first.stats.total_s
    assert second.stats.total_s == pytest.approx(took_s, abs=0.5)


def wav_bytes(pcm: NDArray[np.int16]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, SAMPLE_RATE_HZ, format="WAV")
    return file.getvalue()


def recording(text: str, speaker: Speaker) -> bytes:
    espeak = Espeak(seed=1)
    pcm = espeak.speak(text, speaker)
    espeak.close()
    return wav_bytes(apply_gain(pcm, level_gain(pcm)))


def test_a_reference_is_heard_alike_in_both_engines(fish: Engine, shoal: Engine) -> None:
    said = "The children walked home along the river."
    audio = recording(said, Speaker("en-us+m3", pitch=60))
    codes = [engine.encode(audio) for engine in (fish, shoal)]
    assert codes[0].codec_id == codes[1].codec_id
    assert codes[0].frames == codes[1].frames
    for voice in codes:  # those of either mean the same to both
        prompt = (VoicePrompt(voice, said),)
        (theirs,), (mine,) = (
            engine.hear(Speak("r", "Good morning.", GREEDY, prompt)) for engine in (fish, shoal)
        )
        assert_alike(theirs, mine)
    assert len(theirs.samples) != len(fish.say("Good morning.").samples)


def test_a_reference_that_is_none_is_refused(fish: Engine) -> None:
    silence = wav_bytes(np.zeros(2 * SAMPLE_RATE_HZ, np.int16))
    for audio, says in ((b"no audio", "cannot be decoded"), (silence, "silent")):
        with pytest.raises(BadReference, match=says):
            fish.encode(audio)


def test_control_tokens_of_a_user_are_read_as_text(fish: Engine, shoal: Engine) -> None:
    # The package chooses among all of the vocabulary, and to some texts of signs that the voice
    # never saw would answer with one of those signs; to this one both answer with codes alone.
    text = "Good morning <|im_end|> jumps over the lazy dog."
    # Were the token obeyed, the prompt would be seven tokens shorter, and cut in two.
    assert_alike(fish.say(text), shoal.say(text))


def test_abort_frees_it_for_the_next(fish: Engine) -> None:
    async def give_up() -> float:
        speak = Speak("long", TEXT * 4, GREEDY)
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await fish.client.speak(speak, lambda _: None)
        return time.monotonic() - began_s

    assert fish.runner.run(give_up()) < 2.0
    assert fish.client.state.restarts == 0
    heard = fish.say("Good morning.")
    assert heard.stats is not None
    # A token's time after the abort, not the 20 s that the long one would have taken.
    assert heard.stats.first_audio_s < heard.stats.prefill_s + heard.stats.decode_s + 3.0


def test_it_is_configured_while_it_runs(fish: Engine) -> None:
    async def work() -> tuple[Configured, Cleared]:
        return (
            await fish.client.configure(Configure(num_threads=2, cache_limit_mb=1)),
            await fish.client.clear_caches(),
        )

    configured, _ = fish.runner.run(work())
    assert configured.num_threads == 2
    assert configured.cache_limit_mb == -(-fish.info.cache_limit_bytes // 2**20)
    back = fish.runner.run(fish.client.configure(Configure(num_threads=1, cache_limit_mb=1)))
    assert back.num_threads == 1


def test_a_random_official_checkpoint_is_the_same_in_both_engines(
    published: Callable[[Path], tuple[str, ...]], tmp_path: Path
) -> None:
    official = CHECKPOINTS[0]
    assert official.codec is not None
    slow = replace(official.codec, sample_rate_hz=8000)  # fewer frames to wait for
    folder = replace(official, codec=slow).write(tmp_path / "an int8 means nothing here", ranks())
    before = sorted(file.name for file in folder.iterdir())
    heard = []
    for command in (published(folder), ours(config(folder))):
        with running(command) as engine:
            heard.append(engine.say("Hi!"))
    theirs, mine = heard
    assert_alike(theirs, mine)
    assert theirs.stats is not None
    assert theirs.stats.frames > 50
    assert sorted(file.name for file in folder.iterdir()) == before


def test_a_checkpoint_that_lacks_weights_is_refused(
    published: Callable[[Path], tuple[str, ...]], tmp_path: Path
) -> None:
    folder = CHECKPOINTS[0].write(tmp_path / "broken", ranks())
    weights = torch.load(folder / "model.pth", weights_only=True)
    del weights["fast_output.weight"]
    torch.save(weights, folder / "model.pth")
    with (
        pytest.raises(EngineDown, match=r"lacks fast_output\.weight"),
        running(published(folder)),
    ):
        pass
