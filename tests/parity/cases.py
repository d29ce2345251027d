"""What is compared: the checkpoints, and the questions put to the oracle about each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.bench.random_checkpoint import special_tokens
from backend.model.config import CodecConfig
from tests.parity.official import Form, Official, small_codec, speechlike, table_names
from tests.parity.oracle import Arrays, Job
from tests.parity.texts import ranks, strings

GREEDY_FRAMES = 256
TEACHER_FRAMES = 20
TEXT = "We'll meet at half past seven, won't we? 123 übermütige 猫."
REFERENCES = ("Nobody knew why the lighthouse had gone dark.", "Où est-ce qu'on achète des œufs?")
REFERENCE_FRAMES = (33, 21)
SETTINGS = tuple(
    (temperature, top_p, penalty)
    for temperature in (0.25, 0.75, 1.0, 1.5)
    for top_p in (0.0625, 0.5, 0.75, 0.875, 1.0)
    for penalty in (1.0, 1.25)
)
"""(temperature, top_p, repetition penalty), all of which bfloat16 holds exactly."""


def _config(codes: int, **values: Any) -> dict[str, Any]:
    # A few rows more than there are tokens, as the official file has.
    vocabulary = len(ranks()) + len(special_tokens(codes)) + 5
    # The package refuses prompts that leave less than 2048 positions.
    fixed = {"model_type": "dual_ar", "vocab_size": vocabulary, "codebook_size": codes}
    return {**fixed, "max_seq_len": 2560, **values}


TINY = _config(64, num_codebooks=4, dim=64, n_layer=3, n_head=4, head_dim=16, n_fast_layer=2)
"""As little as the package allows: everything else is its default, the fast stack inherits."""

VARIED = _config(
    128,
    num_codebooks=5,
    dim=96,
    n_layer=3,
    n_head=6,
    n_local_heads=2,
    head_dim=32,
    intermediate_size=160,
    rope_base=1e6,
    norm_eps=1e-6,
    attention_qk_norm=True,
    scale_codebook_embeddings=True,
    n_fast_layer=2,
    fast_dim=48,
    fast_n_head=4,
    fast_n_local_heads=1,
    fast_head_dim=24,
    fast_intermediate_size=100,
    fast_attention_qk_norm=False,
)

BIASED = _config(
    1536,  # more than the 1024 that residual books are cut to
    num_codebooks=3,
    dim=64,
    n_layer=2,
    n_head=4,
    n_local_heads=4,
    head_dim=None,
    tie_word_embeddings=False,
    attention_qkv_bias=True,
    attention_o_bias=True,
    n_fast_layer=1,
    fast_dim=64,
    fast_n_local_heads=2,
    fast_attention_qkv_bias=False,
    fast_attention_o_bias=True,
    fast_attention_qk_norm=True,
)

S1_MINI = _config(
    4096,
    num_codebooks=10,
    dim=1024,
    n_layer=2,
    n_head=16,
    n_local_heads=8,
    head_dim=128,
    intermediate_size=3072,
    rope_base=1e6,
    norm_eps=1e-6,
    tie_word_embeddings=True,
    attention_qk_norm=True,
    scale_codebook_embeddings=True,
    n_fast_layer=1,
    fast_dim=1024,
    fast_n_head=16,
    fast_n_local_heads=8,
    fast_head_dim=64,
    fast_intermediate_size=3072,
    fast_attention_qk_norm=False,
)

# Seeds with which no greedy choice is closer than 2e-4: well above the rounding of any machine.
CHECKPOINTS = (
    Official("tiny", TINY, small_codec(TINY), Form(), 10),
    Official(
        "varied",
        VARIED,
        small_codec(VARIED),
        Form(lightning=True, extra_audio=True, generator=True, codec_tables=False),
        28,
    ),
    Official("biased", BIASED, small_codec(BIASED), Form(split_qkv=True), 30),
    Official("s1-mini", S1_MINI, small_codec(S1_MINI), Form(dtype=torch.bfloat16), 55),
)
NAMES = tuple(checkpoint.name for checkpoint in CHECKPOINTS)

_BOOKS = ("codebook_size", "num_codebooks", "vocab_size")
FULL_CODEC = Official(
    "full-codec",
    {**TINY, **{key: S1_MINI[key] for key in _BOOKS}},
    form=Form(codec_tables=False, dtype=torch.bfloat16),
    seed=50,
)
"""A tiny transformer beside the codec of the package's own `modded_dac_vq.yaml`."""


@dataclass
class Questions:
    """Jobs for the oracle and the arrays that go with them."""

    jobs: list[Job]
    arrays: Arrays

    def add(self, name: str, kind: str, folder: Path, **job: Any) -> str:
        """A job; its name."""
        self.jobs.append({"name": name, "kind": kind, "folder": str(folder), **job})
        return name


