"""The teacher reads: phonemes and speakers in, trimmed recordings out.

A group of lines is read in three sweeps, sorted by length before each so that little is padding:
durations, then curves, then sound. The device is waited for once a group, when the durations are
known; recordings arrive later, while it works on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.demo_voice.intonation import UNVOICED_HZ, pitch_numbers
from training.demo_voice.kokoro import FRAME_SAMPLES, SAMPLE_RATE_HZ, STYLE_SIZE, Kokoro, Way
from training.demo_voice.speakers import MAX_SHIFT, Speaker
from training.demo_voice.teacher_styles import Styles
from training.demo_voice.teacher_weights import load_weights

WEIGHTS_FILE, STYLES_FILE = "weights.npz.xz", "styles.npy"
_HEAD_S, _TAIL_S, _FADE_S = 0.020, 0.080, 0.005
_SOUND_RATIO = 0.008  # of the utterance's peak: -42 dB
_LEAST_PEAK = 1e-4
_HIGH_PASS_HZ = 40.0
_SINC_TAPS = 16
_MAX_STRAY = 0.7
"""Natural logarithm: beyond an octave from the mean a curve is on its way into silence."""
_PEAK = 30_000


@dataclass(frozen=True, slots=True)
class Line:
    """What one speaker is to say: Kokoro's ids without the zeros at both ends."""

    phonemes: bytes
    speaker: Speaker


@dataclass(frozen=True, slots=True)
class Recording:
    """One line as it was read, trimmed.

    `pcm` is float32, mono, 24,000 Hz, its peak about 0.9; empty when nothing was heard. `phonemes`
    are those sounding at `phoneme_end`, in samples of `pcm`, in order.
    """

    pcm: NDArray[np.float32]
    phonemes: bytes
    phoneme_end: NDArray[np.float64]
    f0_hz: NDArray[np.float32]
    """The pitch at `f0_at`, below 50 Hz where no voice is."""
    f0_at: NDArray[np.float64]
    """Until which sample of `pcm`."""

    def pitches_of_frames(self, frames: int, frame_samples: int) -> NDArray[np.uint8]:
        """`pitch_numbers` at the centre of each frame."""
        centres = (np.arange(frames) + 0.5) * frame_samples
        places = np.searchsorted(self.f0_at, centres).clip(max=self.f0_hz.size - 1)
        return pitch_numbers(self.f0_hz[places])

    def phonemes_of_frames(self, frames: int, frame_samples: int) -> NDArray[np.uint8]:
        """The phoneme at the centre of each frame, 0 where there is none."""
        centres = (np.arange(frames) + 0.5) * frame_samples
        ids = np.frombuffer(b"\0" + self.phonemes + b"\0\0", np.uint8)
        return ids[np.searchsorted(self.phoneme_end, centres, side="right")]


class _Arriving:
    """A batch of recordings on its way from the device."""

    def __init__(self, rows: list[int], pcm: Tensor, span: Tensor, f0_hz: Tensor) -> None:
        self._rows, self._event = rows, None
        if pcm.is_cuda:
            self._pcm, self._span, self._f0_hz = (
                torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
                for x in (pcm, span, f0_hz)
            )
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._pcm, self._span, self._f0_hz = pcm, span, f0_hz

    def trimmed(
        self,
    ) -> Iterator[tuple[int, int, NDArray[np.float32], NDArray[np.float32]]]:
        """Waits; of each row its number, where it was cut, the samples that are kept, and the curve
        of its pitch as it was before its throat was stretched."""
        if self._event is not None:
            self._event.synchronize()
        fade = np.linspace(0, 1, int(_FADE_S * SAMPLE_RATE_HZ), dtype=np.float32)
        pcm, span, f0_hz = self._pcm.numpy(), self._span.numpy(), self._f0_hz.numpy()
        for row, samples, (begin, end), curve in zip(self._rows, pcm, span, f0_hz, strict=True):
            kept = samples[begin:end].astype(np.float32) / 32_768
            if kept.size > 2 * fade.size:
                kept[: fade.size] *= fade
                kept[-fade.size :] *= fade[::-1]
            yield row, int(begin), kept, curve


class Reading:
    """A group of lines as they were read; `recordings` may be asked for on another thread."""

    def __init__(
        self, lines: Sequence[Line], frames: NDArray[np.int64], batches: list[_Arriving]
    ) -> None:
        self._lines, self._frames, self._batches = lines, frames, batches

    def recordings(self) -> list[Recording]:
        """In the order of the lines."""
        made: dict[int, Recording] = {}
        for batch in self._batches:
            for row, begin, pcm, curve in batch.trimmed():
                line = self._lines[row]
                stretch = line.speaker.stretch
                frames = np.cumsum(self._frames[row, : len(line.phonemes) + 2])
                f0_hz = (curve * np.float32(stretch))[: 2 * int(frames[-1])]
                halves = np.arange(1, f0_hz.size + 1) / 2
                ends, f0_at = (
                    n.astype(np.float64) * FRAME_SAMPLES / stretch - begin for n in (frames, halves)
                )
                made[row] = Recording(pcm, line.phonemes, ends, f0_hz, f0_at)
        return [made[row] for row in range(len(self._lines))]


