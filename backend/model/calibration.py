"""Fits what is held in few bits to how it is used, and measures what quantization cost.

The texts are put to the quantized model, which says the first frames of each: positions as they
occur in use, and cheap, since the model is in memory anyway. Then text and frames go through the
slow layers in two streams side by side: through each layer as the file has it, and as it is after
it was quantized. The first stream says how much each input of a matrix is used, which decides how
four bits round it; at the end both streams' logits are compared. Only one layer is in memory in
full. Of a small checkpoint, which says more for it, what the kernels in C hold in eight and six
bits is rounded anew (`rounding.py`), so that the second stream's inputs give what the first one's
do.
"""

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.core import QualityCost
from backend.model.calibration_texts import calibration_texts
from backend.model.config import DualARConfig
from backend.model.dual_ar import DualAR, FastFrame
from backend.model.kv_cache import KVCache
from backend.model.layers import Block, causal
from backend.model.packed import PackedLinear
from backend.model.quantize import (
    Bits,
    QuantizedLinear,
    linears,
    quantize_matrix,
    quantized_linear,
    replace_,
)
from backend.model.rounding import round_by_use
from backend.model.tokenizer import INTERLEAVE, SPEAKER, Tokenizer
from backend.model.weights import Weights, fill_

MOST_FRAMES = 16
"""Frames said of each text, about a second."""
MOST_FRAMES_FITTED = 64
"""The same where eight and six bits are fitted: the positions that follow are used in other ways.
Sixteen texts of 64 frames keep more codes than 32 of 16, and hardly fewer than 64 of 64."""

_MOST_PRODUCTS = 2.5e11
"""Multiplications of one stream through all layers: seconds of work for two cores. Of a large
checkpoint fewer frames are said for it."""

_TEMPERATURE = _TOP_P = 0.7
"""Speech is sampled as it is by default: greedy speech gets stuck, and unlikely codes lead where no
speech in use ever goes."""
_MOST_CHOICES = 64
"""Of the most probable codes, which are found sooner than all are sorted."""


def calibrate_(
    model: DualAR,
    tokenizer: Tokenizer,
    weights: Weights,
    samples: int,
    languages: Collection[str] = (),
    *,
    is_small: bool = False,
) -> QualityCost:
    """What it cost to quantize `model`, whose few bits are fitted to its `weights` now.

    The cost is that against the same weights unquantized, in the precision it computes in. Eight
    and six bits are fitted where the kernels in C hold them and it `is_small`: of a large model
    that takes minutes.
    """
    *_, cost = calibrating(model, tokenizer, weights, samples, languages, is_small=is_small)
    assert cost is not None
    return cost


@torch.no_grad()
def calibrating(
    model: DualAR,
    tokenizer: Tokenizer,
    weights: Weights,
    samples: int,
    languages: Collection[str] = (),
    *,
    is_small: bool = False,
) -> Iterator[QualityCost | None]:
    """The same step by step, a layer or a frame each: None after all but the last."""
    texts = calibration_texts(samples, languages)
    control = tokenizer.control(INTERLEAVE) + tokenizer.control(SPEAKER)
    prompts = [control + tokenizer.encode(text) for text in texts]
    is_fitted = is_small and isinstance(model.head, PackedLinear)
    most = MOST_FRAMES_FITTED if is_fitted else MOST_FRAMES
    length, frames = _affordable(model.config, len(texts), min(map(len, prompts)), most)
    # All of one length, so that no position is padding; what is cut off would be said later.
    tokens = torch.tensor([prompt[:length] for prompt in prompts])
    tokens = tokens.to(model.embeddings.weight.device)
    codes = yield from _speak(model, tokens, frames)
    yield from _Calibration(model, weights, is_fitted).run(tokens, codes)


