"""Speech to the finished codec's codes, as it was recorded and made strange."""

import time

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.model.dac import DAC
from training.demo_voice.recipe import Recipe
from training.demo_voice.shards import Shards
from training.demo_voice.strange import strange

ENCODE_FRAMES = (40, 64, 96, 128, 176, 256, 384)
"""Lengths that utterances are filled up to with silence before they are encoded: as many shapes as
a compiler makes apart. Longer ones go as they are, uncompiled."""
ENCODE_TOGETHER = 16_384
"""Utterances sorted by length and encoded before the clock is looked at."""


class Encode:
    """A codec's codes of whole waveforms, compiled: its layers of few channels are all memory."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        # Half precision halves the time; its eleven bits change hardly a code.
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.codec = DAC(recipe.codec).to(device, self.dtype).eval()
        self.frame_samples, self._device = recipe.codec.frame_samples, device
        self._samples = recipe.transformer_training.encode_samples
        self._compiled = torch.compile(self._codes, dynamic=False) if recipe.compile else None

    def _codes(self, audio: Tensor) -> Tensor:
        return self.codec.quantizer.encode(self.codec.encoder(audio[:, None]))

    def together(self, frames: int) -> int:
        """How many utterances of that length are encoded at once."""
        return max(1, self._samples // (frames * self.frame_samples))

    @torch.no_grad()
    def warm_up(self) -> None:
        """Compile."""
        for frames in ENCODE_FRAMES if self._compiled else ():
            self(torch.zeros(1, frames * self.frame_samples, device=self._device))

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Tensor:
        """Waveform [B, samples], whole frames, to codes [B, frames, N] int16."""
        frames = audio.shape[1] // self.frame_samples
        count, audio = len(audio), audio.to(self.dtype)
        if self._compiled is None or frames not in ENCODE_FRAMES:
            codes = self._codes(audio)
        else:
            codes = self._compiled(F.pad(audio, (0, 0, 0, self.together(frames) - count)))
        return codes[:count].transpose(1, 2).to(torch.int16)


@torch.no_grad()
def encode_all(encode: Encode, shards: Shards, seconds: float) -> tuple[Tensor, Tensor, int]:
    """Codes [frames, N] int16 of the speech, the same where it was made strange first (of speakers
    other than the default one), and how many utterances were done in `seconds`.

    Each utterance is encoded apart. Those of like length go together; a shorter one is followed by
    silence, which a causal codec does not hear until it is over.
    """
    frame, device = encode.frame_samples, shards.audio.device
    shape = (shards.samples // frame, encode.codec.config.num_codebooks)
    codes = torch.zeros(shape, dtype=torch.int16, device=device)
    changed = torch.zeros(shape, dtype=torch.int16, device=device)
    began_s, done = time.monotonic(), 0
    while done < len(shards.utterances) and time.monotonic() - began_s < seconds:
        together = shards.utterances[done : done + ENCODE_TOGETHER]
        done += len(together)
        for speakers, made, alter in (
            (together, codes, False),
            ([u for u in together if u.speaker_id], changed, True),
        ):
            ordered = sorted(speakers, key=lambda u: u.frames)
            while ordered:
                fits = [n for n in ENCODE_FRAMES if n >= ordered[0].frames]
                longest = fits[0] if fits else ordered[-1].frames
                alike = sum(u.frames <= longest for u in ordered)
                count = min(alike, encode.together(longest))
                group, ordered = ordered[:count], ordered[count:]
                first = torch.tensor([u.begin_frame for u in group], device=device)
                frames = torch.tensor([u.frames for u in group], device=device)
                samples = torch.arange(longest * frame, device=device)
                index = (first[:, None] * frame + samples).clamp(max=shards.audio.numel() - 1)
                silent = samples >= frames[:, None] * frame
                audio = (shards.audio[index] / 32768).masked_fill(silent, 0)
                found = encode(strange(audio) if alter else audio)
                places = first[:, None] + torch.arange(longest, device=device)
                real = torch.arange(longest, device=device) < frames[:, None]
                made[places[real]] = found[real]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return codes, changed, done
