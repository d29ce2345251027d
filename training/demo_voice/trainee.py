"""What the transformer is asked while it learns."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.dual_ar import DualAR
from backend.model.layers import causal
from training.demo_voice.intonation import PITCHES
from training.demo_voice.recipe import PHONES


class TransformerTrainee(nn.Module):
    """Losses of a batch: semantic codes and the end, the frames' other code books, phonemes, pitch.

    While it learns, part of what each slow layer adds is left out, and some of the codes that it
    reads are wrong. The readers of phonemes and pitch do not ship: what is to come next must be
    known to tell them, and without being asked the model leaves a sentence's melody to chance.
    """

    def __init__(self, model: DualAR, dropout: float, wrong_codes: float) -> None:
        super().__init__()
        self.model, self._dropout, self._wrong = model, dropout, wrong_codes
        self.reader = nn.Linear(model.config.slow.dim, PHONES)
        self.pitch_reader = nn.Linear(model.config.slow.dim, PITCHES)

    def forward(
        self, tokens: Tensor, codes: Tensor, target: Tensor, weight: Tensor, phones: Tensor,
        pitches: Tensor, chosen: Tensor, chosen_codes: Tensor, chosen_weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """tokens [B, T], codes [B, T, N], target tokens [B·T], phonemes and pitches [B·T]; `chosen`
        [M] positions of B·T whose next frame has `chosen_codes` [M, N].

        Returns the semantic loss, its accuracy, the mean loss of the other code books, and those of
        the phonemes and the pitch. The semantic one is over the whole vocabulary: the published
        package draws from text tokens too.
        """
        model = self.model
        read, fast_read = codes, chosen_codes
        if self.training:
            tokens, read = self._slip(tokens, codes)
            wrong = torch.rand(fast_read.shape, device=fast_read.device) < self._wrong
            fast_read = torch.where(wrong, fast_read.roll(1, 0), fast_read)
        x = F.dropout(model.embed(tokens, read), self._dropout, self.training)
        rope = model.slow_rope(torch.arange(tokens.shape[-1], device=tokens.device)[None])
        for layer in model.layers:
            x = x + F.dropout(layer(x, rope, causal) - x, self._dropout, self.training)
        hidden = x.flatten(0, 1)
        logits = F.linear(model.norm(hidden), model.embeddings.weight).float()
        losses = F.cross_entropy(logits, target, reduction="none")
        total = weight.sum().clamp(min=1)
        right = ((logits.argmax(-1) == target).float() * weight).sum() / total
        told = F.cross_entropy(self.reader(hidden).float(), phones, reduction="none")
        sung = F.cross_entropy(self.pitch_reader(hidden).float(), pitches, reduction="none")
        fast = model.fast(hidden[chosen], fast_read)[:, 1:].float()
        fast_losses = F.cross_entropy(
            fast.flatten(0, 1), chosen_codes[:, 1:].flatten(), reduction="none"
        ).view(len(chosen), -1)
        other = (fast_losses.mean(1) * chosen_weight).sum() / chosen_weight.sum().clamp(min=1)
        semantic, phoneme, pitch = ((loss * weight).sum() / total for loss in (losses, told, sung))
        return semantic, right, other, phoneme, pitch

    def _slip(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The same with another frame's codes here and there."""
        begin, size = self.model.semantic_begin_id, self.model.config.codebook_size
        spoken = (tokens >= begin) & (tokens < begin + size)
        elsewhere, others = tokens.roll(1, 0), codes.roll(1, 0)
        both = spoken & (elsewhere >= begin) & (elsewhere < begin + size)
        swap = both & (torch.rand(tokens.shape, device=tokens.device) < self._wrong)
        return torch.where(swap, elsewhere, tokens), torch.where(swap[..., None], others, codes)
