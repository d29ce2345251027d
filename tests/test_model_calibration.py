"""Calibration: what is said for it, what it chooses, and what it says that quantization cost."""

from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.bench.random_checkpoint import S1_MINI
from backend.core import LANGUAGES, QualityCost, Quantization
from backend.model import calibration
from backend.model.calibration import MOST_FRAMES, MOST_FRAMES_FITTED
from backend.model.calibration_texts import ENGLISH, OTHERS, calibration_texts
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.config import DualARConfig
from backend.model.dual_ar import DualAR
from backend.model.packed import PackedLinear
from backend.model.quantize import Bits, QuantizedLinear, QuantizedMatrix, quantize_matrix
from backend.model.tokenizer import INTERLEAVE, SPEAKER
from backend.model.weights import open_weights, transformer_weights
from backend.settings import SHIPPED_VOICE_DIR
from tests.kernels_in_c import native_pool
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("voice"))


def _cost(
    folder: Path, way: Quantization, samples: int = 8, dtype: torch.dtype = torch.float32
) -> QualityCost:
    loaded = load_checkpoint(folder, dtype=dtype, quantization=way, calibration_samples=samples)
    assert loaded.quality_cost is not None
    return loaded.quality_cost


def test_there_are_enough_texts_in_languages_that_exist() -> None:
    texts = [*ENGLISH, *(text for _, text in OTHERS)]
    assert len(set(texts)) == len(texts) == 80
    assert {language for language, _ in OTHERS} == {*LANGUAGES} - {"auto", "en"}
    assert min(len(text.encode()) for text in texts) >= 40


