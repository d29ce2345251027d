"""Who speaks, as numbers, for the evaluation."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.recordings import speech_like
from training.demo_voice.speaker_embedding import SpeakerEncoder, speaker_encoder


@pytest.fixture
def encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    return SpeakerEncoder().eval()


@pytest.mark.parametrize("seconds", [0.3, 1.6, 5.0])
def test_speech_of_any_length_becomes_a_direction(encoder: SpeakerEncoder, seconds: float) -> None:
    found = encoder.embed(speech_like(seconds, 24_000, 120.0), 24_000)
    assert found.shape == (256,)
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-5)
    assert (found >= 0).all()


def test_soft_speech_is_as_loud_as_the_published_package_makes_it(encoder: SpeakerEncoder) -> None:
    speech = speech_like(3.0, 16_000, 120.0)
    speech /= np.sqrt(np.square(speech).mean())
    at = {level_db: 10 ** (level_db / 20) * speech for level_db in (-60, -40, -30, -20)}
    found = {level_db: encoder.embed(pcm, 16_000) for level_db, pcm in at.items()}
    for soft in (-60, -40):
        np.testing.assert_allclose(found[soft], found[-30], atol=1e-4)
    assert np.abs(found[-20] - found[-30]).max() > 1e-3


def test_another_package_than_the_one_that_is_known_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "Resemblyzer-0.1.4-py3-none-any.whl", "w") as package:
        package.writestr("resemblyzer/pretrained.pt", b"weights")
    with pytest.raises(ValueError, match="expected 8f12eb2f"):
        speaker_encoder(tmp_path)