def transformer_questions(asked: Questions, official: Official, folder: Path) -> None:
    """Logits, greedy speech and prompts, without a reference and with two."""
    config, name = official.config, official.name
    books = config["num_codebooks"]
    for index, count in enumerate((0, 2)):
        asked.arrays[f"{name}/logits{count}/grid"] = teacher_grid(config, count, seed=index)
        asked.add(f"{name}/logits{count}", "logits", folder, frames=TEACHER_FRAMES)
    for count in (0, 1, 2):
        job = {"text": TEXT, "reference_texts": REFERENCES[:count], "num_codebooks": books}
        kinds = ("grid",) if count == 1 else ("grid", "greedy")
        for kind in kinds:
            key = asked.add(f"{name}/{kind}{count}", kind, folder, frames=GREEDY_FRAMES + 1, **job)
            for index, codes in enumerate(reference_codes(config)[:count]):
                asked.arrays[f"{key}/codes{index}"] = codes.numpy()


def codec_question(asked: Questions, official: Official, folder: Path, seconds: float) -> None:
    """Codes of some audio, and audio of those codes and of random ones."""
    codec, key = official.codec, f"{official.name}/codec"
    asked.arrays[f"{key}/audio"], asked.arrays[f"{key}/codes"] = codec_input(official, seconds)
    config = None if codec is None else codec.to_json()
    tables = table_names(codec)
    asked.add(key, "codec", folder, config=config, positions=2048, tables=tables)


def shared_questions(asked: Questions, folder: Path) -> None:
    """What needs one checkpoint only: token ids and sampling."""
    asked.add("tokens", "tokens", folder, texts=strings())
    asked.add("control", "tokens", folder, texts=list(CONTROL_TEXTS))
    asked.arrays["probabilities/logits"] = sampling_logits().numpy()
    asked.arrays["probabilities/previous"] = previous_codes().numpy()
    asked.add("probabilities", "probabilities", folder, settings=SETTINGS)


CONTROL_TEXTS = ("<|im_end|>", "<|semantic:5|>", "say <|interleave|> now", "<|im_start|>user\n")


def teacher_grid(config: dict[str, Any], references: int, seed: int) -> NDArray[np.int64]:
    """A grid [1 + N, T]: text, references that end, text again, and the frames it answers."""
    generator = torch.Generator().manual_seed(seed)

    def text(length: int) -> Tensor:
        ids = torch.randint(0, len(ranks()), (1, length), generator=generator)
        return torch.cat((ids, torch.zeros(config["num_codebooks"], length, dtype=torch.long)))

    parts = [text(17)]
    for frames in (*REFERENCE_FRAMES[:references], TEACHER_FRAMES):
        codes = random_codes(config, frames, generator)
        semantic = codes[:1] + semantic_begin(config)
        parts += [torch.cat((semantic, codes)), text(9)]
    return torch.cat(parts[:-1], dim=1).numpy()


def random_codes(config: dict[str, Any], frames: int, generator: torch.Generator) -> Tensor:
    """Codes [N, frames], each within its book."""
    size = config["codebook_size"]
    sizes = [size, *[min(size, 1024)] * (config["num_codebooks"] - 1)]
    return torch.stack([torch.randint(0, n, (frames,), generator=generator) for n in sizes])


def reference_codes(config: dict[str, Any]) -> list[Tensor]:
    """Codes of the two reference recordings."""
    generator = torch.Generator().manual_seed(99)
    return [random_codes(config, frames, generator) for frames in REFERENCE_FRAMES]


def semantic_begin(config: dict[str, Any]) -> int:
    """Id of semantic code 0: the semantic tokens are the last special ones."""
    codes: int = config["codebook_size"]
    return len(ranks()) + len(special_tokens(codes)) - codes


def codec_input(official: Official, seconds: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Audio [1, S], no whole number of frames, and codes [1, N, T]."""
    codec = official.codec or CodecConfig()
    generator = torch.Generator().manual_seed(official.seed)
    codes = random_codes(official.config, round(seconds * codec.frame_rate_hz), generator)
    return speechlike(codec.sample_rate_hz, seconds, official.seed).numpy(), codes[None].numpy()


def sampling_logits() -> Tensor:
    """Rows [K, V] from flat to peaked, one of them with ties."""
    generator = torch.Generator().manual_seed(7)
    rows = torch.randn(8, 1025, generator=generator) * torch.logspace(-2, 1, 8)[:, None]
    rows[3] = (rows[3] * 4).round() / 4
    return rows


def previous_codes() -> Tensor:
    """A window [K, 16] of codes for each row of `sampling_logits`, some of them twice."""
    likely = sampling_logits().topk(8).indices
    return torch.cat((likely, likely[:, :4], torch.arange(4).expand(len(likely), 4)), dim=1)
