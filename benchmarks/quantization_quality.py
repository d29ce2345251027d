"""What 8 and 4 bits a weight cost the quality of a voice, measured on its own speech.

The checkpoint in float32 speaks sentences by sampling, as it does for users. Each frame of that is
then put to every variant as what has been said so far (teacher forcing), one position at a time as
in use, and the variant says what it expects next: how far its probabilities are from those of
float32 (KL divergence in nats), how often its most probable code is the same, and how far the
speech made of its most probable codes is from that of float32's (smoothed mel spectra, root mean
square over the bands, in dB). Last, each variant speaks held-out sentences by itself, and a
recogniser writes down what it hears.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.core import Quantization
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt
from backend.engine.ways import settle
from backend.hardware.quantization import SMALL_CALIBRATION_SAMPLES
from backend.model.calibration_texts import ENGLISH
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.packed_cache import cache_of
from backend.native.pool import NativePool
from training.demo_voice.codes import asked, frames_of
from training.demo_voice.compare import WordErrors, word_errors
from training.demo_voice.evaluate import HELDOUT
from training.demo_voice.measure import mel_cepstra
from training.demo_voice.recognise import transcribe

SENTENCES = ENGLISH[-24:]
"""Of those, calibration with its 32 samples or fewer sees none, nor what is fitted for a user."""

ROWS = 8
"""Sentences that are spoken at once."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to hold the weights, and to multiply by them."""

    quantization: Quantization
    precision: str = "fp32"
    calibration_samples: int = 0
    kernels: str = "torch"
    """torch's own, or "c": those of `backend/native`."""

    def load(self, folder: Path, pool: NativePool) -> Checkpoint:
        """The checkpoint in `folder` held like that."""
        return load_checkpoint(
            folder,
            dtype=_DTYPES[self.precision],
            codec_dtype=torch.float32,
            quantization=self.quantization,
            calibration_samples=self.calibration_samples,
            pool=self.pool(pool),
        )

    def pool(self, pool: NativePool) -> NativePool | None:
        """`pool`, where it is used."""
        return pool if self.kernels == "c" else None

    def __str__(self) -> str:
        samples = self.calibration_samples or ""
        return f"{self.quantization} {self.precision} {self.kernels} {samples:>2}"


VARIANTS = (
    Variant("none", "bf16", kernels="c"),
    Variant("int8", "fp32", SMALL_CALIBRATION_SAMPLES, kernels="c"),
    Variant("int4", "fp32", SMALL_CALIBRATION_SAMPLES, kernels="c"),
    Variant("none", "bf16"),
    Variant("int8", "fp32", 32),
    Variant("int8", "bf16", 32),
    Variant("int4", "fp32"),
    Variant("int4", "fp32", 32),
    Variant("int4", "bf16", 32),
)

HEARD = (
    Variant("none", kernels="c"),
    Variant("int8", "fp32", SMALL_CALIBRATION_SAMPLES, kernels="c"),
    Variant("int4", "fp32", SMALL_CALIBRATION_SAMPLES, kernels="c"),
    Variant("int4", calibration_samples=32),
)
"""Those that speak to the recogniser."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a variant expects at each frame of a sentence that was said."""

    slow: Tensor
    """Log probabilities [F, codes + 1] of the semantic code."""
    fast: Tensor
    """Log probabilities [F, N - 1, codes] of the others."""


def measure_quality(folder: Path, pool: NativePool) -> list[dict[str, Any]]:
    """One entry for each of VARIANTS; prints them as a table."""
    reference = load_checkpoint(folder)
    prompts = [_prompt(reference, text) for text in SENTENCES]
    said = _speak(reference, list(SENTENCES))
    wanted = [_expect(reference, *pair) for pair in zip(prompts, said, strict=True)]
    frames = sum(codes.shape[0] for codes in said)
    print(
        f"{len(said)} sentences, {frames} frames, {_entropy(wanted):.2f} nats of uncertainty each"
    )
    columns = ("KL slow", "same slow", "KL fast", "same fast", "mel dB", "load KL", "load same")
    print(f"{'':>18}", " ".join(f"{name:>9}" for name in columns))
    heard = _sound(reference, wanted)
    found = []
    for variant in VARIANTS:
        checkpoint = variant.load(folder, pool)
        expected = [_expect(checkpoint, *pair) for pair in zip(prompts, said, strict=True)]
        entry: dict[str, Any] = {
            **asdict(variant),
            **_compare(wanted, expected),
            "mel_distance_db": _distance_db(heard, _sound(reference, expected)),
        }
        if (cost := checkpoint.quality_cost) is not None:
            entry |= {"load_kl": cost.kl_divergence, "load_agreement": cost.greedy_agreement}
        found.append(entry)
        values = [value for value in entry.values() if isinstance(value, float)]
        print(f"{variant!s:>18}", " ".join(f"{value:9.4f}" for value in values), flush=True)
    return found


