"""Encode all speech with the finished codes, then train the transformer to write them."""

import contextlib
import functools
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from backend.model.dual_ar import DualAR
from training.demo_voice.encoding import Encode, encode_all
from training.demo_voice.progress import Log, Progress, save_weights
from training.demo_voice.recipe import Recipe, demo_tokenizer
from training.demo_voice.rows import Batch, Rows
from training.demo_voice.shards import Shards, Utterance, speech_folders
from training.demo_voice.together import Together
from training.demo_voice.train_codec import CODES_FILE
from training.demo_voice.trainee import TransformerTrainee

MODEL_FILE = "model.safetensors"
STEP_FILE = "model.step"


Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""A batch on its way between processes: tokens, frames, learnt."""

PACKERS = 3
"""Processes that pack rows, each a shuffle of its own."""


class TransformerRun:
    """The model, its average, and how a batch becomes a loss."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe, self._device = recipe, device
        self.codes = torch.zeros(1, recipe.transformer.num_codebooks, device=device)
        """Codes [frames, N] of the speech that batches point into."""
        self.phones = torch.zeros(1, dtype=torch.uint8, device=device)
        """Phonemes [frames] of the same."""
        self.pitches = torch.zeros_like(self.phones)
        """And the pitch."""
        tokenizer = demo_tokenizer()
        self._begin = tokenizer.semantic_begin_id
        torch.manual_seed(recipe.seed)
        self.model = DualAR(recipe.transformer, tokenizer.semantic_begin_id, tokenizer.im_end_id)
        self.model.init_weights_()
        plan = recipe.transformer_training
        self.trainee = TransformerTrainee(self.model, plan.dropout, plan.wrong_codes).to(device)
        self._run = torch.compile(self.trainee) if recipe.compile else self.trainee

    def warm_up(self) -> None:
        """Compile, for learning and for the exam, so that it need not be done while codes wait."""
        plan = self._recipe.transformer_training
        shape = (plan.rows, plan.row_tokens + 1)
        tokens = torch.full(shape, self._begin, dtype=torch.int16)
        frames, learnt = torch.zeros(shape, dtype=torch.int32), torch.ones(shape).bool()[:, 1:]
        batch = Batch(tokens, frames, learnt)
        semantic, _, other, phoneme, pitch = self.losses(batch)
        (semantic + other + phoneme + pitch).backward()
        self.trainee.zero_grad(set_to_none=True)
        self.exam(batch)

    @torch.no_grad()
    def exam(self, batch: Batch) -> list[float]:
        """The losses of a batch as it will be used: nothing left out, nothing wrong."""
        self.trainee.eval()
        losses = [float(loss) for loss in self.losses(batch)]
        self.trainee.train()
        return losses

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(semantic loss, accuracy, losses of the other code books, the phonemes, the pitch)."""
        plan, device = self._recipe.transformer_training, self._device
        tokens = batch.tokens.to(device).long()
        frames = batch.frames.to(device).long()
        codes = self.codes[frames.clamp(min=0)].long() * (frames >= 0)[..., None]
        semantic = frames[:, 1:] >= 0
        target = tokens[:, 1:].flatten()
        learnt = batch.learnt.to(device)
        places = (semantic & learnt).flatten().nonzero()[:, 0]
        chosen = places[torch.randperm(len(places), device=device)[: plan.fast_frames]]
        weight = torch.zeros(plan.fast_frames, device=device)
        weight[: len(chosen)] = 1
        chosen = F.pad(chosen, (0, plan.fast_frames - len(chosen)))
        chosen_codes = codes[:, 1:].flatten(0, 1)[chosen]
        phones, pitches = (
            (told[frames[:, 1:].clamp(min=0)].long() * semantic).flatten()
            for told in (self.phones, self.pitches)
        )
        with torch.autocast(device.type, torch.bfloat16):
            losses: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = self._run(
                tokens[:, :-1], codes[:, :-1], target, learnt.flatten().float(),
                phones, pitches, chosen, chosen_codes, weight,
            )  # fmt: skip
        return losses


def _produce(
    rows: "functools.partial[Rows]", count: int, ready: "multiprocessing.Queue[Arrays]"
) -> None:
    """Batches of `count` rows into `ready`, for ever."""
    torch.set_num_threads(1)
    for batch in rows().batches(count):
        ready.put((batch.tokens.numpy(), batch.frames.numpy(), batch.learnt.numpy()))


def _batches(
    sentences: list[Utterance], rows: "functools.partial[Rows]", count: int, seed: int
) -> Iterator[Batch]:
    """Batches made in processes of their own: packing rows would keep the steps' Python waiting."""
    context = multiprocessing.get_context("spawn")
    ready: multiprocessing.Queue[Arrays] = context.Queue(16)
    for index in range(PACKERS):
        packed = functools.partial(rows, sentences, seed=seed + index)
        context.Process(target=_produce, args=(packed, count, ready), daemon=True).start()
    while True:
        yield Batch(*(torch.from_numpy(part) for part in ready.get()))


