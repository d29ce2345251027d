"""A part of a codec, described step by step and computed by `native/codec.c`.

A part is taken from a plain one, whose weights it lets go of. What decodes holds weights in
bfloat16; what is multiplied is rounded to it where the machine multiplies pairs of such numbers;
sums, norms, attention, snakes and all that is added up stay float32. What encodes is float32
throughout.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.config import DECODE_FRAMES, WindowConfig
from backend.model.layers import RMSNorm, rope_table
from backend.model.stream import (
    CausalConv,
    CausalTransposedConv,
    Snake,
    Stream,
)
from backend.native.codec import (
    AS_IT_IS,
    ATTEND,
    FILTER,
    FILTER_TAPS,
    GATE,
    NORM,
    PRODUCT,
    ROUND,
    CodecKernels,
    Operation,
    Past,
    Program,
)

_ALIGNED_BYTES = 64
_APART_BYTES = 2048
"""Rows whose length is a multiple of this are a line further apart: a dozen of them, read column by
column, would push each other out of the cache."""
_PADDED = 64
"""Vectors of one number an output are filled up to a multiple of this."""


class Rope(NamedTuple):
    """Where the angles lie by which the rows of an attention are turned, and what they are."""

    room: str
    rate: int
    head_dim: int
    base: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Where an operation's rows lie: `past` of earlier pieces, then `rate` for each unit given."""

    room: str
    width: int
    """Numbers of a row."""
    row_bytes: int
    rate: int
    past: int = 0
    state_at: int = 0
    """Of the past, in the state of a signal."""

    def bytes_of(self, length: int) -> int:
        """Of all of them, where `length` units are given."""
        return (self.past + self.rate * length) * self.row_bytes


@dataclass(frozen=True, slots=True)
class Step:
    """An operation whose addresses are not known yet."""

    kind: int
    input: Rows
    output: Rows | None = None
    rounded: Rows | None = None
    residual: Rows | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: int = 0
    room_bytes: tuple[int, int] = (0, 0)
    """What it works in beside: so many bytes, and so many for each unit given."""
    rope: Rope | None = None
    state_at: int = 0
    """Of an attention: where the state of a signal has its keys and values."""


class _Workspace(threading.local):
    """What one thread computes in: a piece's rows, and the programs for pieces of each length."""

    def __init__(self) -> None:
        self.rooms: dict[str, Tensor] = {}
        self.programs: dict[int, Program] = {}