def _affordable(config: DualARConfig, texts: int, longest: int, most: int) -> tuple[int, int]:
    """How many tokens of each text to read, and how many frames of it to say: `most` at most."""
    slow = texts * config.slow.n_layer * config.slow.layer_parameters
    fast = texts * config.fast.n_layer * config.fast.layer_parameters * config.num_codebooks
    length = min(longest, config.max_seq_len // 2, max(12, int(_MOST_PRODUCTS / 2 / slow)))
    frames = int((_MOST_PRODUCTS - slow * length) / (slow + fast))
    return length, max(3, min(frames, most, config.max_seq_len - length))


def _speak(model: DualAR, tokens: Tensor, frames: int) -> Generator[None, None, Tensor]:
    """The first `frames` frames [B, F, N] that `model` says to prompts [B, T]."""
    rows, length = tokens.shape
    books = model.config.num_codebooks
    cache = KVCache(model.config.slow, model.embeddings.weight.dtype, tokens.device, rows)
    generator = torch.Generator().manual_seed(0)

    def draw(logits: Tensor) -> Tensor:
        likely = logits.float().log_softmax(-1)
        ordered, order = likely.topk(min(_MOST_CHOICES, likely.shape[-1]), dim=-1)
        unlikely = ordered.exp().cumsum(-1) > _TOP_P
        unlikely[:, 0] = False
        noise = -torch.empty(ordered.shape).exponential_(generator=generator).log()
        place = (ordered / _TEMPERATURE + noise.to(logits.device)).masked_fill(unlikely, -torch.inf)
        return order.gather(-1, place.argmax(-1, keepdim=True))[:, 0]

    hidden = yield from _prefill(model, tokens, cache, length + frames)
    fast = FastFrame(model)
    said: list[Tensor] = []
    for step in range(frames):
        if said:
            cache.extend(range(rows))
            positions = torch.full((rows,), length + step - 1, device=tokens.device)
            spoken = said[-1][:, 0] + model.semantic_begin_id
            hidden = model.decode(spoken, said[-1], positions, cache, range(rows))
        # Without the last column, the end: every text is to be spoken for as long.
        drawn = [draw(model.slow_logits(hidden)[:, :-1])]
        for book in range(1, books):
            logits = fast.start(hidden, drawn[0]) if book == 1 else fast.step(book - 1, drawn[-1])
            drawn.append(draw(logits[:, : model.config.residual_codebook_size]))
        said.append(torch.stack(drawn, dim=1))
        yield
    return torch.stack(said, dim=1)


def _prefill(
    model: DualAR, tokens: Tensor, cache: KVCache, most: int
) -> Generator[None, None, Tensor]:
    """Read prompts [B, T] all at once into as many new rows, which will come to hold `most`.

    Their last hidden states [B, dim].
    """
    length = tokens.shape[1]
    for row in range(len(tokens)):
        cache.open(row, length, most)
        cache.extend([row], length)
    x = model.embed(tokens, tokens.new_zeros(*tokens.shape, model.config.num_codebooks))
    rope = model.slow_rope(torch.arange(length, device=tokens.device)[None])
    for index, layer in enumerate(model.layers):

        def attend(q: Tensor, k: Tensor, v: Tensor, index: int = index) -> Tensor:
            for row in range(len(tokens)):
                cache.write(index, row, k[row], v[row])
            return causal(q, k, v)

        x = layer(x, rope, attend)
        yield
    return x[:, -1]


class _Calibration:
    """One walk through the slow layers, with both streams."""

    def __init__(self, model: DualAR, weights: Weights, is_fitted: bool) -> None:
        self._model, self._weights = model, weights
        # The native kernels compute in float32, whatever the type of what they are given.
        self._is_packed = not isinstance(model.head, QuantizedLinear)
        self._dtype = torch.float32 if self._is_packed else model.embeddings.weight.dtype
        self._is_fitted = is_fitted

    def run(self, tokens: Tensor, codes: Tensor) -> Iterator[QualityCost | None]:
        """Put prompts [B, T] and the frames [B, F, N] said to them through both streams."""
        model, (rows, length) = self._model, tokens.shape
        # The last frame is only to be guessed.
        said = torch.cat((tokens, codes[:, :-1, 0] + model.semantic_begin_id), dim=1)
        silent = codes.new_zeros(rows, length, codes.shape[2])
        full = model.embed(said, torch.cat((silent, codes[:, :-1]), dim=1)).to(self._dtype)
        quantized = full
        rope = model.slow_rope(torch.arange(full.shape[1], device=full.device)[None])
        for index in range(model.config.slow.n_layer):
            name = f"layers.{index}"
            with torch.device("meta"):
                block = Block(model.config.slow)
            fill_(block, name, self._weights, tokens.device, self._dtype)
            with _watched(block, name, _rows if self._is_fitted else _mean_square) as use:
                full = block(full, rope)
            for inner, linear in linears(block, name):
                if cast(int, self._model.get_submodule(inner).bits) == 16:
                    continue  # which cost nothing
                if self._is_fitted:
                    self._fit_when_used(linear, inner, use[inner])
                else:
                    self._quantize(linear, inner, use[inner])
            quantized = block(quantized, rope)
            yield None
        # From the last of the text on, each position guesses a frame.
        full, quantized = (x[:, length - 1 :].flatten(0, 1) for x in (full, quantized))
        yield self._compare(model.norm(full), model.norm(quantized), rows)

    def _fit_when_used(self, linear: nn.Linear, name: str, exact: Tensor) -> None:
        """Let `linear` be rounded for the first inputs it gets: what is before it is rounded then.

        `exact` [M, in] are what it got of the first stream.
        """

        def fit(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            handle.remove()
            module = cast(PackedLinear, self._model.get_submodule(name))
            matrix = round_by_use(linear.weight, cast(Bits, module.bits), _rows(inputs[0]), exact)
            replace_(self._model, name, PackedLinear.of(matrix, linear.bias, module.pool))
            linear.weight = nn.Parameter(matrix.dequantized(), requires_grad=False)

        handle = linear.register_forward_pre_hook(fit)

    def _quantize(self, linear: nn.Linear, name: str, importance: Tensor) -> None:
        """Let `linear` multiply as the model's module of that name does, once that is fitted."""
        module = self._model.get_submodule(name)
        matrix = quantize_matrix(linear.weight, cast(Bits, module.bits), importance)
        if matrix.bits == 4:
            module = quantized_linear(matrix, linear.bias)
            replace_(self._model, name, module)
        linear.weight = nn.Parameter(matrix.dequantized(linear.weight.dtype), requires_grad=False)
        # For so many positions at once a kernel would be slow: `linear` rounds as it does.
        linear.register_forward_pre_hook(lambda _, inputs: _as_in(module, inputs[0]))
        linear.register_forward_hook(lambda _, inputs, output: _as_in(module, output))

    def _compare(self, full: Tensor, quantized: Tensor, samples: int) -> QualityCost:
        """What the head makes of normed hidden states [M, dim] of both streams."""
        head, module = self._model.head_weight().to(self._dtype), self._model.head
        # The kernels in C hold it in 16 bits, which cost nothing.
        held = head if self._is_packed else quantize_matrix(head, 8).dequantized(head.dtype)
        wanted = F.linear(full, head).float().log_softmax(-1)
        found = F.linear(_as_in(module, quantized), held)
        found = _as_in(module, found).float().log_softmax(-1)
        kl_divergence = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
        agreement = (found.argmax(-1) == wanted.argmax(-1)).float().mean()
        return QualityCost(float(kl_divergence), float(agreement), samples)


def _as_in(module: nn.Module | None, x: Tensor) -> Tensor:
    """What `module` multiplies, or the product, as precise as it is there."""
    rounds = isinstance(module, QuantizedLinear) and module.uses_kernel
    return x.to(torch.bfloat16).to(x.dtype) if rounds else x


@contextmanager
def _watched(
    block: nn.Module, name: str, kept: Callable[[Tensor], Tensor]
) -> Iterator[dict[str, Tensor]]:
    """By their full names, what is `kept` of the inputs of the Linears of `block`."""
    found: dict[str, Tensor] = {}

    def watch(inner: str) -> Any:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[inner] = kept(inputs[0])

        return note

    hooks = [
        linear.register_forward_pre_hook(watch(inner)) for inner, linear in linears(block, name)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _rows(x: Tensor) -> Tensor:
    return x.flatten(0, -2)


def _mean_square(x: Tensor) -> Tensor:
    """How much each input is used: [in]."""
    return _rows(x).float().square().mean(0)
