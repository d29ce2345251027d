"""Decode steps by code that was compiled ahead of time, for CPUs: what is compiled, and its way.

Three pure functions of tensors are compiled, each used many times: what lies between the attention
of two layers; from the last attention to the codes of the first two books; and one further book. No
shape depends on anything but the number of rows. Weights come in with each call: nothing of the
model is copied into compiled code, and one piece of code serves all layers. Attention itself stays
as it is, since each row's keys and values lie in a tensor of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from backend.engine.frame import EagerWay, State, spoken_codes
from backend.engine.sampler import SamplingRows, draw, penalties, uniforms
from backend.model.dual_ar import DualAR, FastFrame
from backend.model.layers import Block

NAMES = ("between", "first", "next")
"""The pieces of a frame in the order in which they run."""

Run = Callable[[list[Tensor]], list[Tensor]]
"""Compiled code: weights and inputs to outputs. It trusts shapes, strides and alignment."""

_BEFORE = {"attention_norm", "wqkv", "q_norm", "k_norm"}
"""What a block uses before attention; it uses the rest after."""


class Between(nn.Module):
    """From what one block attended to, to what the next one attends with."""

    def __init__(self, block: Block, following: Block) -> None:
        super().__init__()
        self.block, self.following = block, following

    def forward(
        self, x: Tensor, attended: Tensor, rope: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x [B, 1, dim] and attended [B, H, 1, D] to x behind the block, and q, k and v."""
        x = self.block.after(x, attended)
        return (x, *self.following.before(x, rope))


class First(nn.Module):
    """From what the last block attended to, to the codes of the first two books."""

    def __init__(self, model: DualAR) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Tensor,
        attended: Tensor,
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
        model, config = self.model, self.model.config
        hidden = cast(Block, model.layers[-1]).after(x, attended)[:, 0]
        rows = _sampling(temperature, top_p, penalty)
        noise = uniforms(keys, frames, config.num_codebooks)
        factors = penalties(rows, history, config.codebook_size + 1)
        semantic_logits = model.slow_logits(hidden)
        semantic = draw(semantic_logits, rows, noise[:, 0], factors[:, 0])
        spoken = spoken_codes(semantic, config.codebook_size)
        logits = model.fast_start(hidden, spoken, rope, past)
        logits = logits[:, : config.residual_codebook_size]
        code = draw(logits, rows, noise[:, 1], factors[:, 1, : logits.shape[1]])
        return semantic, code, semantic_logits, logits, noise, factors.contiguous()


class Next(nn.Module):
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
        logits = self.model.fast_next(codes.clamp(min=0), slot, rope, mask, past)
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
    """A piece of a model, and the weights that it is given with each call."""

    module: nn.Module
    names: tuple[str, ...]

    def weights(self) -> list[Tensor]:
        """The tensors called `names`, in that order."""
        tensors = _tensors(self.module)
        return [tensors[name] for name in self.names]


def piece(model: DualAR, name: str, layer: int = 0) -> Piece:
    """The piece called `name`, one of NAMES; "between" is the one behind `layer`'s attention."""
    blocks = [cast(Block, block) for block in model.layers]
    module: nn.Module
    if name == "between":
        # A model of one layer never runs it; compiled it is all the same.
        module = Between(blocks[layer], blocks[(layer + 1) % len(blocks)])
        return _piece(module, lambda path: _is_before(path) == (path[0] == "following"))
    used = {"fast_embeddings", "fast_layers", "fast_norm", "fast_output"}
    if name == "next":
        return _piece(Next(model), lambda path: path[1] in used)
    used |= {"norm", "legal_head", "quantized_head", "fast_project_in"}
    last = ["layers", str(len(blocks) - 1)]
    return _piece(
        First(model),
        lambda path: path[1] in used or (path[1:3] == last and not _is_before(path)),
    )


def _piece(module: nn.Module, is_used: Callable[[list[str]], bool]) -> Piece:
    return Piece(module, tuple(name for name in _tensors(module) if is_used(name.split("."))))


def _is_before(path: list[str]) -> bool:
    return not _BEFORE.isdisjoint(path)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


