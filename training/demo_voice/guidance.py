"""What a model would say if it followed a speaker more than it does, for it to learn.

Sentences are read twice, behind a recording and alone. What the recording makes more probable is
made so once more (classifier-free guidance, Ho and Salimans 2022). Learnt, it is had without
reading anything twice.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from backend.engine.prompt import Prompt, Reference
from backend.model.dual_ar import DualAR
from backend.model.tokenizer import Tokenizer

_LEAST = 0.05
"""Of the most probable: what is less so behind the recording stays as probable as it is."""
_ALL, _NOBODY = 0, -1
"""Whose a position is that is no sentence's: all read a recording, and nobody what fills up."""

Chances = tuple[Tensor, Tensor]
"""Of the next token [M + S, vocabulary] where one of M frames or S ends is due, and of the frames'
other code books [M, N - 1, codes]."""


@dataclass(frozen=True, slots=True)
class Row:
    """Sentences said behind one recording, or behind none, side by side: none reads another."""

    heard: Reference | None
    """The recording as who learns hears it."""
    known: Reference | None
    """The same as it was said, and what was said in it: for the guide."""
    texts: tuple[str, ...]
    said: tuple[Tensor, ...] = ()
    """Frames [F, N] of each text."""


@dataclass(frozen=True, slots=True)
class _Grid:
    """A row as it is read."""

    tokens: Tensor
    codes: Tensor
    owners: Tensor
    """Which sentence each position is of, from 1 on."""
    positions: Tensor
    """Each sentence's follow the recording's, as if it stood there alone."""
    due: Tensor
    """Where a frame or an end comes next."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A model that reads rows."""

    model: DualAR
    tokenizer: Tokenizer

    def logits(self, rows: Sequence[Row], whose: Callable[[Row], Reference | None]) -> Chances:
        """Behind the recordings of `whose`; over the whole vocabulary, as the published package
        draws from it."""
        hidden = self._states([self._grid(row, whose(row)) for row in rows])
        said = [each for row in rows for each in row.said]
        is_frame = torch.cat([torch.arange(len(each) + 1) < len(each) for each in said])
        slow = F.linear(self.model.norm(hidden), self.model.embeddings.weight)
        device = hidden.device
        return slow, self.model.fast(hidden[is_frame.to(device)], torch.cat(said).to(device))[:, 1:]

    def _grid(self, row: Row, reference: Reference | None) -> _Grid:
        books, begin_id = self.model.config.num_codebooks, self.model.semantic_begin_id
        references = [] if reference is None else [reference]
        voice = Prompt.build(self.tokenizer, books, "", references)
        width = begin = voice.voice_tokens or 1
        tokens, codes = [voice.tokens[:begin]], [voice.codes[:begin]]
        owners, positions, due = [torch.full((begin,), _ALL)], [torch.arange(begin)], []
        for owner, (text, said) in enumerate(zip(row.texts, row.said, strict=True), start=1):
            asked = Prompt.build(self.tokenizer, books, text)
            tokens += [asked.tokens[1:], said[:, 0] + begin_id]
            codes += [asked.codes[1:], said]
            length = len(asked) - 1 + len(said)
            owners.append(torch.full((length,), owner))
            positions.append(begin + torch.arange(length))
            width += length
            due.append(width - 1 - len(said) + torch.arange(len(said) + 1))
        return _Grid(*map(torch.cat, (tokens, codes, owners, positions, due)))

    def _states(self, grids: Sequence[_Grid]) -> Tensor:
        """Hidden states [M + S, dim] wherever a frame or an end is due."""

        device = self.model.norm.weight.device

        def together(name: str, fill: int = 0) -> Tensor:
            parts = [getattr(grid, name) for grid in grids]
            return pad_sequence(parts, batch_first=True, padding_value=fill).to(device)

        owners = together("owners", _NOBODY)
        width = owners.shape[1]
        place = torch.arange(width, device=device)
        seen = (owners[:, :, None] == owners[:, None]) | (owners == _ALL)[:, None]
        seen = (seen & (place[:, None] >= place))[:, None]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            groups = q.shape[1] // k.shape[1]
            k, v = (each.to(q.dtype).repeat_interleave(groups, dim=1) for each in (k, v))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)

        x = self.model.embed(together("tokens"), together("codes"))
        rope = self.model.slow_rope(together("positions"))
        for layer in self.model.layers:
            x = layer(x, rope, attend)
        due = torch.cat([index * width + grid.due for index, grid in enumerate(grids)])
        return x.flatten(0, 1)[due.to(device)]


@torch.no_grad()
def guided(guide: Reader, rows: Sequence[Row], strength: float) -> Chances:
    """What is to be learnt for `rows`, all of which have a recording, or none has: then that is
    what the guide says itself."""
    alone = guide.logits(rows, lambda _: None)
    if rows[0].known is None:
        slow, fast = (each.float().softmax(-1) for each in alone)
    else:
        behind = guide.logits(rows, lambda row: row.known)
        slow, fast = (strengthened(*both, strength) for both in zip(behind, alone, strict=True))
    return slow, fast


def strengthened(behind: Tensor, alone: Tensor, strength: float) -> Tensor:
    """Chances from the logits [..., C] of both; what is hardly probable behind stays as it is."""
    with_it, without = (each.float().log_softmax(-1) for each in (behind, alone))
    likely = with_it > with_it.amax(-1, keepdim=True) + math.log(_LEAST)
    more = without + strength * (with_it - without)
    shares = more.masked_fill(~likely, -torch.inf).softmax(-1)
    chances = with_it.exp()
    mass = (chances * likely).sum(-1, keepdim=True)
    return torch.where(likely, shares * mass, chances)


def divergence(reader: Reader, rows: Sequence[Row], wanted: Chances) -> tuple[Tensor, Tensor]:
    """How far what `reader` says is from what is `wanted`, nats: the next token, and each of the
    other code books."""
    found = reader.logits(rows, lambda row: row.heard)
    slow, fast = (_nats(*both).mean() for both in zip(wanted, found, strict=True))
    return slow, fast


def _nats(chances: Tensor, logits: Tensor) -> Tensor:
    surprise = -(chances * logits.float().log_softmax(-1)).sum(-1)
    entropy: Tensor = torch.special.entr(chances).sum(-1)
    return surprise - entropy
