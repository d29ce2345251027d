"""Sentences packed into training rows, each row one speaker's.

A row is `<|interleave|>` and then items of `<|speaker:0|>` text codes `<|im_end|>`. Under plain
causal attention every item is prompted by those before it, so cloning is learnt for free. Rows of
the default speaker are learnt from their first item on, rows of others only behind a reference of
3 to 15 s: what is spoken without a reference is therefore the default voice.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.model.tokenizer import IM_END, INTERLEAVE, SPEAKER
from training.demo_voice.recipe import demo_tokenizer
from training.demo_voice.shards import Utterance

REFERENCE_S = (3.0, 15.0)
WITHOUT_TRANSCRIPT = 0.2
STRANGE = 0.4
"""Share of references that were made strange before they were encoded."""
FOREIGN = 0.15
"""Share of references in a made-up language, where the speaker has one."""
MERGED = 0.12
"""Share of items that join two sentences, as the server joins short ones."""
IGNORE = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """tokens [B, T], source frame [B, T] (-1 where there is none) and whether the NEXT token is
    learnt [B, T - 1]."""

    tokens: Tensor
    frames: Tensor
    learnt: Tensor


class Rows:
    """Endless shuffled rows over the given sentences."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        semantic: NDArray[np.int16],
        row_tokens: int,
        frame_rate_hz: float,
        seed: int,
        strange_begin: int = 0,
    ) -> None:
        """`semantic` holds the semantic code of every frame of the speech; from `strange_begin` on,
        if it is not 0, those of the same speech made strange."""
        self._by_speaker: dict[int, list[Utterance]] = {}
        self._foreign: dict[int, list[Utterance]] = {}
        for utterance in utterances:
            kind = self._foreign if utterance.foreign else self._by_speaker
            kind.setdefault(utterance.speaker_id, []).append(utterance)
        tokenizer = demo_tokenizer()
        self._tokenizer, self._semantic, self._width = tokenizer, semantic, row_tokens + 1
        self._frame_rate_hz, self._random = frame_rate_hz, random.Random(seed)
        self._strange_begin = strange_begin
        self._start = np.array(tokenizer.control(INTERLEAVE))
        self._speaker = np.array(tokenizer.control(SPEAKER))
        self._end = np.array(tokenizer.control(IM_END))

    def batches(self, rows: int) -> Iterator[Batch]:
        """Batches of `rows`, pass after pass, shuffled anew in each."""
        waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]] = []
        while True:
            waiting += self._epoch()
            while len(waiting) >= rows:
                taken, waiting = waiting[:rows], waiting[rows:]
                tokens, frames, learnt = (np.stack(part) for part in zip(*taken, strict=True))
                yield Batch(
                    torch.from_numpy(tokens).to(torch.int16),
                    torch.from_numpy(frames).to(torch.int32),
                    torch.from_numpy(learnt[:, 1:]),
                )

    def _epoch(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        rows = []
        for speaker, sentences in self._by_speaker.items():
            queue = list(sentences)
            self._random.shuffle(queue)
            while queue:
                rows.append(self._row(speaker, queue))
        self._random.shuffle(rows)
        return rows

    def _row(
        self, speaker: int, queue: list[Utterance]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        parts = [(self._start, np.full(1, IGNORE), np.zeros(1, bool))]
        width = 1
        is_reference = speaker != 0
        while queue and width < self._width:
            if is_reference:
                wanted_s = self._random.uniform(*REFERENCE_S)
                foreign = self._foreign.get(speaker, [])
                if foreign and self._random.random() < FOREIGN:
                    item = self._take(self._random.sample(foreign, len(foreign)), wanted_s)
                else:
                    item = self._take(queue, wanted_s)
                begin = self._strange_begin if self._random.random() < STRANGE else 0
                part = self._item(item, False, self._random.random() < WITHOUT_TRANSCRIPT, begin)
                is_reference = False
            else:
                item = self._take(queue, 0.0)
                if queue and self._random.random() < MERGED:
                    item += self._take(queue, 0.0)
                part = self._item(item, True, False)
            if width + len(part[0]) > self._width and width > self._width // 2:
                queue += item  # keep whole what does not fit: a cut end teaches nothing
                break
            parts.append(part)
            width += len(part[0])
        tokens, frames, learnt = (
            np.concatenate(p)[: self._width] for p in zip(*parts, strict=True)
        )
        short = self._width - len(tokens)
        return (
            np.pad(tokens, (0, short), constant_values=int(self._end[0])),
            np.pad(frames, (0, short), constant_values=IGNORE),
            np.pad(learnt, (0, short), constant_values=False),
        )

    def _take(self, queue: list[Utterance], wanted_s: float) -> list[Utterance]:
        taken = [queue.pop()]
        longest = REFERENCE_S[1] * self._frame_rate_hz
        while queue and sum(u.frames for u in taken) < wanted_s * self._frame_rate_hz:
            if sum(u.frames for u in taken) + queue[-1].frames > longest:
                break
            taken.append(queue.pop())
        return taken

    def _item(
        self, sentences: list[Utterance], learnt: bool, without_text: bool, begin: int = 0
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        text = "" if without_text else " ".join(u.text for u in sentences)
        prefix = np.concatenate((self._speaker, np.array(self._tokenizer.encode(text), np.int64)))
        frames = np.concatenate([np.arange(u.frames) + begin + u.begin_frame for u in sentences])
        spoken = self._semantic[frames].astype(np.int64) + self._tokenizer.semantic_begin_id
        return (
            np.concatenate((prefix, spoken, self._end)),
            np.concatenate((np.full(len(prefix), IGNORE), frames, np.full(1, IGNORE))),
            np.concatenate((np.zeros(len(prefix), bool), np.full(len(spoken) + 1, learnt))),
        )
