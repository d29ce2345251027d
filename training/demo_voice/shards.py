"""The shards that `speech.py` writes, read into one long tensor on the training device."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.demo_voice.recipe import SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line as one speaker reads it."""

    text: str
    speaker_id: int
    begin_frame: int
    frames: int
    foreign: bool = False
    """In a made-up language: to be followed, not to be learnt."""


def speech_folders(work: Path) -> list[Path]:
    """Where `run` lets the teacher put its speech, a folder for each who speaks at once."""
    return sorted((work / "speech").iterdir())


class Shards:
    """Speech as it is made: call `read_new` now and then."""

    def __init__(
        self, folders: Sequence[Path], hours: float, frame_samples: int, device: torch.device
    ) -> None:
        """Room for `hours` and one more, for the last shard runs over; the rest is left unread."""
        self._folders, self._device, self._frame_samples = folders, device, frame_samples
        capacity = int((hours + 1) * 3600 * SAMPLE_RATE_HZ)
        self.audio = torch.zeros(capacity, dtype=torch.int16, device=device)
        self.phones = torch.zeros(capacity // frame_samples, dtype=torch.uint8, device=device)
        """The phoneme at the centre of each frame, 0 where there is none."""
        self.pitches = torch.zeros_like(self.phones)
        """Its pitch there, as `intonation.py` numbers it."""
        self.samples = 0
        self.utterances: list[Utterance] = []
        self._default: list[Utterance] = []
        self._others: list[Utterance] = []
        self._seen: set[Path] = set()

    @property
    def hours(self) -> float:
        """Speech read so far."""
        return self.samples / SAMPLE_RATE_HZ / 3600

    def read_new(self, limit: int = 1_000_000) -> bool:
        """Read up to `limit` shards that have appeared; True once there will be no more."""
        done = self._is_done()
        found = (path for folder in self._folders for path in folder.glob("*.json"))
        fresh = sorted((p for p in found if p not in self._seen), key=lambda path: path.name)
        for path in fresh[:limit]:
            self._seen.add(path)
            try:
                entry = json.loads(path.read_text())
                pcm = torch.from_numpy(np.load(path.with_suffix(".npy")))
                phones = torch.from_numpy(np.load(path.with_suffix(".phones.npy")))
                pitches = torch.from_numpy(np.load(path.with_suffix(".pitches.npy")))
            except FileNotFoundError:
                continue  # made ahead of the last one wanted, and deleted again
            end = self.samples + pcm.numel()
            if end > self.audio.numel():
                return True
            self.audio[self.samples : end] = pcm.to(self._device)
            frame = self.samples // self._frame_samples
            self.phones[frame : frame + phones.numel()] = phones.to(self._device)
            self.pitches[frame : frame + pitches.numel()] = pitches.to(self._device)
            made = []
            for text, frames, foreign in entry["items"]:
                made.append(Utterance(text, entry["speaker_id"], frame, frames, foreign))
                frame += frames
            self.utterances += made
            # Apart as well: searching them at every step would cost more than the step.
            pool = self._others if entry["speaker_id"] else self._default
            pool += made
            self.samples = end
        return done and len(fresh) <= limit

    def read_all(self) -> None:
        """Wait for the last shard, then read: some made on the way are deleted at the end."""
        while not self._is_done():
            time.sleep(0.5)
        self.read_new()

    def _is_done(self) -> bool:
        return all((folder / "DONE").exists() for folder in self._folders)

    def wait_for(self, hours: float) -> None:
        """Wait until there are at least `hours`, or no more will come."""
        while not self.read_new() and self.hours < hours:
            time.sleep(0.2)

    def crops(
        self, count: int, samples: int, default_share: float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Random stretches [count, samples] in [-1, 1], at levels a recording might have, and the
        phonemes and pitches [count, samples / frame] spoken in them.

        With `default_share` that many of them are the default speaker's, at the level it has.
        """
        if default_share is None:
            begin = torch.randint(0, self.samples - samples, (count,), device=self._device)
            level = torch.rand(count, 1, device=self._device) * 0.7 + 0.5
        else:
            begin = self._begins(count, samples, default_share)
            level = torch.ones(count, 1, device=self._device)
        index = begin[:, None] + torch.arange(samples, device=self._device)
        frame = self._frame_samples
        centres = torch.arange(frame // 2, samples, frame, device=self._device)
        frames = (begin[:, None] + centres) // frame
        wave = self.audio[index].float() / 32768 * level
        return wave, self.phones[frames].long(), self.pitches[frames].long()

    def _begins(self, count: int, samples: int, default_share: float) -> Tensor:
        """Where sentences begin, or a little later."""
        begins = []
        for _ in range(count):
            pool = self._default if random.random() < default_share else self._others
            pool = pool or self.utterances  # a rehearsal's only shard has one speaker
            utterance = random.choice(pool)
            offset = random.randrange(utterance.frames * self._frame_samples)
            begins.append(utterance.begin_frame * self._frame_samples + offset)
        return torch.tensor(begins, device=self._device).clamp(max=self.samples - samples - 1)