class NativePart(nn.Module):
    """x [B, C, T] to what a part of the codec makes of it, float32 on the CPU."""

    most = DECODE_FRAMES
    """Units that are computed together."""
    unit = 1
    """Rows of x that belong together."""
    may_leave_gaps = False
    """Between rounded rows: there is no upsampling, which makes several at once."""

    def __init__(self, kernels: CodecKernels) -> None:
        super().__init__()
        self._kernels = kernels
        self._steps: list[Step] = []
        self._ropes: list[Rope] = []
        self._state_bytes = 0
        self._workspace = _Workspace()

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Some rows of each signal, [B, C', T']; with a `Stream` those that come next."""
        stream = stream or Stream(x.shape[0])
        # A row of bytes a signal, which a stream keeps as it keeps every tail.
        state = stream.tails(self, torch.empty(1, 0, dtype=torch.uint8), self._state_bytes, 1)
        if x.shape[-1] % self.unit:
            raise ValueError(f"a piece of {x.shape[-1]} columns is no multiple of {self.unit}")
        begins = stream.position(self, x.shape[-1] // self.unit, x.device).tolist()
        slots = range(len(x)) if stream.rows is None else stream.rows.tolist()
        signals = zip(x, slots, begins, strict=True)
        made = [self._spoken(columns.t(), state[slot], at) for columns, slot, at in signals]
        # Columns lie where rows did: what comes next takes them as rows again.
        return torch.stack(made).transpose(1, 2)

    def _spoken(self, x: Tensor, state: Tensor, begin: int) -> Tensor:
        """The next rows of a signal, x [T, C], of which `begin` units were before: [T', C']."""
        made = []
        for piece in torch.split(x, self.most * self.unit):
            length = len(piece) // self.unit
            program = self._program(length)
            given, found = self._ends(length)
            given.copy_(piece)
            for rope in self._ropes:
                self._turn(rope, length, begin)
            program.run(state.data_ptr(), begin)
            made.append(found.clone())
            begin += length
        return torch.cat(made)

    def _turn(self, rope: Rope, length: int, begin: int) -> None:
        """Say by how much the rows of a piece are turned in attention."""
        positions = torch.arange(begin * rope.rate, (begin + length) * rope.rate)
        table = rope_table(positions, rope.head_dim, rope.base).flatten()
        self._workspace.rooms[rope.room][: table.nbytes].view(torch.float32).copy_(table)

    def _ends(self, length: int) -> tuple[Tensor, Tensor]:
        """What is given [T, C] and what is made of it [T', C'], where they lie."""
        last = self._steps[-1].output
        assert last is not None
        return self._seen(self._steps[0].input, length), self._seen(last, length)

    def _seen(self, rows: Rows, length: int) -> Tensor:
        own = self._workspace.rooms[rows.room][rows.past * rows.row_bytes : rows.bytes_of(length)]
        return own.view(torch.float32).view(-1, rows.width)

    # What the parts are described with.

    def _rows(self, room: str, width: int, rate: int = 1, past: int = 0) -> Rows:
        """Float32 where something is summed up, to be multiplied in "a" and "b"."""
        row_bytes = 4 * width
        if room in "ab":
            row_bytes = width * self._kernels.rounded_bytes
            if self.may_leave_gaps and row_bytes % _APART_BYTES == 0:
                row_bytes += _ALIGNED_BYTES
        at = self._state_bytes
        self._state_bytes += -(-past * row_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
        return Rows(room, width, row_bytes, rate, past, at)

    def _attend(self, config: WindowConfig, qkv: Rows, attended: Rows) -> None:
        """Queries, keys and values [.., 3 · heads · size], over rows of earlier pieces as well."""
        kept = config.n_head * config.head_dim * 2 * 4
        rope = Rope(f"rope {len(self._ropes)}", qkv.rate, config.head_dim, config.rope_base)
        same = (other for other in self._ropes if other[1:] == rope[1:])
        rope = next(same, rope)
        if rope not in self._ropes:
            self._ropes.append(rope)
        numbers = {"heads": config.n_head, "window": config.window, "rate": qkv.rate}
        room_bytes = (config.window * kept, kept * qkv.rate)
        at = self._state_bytes
        self._state_bytes += (config.window - 1) * kept
        self._steps.append(
            Step(
                ATTEND,
                qkv,
                rounded=attended,
                numbers=numbers,
                outputs=attended.width,
                room_bytes=room_bytes,
                rope=rope,
                state_at=at,
            )
        )

    def _hold(self, tensor: Tensor) -> Tensor:
        held = nn.Parameter(tensor.contiguous(), requires_grad=False)
        self.register_parameter(f"held_{sum(1 for _ in self.parameters())}", held)
        return held

    def _vector(self, numbers: Tensor) -> Tensor:
        """One number an output, filled up so that it can be read in whole vectors."""
        flat = numbers.detach().float().flatten()
        return self._hold(F.pad(flat, (0, -len(flat) % _PADDED)))

    def _snake(self, snake: nn.Module, repeats: int = 1) -> dict[str, Tensor]:
        alpha = cast(Snake, snake).alpha.detach().float().flatten().repeat(repeats)
        return {"alpha": self._vector(alpha), "inverse": self._vector(1 / (alpha + 1e-9))}

    def _product(
        self,
        weight: Tensor,
        bias: Tensor | None,
        source: Rows,
        *,
        dilation: int = 1,
        step: int = 1,
        bend: int = AS_IT_IS,
        scale: Tensor | None = None,
        snake: dict[str, Tensor] | None = None,
        output: Rows | None = None,
        rounded: Rows | None = None,
        residual: Rows | None = None,
    ) -> None:
        """Rows by `weight` [outputs, taps, inputs], the oldest tap first."""
        outputs, taps, inputs = weight.shape
        if inputs * self._kernels.dtype.itemsize % 4:
            raise ValueError(f"rows of {inputs} numbers cannot be multiplied in pairs")
        kind, pack, room_bytes = PRODUCT, self._kernels.packed, 0
        if step == 1 and self._is_filter(taps, inputs):
            kind, pack = FILTER, self._kernels.packed_filter
            room_bytes = self._kernels.filter_room_bytes(inputs)
        tensors = {"weights": self._hold(pack(weight.detach())), **(snake or {})}
        if bias is not None:
            tensors["bias"] = self._vector(bias)
        if scale is not None:
            tensors["scale"] = self._vector(scale)
        if bend == GATE:  # rows of zeros may fill its last block up
            assert rounded is not None
            outputs = 2 * rounded.width
        numbers = {"taps": taps, "dilation": dilation, "step": step, "bend": bend}
        self._steps.append(
            Step(
                *(kind, source, output, rounded, residual, numbers, tensors, outputs),
                room_bytes=(room_bytes, 0),
            )
        )

    def _is_filter(self, taps: int, inputs: int) -> bool:
        """Whether fewer products in float32 are the faster ones."""
        least = 64 if self._kernels.rounded_bytes < 4 else 16
        return taps == FILTER_TAPS and inputs % 16 == 0 and least <= inputs <= 512

    def _linear(self, linear: nn.Module, source: Rows, **then: object) -> None:
        linear = cast(nn.Linear, linear)
        self._product(linear.weight[:, None], linear.bias, source, **then)  # type: ignore[arg-type]
        linear.to("meta")

    def _conv(self, conv: nn.Module, source: Rows, **then: object) -> None:
        inner, step = cast(CausalConv, conv).conv, cast(CausalConv, conv).stride
        weight, dilation = inner.weight.transpose(1, 2), inner.dilation[0]
        self._product(weight, inner.bias, source, dilation=dilation, step=step, **then)  # type: ignore[arg-type]
        inner.to("meta")

    def _upsampling(self, up: nn.Module, source: Rows, **then: object) -> None:
        """As a product to `stride` times the outputs: the rows that follow from one, in turn."""
        inner, stride = cast(CausalTransposedConv, up).conv, cast(CausalTransposedConv, up).stride
        channels_in, channels_out, size = inner.weight.shape
        if size % stride:
            raise ValueError(f"kernels of {size} are no multiple of {stride}")
        taps = inner.weight.view(channels_in, channels_out, -1, stride).flip(2)
        weight = taps.permute(3, 1, 2, 0).flatten(0, 1)
        bias = None if inner.bias is None else inner.bias.repeat(stride)
        self._product(weight, bias, source, **then)  # type: ignore[arg-type]
        inner.to("meta")

    def _norm(
        self,
        norm: nn.Module,
        source: Rows,
        *,
        output: Rows | None = None,
        rounded: Rows | None = None,
    ) -> None:
        norm = cast(RMSNorm, norm)
        numbers, tensors = {"eps": norm.eps}, {"scale": self._vector(norm.weight)}
        self._steps.append(
            Step(NORM, source, output, rounded, None, numbers, tensors, source.width)
        )

    def _round(self, source: Rows, rounded: Rows, snake: dict[str, Tensor] | None = None) -> None:
        tensors = snake or {}
        self._steps.append(
            Step(ROUND, source, rounded=rounded, tensors=tensors, outputs=source.width)
        )

    # From a description to addresses.

    def _program(self, length: int) -> Program:
        space = self._workspace
        if not space.rooms:
            needs: dict[str, int] = {}
            for step in self._steps:
                for name, wanted in _rooms(step, self.most):
                    needs[name] = max(needs.get(name, 0), wanted)
            # Of the largest piece: what a smaller one does not reach is never touched.
            space.rooms = {n: torch.empty(size, dtype=torch.uint8) for n, size in needs.items()}
        if length not in space.programs:
            operations = [self._operation(step, length) for step in self._steps]
            space.programs[length] = Program(self._kernels, operations)
        return space.programs[length]

    def _operation(self, step: Step, length: int) -> Operation:
        rooms = {name: room.data_ptr() for name, room in self._workspace.rooms.items()}
        source, element = step.input, self._kernels.rounded_bytes
        rate = source.rate // int(step.numbers.get("step", 1))
        made = Operation(
            kind=step.kind,
            rows=rate * length,
            inputs=source.width,
            outputs=step.outputs,
            input=rooms[source.room],
            input_stride=source.row_bytes // element,
            keys=rooms.get("keys"),
            rope=rooms[step.rope.room] if step.rope else None,
        )
        for name, number in step.numbers.items():
            setattr(made, name, number)
        for name, tensor in step.tensors.items():
            setattr(made, name, tensor.data_ptr())
        for name in ("output", "rounded", "residual"):
            rows: Rows | None = getattr(step, name)
            if rows is None:
                continue
            if name == "rounded":
                made.rounded_stride = rows.row_bytes // element * (rows.rate // rate)
            past_bytes = rows.past * rows.row_bytes
            setattr(made, name, rooms[rows.room] + past_bytes)
            if past_bytes and name != "residual":
                made.load = Past(rooms[rows.room], rows.state_at, past_bytes)
        if source.past:
            end = rooms[source.room] + source.rate * length * source.row_bytes
            made.save = Past(end, source.state_at, source.past * source.row_bytes)
        elif step.kind == ATTEND:
            made.save = Past(None, step.state_at, 0)
        return made


def _rooms(step: Step, length: int) -> Sequence[tuple[str, int]]:
    """What a step needs of each room, in bytes."""
    rows = [rows for rows in (step.input, step.output, step.rounded) if rows is not None]
    fixed, each = step.room_bytes
    found = [(r.room, r.bytes_of(length)) for r in rows] + [("keys", fixed + each * length)]
    if step.rope is not None:
        found.append((step.rope.room, 4 * length * step.rope.rate * step.rope.head_dim))
    return found
