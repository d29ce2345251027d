"""What the references of training go through."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.recordings import speech_like
from training.demo_voice.measure import mel_cepstra
from training.demo_voice.recipe import SAMPLE_RATE_HZ
from training.demo_voice.strange import strange


def rms(wave: Tensor) -> Tensor:
    return wave.square().mean(1).sqrt()


@pytest.fixture(scope="module")
def clean() -> Tensor:
    voices = [speech_like(1.5, SAMPLE_RATE_HZ, hz) for hz in (90.0, 140.0, 200.0, 260.0)]
    return 0.2 * torch.from_numpy(np.stack(voices)).float().repeat(8, 1)


def test_every_row_is_made_strange_in_ways_of_its_own(clean: Tensor) -> None:
    torch.manual_seed(1)
    heard = strange(clean)
    assert heard.shape == clean.shape
    assert heard.dtype == clean.dtype
    assert torch.isfinite(heard).all()
    away = rms(heard / rms(heard)[:, None] - clean / rms(clean)[:, None])
    assert (away > 0.05).float().mean() > 0.8, "most rows have another sound"
    same = heard[::4] / rms(heard[::4])[:, None]
    apart = rms(same[:, None].sub(same[None]).flatten(0, 1)).view(8, 8)
    assert (apart + torch.eye(8) > 1e-4).all(), "one voice eight times, eight ways"


def test_it_stays_about_as_loud(clean: Tensor) -> None:
    torch.manual_seed(2)
    gains = rms(strange(clean)) / rms(clean)
    assert 0.69 < float(gains.min()) <= float(gains.max()) < 1.31


def test_what_is_said_stays(clean: Tensor) -> None:
    torch.manual_seed(3)
    heard = strange(clean).numpy()
    own, other = [], []
    cepstra = [mel_cepstra(wave, SAMPLE_RATE_HZ) for wave in clean[:4].numpy()]
    for row, wave in enumerate(heard):
        found = mel_cepstra(wave, SAMPLE_RATE_HZ)
        distances = [float(np.abs(found - wanted).mean()) for wanted in cepstra]
        own.append(distances.pop(row % 4))
        other.append(min(distances))
    assert np.mean(own) < np.mean(other)


def test_silence_stays_silent() -> None:
    torch.manual_seed(4)
    heard = strange(torch.zeros(16, 4_000))
    assert torch.isfinite(heard).all()
    assert float(heard.abs().max()) < 1e-6


def test_the_same_seed_gives_the_same(clean: Tensor) -> None:
    torch.manual_seed(5)
    once = strange(clean[:4])
    torch.manual_seed(5)
    assert torch.equal(strange(clean[:4]), once)
    assert math.isfinite(float(once.sum()))


def test_some_of_it_comes_over_a_telephone() -> None:
    torch.manual_seed(6)
    heard = strange(0.1 * torch.randn(400, 12_000))
    power = torch.fft.rfft(heard).abs().square()
    hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, power.shape[1])
    inside = power[:, (hz > 400) & (hz < 2_900)].sum(1)
    # Noise and companding come after the line, and fill what it took away.
    outside = power[:, (hz < 150) | (hz > 4_500)].sum(1)
    share = float((outside < 0.05 * inside).float().mean())
    assert 0.05 < share < 0.3
