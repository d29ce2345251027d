"""Who speaks, as 256 numbers: the encoder of Resemblyzer (Apache-2.0), learnt from thousands of
people to tell one from another whatever they say (generalized end-to-end loss, Wan et al. 2018).

Its weights come in the package, whose hash is checked; of it nothing is run. The published code
needs librosa and a compiler; what it computes is short and stands here.
"""

import functools
import io
import zipfile
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.demo_voice.teacher_packages import fetched

_PACKAGE = "Resemblyzer==0.1.4"
_SHA256 = "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f"
_WEIGHTS = "resemblyzer/pretrained.pt"

_RATE_HZ = 16_000
_FFT, _HOP, _BANDS = 400, 160, 40
_LEAST_LEVEL = 10 ** (-30 / 20)
"""Root mean square that softer speech is brought to, as the package does; louder stays as it is.
Bands are powers, not their logarithms."""
_PART, _STEP = 160, 77
"""Frames that are looked at together, 1.6 s, and between their beginnings."""
_LINEAR_HZ, _LINEAR_BANDS = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27
"""Slaney's scale: bands of 200 / 3 Hz up to 1 kHz, then 27 for a factor of 6.4."""


class SpeakerEncoder(nn.Module):
    """Bands [B, F, 40] of B parts of speech become embeddings [B, 256] of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, bands: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(bands)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)

    @torch.inference_mode()
    def embed(self, pcm: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
        """[256] of length 1, of mono speech: the product of two is 1 for one speaker."""
        speech = torch.from_numpy(soxr.resample(np.asarray(pcm, np.float32), rate_hz, _RATE_HZ))
        level = speech.square().mean().sqrt().clamp(min=1e-6)
        speech = speech * (_LEAST_LEVEL / level).clamp(min=1.0)
        bands = _powers(speech)
        bands = nn.functional.pad(bands, (0, 0, 0, max(0, _PART - len(bands))))
        parts = bands.unfold(0, _PART, _STEP).transpose(1, 2)
        mean = self(parts).mean(0)
        return np.asarray(nn.functional.normalize(mean, dim=0), np.float64)


@functools.lru_cache(1)
def speaker_encoder(downloads: Path) -> SpeakerEncoder:
    """The published one, downloaded where `downloads` has not got it."""
    with zipfile.ZipFile(fetched(_PACKAGE, _SHA256, downloads)) as package:
        stored = io.BytesIO(package.read(_WEIGHTS))
    weights = torch.load(stored, map_location="cpu", weights_only=True)["model_state"]
    encoder = SpeakerEncoder()
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.eval()


def _powers(speech: Tensor) -> Tensor:
    """[F, 40], each band's over its width."""
    window = torch.hann_window(_FFT)
    spectrum = torch.stft(
        speech, _FFT, _HOP, window=window, pad_mode="constant", return_complex=True
    )
    return spectrum.abs().square().T @ _triangles()


@functools.lru_cache(1)
def _triangles() -> Tensor:
    """[201, 40]"""
    top = _LINEAR_BANDS + np.log(_RATE_HZ / 2 / _LINEAR_HZ) / _LOG_STEP
    places = np.linspace(0, top, _BANDS + 2)
    logarithmic = _LINEAR_HZ * np.exp(_LOG_STEP * (places - _LINEAR_BANDS))
    linear = places * _LINEAR_HZ / _LINEAR_BANDS
    edges = np.where(places < _LINEAR_BANDS, linear, logarithmic)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.linspace(0, _RATE_HZ / 2, _FFT // 2 + 1)[:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    weights = np.clip(np.minimum(rising, falling), 0, None) * (2 / (high - low))
    return torch.from_numpy(weights.astype(np.float32))
