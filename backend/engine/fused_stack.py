"""A transformer over rows in few kernels: how each product is made, by how many rows there are.

Few rows are bound by the latency of kernels: each product is one, with the norm before it and what
is added after it. More are multiplied by cuBLAS, with kernels between. Quantized weights are
multiplied by their own module whatever the number of rows.
"""

from typing import cast

import torch
import triton
from torch import Tensor, nn
from triton.runtime import driver

from backend.engine.kernels import attention, products
from backend.model.config import TransformerConfig
from backend.model.layers import Block, RMSNorm, rope_table

FEW_ROWS = 2
"""Up to so many a product is one kernel of ours."""
_BLOCK = 1024
"""Of a row of weights that a program holds at once."""
_LEAST_POSITIONS = 128
"""That one of several programs of attention looks at."""
_MOST_SPLITS = 16
_PROGRAMS = 256
"""That attention is divided into to keep a large GPU busy, where there are positions enough."""
_HOPPER = (9, 0)

Launch = dict[str, int | bool]


def power_of_two(n: int) -> int:
    """The least one that is not less than `n`."""
    return int(triton.next_power_of_2(n))


def launch_options(device: torch.device, num_warps: int = 4) -> Launch:
    """How a kernel is launched on `device`; on a CPU Triton's interpreter runs it."""
    if device.type != "cuda":
        return {}
    return {"num_warps": num_warps, "launch_pdl": has_pdl(device)}


def has_pdl(device: torch.device) -> bool:
    """Whether a kernel may begin while the one before it still runs."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _HOPPER


class Places:
    """Where the keys and values of rows lie, [R] each."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.address, self.capacity, self.position = (
            torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(3)
        )

    @classmethod
    def of(cls, past: Tensor, slot: int | None) -> "Places":
        """Those of `slot` in each row of past [R, layers, 2, KV, slots, D]; None is the first two,
        as rows beside each other."""
        each = 2 if slot is None else 1
        places = cls(each * len(past), past.device)
        begin = torch.arange(len(past), device=past.device) * past.stride(0) * past.element_size()
        places.address.copy_((past.data_ptr() + begin).repeat_interleave(each))
        places.capacity.fill_(past.shape[4])
        if slot is None:
            places.position[1::2] = 1
        else:
            places.position.fill_(slot)
        return places


class _Buffers:
    """Where rows' numbers lie between kernels."""

    def __init__(self, rows: int, config: TransformerConfig, like: Tensor) -> None:
        heads, inner = config.n_head, config.intermediate_size
        width = (heads + 2 * config.n_local_heads) * config.head_dim
        self.x = like.new_empty(rows, config.dim)
        self.normed = like.new_empty(rows, config.dim)
        self.qkv = like.new_empty(rows, width)
        self.attended = like.new_empty(rows, heads * config.head_dim)
        self.both = like.new_empty(rows, 2 * inner)
        self.inner = like.new_empty(rows, inner)


class _Weights:
    """A block's, row by row as the kernels read them, gate and up in one matrix.

    The block's own become views of these: nothing is held twice.
    """

    def __init__(self, block: Block) -> None:
        heads, feed = block.attention, block.feed_forward
        for linear in (heads.wqkv, heads.wo, feed.w2):
            if isinstance(linear, nn.Linear):
                _let_be_(linear, linear.weight.contiguous())
        self.attention_norm, self.ffn_norm = block.attention_norm, block.ffn_norm
        self.qkv, self.out, self.down = heads.wqkv, heads.wo, feed.w2
        self.gates: tuple[nn.Module, nn.Module] = (feed.w1, feed.w3)
        self.gate_up: nn.Linear | None = None
        if isinstance(feed.w1, nn.Linear) and isinstance(feed.w3, nn.Linear):
            joined = torch.cat((feed.w1.weight, feed.w3.weight)).detach()
            _let_be_(feed.w1, joined[: feed.w1.out_features])
            _let_be_(feed.w3, joined[feed.w1.out_features :])
            self.gate_up = linear_of(joined)
        self.q_norm = heads.q_norm.weight if heads.qk_norm else self.ffn_norm.weight
        self.k_norm = heads.k_norm.weight if heads.qk_norm else self.ffn_norm.weight


