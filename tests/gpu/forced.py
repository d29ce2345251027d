"""The engine made to say given frames, so that each step can be compared whatever is drawn."""

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

import backend
from backend.core import Quantization, SamplingParams
from backend.engine.agreement import Agreement, Tally
from backend.engine.engine import Engine
from backend.engine.frame import Drawn, EagerFrame, Frame
from backend.engine.prompt import Prompt
from backend.engine.rows import Rows
from backend.engine.sequence import Sequence
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.dual_ar import DualAR
from backend.model.kv_cache import KVCache

GPU = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # The machine's own torch and driver may warn of what is not ours.
    pytest.mark.filterwarnings("default"),
]
"""`pytestmark` of every file here."""

VOICE_DIR = Path(backend.__file__).parent / "checkpoints" / "demo"
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, repetition_penalty=1.0)
TEXTS = (
    "The old lighthouse keeper climbed the stairs.",
    "Rain.",
    "Nobody had seen the boat since the storm of the year before, and nobody asked.",
)
FRAMES = 24


@functools.cache
def voice(device: str, precision: str, quantization: Quantization = "none") -> Checkpoint:
    """The shipped voice."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return load_checkpoint(
        VOICE_DIR,
        device=device,
        dtype=dtype,
        codec_dtype=torch.float32,
        quantization=quantization,
    )


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
        engine = Engine(model, 1)
        engine.add(Sequence(prompt, GREEDY, FRAMES, model.config.max_seq_len))
        made = []
        while not engine.is_idle:
            made += [p.frame for p in engine.step().progress if p.frame is not None]
        answers.append(torch.stack(made))
    return tuple(answers)


@torch.inference_mode()
def drawn(model: DualAR, rows: list[int], frame: Frame | None = None) -> list[Drawn]:
    """What `model` draws greedily at each step while the prompts `rows` say `said()` side by side.

    All is on the CPU, logits as float32; the rows go as far as the shortest answer.
    """
    device, books = model.embeddings.weight.device, model.config.num_codebooks
    frame = EagerFrame(model) if frame is None else frame
    state = Rows(len(rows), books, device)
    cache = KVCache(model.config.slow, model.embeddings.weight.dtype, device)
    hidden = []
    for row, index in enumerate(rows):
        prompt = prompts()[index]
        state.add(GREEDY, len(prompt))
        cache.add_row(len(prompt))
        given = prompt.tokens.to(device), prompt.codes.to(device)
        hidden.append(model.prefill(*given, cache, row))
    now, every, found = torch.cat(hidden), slice(0, len(rows)), []
    for step in range(min(len(said()[index]) for index in rows)):
        made = frame.draw(now, state.draw(every))
        found.append(Drawn([x.cpu() for x in made.codes], [x.float().cpu() for x in made.logits]))
        state.record(every, torch.stack([said()[index][step] for index in rows]).to(device))
        cache.advance()
        now = frame.hidden(state.codes[every], state.positions[every], cache)
    return found


def agreement(wanted: list[Drawn], found: list[Drawn], rows: slice = slice(None)) -> Agreement:
    """How far two runs of the same rows agree; `rows` picks those of `found`."""
    tally = Tally()
    for one, other in zip(wanted, found, strict=False):
        picked = Drawn([x[rows] for x in other.codes], [x[rows] for x in other.logits])
        tally.count(one, picked)
    return tally.agreement(torch.inf, 0.0)
