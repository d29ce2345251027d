"""The ways on a CUDA device, and ways made to say given frames, so that each step can be compared
whatever is drawn."""

import functools
import random
import tempfile
from collections.abc import Sequence as ManyOf
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import backend
from backend.core import Quantization, SamplingParams
from backend.engine.agreement import Agreement, Made, Tally
from backend.engine.engine import Engine
from backend.engine.frame import EagerWay, State, Way
from backend.engine.graph import GraphWay
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sequence
from backend.engine.slots import WINDOW, Slots
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.dual_ar import DualAR
from tests.spoken import drain, frames_of
from tests.tiny import tiny_checkpoint

GPU = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # The machine's own torch and driver may warn of what is not ours.
    pytest.mark.filterwarnings("default"),
]
"""`pytestmark` of every file here."""

WAYS = ("eager", "graph", "fused") if find_spec("triton") else ("eager", "graph")

VOICE_DIR = Path(backend.__file__).parent / "checkpoints" / "demo"
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, repetition_penalty=1.0)
TEXTS = (
    "The old lighthouse keeper climbed the stairs.",
    "Rain.",
    "Nobody had seen the boat since the storm of the year before, and nobody asked.",
)
FRAMES = 24
DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

RANDOM: dict[str, Any] = {
    "dim": 256,
    "n_layer": 4,
    "n_head": 4,
    "n_local_heads": 2,
    "head_dim": 64,
    "intermediate_size": 512,
    "vocab_size": 1312,
    "codebook_size": 1024,
    "num_codebooks": 8,
    "max_seq_len": 2048,
    "fast_dim": 256,
    "fast_n_head": 4,
    "fast_n_local_heads": 2,
    "fast_head_dim": 64,
    "fast_intermediate_size": 512,
}
"""A transformer that speaks for as long as it is let."""


@functools.cache
def voice(device: str, precision: str, quantization: Quantization = "none") -> Checkpoint:
    """The shipped voice."""
    return load_checkpoint(
        VOICE_DIR,
        device=device,
        dtype=DTYPES[precision],
        codec_dtype=torch.float32,
        quantization=quantization,
    )


@functools.cache
def random_model(device: str, precision: str, **overrides: Any) -> DualAR:
    """One with random weights, which never ends by itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = tiny_checkpoint(Path(folder), end_scale=0.0, **{**RANDOM, **overrides})
        return load_checkpoint(path, device=device, dtype=DTYPES[precision]).model


def way_of(name: str, state: State) -> Way:
    """A way called `name` on `state`, which is its own."""
    if name == "fused":  # not imported above: there may be no Triton
        return cast(Way, import_module("backend.engine.fused").FusedWay(state))
    return GraphWay(state) if name == "graph" else EagerWay(state)


def engine_of(model: DualAR, max_batch: int, name: str) -> Engine:
    """An engine that speaks in the way called `name`."""
    engine = Engine(model, max_batch)
    engine.runner.way = way_of(name, engine.runner.state)
    return engine


def asked(
    model: DualAR,
    length: int,
    frames: int,
    sampling: SamplingParams = GREEDY,
    reference_frames: int = 0,
) -> Sequence:
    """A sequence with a random prompt, spoken frames in its midst if a reference is asked for."""
    chance, config = random.Random(length + reference_frames), model.config
    total = length + reference_frames
    tokens = torch.tensor([chance.randrange(256) for _ in range(total)])
    codes = torch.zeros(total, config.num_codebooks, dtype=torch.int64)
    generator = torch.Generator().manual_seed(total)
    shape, begin = (reference_frames, config.num_codebooks), length // 2
    spoken = torch.randint(config.residual_codebook_size, shape, generator=generator)
    codes[begin : begin + reference_frames] = spoken
    tokens[begin : begin + reference_frames] = spoken[:, 0] + model.semantic_begin_id
    prompt = Prompt(tokens, codes, reference_frames)
    return Sequence(prompt, sampling, frames, config.max_seq_len)


@functools.cache
def prompts() -> tuple[Prompt, ...]:
    """What `TEXTS` ask for."""
    checkpoint = voice("cpu", "fp32")
    books = checkpoint.config.num_codebooks
    return tuple(Prompt.build(checkpoint.tokenizer, books, text) for text in TEXTS)


@functools.cache
def said() -> tuple[Tensor, ...]:
    """The greedy frames [FRAMES, N] that the CPU's fp32 engine answers each prompt with."""
    model = voice("cpu", "fp32").model
    answers = []
    for prompt in prompts():
        sequence = Sequence(prompt, GREEDY, FRAMES, model.config.max_seq_len)
        answers.append(frames_of(drain(Engine(model, 1), sequence))[sequence])
    return tuple(answers)


def read(way: Way, state: State, slot: int, prompt: Prompt, pieces: ManyOf[int]) -> None:
    """Read `prompt` into `slot` in pieces of so many tokens, the last one of what is left."""
    device, last = state.model.embeddings.weight.device, len(prompt) - 1
    tokens, codes = prompt.tokens.to(device), prompt.codes.to(device)
    state.cache.open(slot, len(prompt))
    state.slots.open(slot, GREEDY)
    begin = 0
    for size in (*pieces, last):
        if (end := min(begin + size, last)) > begin:
            state.cache.extend([slot], end - begin)
            way.read(slot, tokens[begin:end], codes[begin:end])
            begin = end
    state.slots.begin(slot, tokens[-1], codes[-1], last)


def force(slots: Slots, rows: Tensor, frames: Tensor, semantic_begin_id: int) -> None:
    """Let the slots `rows` [B] go on as if the frames they just made had been `frames` [B, N]."""
    slots.history[rows, (slots.frames[rows] - 1) % WINDOW] = frames
    slots.tokens[rows] = frames[:, 0] + semantic_begin_id
    slots.codes[rows] = frames


@torch.inference_mode()
def drawn(model: DualAR, rows: list[int], name: str = "eager") -> list[Made]:
    """What the way called `name` draws greedily at each step while the prompts `rows` say `said()`
    side by side.

    All is on the CPU, logits as float32; the rows go as far as the shortest answer.
    """
    state = State.of(model, len(rows))
    way, slots, device = way_of(name, state), list(range(len(rows))), state.slots.tokens.device
    for slot, index in enumerate(rows):
        read(way, state, slot, prompts()[index], [])
    found = []
    for step in range(min(len(said()[index]) for index in rows)):
        state.cache.extend(slots)
        codes = way.frame(slots).to("cpu", copy=True)  # the next frame is made in the same place
        logits = [each.to("cpu", torch.float32, copy=True) for each in way.logits(slots)]
        found.append(Made(codes, logits))
        frames = torch.stack([said()[index][step] for index in rows]).to(device)
        force(state.slots, torch.tensor(slots, device=device), frames, model.semantic_begin_id)
    return found


def agreement(wanted: list[Made], found: list[Made], rows: slice = slice(None)) -> Agreement:
    """How far two runs of the same rows agree; `rows` picks those of `found`."""
    tally = Tally()
    for one, other in zip(wanted, found, strict=False):
        tally.count(one, Made(other.codes[rows], [logits[rows] for logits in other.logits]))
    return tally.agreement(torch.inf, 0.0)
