"""Where the codec's training starts: fresh weights, or an earlier codec's, its books fitted."""

import torch
from torch import Tensor, nn

from backend.model.dac import DAC, ResidualUnit
from backend.model.rvq import CodeBook
from backend.model.stream import CausalConv, ConvNeXt, LayerScale

_ROUNDS = 12
"""Of assigning points to codes and codes to their points' means."""
_RIDGE = 1e-4


def init_codec_(codec: DAC) -> None:
    """Variance-preserving: with torch's default init this codec collapses to silence."""
    for module in codec.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        elif isinstance(module, nn.ConvTranspose1d):
            fan = module.weight.shape[0] * module.kernel_size[0] / module.stride[0]
            nn.init.normal_(module.weight, std=fan**-0.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
        elif isinstance(module, ConvNeXt | LayerScale):
            nn.init.constant_(module.gamma, 0.3)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
    for module in codec.modules():
        if isinstance(module, ResidualUnit):
            _scale_(module.block[3], 0.3)
    _scale_(codec.encoder.block[0], 5.0)  # speech is quiet
    _scale_(codec.decoder.model[-1], 0.03)
    for book in books_of(codec):
        nn.init.orthogonal_(book.in_proj.weight[:, :, 0])
        _transpose_(book)
        nn.init.normal_(book.codebook.weight)


@torch.no_grad()
def _scale_(convolution: nn.Module, factor: float) -> None:
    assert isinstance(convolution, CausalConv)
    convolution.conv.weight.mul_(factor)


@torch.no_grad()
def _transpose_(book: CodeBook) -> None:
    """What is looked up lies where it was looked for: else a book adds more than it takes away."""
    book.out_proj.weight.copy_(book.in_proj.weight.transpose(0, 1))


def books_of(codec: DAC) -> list[CodeBook]:
    """All code books, the semantic one first."""
    quantizer = codec.quantizer
    books = [*quantizer.semantic_quantizer.quantizers, *quantizer.quantizer.quantizers]
    return [book for book in books if isinstance(book, CodeBook)]


@torch.no_grad()
def fit_books_(codec: DAC, latents: Tensor) -> list[float]:
    """Fit the residual books to `latents` [frames, latent_dim]; the share of them that is left over
    after each book.

    The semantic book keeps its codes, so that a transformer that knows them need not begin anew;
    only what they stand for is fitted. Each other book then looks at the directions in which most
    is left.
    """
    left, whole = latents, float(latents.square().mean())
    shares = []
    for index, book in enumerate(books_of(codec)):
        if index:
            _look_where_most_is_left_(book, left)
        points = _projected(book, left)
        codes = book.nearest(points.T[None])[0]
        for _ in range(_ROUNDS if index else 0):
            _centre_(book, points, codes)
            codes = book.nearest(points.T[None])[0]
        _stand_for_(book, codes, left)
        left = left - book.look_up(codes[None])[0].T
        shares.append(float(left.square().mean()) / whole)
    return shares


def _projected(book: CodeBook, left: Tensor) -> Tensor:
    projected: Tensor = book.in_proj(left.T[None])[0].T
    return projected


def _look_where_most_is_left_(book: CodeBook, left: Tensor) -> None:
    """Through the first principal directions, so scaled that each counts alike."""
    count = book.in_proj.weight.shape[0]
    centred = left - left.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(left))
    values, vectors = values[-count:], vectors[:, -count:]
    weight = vectors.T / values.clamp(min=1e-12).sqrt()[:, None]
    _set_(book.in_proj, weight, -(weight @ left.mean(0)))
    picked = torch.randint(0, len(left), (len(book.codebook.weight),), device=left.device)
    book.codebook.weight.copy_(_projected(book, left)[picked])


def _centre_(book: CodeBook, points: Tensor, codes: Tensor) -> None:
    """Each code becomes the mean of the points that chose it; unused ones become some point."""
    size = len(book.codebook.weight)
    counts = torch.bincount(codes, minlength=size)
    sums = torch.zeros_like(book.codebook.weight).index_add_(0, codes, points)
    picked = points[torch.randint(0, len(points), (size,), device=points.device)]
    means = sums / counts.clamp(min=1)[:, None]
    book.codebook.weight.copy_(torch.where(counts[:, None] > 0, means, picked))


def _stand_for_(book: CodeBook, codes: Tensor, left: Tensor) -> None:
    """Least squares: what is looked up comes as near to what was left as it can."""
    found = book.codebook.weight[codes]
    found = torch.cat((found, torch.ones_like(found[:, :1])), 1)
    inner = found.T @ found / len(found)
    inner += _RIDGE * inner.diagonal().mean() * torch.eye(len(inner), device=inner.device)
    weight = torch.linalg.solve(inner, found.T @ left / len(found))
    _set_(book.out_proj, weight[:-1].T, weight[-1])


def _set_(layer: nn.Conv1d, weight: Tensor, bias: Tensor) -> None:
    assert layer.bias is not None
    layer.weight.copy_(weight[:, :, None])
    layer.bias.copy_(bias)