@pytest.mark.parametrize("count", [1, 16, 32, 64])
def test_every_fourth_text_is_in_another_language(count: int) -> None:
    foreign = {text for _, text in OTHERS}
    texts = calibration_texts(count, ())
    assert len(set(texts)) == count
    assert sum(text in foreign for text in texts) == -(-count // 4)
    assert calibration_texts(count, ("en",)) == list(ENGLISH[:count])
    german = [text for text in calibration_texts(count, ("en", "de")) if text in foreign]
    assert german == [text for language, text in OTHERS if language == "de"][: -(-count // 4)]


def test_no_more_texts_than_there_are() -> None:
    assert len(calibration_texts(1000, ())) == 64


def test_without_samples_nothing_is_measured(folder: Path) -> None:
    assert load_checkpoint(folder, quantization="int8").quality_cost is None
    assert load_checkpoint(folder, calibration_samples=8).quality_cost is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fewer_bits_cost_more(folder: Path, dtype: torch.dtype) -> None:
    eight, four = (_cost(folder, way, dtype=dtype) for way in ("int8", "int4"))
    assert eight.samples == four.samples == 8
    assert 0 < eight.kl_divergence < 0.01 < four.kl_divergence < 1
    assert 0.2 < four.greedy_agreement < eight.greedy_agreement <= 1
    assert eight.greedy_agreement > 0.9


def test_the_same_weights_give_the_same_result(folder: Path) -> None:
    one, other = (
        load_checkpoint(folder, quantization="int4", calibration_samples=8) for _ in range(2)
    )
    assert one.quality_cost == other.quality_cost
    theirs = dict(other.model.named_buffers())
    assert all(torch.equal(b, theirs[name]) for name, b in one.model.named_buffers())


class Watched:
    """What was put to a checkpoint for its calibration."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = calibration._speak

        def speak(model: DualAR, tokens: Tensor, frames: int) -> Generator[None, None, Tensor]:
            self.tokens = tokens
            self.codes: Tensor = yield from said(model, tokens, frames)
            return self.codes

        monkeypatch.setattr(calibration, "_speak", speak)

    @torch.inference_mode()
    def log_probabilities(self, checkpoint: Checkpoint) -> Tensor:
        """Of every frame that was said, in one piece and without a cache."""
        begin = checkpoint.model.semantic_begin_id
        tokens = torch.cat((self.tokens, self.codes[:, :-1, 0] + begin), dim=1)
        codes = torch.zeros(*tokens.shape, self.codes.shape[2], dtype=torch.int64)
        codes[:, self.tokens.shape[1] :] = self.codes[:, :-1]
        hidden = checkpoint.model.slow(tokens, codes)[:, self.tokens.shape[1] - 1 :]
        return checkpoint.model.slow_logits(hidden).float().log_softmax(-1).flatten(0, 1)


@pytest.mark.parametrize("kernels", ["torch", "c"])
@pytest.mark.parametrize("way", ["int8", "int4"])
def test_the_cost_is_that_of_the_model_that_speaks(
    folder: Path, way: Quantization, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    pool = native_pool() if kernels == "c" else None
    quantized = load_checkpoint(folder, quantization=way, calibration_samples=16, pool=pool)
    wanted = watched.log_probabilities(load_checkpoint(folder))
    found = watched.log_probabilities(quantized)
    cost = quantized.quality_cost
    assert cost is not None
    frames = MOST_FRAMES_FITTED if kernels == "c" else MOST_FRAMES
    assert watched.codes.shape == (16, frames, 4)
    kl = float(F.kl_div(found, wanted, reduction="batchmean", log_target=True))
    # Torch's kernels round to bfloat16 on the way, but not so many rows at once, as they are here.
    assert cost.kl_divergence == pytest.approx(kl, rel=0.35 if kernels == "torch" else 0.02)
    same = float((found.argmax(-1) == wanted.argmax(-1)).float().mean())
    assert cost.greedy_agreement == pytest.approx(same, abs=0.02)


def test_in_sixteen_bits_the_cost_of_what_the_kernels_hold_is_much_the_same(folder: Path) -> None:
    """They compute in float32, whatever the checkpoint's type."""
    wide, narrow = (
        load_checkpoint(
            folder, dtype=dtype, quantization="int4", calibration_samples=8, pool=native_pool()
        ).quality_cost
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert wide is not None
    assert narrow is not None
    assert narrow.kl_divergence == pytest.approx(wide.kl_divergence, rel=0.5)


def test_wrong_scales_cost_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = _cost(folder, "int8")

    def off(weight: Tensor, bits: Bits, importance: Tensor | None = None) -> QuantizedMatrix:
        matrix = quantize_matrix(weight, bits, importance)
        return QuantizedMatrix(
            matrix.bits, matrix.values, matrix.scales * 1.05, matrix.offsets * 1.05
        )

    monkeypatch.setattr(calibration, "quantize_matrix", off)
    assert _cost(folder, "int8").kl_divergence > 3 * right.kl_divergence


def _changed(folder: Path, way: Quantization) -> set[str]:
    """Names of the matrices that calibration rounds otherwise."""
    plain = load_checkpoint(folder, quantization=way).model
    calibrated = load_checkpoint(folder, quantization=way, calibration_samples=8).model
    return {
        name
        for (name, one), (_, other) in zip(
            plain.named_modules(), calibrated.named_modules(), strict=True
        )
        if isinstance(one, QuantizedLinear) and not torch.equal(one.scales, other.scales)
    }


def test_calibration_fits_four_bits_to_what_is_said(folder: Path) -> None:
    matrices = ("attention.wqkv", "attention.wo", *(f"feed_forward.w{i}" for i in (1, 2, 3)))
    slow = {f"layers.{layer}.{name}" for layer in range(2) for name in matrices}
    assert _changed(folder, "int4") == slow


def test_eight_bits_of_torchs_kernels_are_only_measured(folder: Path) -> None:
    assert _changed(folder, "int8") == set()


def test_weights_are_rounded_once_from_those_in_the_file(folder: Path) -> None:
    loaded = load_checkpoint(folder, quantization="int8", calibration_samples=8)
    weights = transformer_weights(open_weights(folder, "model"), loaded.config)
    for name, module in loaded.model.named_modules():
        if isinstance(module, QuantizedLinear) and name != "head":
            scales = module.scales.float()[:, None]
            off = (module.values * scales - weights[f"{name}.weight"].read()).abs()
            assert (off <= scales * 0.501).all()


@pytest.mark.parametrize("way", ["int8", "int4"])
def test_the_bits_of_the_kernels_in_c_are_fitted_to_what_is_said(
    folder: Path, way: Quantization
) -> None:
    plain, fitted = (
        load_checkpoint(folder, quantization=way, calibration_samples=samples, pool=native_pool())
        for samples in (0, 8)
    )
    theirs = dict(fitted.model.named_modules())
    changed = {
        name
        for name, one in plain.model.named_modules()
        if isinstance(one, PackedLinear)
        and not torch.equal(one.packed, cast(PackedLinear, theirs[name]).packed)
    }
    slow = [name for name in changed if name.startswith("layers.")]
    slow_layers = plain.config.slow
    assert len(slow) == len(changed) == 5 * (slow_layers.n_layer - slow_layers.wide_layers)
    assert all(
        one.bits == cast(PackedLinear, theirs[name]).bits
        for name, one in plain.model.named_modules()
        if isinstance(one, PackedLinear)
    )


@torch.inference_mode()
def test_the_shipped_voice_keeps_more_of_sentences_it_was_not_fitted_to() -> None:
    whole = load_checkpoint(SHIPPED_VOICE_DIR)
    control = whole.tokenizer.control(INTERLEAVE) + whole.tokenizer.control(SPEAKER)
    prompts = [control + whole.tokenizer.encode(text)[:40] for text in ENGLISH[-6:]]
    tokens = torch.tensor(prompts)
    codes = _said(whole.model, tokens, 24)
    begin = whole.model.semantic_begin_id
    tokens = torch.cat((tokens, codes[:, :-1, 0] + begin), dim=1)
    given = torch.zeros(*tokens.shape, codes.shape[2], dtype=torch.int64)
    given[:, -codes.shape[1] + 1 :] = codes[:, :-1]

    def expected(checkpoint: Checkpoint) -> Tensor:
        hidden = checkpoint.model.slow(tokens, given)[:, -codes.shape[1] :]
        return checkpoint.model.slow_logits(hidden).log_softmax(-1).flatten(0, 1)

    plain, fitted = (
        load_checkpoint(
            SHIPPED_VOICE_DIR, quantization="int4", calibration_samples=count, pool=native_pool()
        )
        for count in (0, 8)
    )
    wanted = expected(whole)
    off = [
        float(F.kl_div(expected(each), wanted, reduction="batchmean", log_target=True))
        for each in (plain, fitted)
    ]
    assert off[1] < 0.8 * off[0]


def _said(model: DualAR, tokens: Tensor, frames: int) -> Tensor:
    """The frames [B, F, N] that `model` says to prompts [B, T]."""
    saying = calibration._speak(model, tokens, frames)
    while True:
        try:
            next(saying)
        except StopIteration as end:
            return cast(Tensor, end.value)


@pytest.mark.parametrize("context", [8, 40])
def test_a_short_context_is_not_overrun(tmp_path: Path, context: int) -> None:
    short = tiny_checkpoint(tmp_path, max_seq_len=context)
    assert _cost(short, "int8", samples=4).samples == 4


def test_a_large_checkpoint_says_less() -> None:
    """Calibration of openaudio-s1-mini is some seconds of work for two cores."""
    config = DualARConfig.from_json(S1_MINI)
    slow = config.slow.n_layer * config.slow.layer_parameters
    for texts in (16, 32, 64):
        length, frames = calibration._affordable(config, texts, 40, MOST_FRAMES)
        assert length >= 12
        assert frames >= 3
        assert texts * (length + frames) * slow < 5e11