class Teacher:
    """Kokoro with its voices, on one device."""

    def __init__(self, folder: Path, device: torch.device, way: Way, batch_s: float) -> None:
        """`folder`: what `teacher_files.py` made; `batch_s`: seconds of speech made at once."""
        self._device, self._batch_frames = device, int(batch_s * SAMPLE_RATE_HZ / FRAME_SAMPLES)
        self._styles = Styles(folder / STYLES_FILE)
        self._model = Kokoro(load_weights(folder / WEIGHTS_FILE), device, way)

    @torch.inference_mode()
    def read(self, lines: Sequence[Line], seed: int) -> Reading:
        """Read the lines; the seed decides the noise in breaths and consonants."""
        generator = torch.Generator(self._device).manual_seed(seed)
        styles = self._to_device(self._style_rows(lines))
        said, sounding, frames = self._durations(lines, styles)
        frames_cpu = frames.cpu()
        totals = frames_cpu.sum(1)
        order = torch.argsort(totals, descending=True, stable=True)
        ends = frames.cumsum(1)
        batches = list(_batches(order, totals, self._batch_frames))
        curves = []
        for rows in batches:
            here = self._to_device(rows)
            states = _spread(said[here], ends[here], int(totals[rows].max()))
            curves.append(self._model.curves(states, totals[rows], styles[here]))
        self._bend(curves, batches, lines)
        arriving = []
        for rows, (f0_hz, energy) in zip(batches, curves, strict=True):
            here = self._to_device(rows)
            states = _spread(sounding[here], ends[here], int(totals[rows].max()))
            sound = self._model.sound(
                states, f0_hz, energy, self._to_device(totals[rows]), styles[here], generator
            )
            stretch = [lines[row].speaker.stretch for row in rows.tolist()]
            arriving.append(_Arriving(rows.tolist(), *_finished(sound, stretch), f0_hz))
        return Reading(lines, frames_cpu.numpy(), arriving)

    def _to_device(self, values: Tensor) -> Tensor:
        if self._device.type == "cuda":
            return values.pin_memory().to(self._device, non_blocking=True)
        return values

    def _style_rows(self, lines: Sequence[Line]) -> Tensor:
        rows = np.empty((len(lines), STYLE_SIZE), np.float32)
        sizes = np.array([len(line.phonemes) for line in lines])
        for speaker in dict.fromkeys(line.speaker for line in lines):
            own = np.array([row for row, line in enumerate(lines) if line.speaker == speaker])
            rows[own] = self._styles.rows(speaker.voices, sizes[own])
        return torch.from_numpy(rows)

    def _durations(self, lines: Sequence[Line], styles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`Kokoro.durations` of all lines, in their order."""
        sizes = torch.tensor([len(line.phonemes) + 2 for line in lines])
        time = int(sizes.max())
        ids = torch.zeros(len(lines), time, dtype=torch.long)
        for row, line in enumerate(lines):
            ids[row, 1 : sizes[row] - 1] = torch.tensor(list(line.phonemes))
        speed = torch.tensor([line.speaker.speed / line.speaker.stretch for line in lines])
        ids, speed = self._to_device(ids), self._to_device(speed)
        said = styles.new_zeros(len(lines), time, 640)
        sounding = styles.new_zeros(len(lines), time, 512)
        frames = ids.new_zeros(len(lines), time)
        order = torch.argsort(sizes, descending=True, stable=True)
        for rows in _batches(order, sizes, 2 * self._batch_frames):
            here, longest = self._to_device(rows), int(sizes[rows].max())
            made = self._model.durations(
                ids[here, :longest], sizes[rows], styles[here], speed[here]
            )
            for whole, part in zip((said, sounding, frames), made, strict=True):
                whole[here, :longest] = part
        return said, sounding, frames

    def _bend(
        self, curves: list[tuple[Tensor, Tensor]], batches: list[Tensor], lines: Sequence[Line]
    ) -> None:
        """Move each speaker's pitch towards the mean it shall have, in place."""
        speakers = list(dict.fromkeys(line.speaker for line in lines))
        number = {speaker: i for i, speaker in enumerate(speakers)}
        wanted = torch.tensor([(s.f0_hz or 0.0) / s.stretch for s in speakers])
        wanted, reach = (
            self._to_device(wanted),
            self._to_device(torch.tensor([s.f0_range for s in speakers])),
        )
        stretch = self._to_device(torch.tensor([s.stretch for s in speakers]))
        total = torch.zeros(2, len(speakers), device=self._device)
        owners = [
            self._to_device(torch.tensor([number[lines[row].speaker] for row in rows.tolist()]))
            for rows in batches
        ]
        means = []
        for owner, (f0_hz, _) in zip(owners, curves, strict=True):
            voiced = f0_hz > UNVOICED_HZ
            logs = torch.where(voiced, f0_hz.clamp_min(1).log(), 0).sum(1)
            counts = voiced.sum(1).float()
            total[0].index_add_(0, owner, logs)
            total[1].index_add_(0, owner, counts)
            means.append(logs / counts.clamp_min(1))
        mean = total[0] / total[1].clamp_min(1)
        limit = MAX_SHIFT * float(np.log(2))
        shift = torch.where(
            wanted > 0,
            (wanted.clamp_min(1).log() - mean).clamp(-limit, limit),
            -stretch.log(),
        )
        for owner, own, (f0_hz, _) in zip(owners, means, curves, strict=True):
            stray = (f0_hz.clamp_min(1).log() - own[:, None]).clamp(-_MAX_STRAY, _MAX_STRAY)
            f0_hz.mul_((shift[owner][:, None] + (reach[owner] - 1)[:, None] * stray).exp())


def _batches(order: Tensor, lengths: Tensor, budget: int) -> Iterator[Tensor]:
    """`order` cut where a batch, padded to its first and longest row, would exceed the budget."""
    begin = 0
    while begin < len(order):
        count = max(1, budget // int(lengths[order[begin]]))
        yield order[begin : begin + count]
        begin += count


def _spread(states: Tensor, ends: Tensor, frames: int) -> Tensor:
    """States of phonemes [batch, phonemes, width] repeated for as many frames as each lasts."""
    steps = torch.arange(frames, device=states.device).expand(len(states), -1).contiguous()
    at = torch.searchsorted(ends, steps, right=True).clamp(max=states.shape[1] - 1)
    return states.gather(1, at[:, :, None].expand(-1, -1, states.shape[2]))


def _finished(sound: Tensor, stretch: list[float]) -> tuple[Tensor, Tensor]:
    """int16 samples at one level, and where the sound begins and ends [batch, 2]."""
    sound = _high_passed(sound)
    other = [row for row, factor in enumerate(stretch) if factor != 1]
    if other:
        factors = torch.tensor([stretch[row] for row in other])
        rows = torch.tensor(other)
        if sound.is_cuda:
            factors, rows = (
                x.pin_memory().to(sound.device, non_blocking=True) for x in (factors, rows)
            )
        longest = int(sound.shape[1] / min(1.0, *(stretch[row] for row in other))) + 1
        sound = torch.nn.functional.pad(sound, (0, longest - sound.shape[1]))
        sound[rows] = _stretched(sound[rows], factors)
    size = sound.abs()
    peak = size.amax(1, keepdim=True).clamp_min(_LEAST_PEAK)
    heard = (size > peak * _SOUND_RATIO).byte()
    first = heard.argmax(1) - int(_HEAD_S * SAMPLE_RATE_HZ)
    last = sound.shape[1] - heard.flip(1).argmax(1) + int(_TAIL_S * SAMPLE_RATE_HZ)
    silent = heard.amax(1) == 0
    span = torch.stack([first.clamp_min(0), last.clamp_max(sound.shape[1])], 1)
    span = span.masked_fill(silent[:, None], 0)
    return (sound * (_PEAK / peak)).round().short(), span


def _high_passed(sound: Tensor) -> Tensor:
    """Without what is below speech: a first-order high-pass in the frequency domain."""
    room = sound.shape[1] + SAMPLE_RATE_HZ // 10  # the filter's tail must not come round
    size = -(-room // 12_000) * 12_000  # small factors, for a fast transform
    spectrum = torch.fft.rfft(sound, size)
    hz = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ, device=sound.device)
    ratio = hz / _HIGH_PASS_HZ
    kept: Tensor = torch.fft.irfft(spectrum * (1j * ratio / (1 + 1j * ratio)), size)
    return kept[:, : sound.shape[1]]


def _stretched(sound: Tensor, factors: Tensor) -> Tensor:
    """Played `factors` times as fast, by windowed sincs; what would fold over is left out."""
    samples = sound.shape[1]
    steps = torch.arange(samples, device=sound.device, dtype=torch.float64)
    at = steps[None] * factors[:, None].double()
    whole = at.floor()
    part = (at - whole).float()
    whole = whole.long()
    cutoff = (1 / factors).clamp(max=1)[:, None] * 0.98
    made, gain = torch.zeros_like(sound), torch.zeros_like(sound)
    for tap in range(1 - _SINC_TAPS // 2, _SINC_TAPS // 2 + 1):
        index = whole + tap
        value = sound.gather(1, index.clamp(0, samples - 1)) * (index < samples) * (index >= 0)
        distance = tap - part
        window = torch.cos(distance * (torch.pi / _SINC_TAPS)).square()
        weight = torch.sinc(distance * cutoff) * window
        made += value * weight
        gain += weight
    return made / gain