def _split(utterances: list[Utterance], heldout: int) -> tuple[list[Utterance], list[Utterance]]:
    """Training and held-out sentences; the latter are the last of the default speaker's and of
    the others', in equal parts."""
    default = [u for u in utterances if u.speaker_id == 0][-heldout // 2 :]
    others = [u for u in utterances if u.speaker_id != 0][-heldout // 2 :]
    kept = {u.begin_frame for u in (*default, *others)}
    return [u for u in utterances if u.begin_frame not in kept], [*default, *others]


def train_transformer(
    recipe: Recipe, work: Path, device: torch.device, rank: int = 0, count: int = 1
) -> None:
    """Wait for speech and codes, encode, train; taken up where `work` says it stands.

    As the `rank`-th of `count` processes: each encodes and learns from a part of the speech of its
    own, and their gradients are averaged.
    """
    name = f"transformer-{rank}" if rank else "transformer"
    log, plan = Log(work / f"{name}.log"), recipe.transformer_training
    together = Together(rank, count, work / "meeting")
    run = TransformerRun(recipe, device)
    torch.manual_seed(recipe.seed + rank)
    run.warm_up()
    encode = Encode(recipe, device)
    encode.warm_up()
    log(event="warm")
    own = speech_folders(work)[rank::count]
    shards = Shards(own, recipe.hours / count, recipe.codec.frame_samples, device)
    shards.read_all()
    log(event="speech", hours=shards.hours, utterances=len(shards.utterances))
    while not (work / CODES_FILE).exists():
        time.sleep(0.5)
    encode.codec.load_state_dict(load_file(work / CODES_FILE))
    codes, changed, done = encode_all(encode, shards, plan.encode_seconds)
    utterances, rate_hz = shards.utterances[:done], recipe.codec.frame_rate_hz
    length = utterances[-1].begin_frame + utterances[-1].frames
    codes, changed = codes[:length], changed[:length]
    run.codes = torch.cat((codes, changed))
    run.phones, run.pitches = shards.phones[:length].repeat(2), shards.pitches[:length].repeat(2)
    del shards, encode
    torch.cuda.empty_cache()
    counts = [
        torch.bincount(codes[:, n].long(), minlength=1024).float() for n in range(codes.shape[1])
    ]
    entropy = [float(torch.distributions.Categorical(c).entropy() / 0.6931) for c in counts]
    log(
        event="encoded",
        frames=len(codes),
        utterances=done,
        entropy_bits=[round(e, 2) for e in entropy],
    )

    training, heldout = _split(utterances, plan.heldout_sentences)
    semantic = run.codes[:, 0].cpu().numpy()

    rows = functools.partial(
        Rows,
        semantic=semantic,
        row_tokens=plan.row_tokens,
        frame_rate_hz=rate_hz,
        strange_begin=length,
    )
    exam = next(rows(heldout, seed=1).batches(plan.rows))
    batches = _batches(training, rows, plan.rows, recipe.seed + PACKERS * rank)
    _train(recipe, run, batches, exam, work, log, together)
    together.close()


def _train(
    recipe: Recipe,
    run: TransformerRun,
    batches: Iterator[Batch],
    exam: Batch,
    work: Path,
    log: Log,
    together: Together,
) -> None:
    plan, model = recipe.transformer_training, run.model
    reader = [*run.trainee.reader.parameters(), *run.trainee.pitch_reader.parameters()]
    done = 0
    if (work / MODEL_FILE).exists():
        model.load_state_dict(load_file(work / MODEL_FILE))
        done = int((work / STEP_FILE).read_text())
    names = dict(model.named_parameters())
    matrices = [p for n, p in names.items() if p.ndim > 1 and "embeddings" not in n]
    others = [p for n, p in names.items() if p.ndim < 2 or "embeddings" in n]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": [*others, *reader], "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).is_cuda
    optimizer = torch.optim.AdamW(groups, plan.peak_lr, (0.9, 0.95), fused=fused)
    weights: list[Tensor] = list(names.values())
    average = [p.detach().clone() for p in weights]
    best, best_loss = [p.clone() for p in average], float("inf")
    progress = Progress(plan.steps, plan.seconds, plan.warmup_steps, done)
    sums = torch.zeros(5, device=weights[0].device)
    last_s = saved_s = time.monotonic()

    def save() -> None:
        save_weights(dict(zip(names, best, strict=True)), work / MODEL_FILE)
        (work / STEP_FILE).write_text(str(progress.step))

    while progress.next(together.agreed):
        semantic, right, other, phoneme, pitch = run.losses(next(batches))
        optimizer.zero_grad(set_to_none=True)
        (semantic + 2 * other + plan.phones * phoneme + plan.pitch * pitch).backward()
        together.average_([p.grad for p in (*weights, *reader) if p.grad is not None])
        torch.nn.utils.clip_grad_norm_([*weights, *reader], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = progress.lr(plan.peak_lr)
        optimizer.step()
        # Early on the average must forget quickly.
        decay = min(plan.average, (progress.step - done) / (progress.step - done + 10))
        torch._foreach_lerp_(average, [p.detach() for p in weights], 1 - decay)
        if not together.leads:
            continue
        sums += torch.stack((semantic, right, other, phoneme, pitch)).detach()
        if progress.step % plan.log_steps == 0:
            with _in_place_of(weights, average):
                held = run.exam(exam)
            if held[0] + 2 * held[2] < best_loss:
                best_loss = held[0] + 2 * held[2]
                torch._foreach_copy_(best, average)
            mean = [round(v, 3) for v in (sums / plan.log_steps).tolist()]
            rate = plan.log_steps / (time.monotonic() - last_s)
            log(step=progress.step, semantic_right_other_phoneme_pitch=mean,
                heldout=[round(v, 3) for v in held], steps_per_s=rate,
                fraction=progress.fraction)  # fmt: skip
            sums.zero_()
            last_s = time.monotonic()
        if time.monotonic() - saved_s > 60:
            save()
            saved_s = time.monotonic()
    if together.leads:
        save()
    log(event="done", step=progress.step)


@contextlib.contextmanager
def _in_place_of(weights: list[Tensor], others: list[Tensor]) -> Iterator[None]:
    """`others` in the place of `weights`, for a while and without gradients."""
    kept = [p.detach().clone() for p in weights]
    with torch.no_grad():
        torch._foreach_copy_(weights, others)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, kept)
