"""What is compiled of a decode step: three pure functions of tensors, each used many times.

A block of the slow transformer, run once a layer; the head, the first draws and the first two
slots of the fast transformer, run once; one further slot and its draw, run for each code book
after. No shape depends on anything but the number of rows and how far the cache reaches, so that
three compilations serve every step. Weights come in with each call: nothing of the model is copied
into compiled code, and one piece of code serves all layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from backend.engine.frame import spoken_codes
from backend.engine.sampler import SamplingRows, draw, penalties, uniforms
from backend.model.dual_ar import DualAR
from backend.model.layers import Block, attend_from_one

NAMES = ("layer", "first", "next")
"""The pieces of a frame in the order in which they run."""


class LayerPiece(nn.Module):
    """A slow block over one new position a row."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(
        self, x: Tensor, rope: Tensor, mask: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """x [B, 1, dim] at `positions` [B] to the same shape.

        Keys and values are one layer's whole cache [rows, KV, capacity, D], written in place;
        `mask` [B, 1, 1, L] is added to the scores of the first L positions.
        """

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            rows, kv_heads = k.shape[:2]
            used = mask.shape[3]
            torch._check(rows <= keys.shape[0])  # type: ignore[no-untyped-call]
            torch._check(used <= keys.shape[2])  # type: ignore[no-untyped-call]
            # Single elements, not a slice: a slice would be copied, changed and copied back.
            at = (
                torch.arange(rows, device=k.device)[:, None],
                torch.arange(kv_heads, device=k.device)[None],
                positions[:, None],
            )
            keys.index_put_(at, k[:, :, 0])
            values.index_put_(at, v[:, :, 0])
            return attend_from_one(q, keys[:rows, :, :used], values[:rows, :, :used], mask)

        result: Tensor = self.block(x, rope, attend)
        return result


class FirstPiece(nn.Module):
    """From the slow hidden states to the codes of the first two code books."""

    def __init__(self, model: DualAR) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        hidden: Tensor,
        temperature: Tensor,
        top_p: Tensor,
        penalty: Tensor,
        keys: Tensor,
        frames: Tensor,
        history: Tensor,
        rope: Tensor,
        past: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Two codes [B] and their logits [B, V]; noise and penalties for all code books."""
        config = self.model.config
        rows = _sampling(temperature, top_p, penalty)
        noise = uniforms(keys, frames, config.num_codebooks)
        factors = penalties(rows, history, config.codebook_size + 1)
        semantic_logits = self.model.slow_logits(hidden)
        semantic = draw(semantic_logits, rows, noise[:, 0], factors[:, 0])
        spoken = spoken_codes(semantic, config.codebook_size)
        logits = self.model.fast_start(hidden, spoken, rope, past)
        logits = logits[:, : config.residual_codebook_size]
        code = draw(logits, rows, noise[:, 1], factors[:, 1, : logits.shape[1]])
        return semantic, code, semantic_logits, logits, noise, factors.contiguous()


class NextPiece(nn.Module):
    """From one code to that of the next code book."""

    def __init__(self, model: DualAR) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        codes: Tensor,
        slot: Tensor,
        rope: Tensor,
        mask: Tensor,
        past: Tensor,
        temperature: Tensor,
        top_p: Tensor,
        noise: Tensor,
        factors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Codes [B] into `slot` [1]: the code [B] of book `slot` and its logits [B, V]."""
        logits = self.model.fast_next(codes, slot, rope, mask, past)
        logits = logits[:, : self.model.config.residual_codebook_size]
        factor = factors.index_select(1, slot)[:, 0, : logits.shape[1]]
        rows = _sampling(temperature, top_p, temperature)
        return draw(logits, rows, noise.index_select(1, slot)[:, 0], factor), logits


def _sampling(temperature: Tensor, top_p: Tensor, penalty: Tensor) -> SamplingRows:
    """Rows of which nothing is known beforehand: one piece of code for any."""
    return SamplingRows(
        temperature, top_p, penalty, all_greedy=False, any_greedy=True, any_penalty=True
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of `model`, and the weights that it is given with each call."""

    module: nn.Module
    names: tuple[str, ...]

    def weights(self) -> list[Tensor]:
        """The tensors called `names`, in that order."""
        tensors = _tensors(self.module)
        return [tensors[name] for name in self.names]


def piece(model: DualAR, name: str, layer: int = 0) -> Piece:
    """The piece called `name`, one of NAMES; for "layer", that of `layer`."""
    if name == "layer":
        block = model.layers[layer]
        assert isinstance(block, Block)
        module: nn.Module = LayerPiece(block)
        return Piece(module, tuple(_tensors(module)))
    module = FirstPiece(model) if name == "first" else NextPiece(model)
    used = {"fast_embeddings", "fast_layers", "fast_norm", "fast_output"}
    if name == "first":
        used |= {"norm", "legal_head", "quantized_head", "fast_project_in"}
    names = tuple(key for key in _tensors(module) if key.split(".")[1] in used)
    return Piece(module, names)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


class WithWeights(nn.Module):
    """A piece as a function of its weights and its inputs, as it is compiled."""

    def __init__(self, made: Piece) -> None:
        super().__init__()
        self._made = (made,)  # in a tuple, which hides the module's own weights

    def forward(self, weights: list[Tensor], inputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """What the piece makes of `inputs` with `weights` in place of its own."""
        made = self._made[0]
        named = dict(zip(made.names, weights, strict=True))
        result: Tensor | tuple[Tensor, ...] = functional_call(made.module, named, tuple(inputs))
        return result
