"""The shipped voice without a reference: one speaker, whatever the text and the chance."""

from itertools import pairwise

from backend.core import SamplingParams
from backend.settings import SHIPPED_VOICE_DIR
from backend.worker.loaded import load
from backend.worker.messages import Done, WorkerConfig
from tests.test_worker_loop import Worker, samples
from training.demo_voice.pitch import median_pitch_hz

TEXTS = ("Please send the report before noon.", "Nobody came to see him any more.")
FREE = SamplingParams()


def test_two_calls_without_a_reference_sound_like_the_same_speaker() -> None:
    held = load(WorkerConfig(str(SHIPPED_VOICE_DIR), device="cpu", log_level="WARNING"))
    assert held.info.has_default_voice
    worker = Worker(held)
    pitches_hz = []
    for text in (*TEXTS, *TEXTS):
        messages = worker.speak(text, sampling=FREE)
        assert isinstance(messages[-1], Done)
        pitches_hz.append(median_pitch_hz(samples(messages), held.info.sample_rate_hz))
    # Its speakers of training lie between 75 and 300 Hz.
    assert min(pitches_hz) > 0
    assert all(0.85 < a / b < 1.18 for a, b in pairwise(pitches_hz)), pitches_hz
    worker.leave()
