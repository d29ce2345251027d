"""What a model would say if it followed the speaker more than it does, for it to learn.

Every sentence behind a reference is read twice, behind it and alone. What the reference makes more
probable is made so once more (classifier-free guidance, Ho and Salimans 2022). Learnt, it is had
without reading anything twice.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.dual_ar import DualAR
from backend.model.layers import Attend, causal
from backend.model.tokenizer import SPEAKER
from training.demo_voice.recipe import demo_tokenizer

_LEAST = 0.05
"""Of the most probable: what is less so behind the reference is not made probable."""


class Guide(nn.Module):
    """A model as it was when this was made."""

    def __init__(self, model: DualAR, strength: float) -> None:
        """With `strength` 1 it says what the model says."""
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._strength = strength
        (self._speaker,) = demo_tokenizer().control(SPEAKER)

    def items(self, tokens: Tensor) -> Tensor:
        """Which item of its row each of tokens [B, T] belongs to, from 1 on; 0 before the first."""
        return (tokens == self._speaker).cumsum(1)

    def follows(self, tokens: Tensor, learnt: Tensor) -> Tensor:
        """Which rows [B] of tokens [B, T] are of a reference and what is said behind it: those of
        which the first item is not `learnt` [B, T]."""
        return ~(learnt & (self.items(tokens) == 1)).any(1)

    @torch.no_grad()
    def forward(
        self, tokens: Tensor, codes: Tensor, chosen: Tensor, chosen_codes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens [B, T], codes [B, T, N] and the positions `chosen` [M] of B·T whose next frame has
        `chosen_codes` [M, N].

        Returns the chances [B·T, vocabulary] of the next token, and those [M, N - 1, codes] of the
        other code books.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        behind = self._hidden(tokens, codes, positions[None], causal)
        alone = self._alone(tokens, codes, positions)
        semantic = self._guided(*(self._semantic(hidden) for hidden in (behind, alone)))
        fast = (self.model.fast(hidden[chosen], chosen_codes)[:, 1:] for hidden in (behind, alone))
        return semantic, self._guided(*fast)

    def _alone(self, tokens: Tensor, codes: Tensor, positions: Tensor) -> Tensor:
        """Every item as if it were the first of its row."""
        items = self.items(tokens)
        begins = torch.where(tokens == self._speaker, positions, 0).cummax(1).values
        seen = (items[:, :, None] == items[:, None]) | (positions == 0)
        seen = (seen & (positions[:, None] >= positions))[:, None]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            groups = q.shape[1] // k.shape[1]
            k, v = (x.to(q.dtype).repeat_interleave(groups, dim=1) for x in (k, v))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)

        return self._hidden(tokens, codes, (positions - begins + 1).where(items > 0, 0), attend)

    def _hidden(self, tokens: Tensor, codes: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """[B·T, dim]."""
        x, rope = self.model.embed(tokens, codes), self.model.slow_rope(positions)
        for layer in self.model.layers:
            x = layer(x, rope, attend)
        return x.flatten(0, 1)

    def _semantic(self, hidden: Tensor) -> Tensor:
        return F.linear(self.model.norm(hidden), self.model.embeddings.weight)

    def _guided(self, behind: Tensor, alone: Tensor) -> Tensor:
        """Chances from the logits of both."""
        with_it, without = (logits.float().log_softmax(-1) for logits in (behind, alone))
        likely = with_it > with_it.amax(-1, keepdim=True) + math.log(_LEAST)
        more = without + self._strength * (with_it - without)
        return more.masked_fill(~likely, -torch.inf).softmax(-1)
