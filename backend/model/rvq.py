"""The codec's quantiser: one semantic code book, then residual ones, each of few dimensions.

Module names are those of the official state dict (`fish_speech/models/dac/rvq.py`,
`dac/nn/quantize.py`).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.config import CodecConfig
from backend.model.stream import (
    CausalConv,
    CausalTransposedConv,
    ConvNeXt,
    Stream,
    StreamSequential,
    WindowTransformer,
)


class CodeBook(nn.Module):
    """Nearest code by cosine, looked up in a space of `codebook_dim` dimensions."""

    def __init__(self, latent_dim: int, size: int, codebook_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Conv1d(latent_dim, codebook_dim, 1)
        self.out_proj = nn.Conv1d(codebook_dim, latent_dim, 1)
        self.codebook = nn.Embedding(size, codebook_dim)

    def nearest(self, projected: Tensor) -> Tensor:
        """Codes [B, T] nearest to projected latents [B, codebook_dim, T], compared in float32."""
        points = F.normalize(projected.transpose(1, 2).float(), dim=-1)
        book = F.normalize(self.codebook.weight.float(), dim=-1)
        # The package's expression, kept term by term so that ties fall alike.
        distance = points.square().sum(-1, keepdim=True) - 2 * points @ book.t()
        return (distance + book.square().sum(-1)).argmin(-1)

    def look_up(self, codes: Tensor) -> Tensor:
        """Latents [B, latent_dim, T] of codes [B, T]."""
        out: Tensor = self.out_proj(self.codebook(codes).transpose(1, 2))
        return out


class CodeBooks(nn.Module):
    """Code books that each quantise what the ones before left over."""

    def __init__(self, count: int, latent_dim: int, size: int, codebook_dim: int) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(
            CodeBook(latent_dim, size, codebook_dim) for _ in range(count)
        )

    def encode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, C, T] -> codes [B, count, T] and what is still left of z."""
        codes = []
        for book in self.quantizers:
            assert isinstance(book, CodeBook)
            codes.append(book.nearest(book.in_proj(z)))
            z = z - book.look_up(codes[-1])
        return torch.stack(codes, dim=1), z


class Quantizer(nn.Module):
    """Latents at the encoder's rate ↔ codes at the frame rate."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        dim, size = config.latent_dim, config.codebook_dim
        self.semantic_quantizer = CodeBooks(1, dim, config.semantic_codebook_size, size)
        self.quantizer = CodeBooks(
            config.residual_codebooks, dim, config.residual_codebook_size, size
        )
        self.semantic_codes = config.semantic_codebook_size
        self.residual_codes = config.residual_codebook_size
        self.downsample = StreamSequential(
            *(
                StreamSequential(CausalConv(dim, dim, factor, stride=factor), ConvNeXt(dim))
                for factor in config.downsample_factor
            )
        )
        self.upsample = StreamSequential(
            *(
                StreamSequential(CausalTransposedConv(dim, dim, factor, factor), ConvNeXt(dim))
                for factor in reversed(config.downsample_factor)
            )
        )
        self.pre_module = WindowTransformer(config.pre, dim)
        self.post_module = WindowTransformer(config.post, dim)

    def latent(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        """Encoder output [B, C, T·factor] -> what is quantised [B, C, T]."""
        return cast(Tensor, self.pre_module(self.downsample(z, stream), stream))

    def encode(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        """Encoder output [B, C, T·factor] -> codes [B, N, T]."""
        return self.quantise(self.latent(z, stream))

    def quantise(self, latent: Tensor) -> Tensor:
        """Latents [B, C, T] -> codes [B, N, T]."""
        semantic, left = self.semantic_quantizer.encode(latent)
        residual, _ = self.quantizer.encode(left)
        return torch.cat((semantic, residual), dim=1)

    def look_up(self, codes: Tensor) -> Tensor:
        """Codes [B, N, T] -> quantised latents [B, C, T].

        All books in one product: some tens of small operations less than one book after another.
        """
        books = [*self.semantic_quantizer.quantizers, *self.quantizer.quantizers]
        points = torch.cat([book.codebook.weight for book in books])
        weight = torch.cat([book.out_proj.weight[:, :, 0] for book in books], dim=1)
        bias = torch.stack([book.out_proj.bias for book in books]).sum(0)
        residual = codes[:, 1:].clamp(max=self.residual_codes - 1)
        begin = torch.arange(residual.shape[1], device=codes.device)[:, None] * self.residual_codes
        rows = torch.cat((codes[:, :1], residual + begin + self.semantic_codes), dim=1)
        z = F.linear(F.embedding(rows.transpose(1, 2), points).flatten(2), weight, bias)
        return z.transpose(1, 2)

    def expand(self, quantised: Tensor, stream: Stream | None = None) -> Tensor:
        """Quantised latents [B, C, T] -> decoder input [B, C, T·factor]."""
        return cast(Tensor, self.upsample(self.post_module(quantised, stream), stream))