def _let_be_(linear: nn.Linear, weight: Tensor) -> None:
    linear.weight = nn.Parameter(weight, requires_grad=False)


def linear_of(weight: Tensor) -> nn.Linear:
    """A Linear whose weight is `weight` [out, in] itself."""
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    _let_be_(linear, weight)
    return linear


class FusedStack:
    """One of the two transformers over the rows that are in `x`."""

    def __init__(
        self, blocks: nn.ModuleList, config: TransformerConfig, rows: int, positions: int
    ) -> None:
        like = cast(Block, blocks[0]).attention_norm.weight
        self._config, self._device = config, like.device
        self._weights = [_Weights(cast(Block, block)) for block in blocks]
        self._buffers = _Buffers(rows, config, like)
        at = torch.arange(positions, device=like.device)
        self._rope = rope_table(at, config.head_dim, config.rope_base)
        most = _most_tile(shared_bytes(like.device), config.head_dim * like.element_size())
        self._tile = min(64, most, max(16, power_of_two(positions)))
        self._long_tile = min(2 * self._tile, most)
        """For few rows, which wait for memory: long tiles have more of it under way."""
        self._precision = "ieee" if like.dtype == torch.float32 else "tf32"
        # Rows are divided into twice `_PROGRAMS` at most, for all heads of keys together.
        divided = -(-2 * _PROGRAMS // config.n_local_heads) * config.n_head
        self._partial = torch.empty(divided * config.head_dim, device=like.device)
        self._extremes = torch.empty(divided * 2, device=like.device)
        counted = rows * config.n_local_heads
        self._arrived = torch.zeros(counted, dtype=torch.int32, device=like.device)
        self._pdl = has_pdl(like.device)

    @property
    def x(self) -> Tensor:
        """Rows [R, dim] on their way through the layers."""
        return self._buffers.x

    def run(self, rows: int, places: Places, *, is_piece: bool) -> None:
        """All layers over the first `rows` of `x`, in place.

        In a piece of a prompt rows look at each other, so that all keys are stored first.
        """
        x, buffers = self.x[:rows], self._buffers
        for layer, weights in enumerate(self._weights):
            self.project(x, weights.attention_norm, weights.qkv, buffers.qkv[:rows])
            if is_piece:
                self._turn(layer, weights, rows, places)
            self._attend(layer, weights, rows, places, is_fresh=not is_piece)
            self._add(buffers.attended[:rows], weights.out, x)
            self._feed(weights, x)

    def project(
        self, x: Tensor, norm: RMSNorm, linear: nn.Module, y: Tensor, *, gated: bool = False
    ) -> None:
        """y [R, out] = `linear` of normed x [R, dim]; rows of both may lie apart."""
        if len(x) <= FEW_ROWS and isinstance(linear, nn.Linear):
            self._product(x, norm, linear, None, y, gated=gated)
            return
        normed, dim = self._buffers.normed[: len(x)], x.shape[1]
        products.rms_norm[(len(x),)](
            *(x, norm.weight, normed, x.stride(0), norm.eps, dim, power_of_two(dim), self._pdl),
            **launch_options(self._device),
        )
        both = self._buffers.both[: len(x)]
        _multiply(linear, normed, both if gated else y)
        if gated:
            self._gate(both, y)

    def _feed(self, weights: _Weights, x: Tensor) -> None:
        inner = self._buffers.inner[: len(x)]
        if weights.gate_up is not None:
            self.project(x, weights.ffn_norm, weights.gate_up, inner, gated=True)
        else:
            both = self._buffers.both[: len(x)]
            for gate, half in zip(weights.gates, both.chunk(2, dim=1), strict=True):
                self.project(x, weights.ffn_norm, gate, half)
            self._gate(both, inner)
        self._add(inner, weights.down, x)

    def _gate(self, both: Tensor, inner: Tensor) -> None:
        rows, width = inner.shape
        block = min(_BLOCK, power_of_two(width))
        products.gate[(rows, triton.cdiv(width, block))](
            both, inner, width, block, self._pdl, **launch_options(self._device)
        )

    def _add(self, x: Tensor, linear: nn.Module, total: Tensor) -> None:
        """total [R, out] += `linear` of x [R, in]."""
        if len(x) <= FEW_ROWS and isinstance(linear, nn.Linear):
            self._product(x, None, linear, total, total)
        elif isinstance(linear, nn.Linear) and _bias_of(linear) is None:
            torch.addmm(total, x, linear.weight.t(), out=total)
        else:
            total += linear(x)

    def _product(
        self,
        x: Tensor,
        norm: RMSNorm | None,
        linear: nn.Linear,
        add: Tensor | None,
        y: Tensor,
        *,
        gated: bool = False,
    ) -> None:
        """One kernel for all of it."""
        weight, bias, (rows, n_out), width = linear.weight, _bias_of(linear), y.shape, x.shape[1]
        given = (
            *(x, weight if norm is None else norm.weight, weight),
            *(weight if bias is None else bias, y if add is None else add, y),
        )
        eps = 0.0 if norm is None else norm.eps
        does = (norm is not None, gated, bias is not None, add is not None)
        block_n, warps = _tile_of(n_out, width, gated)
        wide = power_of_two(width)
        products.linear[(triton.cdiv(n_out, block_n),)](
            *(*given, n_out, x.stride(0), y.stride(0), eps),
            *(rows, width, wide, min(wide, _BLOCK), block_n, *does, self._pdl),
            **launch_options(self._device, warps),
        )

    def _turn(self, layer: int, weights: _Weights, rows: int, places: Places) -> None:
        config = self._config
        attention.turn[(rows, config.n_head + 2 * config.n_local_heads)](
            *(self._buffers.qkv, weights.q_norm, weights.k_norm, self._rope),
            *(places.address, places.capacity, places.position, layer, config.norm_eps),
            *(config.n_head, config.n_local_heads, config.head_dim, config.qk_norm, self._pdl),
            **launch_options(self._device, 1),
        )

    def _attend(
        self, layer: int, weights: _Weights, rows: int, places: Places, *, is_fresh: bool
    ) -> None:
        config, kv_heads = self._config, self._config.n_local_heads
        is_few = rows <= FEW_ROWS and is_fresh
        tile, warps = (self._long_tile, 8) if is_few else (self._tile, 4)
        splits = 1
        if is_fresh and len(self._rope) > _LEAST_POSITIONS:
            while splits < _MOST_SPLITS and rows * kv_heads * splits < _PROGRAMS:
                splits *= 2
        attention.attend[(rows, kv_heads, splits)](
            *(self._buffers.qkv, weights.q_norm, weights.k_norm, self._rope),
            *(places.address, places.capacity, places.position, self._buffers.attended),
            *(self._partial, self._extremes, self._arrived),
            *(layer, config.norm_eps, config.head_dim**-0.5, config.n_head, kv_heads),
            *(config.head_dim, max(16, power_of_two(config.n_head // kv_heads)), tile),
            *(splits, _LEAST_POSITIONS, config.qk_norm, is_fresh, self._precision, self._pdl),
            **launch_options(self._device, warps),
        )


def shared_bytes(device: torch.device) -> int:
    """Memory that the threads of one program share at most; as much as a Hopper has for the
    interpreter."""
    if device.type != "cuda":
        return 227 << 10
    limits = driver.active.utils.get_device_properties(device.index or 0)
    return int(limits["max_shared_mem"])


def _most_tile(shared_bytes: int, key_bytes: int) -> int:
    """Positions of which there is room for keys and values, two tiles of each at once and half a
    tile beside them."""
    fitting = shared_bytes // (5 * key_bytes)
    return max(16, 1 << (fitting.bit_length() - 1))


def _tile_of(n_out: int, width: int, gated: bool) -> tuple[int, int]:
    """Outputs and warps of a program of `products.linear`, as an H100 was fastest."""
    if gated:
        return 2, 4
    if n_out == width:
        return 4, 8
    return (8, 8) if n_out > width else (4, 4)


def _bias_of(linear: nn.Linear) -> Tensor | None:
    """torch's types say that there always is one."""
    return cast(Tensor | None, linear.bias)


def _multiply(linear: nn.Module, x: Tensor, y: Tensor) -> None:
    """y = `linear` of x, without memory of its own where that can be."""
    if isinstance(linear, nn.Linear) and _bias_of(linear) is None and y.dtype == x.dtype:
        torch.mm(x, linear.weight.t(), out=y)
    else:
        y.copy_(linear(x)[:, : y.shape[1]])
