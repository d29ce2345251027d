import math

import torch
from torch import Tensor

from backend.engine.sampler import SamplingRows, draw, penalties, probabilities, seed_key, uniforms


def rows(
    count: int, temperature: float = 1.0, top_p: float = math.inf, penalty: float = 1.0
) -> SamplingRows:
    return SamplingRows(
        torch.full((count, 1), temperature),
        torch.full((count, 1), top_p),
        torch.full((count, 1), penalty),
        all_greedy=temperature == 0,
        any_greedy=temperature == 0,
        any_penalty=penalty != 1,
    )


def keys(*seeds: int) -> Tensor:
    return torch.tensor([seed_key(seed) for seed in seeds])


def logits(count: int, size: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn((count, size), generator=torch.Generator().manual_seed(seed))


def test_uniforms_are_uniform_in_each_book_and_each_seed() -> None:
    frames = torch.arange(20_000)
    for seed in (0, 1, 2**40 + 7, 2**63 - 1):
        noise = uniforms(keys(seed).expand(len(frames)), frames, 4)[..., 0]
        assert noise.min() >= 0
        assert noise.max() < 1
        for book in range(4):
            counts = noise[:, book].histc(50, 0, 1)
            chi_square = float(((counts - 400).square() / 400).sum())
            assert chi_square < 100, (seed, book)  # 49 degrees of freedom: 1 in 100,000


def test_uniforms_of_books_frames_and_neighbouring_seeds_are_not_correlated() -> None:
    frames = torch.arange(20_000)
    first, second = (uniforms(keys(s).expand(len(frames)), frames, 3)[..., 0] for s in (41, 42))
    columns = torch.cat((first, second, first.roll(1, 0), second.roll(1, 0)), dim=1)
    correlation = torch.corrcoef(columns.t()) - torch.eye(columns.shape[1])
    assert correlation.abs().max() < 0.03


def test_uniforms_depend_on_the_row_alone() -> None:
    alone = uniforms(keys(7), torch.tensor([3]), 5)
    company = uniforms(keys(1, 7, 2**50), torch.tensor([9, 3, 3]), 5)
    assert torch.equal(alone[0], company[1])
    assert not torch.equal(company[1], company[2])
    high_word = uniforms(keys(7, 7 + 2**32), torch.tensor([3, 3]), 5)
    assert not torch.equal(high_word[0], high_word[1])


def test_draws_follow_the_probabilities() -> None:
    count = 40_000
    one = logits(1, 12)
    params = rows(count, temperature=0.8, top_p=0.9)
    noise = uniforms(keys(5).expand(count), torch.arange(count), 1)[:, 0]
    drawn = draw(one.expand(count, -1), params, noise, None)
    expected = probabilities(one, rows(1, temperature=0.8, top_p=0.9))[0]
    counts = drawn.bincount(minlength=12).double()
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    chi_square = ((counts - count * expected).square() / (count * expected))[kept].sum()
    assert chi_square < 45  # at most 11 degrees of freedom


def test_temperature_zero_is_argmax_also_beside_rows_that_are_drawn() -> None:
    given = logits(64, 100)
    noise = torch.rand((64, 1), generator=torch.Generator().manual_seed(1))
    assert torch.equal(draw(given, rows(64, temperature=0), noise, None), given.argmax(-1))
    mixed = rows(64)
    mixed.temperature[::2] = 0
    mixed = SamplingRows(
        mixed.temperature, mixed.top_p, mixed.repetition_penalty, False, True, False
    )
    drawn = draw(given, mixed, noise, None)
    assert torch.equal(drawn[::2], given.argmax(-1)[::2])
    assert not torch.equal(drawn[1::2], given.argmax(-1)[1::2])


def test_top_p_drops_the_token_that_crosses_it_and_never_the_best() -> None:
    given = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert torch.allclose(probabilities(given, rows(1, top_p=0.6)), torch.tensor([[1.0, 0, 0, 0]]))
    assert torch.allclose(probabilities(given, rows(1, top_p=0.1)), torch.tensor([[1.0, 0, 0, 0]]))
    kept = probabilities(given, rows(1, top_p=0.81))
    assert torch.allclose(kept, torch.tensor([[0.625, 0.375, 0, 0]]))
    assert torch.allclose(probabilities(given, rows(1)), given.exp())


def test_temperature_comes_after_top_p() -> None:
    given = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    cool = probabilities(given, rows(1, temperature=0.5, top_p=0.81))
    assert torch.allclose(cool, torch.tensor([[0.25, 0.09, 0, 0]]) / 0.34)


def test_the_penalty_is_for_codes_seen_in_that_book_once_each() -> None:
    given = torch.tensor([[2.0, -2.0, 1.0]])
    history = torch.tensor([[[0, 2], [1, 2], [0, -1], [-1, -1]]])
    params = rows(1, penalty=2.0)
    factors = penalties(params, history, 3)
    first = probabilities(given, params, factors[:, 0])
    assert torch.allclose(first, torch.tensor([[1.0, -4.0, 1.0]]).softmax(-1))
    second = probabilities(given, params, factors[:, 1])
    assert torch.allclose(second, torch.tensor([[2.0, -2.0, 0.5]]).softmax(-1))
    none = probabilities(given, params, penalties(params, history - 9, 3)[:, 0])
    assert torch.allclose(none, given.softmax(-1))


def test_the_greatest_noise_still_draws_a_kept_token() -> None:
    given = logits(32, 200)
    params = rows(32, temperature=1.3, top_p=0.7)
    drawn = draw(given, params, torch.full((32, 1), 1 - 2.0**-24), None)
    assert (probabilities(given, params).gather(1, drawn[:, None]) > 0).all()