def measure_words(folder: Path, pool: NativePool) -> list[dict[str, Any]]:
    """How many words a recogniser mishears of held-out sentences, each variant free to speak."""
    sentences = HELDOUT.read_text("utf-8").splitlines()
    print(f"\n{len(sentences)} sentences, words misheard")
    found = []
    for variant in HEARD:
        checkpoint = variant.load(folder, pool)
        total = WordErrors()
        said = _speak(checkpoint, sentences, variant.pool(pool))
        for text, codes in zip(sentences, said, strict=True):
            with torch.inference_mode():
                pcm = checkpoint.codec.decode(codes.t()[None])[0].numpy()
            heard = transcribe(pcm, checkpoint.codec_config.sample_rate_hz)
            total += word_errors(text, heard.text)
        found.append({**asdict(variant), "word_error_rate": total.rate})
        print(f"{variant!s:>18} {total.rate:9.1%} of {total.words}", flush=True)
    return found


def _prompt(checkpoint: Checkpoint, text: str) -> Prompt:
    return Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, text)


def _speak(
    checkpoint: Checkpoint, texts: list[str], pool: NativePool | None = None
) -> list[Tensor]:
    """Frames [F, N] of each of `texts`, sampled as the server samples by default.

    `pool` is what the checkpoint is packed for, if it is.
    """
    engine = Engine(checkpoint.model, ROWS)
    settle(engine, pool=pool)
    return frames_of(engine, [asked(checkpoint, text, seed) for seed, text in enumerate(texts)])


@torch.inference_mode()
def _expect(checkpoint: Checkpoint, prompt: Prompt, said: Tensor) -> Expected:
    """What `checkpoint` expects before each frame of `said` [F, N], and after the last."""
    model, length = checkpoint.model, len(prompt)
    cache = cache_of(model, 1)
    cache.open(0, length)
    cache.extend([0], length)
    hidden = [model.prefill(prompt.tokens, prompt.codes, cache, 0)]
    for index, frame in enumerate(said[:-1]):
        cache.extend([0])
        given = frame[None, 0] + model.semantic_begin_id, frame[None]
        hidden.append(model.decode(*given, torch.tensor([length + index]), cache, [0]))
    slow = torch.cat([model.slow_logits(x) for x in hidden])
    # Frame by frame, because many rows at once are multiplied in another way.
    fast = [model.fast(x, said[i : i + 1])[0, 1:] for i, x in enumerate(hidden)]
    books = torch.stack(fast)[..., : model.config.residual_codebook_size]
    return Expected(slow.float().log_softmax(-1), books.float().log_softmax(-1))


def _compare(wanted: list[Expected], found: list[Expected]) -> dict[str, float]:
    result = {}
    for stack in ("slow", "fast"):
        full, other = (torch.cat([getattr(e, stack) for e in many]) for many in (wanted, found))
        full, other = full.flatten(0, -2), other.flatten(0, -2)
        kl = F.kl_div(other, full, reduction="batchmean", log_target=True)
        result[f"kl_{stack}"] = float(kl)
        same = full.argmax(-1) == other.argmax(-1)
        result[f"agreement_{stack}"] = float(same.float().mean())
    return result


def _entropy(wanted: list[Expected]) -> float:
    log_p = torch.cat([e.slow for e in wanted])
    return float(-(log_p.exp() * log_p).sum(-1).mean())


@torch.inference_mode()
def _sound(checkpoint: Checkpoint, expected: list[Expected]) -> list[Any]:
    """Mel cepstra of the speech made of the most probable code at each place."""
    sounds = []
    for sentence in expected:
        # Without the last column, the end: a frame is wanted at every place.
        semantic = sentence.slow[:, :-1].argmax(-1, keepdim=True)
        codes = torch.cat((semantic, sentence.fast.argmax(-1)), dim=1)
        pcm = checkpoint.codec.decode(codes.t()[None])[0].numpy()
        sounds.append(mel_cepstra(pcm, checkpoint.codec_config.sample_rate_hz))
    return sounds


def _distance_db(wanted: list[Any], found: list[Any]) -> float:
    """Mean over time of the distance between two spectra."""
    off = [torch.from_numpy(a - b) for a, b in zip(wanted, found, strict=True)]
    # By Parseval: a spectrum is the sum of its cepstra's cosines, whose mean square is a half.
    return float(torch.cat(off).square().sum(-1).div(2).sqrt().mean())
