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
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from backend.model.layers import causal
from training.demo_voice.progress import Log, Progress, save_weights
from training.demo_voice.recipe import PHONES, Recipe, demo_tokenizer
from training.demo_voice.rows import Batch, Rows
from training.demo_voice.shards import Shards, Utterance
from training.demo_voice.strange import strange
from training.demo_voice.train_codec import CODES_FILE

MODEL_FILE = "model.safetensors"
STEP_FILE = "model.step"


Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""A batch on its way between processes: tokens, frames, learnt."""

PACKERS = 3
"""Processes that pack rows, each a shuffle of its own."""

ENCODE_FRAMES = (40, 64, 96, 128, 176, 256, 384)
"""Lengths that utterances are filled up to with silence before they are encoded: as many shapes as
a compiler makes apart. Longer ones go as they are, uncompiled."""
ENCODE_TOGETHER = 16_384
"""Utterances sorted by length and encoded before the clock is looked at."""


class Encode:
    """A codec's codes of whole waveforms, compiled: its layers of few channels are all memory."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        # Half precision halves the time; its eleven bits change hardly a code.
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.codec = DAC(recipe.codec).to(device, self.dtype).eval()
        self.frame_samples, self._device = recipe.codec.frame_samples, device
        self._samples = recipe.transformer_training.encode_samples
        self._compiled = torch.compile(self._codes, dynamic=False) if recipe.compile else None

    def _codes(self, audio: Tensor) -> Tensor:
        return self.codec.quantizer.encode(self.codec.encoder(audio[:, None]))

    def together(self, frames: int) -> int:
        """How many utterances of that length are encoded at once."""
        return max(1, self._samples // (frames * self.frame_samples))

    @torch.no_grad()
    def warm_up(self) -> None:
        """Compile."""
        for frames in ENCODE_FRAMES if self._compiled else ():
            self(torch.zeros(1, frames * self.frame_samples, device=self._device))

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Tensor:
        """Waveform [B, samples], whole frames, to codes [B, frames, N] int16."""
        frames = audio.shape[1] // self.frame_samples
        count, audio = len(audio), audio.to(self.dtype)
        if self._compiled is None or frames not in ENCODE_FRAMES:
            codes = self._codes(audio)
        else:
            codes = self._compiled(F.pad(audio, (0, 0, 0, self.together(frames) - count)))
        return codes[:count].transpose(1, 2).to(torch.int16)


@torch.no_grad()
def encode_all(encode: Encode, shards: Shards, seconds: float) -> tuple[Tensor, Tensor, int]:
    """Codes [frames, N] int16 of the speech, the same where it was made strange first (of speakers
    other than the default one), and how many utterances were done in `seconds`.

    Each utterance is encoded apart. Those of like length go together; a shorter one is followed by
    silence, which a causal codec does not hear until it is over.
    """
    frame, device = encode.frame_samples, shards.audio.device
    shape = (shards.samples // frame, encode.codec.config.num_codebooks)
    codes = torch.zeros(shape, dtype=torch.int16, device=device)
    changed = torch.zeros(shape, dtype=torch.int16, device=device)
    began_s, done = time.monotonic(), 0
    while done < len(shards.utterances) and time.monotonic() - began_s < seconds:
        together = shards.utterances[done : done + ENCODE_TOGETHER]
        done += len(together)
        for speakers, made, alter in (
            (together, codes, False),
            ([u for u in together if u.speaker_id], changed, True),
        ):
            ordered = sorted(speakers, key=lambda u: u.frames)
            while ordered:
                fits = [n for n in ENCODE_FRAMES if n >= ordered[0].frames]
                longest = fits[0] if fits else ordered[-1].frames
                alike = sum(u.frames <= longest for u in ordered)
                count = min(alike, encode.together(longest))
                group, ordered = ordered[:count], ordered[count:]
                first = torch.tensor([u.begin_frame for u in group], device=device)
                frames = torch.tensor([u.frames for u in group], device=device)
                samples = torch.arange(longest * frame, device=device)
                index = (first[:, None] * frame + samples).clamp(max=shards.audio.numel() - 1)
                silent = samples >= frames[:, None] * frame
                audio = (shards.audio[index] / 32768).masked_fill(silent, 0)
                found = encode(strange(audio) if alter else audio)
                places = first[:, None] + torch.arange(longest, device=device)
                real = torch.arange(longest, device=device) < frames[:, None]
                made[places[real]] = found[real]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return codes, changed, done


class TransformerTrainee(nn.Module):
    """Losses of a batch: semantic codes and the end, the frames' other code books, and phonemes.

    While it learns, part of what each slow layer adds is left out, and some of the codes that it
    reads are wrong. The reader of phonemes does not ship.
    """

    def __init__(self, model: DualAR, dropout: float, wrong_codes: float) -> None:
        super().__init__()
        self.model, self._dropout, self._wrong = model, dropout, wrong_codes
        self.reader = nn.Linear(model.config.slow.dim, PHONES)

    def forward(
        self, tokens: Tensor, codes: Tensor, target: Tensor, weight: Tensor, phones: Tensor,
        chosen: Tensor, chosen_codes: Tensor, chosen_weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """tokens [B, T], codes [B, T, N], target legal columns [B·T], phonemes [B·T]; `chosen` [M]
        positions of B·T whose next frame has `chosen_codes` [M, N].

        Returns the semantic loss, its accuracy, the mean loss of the other code books, and that of
        the phonemes.
        """
        model = self.model
        read, fast_read = codes, chosen_codes
        if self.training:
            tokens, read = self._slip(tokens, codes)
            wrong = torch.rand(fast_read.shape, device=fast_read.device) < self._wrong
            fast_read = torch.where(wrong, fast_read.roll(1, 0), fast_read)
        x = F.dropout(model.embed(tokens, read), self._dropout, self.training)
        rope = model.slow_rope(torch.arange(tokens.shape[-1], device=tokens.device)[None])
        for layer in model.layers:
            x = x + F.dropout(layer(x, rope, causal) - x, self._dropout, self.training)
        hidden = x.flatten(0, 1)
        logits = model.slow_logits(hidden).float()
        losses = F.cross_entropy(logits, target, reduction="none")
        total = weight.sum().clamp(min=1)
        right = ((logits.argmax(-1) == target).float() * weight).sum() / total
        told = F.cross_entropy(self.reader(hidden).float(), phones, reduction="none")
        fast = model.fast(hidden[chosen], fast_read)[:, 1:].float()
        fast_losses = F.cross_entropy(
            fast.flatten(0, 1), chosen_codes[:, 1:].flatten(), reduction="none"
        ).view(len(chosen), -1)
        other = (fast_losses.mean(1) * chosen_weight).sum() / chosen_weight.sum().clamp(min=1)
        semantic, phoneme = ((loss * weight).sum() / total for loss in (losses, told))
        return semantic, right, other, phoneme

    def _slip(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The same with another frame's codes here and there."""
        begin, size = self.model.semantic_begin_id, self.model.config.codebook_size
        spoken = (tokens >= begin) & (tokens < begin + size)
        elsewhere, others = tokens.roll(1, 0), codes.roll(1, 0)
        both = spoken & (elsewhere >= begin) & (elsewhere < begin + size)
        swap = both & (torch.rand(tokens.shape, device=tokens.device) < self._wrong)
        return torch.where(swap, elsewhere, tokens), torch.where(swap[..., None], others, codes)


class TransformerRun:
    """The model, its average, and how a batch becomes a loss."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe, self._device = recipe, device
        self.codes = torch.zeros(1, recipe.transformer.num_codebooks, device=device)
        """Codes [frames, N] of the speech that batches point into."""
        self.phones = torch.zeros(1, dtype=torch.uint8, device=device)
        """Phonemes [frames] of the same."""
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
        semantic, _, other, phoneme = self.losses(batch)
        (semantic + other + phoneme).backward()
        self.trainee.zero_grad(set_to_none=True)
        self.exam(batch)

    @torch.no_grad()
    def exam(self, batch: Batch) -> list[float]:
        """The losses of a batch as it will be used: nothing left out, nothing wrong."""
        self.trainee.eval()
        losses = [float(loss) for loss in self.losses(batch)]
        self.trainee.train()
        return losses

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(semantic loss, accuracy, loss of the other code books, loss of the phonemes)."""
        plan, device = self._recipe.transformer_training, self._device
        tokens = batch.tokens.to(device).long()
        frames = batch.frames.to(device).long()
        codes = self.codes[frames.clamp(min=0)].long() * (frames >= 0)[..., None]
        following = tokens[:, 1:]
        semantic = frames[:, 1:] >= 0
        end = self.model.end_column
        target = torch.where(semantic, following - self._begin, end).flatten()
        learnt = batch.learnt.to(device)
        places = (semantic & learnt).flatten().nonzero()[:, 0]
        chosen = places[torch.randperm(len(places), device=device)[: plan.fast_frames]]
        weight = torch.zeros(plan.fast_frames, device=device)
        weight[: len(chosen)] = 1
        chosen = F.pad(chosen, (0, plan.fast_frames - len(chosen)))
        chosen_codes = codes[:, 1:].flatten(0, 1)[chosen]
        phones = self.phones[frames[:, 1:].clamp(min=0)].long() * semantic
        with torch.autocast(device.type, torch.bfloat16):
            losses: tuple[Tensor, Tensor, Tensor, Tensor] = self._run(
                tokens[:, :-1], codes[:, :-1], target, learnt.flatten().float(),
                phones.flatten(), chosen, chosen_codes, weight,
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


def train_transformer(recipe: Recipe, work: Path, device: torch.device) -> None:
    """Wait for speech and codes, encode, train; taken up where `work` says it stands."""
    log, plan = Log(work / "transformer.log"), recipe.transformer_training
    run = TransformerRun(recipe, device)
    run.warm_up()
    encode = Encode(recipe, device)
    encode.warm_up()
    log(event="warm")
    shards = Shards(work / "speech", recipe.hours, recipe.codec.frame_samples, device)
    shards.read_all()
    log(event="speech", hours=shards.hours, utterances=len(shards.utterances))
    while not (work / CODES_FILE).exists():
        time.sleep(0.5)
    encode.codec.load_state_dict(load_file(work / CODES_FILE))
    codes, changed, done = encode_all(encode, shards, plan.encode_seconds)
    utterances, rate_hz = shards.utterances[:done], recipe.codec.frame_rate_hz
    length = utterances[-1].begin_frame + utterances[-1].frames
    codes, changed, phones = codes[:length], changed[:length], shards.phones[:length]
    run.codes, run.phones = torch.cat((codes, changed)), torch.cat((phones, phones))
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
    batches = _batches(training, rows, plan.rows, recipe.seed)
    _train(recipe, run, batches, exam, work, log)


def _train(
    recipe: Recipe, run: TransformerRun, batches: Iterator[Batch], exam: Batch, work: Path, log: Log
) -> None:
    plan, model = recipe.transformer_training, run.model
    reader = list(run.trainee.reader.parameters())
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
    sums = torch.zeros(4, device=weights[0].device)
    last_s = saved_s = time.monotonic()

    def save() -> None:
        save_weights(dict(zip(names, best, strict=True)), work / MODEL_FILE)
        (work / STEP_FILE).write_text(str(progress.step))

    while progress.next():
        semantic, right, other, phoneme = run.losses(next(batches))
        optimizer.zero_grad(set_to_none=True)
        (semantic + 2 * other + plan.phones * phoneme).backward()
        torch.nn.utils.clip_grad_norm_([*weights, *reader], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = progress.lr(plan.peak_lr)
        optimizer.step()
        # Early on the average must forget quickly.
        decay = min(plan.average, (progress.step - done) / (progress.step - done + 10))
        torch._foreach_lerp_(average, [p.detach() for p in weights], 1 - decay)
        sums += torch.stack((semantic, right, other, phoneme)).detach()
        if progress.step % 200 == 0:
            with _in_place_of(weights, average):
                held = run.exam(exam)
            if held[0] + 2 * held[2] < best_loss:
                best_loss = held[0] + 2 * held[2]
                torch._foreach_copy_(best, average)
            mean = [round(v, 3) for v in (sums / 200).tolist()]
            rate = 200 / (time.monotonic() - last_s)
            log(step=progress.step, semantic_right_other_phoneme=mean,
                heldout=[round(v, 3) for v in held], steps_per_s=rate,
                fraction=progress.fraction)  # fmt: skip
            sums.zero_()
            last_s = time.monotonic()
        if time.monotonic() - saved_s > 60:
            save()
            saved_s = time.monotonic()
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
