"""Text and reference voices to the grid that the model reads, and what a text may grow to.

The layout is the one Fish Speech was trained on: `<|interleave|>`, every reference as speaker,
text, codes and `<|im_end|>`, then speaker and text. The model answers with semantic tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from backend.core import ReferenceCodes, VoicePrompt
from backend.errors import BadReference, PromptTooLong
from backend.model.config import CodecConfig
from backend.model.reading import briskest_s, longest_s, wide_share
from backend.model.tokenizer import IM_END, INTERLEAVE, SPEAKER, Tokenizer


@dataclass(frozen=True, slots=True)
class Reference:
    """A voice to speak in: what is said in it ("" if unknown) and its codes [N, frames]."""

    text: str
    codes: Tensor

    @classmethod
    def of(cls, voice: VoicePrompt, codec: CodecConfig, codec_id: str, most_frames: int) -> Self:
        """What came over the wire, checked; `BadReference` unless this codec made it."""
        return cls(voice.transcript, checked_codes(voice.codes, codec, codec_id, most_frames))


def checked_codes(
    given: ReferenceCodes, codec: CodecConfig, codec_id: str, most_frames: int
) -> Tensor:
    """Codes [N, frames] that came over the wire; `BadReference` unless this codec made them.

    Looked at before they are an index into anything: on a GPU one that is too large ends the
    process.
    """
    books = codec.num_codebooks
    if given.codec_id != codec_id or given.num_codebooks != books:
        raise BadReference(
            "The reference voice was encoded by the codec of another checkpoint; "
            "encode its recording again with this one."
        )
    if not given.codes or len(given.codes) % (2 * books) or given.frames > most_frames:
        raise BadReference(
            f"The reference voice is {len(given.codes)} bytes of codes, which is no whole "
            f"number of 1 to {most_frames} frames; encode its recording again."
        )
    grid = np.frombuffer(given.codes, "<u2").reshape(books, -1).astype(np.int64)
    sizes = [codec.semantic_codebook_size, *[codec.residual_codebook_size] * (books - 1)]
    if (grid.max(axis=1) >= sizes).any():
        raise BadReference(
            "The reference voice has codes that this checkpoint does not know; "
            "encode its recording again."
        )
    return torch.from_numpy(grid)


def wire_codes(
    codes: Tensor, codec: CodecConfig, codec_id: str, warnings: tuple[str, ...] = ()
) -> ReferenceCodes:
    """Codes [N, frames] as they go over the wire."""
    packed = codes.to("cpu", torch.int64).numpy().astype("<u2").tobytes()
    audio_s = codes.shape[-1] / codec.frame_rate_hz
    return ReferenceCodes(packed, codec.num_codebooks, codec_id, audio_s, warnings)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids [T] and, where the token is semantic, the codes [T, N] of that frame."""

    tokens: Tensor
    codes: Tensor
    reference_frames: int = 0
    voice_tokens: int = 0
    """Of those, at the beginning, that say in whose voice; other texts in it begin alike."""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @classmethod
    def build(
        cls,
        tokenizer: Tokenizer,
        num_codebooks: int,
        text: str,
        references: Sequence[Reference] = (),
    ) -> Self:
        """The grid that asks for `text` in the voice of `references`."""
        speaker, end = tokenizer.control(SPEAKER), tokenizer.control(IM_END)
        # Each part is tokenized apart, so that no byte pair spans two of them.
        pieces = [_silent(tokenizer.control(INTERLEAVE), num_codebooks)]
        for reference in references:
            pieces.append(_silent(speaker + tokenizer.encode(reference.text), num_codebooks))
            codes = reference.codes.to("cpu", torch.int64).t()
            pieces.append((codes[:, 0] + tokenizer.semantic_begin_id, codes))
            pieces.append(_silent(end, num_codebooks))
        voice_tokens = sum(len(tokens) for tokens, _ in pieces) if references else 0
        pieces.append(_silent(speaker + tokenizer.encode(text), num_codebooks))
        frames = sum(reference.codes.shape[-1] for reference in references)
        tokens, grid = torch.cat([p[0] for p in pieces]), torch.cat([p[1] for p in pieces])
        return cls(tokens, grid, frames, voice_tokens)


def frame_limit(text: str, frame_rate_hz: float) -> int:
    """The runaway guard: frames after which no reading of `text` can still be going on."""
    return math.ceil(longest_s(len(text), wide_share(text)) * frame_rate_hz)


def check_fits(prompt: Prompt, text: str, frame_rate_hz: float, context_tokens: int) -> None:
    """Raise `PromptTooLong` unless the context has room for a brisk reading behind the prompt."""
    frames = math.ceil(briskest_s(len(text), wide_share(text)) * frame_rate_hz) + 1
    if len(prompt) + frames > context_tokens:
        raise PromptTooLong(
            f"The prompt takes {len(prompt)} tokens, {prompt.reference_frames} of them the "
            f"reference recording, and its speech at least {frames} more; this checkpoint's "
            f"context holds {context_tokens}. Send a shorter text, recording or transcript."
        )


def _silent(tokens: list[int], num_codebooks: int) -> tuple[Tensor, Tensor]:
    return (
        torch.tensor(tokens, dtype=torch.int64),
        torch.zeros((len(tokens), num_codebooks), dtype=torch.int64),
    )