class WithWeights(nn.Module):
    """A piece as a function of its weights and its inputs, as it is compiled."""

    def __init__(self, made: Piece) -> None:
        super().__init__()
        self._made = (made,)  # in a tuple, which hides the module's own weights

    def forward(self, weights: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """What the piece makes of `inputs` with `weights` in place of its own."""
        made = self._made[0]
        named = dict(zip(made.names, weights, strict=True))
        return cast(tuple[Tensor, ...], functional_call(made.module, named, tuple(inputs)))


def load_pieces(folder: Path) -> dict[str, Run]:
    """Load what `backend.engine.compile_pieces` wrote; RuntimeError where this system cannot."""
    return {name: _load(str(folder / f"{name}.pt2")) for name in NAMES}


def _load(path: str) -> Run:
    # Without locks: only one thread runs it.
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(path, "model", True, 1, -1)
    except (AttributeError, TypeError):
        # What stands around it in torch: its import alone takes 80 MB and seconds, which whatever
        # is spoken meanwhile would feel.
        from torch._inductor import aoti_load_package  # noqa: PLC0415

        loader = aoti_load_package(path, run_single_threaded=True).loader
    run: Run = loader.boxed_run
    return run


class CompiledWay:
    """Steps of at most `max_rows` rows by compiled code; what else there is, by the eager way."""

    name = "compiled"

    def __init__(self, state: State, runs: Mapping[str, Run], max_rows: int) -> None:
        self._eager, self._state, self._max_rows = EagerWay(state), state, max_rows
        model, self._fast = state.model, FastFrame(state.model)
        self._between, self._first, self._next = (runs[name] for name in NAMES)
        self._layers = [
            piece(model, "between", layer).weights() for layer in range(len(model.layers) - 1)
        ]
        self._first_weights = piece(model, "first").weights()
        self._next_weights = piece(model, "next").weights()
        self._logits: list[Tensor] = []

    def prepare(self) -> bool:
        """It was compiled before it came here."""
        return False

    def read(self, slot: int, tokens: Tensor, codes: Tensor) -> None:
        """Write the next piece of a prompt into the row of `slot`."""
        self._eager.read(slot, tokens, codes)

    def frame(self, slots: Sequence[int]) -> Tensor:
        """Make a frame for each row and record it: codes [B, N]."""
        if len(slots) > self._max_rows:
            codes = self._eager.frame(slots)
            self._logits = self._eager.logits(slots)
            return codes
        state, model = self._state.slots, self._state.model
        rows = torch.tensor(slots)
        codes = self._draw(rows, *self._attend(rows, slots))
        state.record(rows, spoken_codes(codes, model.config.codebook_size), model.semantic_begin_id)
        return codes

    def logits(self, slots: Sequence[int]) -> list[Tensor]:
        """What the last frame's codes were drawn from."""
        return self._logits

    def _attend(self, rows: Tensor, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The stream [B, 1, dim] before the last layer, and what that attended to."""
        model, state, cache = self._state.model, self._state.slots, self._state.cache
        x = model.embed(state.tokens[rows, None], state.codes[rows, None])
        rope = model.slow_rope(state.positions[rows, None])
        q, k, v = cast(Block, model.layers[0]).before(x, rope)
        for layer, weights in enumerate(self._layers):
            attended = cache.attend_one(layer, slots, q, k, v).contiguous()
            x, q, k, v = self._between([*weights, x, attended, rope])
        return x, cache.attend_one(len(self._layers), slots, q, k, v).contiguous()

    def _draw(self, rows: Tensor, x: Tensor, attended: Tensor) -> Tensor:
        """The codes [B, N] of the frame."""
        state, past = self._state.slots, self._fast.past(len(rows))
        sampling = state.unknown_sampling(rows)
        temperature, top_p = sampling.temperature, sampling.top_p
        semantic, code, first, second, noise, factors = self._first(
            [
                *self._first_weights,
                *(x, attended, temperature, top_p, sampling.repetition_penalty),
                *(state.keys[rows], state.frames[rows], state.history[rows]),
                *(self._fast.rope, past),
            ]
        )
        codes, self._logits = [semantic, code], [first, second]
        for book in range(2, self._state.model.config.num_codebooks):
            inputs = (codes[-1], *self._fast.at(book), past, temperature, top_p, noise, factors)
            drawn, logits = self._next([*self._next_weights, *inputs])
            codes.append(drawn)
            self._logits.append(logits)
        return torch.stack(codes, dim=1)
