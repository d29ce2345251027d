"""Encode all speech with the finished codes, then train the transformer to write them."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from training.demo_voice.progress import Log, Progress, save_weights
from training.demo_voice.recipe import Recipe, demo_tokenizer
from training.demo_voice.rows import Batch, Rows
from training.demo_voice.shards import Shards, Utterance
from training.demo_voice.train_codec import CODES_FILE

MODEL_FILE = "model.safetensors"
STEP_FILE = "model.step"


ENCODE_TOGETHER = 16_384
"""Utterances sorted by length and encoded before the clock is looked at."""


@torch.no_grad()
def encode_all(
    codec: DAC, shards: Shards, batch_samples: int, seconds: float
) -> tuple[Tensor, int]:
    """Codes [frames, N] int16 of the speech, and how many utterances were done in `seconds`.

    Each utterance is encoded apart. Those of like length go together; a shorter one is followed by
    silence, which a causal codec does not hear until it is over.
    """
    frame, device = codec.config.frame_samples, shards.audio.device
    dtype = next(codec.parameters()).dtype
    shape = (shards.samples // frame, codec.config.num_codebooks)
    codes = torch.zeros(shape, dtype=torch.int16, device=device)
    began_s, done = time.monotonic(), 0
    while done < len(shards.utterances) and time.monotonic() - began_s < seconds:
        together = shards.utterances[done : done + ENCODE_TOGETHER]
        done += len(together)
        ordered = sorted(together, key=lambda u: u.frames)
        while ordered:
            count = max(1, batch_samples // (frame * (ordered[0].frames + 8)))
            group, ordered = ordered[:count], ordered[count:]
            # Whole eights of frames keep the number of distinct shapes small.
            longest = -(-group[-1].frames // 8) * 8
            first = torch.tensor([u.begin_frame for u in group], device=device)
            frames = torch.tensor([u.frames for u in group], device=device)
            samples = torch.arange(longest * frame, device=device)
            index = (first[:, None] * frame + samples).clamp(max=shards.audio.numel() - 1)
            silent = samples >= frames[:, None] * frame
            audio = (shards.audio[index] / 32768).masked_fill(silent, 0).to(dtype)
            made = codec.encode(audio).transpose(1, 2).to(torch.int16)
            places = first[:, None] + torch.arange(longest, device=device)
            real = torch.arange(longest, device=device) < frames[:, None]
            codes[places[real]] = made[real]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return codes, done


class TransformerTrainee(nn.Module):
    """Losses of a batch: semantic codes and the end, and the frames' other code books."""

    def __init__(self, model: DualAR) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, codes: Tensor, target: Tensor, weight: Tensor,
        chosen: Tensor, chosen_codes: Tensor, chosen_weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """tokens [B, T], codes [B, T, N], target legal columns [B·T]; `chosen` [M] positions of
        B·T whose next frame has `chosen_codes` [M, N].

        Returns the semantic loss, its accuracy and the mean loss of the other code books.
        """
        hidden = self.model.slow(tokens, codes).flatten(0, 1)
        logits = self.model.slow_logits(hidden).float()
        losses = F.cross_entropy(logits, target, reduction="none")
        total = weight.sum().clamp(min=1)
        right = ((logits.argmax(-1) == target).float() * weight).sum() / total
        fast = self.model.fast(hidden[chosen], chosen_codes)[:, 1:].float()
        fast_losses = F.cross_entropy(
            fast.flatten(0, 1), chosen_codes[:, 1:].flatten(), reduction="none"
        ).view(len(chosen), -1)
        other = (fast_losses.mean(1) * chosen_weight).sum() / chosen_weight.sum().clamp(min=1)
        return (losses * weight).sum() / total, right, other


class TransformerRun:
    """The model, its average, and how a batch becomes a loss."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe, self._device = recipe, device
        self.codes = torch.zeros(1, recipe.transformer.num_codebooks, device=device)
        """Codes [frames, N] of the speech that batches point into."""
        tokenizer = demo_tokenizer()
        self._begin = tokenizer.semantic_begin_id
        torch.manual_seed(recipe.seed)
        self.model = DualAR(recipe.transformer, tokenizer.semantic_begin_id, tokenizer.im_end_id)
        self.model.init_weights_()
        self.model.to(device)
        trainee = TransformerTrainee(self.model)
        self._trainee = torch.compile(trainee) if recipe.compile else trainee

    def warm_up(self) -> None:
        """Compile, so that it need not be done while codes wait."""
        plan = self._recipe.transformer_training
        shape = (plan.rows, plan.row_tokens + 1)
        tokens = torch.full(shape, self._begin, dtype=torch.int16)
        frames, learnt = torch.zeros(shape, dtype=torch.int32), torch.ones(shape).bool()[:, 1:]
        semantic, _, other = self.losses(Batch(tokens, frames, learnt))
        (semantic + other).backward()
        self.model.zero_grad(set_to_none=True)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(semantic loss, accuracy, loss of the other code books)."""
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
        with torch.autocast(device.type, torch.bfloat16):
            losses: tuple[Tensor, Tensor, Tensor] = self._trainee(
                tokens[:, :-1], codes[:, :-1], target, learnt.flatten().float(),
                chosen, chosen_codes, weight,
            )  # fmt: skip
        return losses


def _prefetch(batches: Iterator[Batch], depth: int = 8) -> Iterator[Batch]:
    """The same batches, made in a thread ahead of their use."""
    ready: queue.Queue[Batch] = queue.Queue(depth)

    def fill() -> None:
        for batch in batches:
            ready.put(batch)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


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
    log(event="warm")
    codec = DAC(recipe.codec)
    shards = Shards(work / "speech", recipe.hours, recipe.codec.frame_samples, device)
    shards.read_all()
    log(event="speech", hours=shards.hours, utterances=len(shards.utterances))
    while not (work / CODES_FILE).exists():
        time.sleep(0.5)
    codec.load_state_dict(load_file(work / CODES_FILE))
    # Half precision halves the time; its eleven bits change hardly a code.
    codec.to(device, torch.float16 if device.type == "cuda" else torch.float32).eval()
    codes, done = encode_all(codec, shards, plan.encode_samples, plan.encode_seconds)
    utterances, rate_hz = shards.utterances[:done], recipe.codec.frame_rate_hz
    codes = codes[: utterances[-1].begin_frame + utterances[-1].frames]
    run.codes = codes
    del shards, codec
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
    semantic = codes[:, 0].cpu().numpy()

    def rows(sentences: list[Utterance], seed: int) -> Rows:
        return Rows(sentences, demo_tokenizer(), semantic, plan.row_tokens, rate_hz, seed)

    exam = next(rows(heldout, 1).batches(min(plan.rows, max(1, len(heldout) // 8))))
    batches = _prefetch(rows(training, recipe.seed).batches(plan.rows))
    _train(recipe, run, batches, exam, work, log)


def _train(
    recipe: Recipe, run: TransformerRun, batches: Iterator[Batch], exam: Batch, work: Path, log: Log
) -> None:
    plan, model = recipe.transformer_training, run.model
    done = 0
    if (work / MODEL_FILE).exists():
        model.load_state_dict(load_file(work / MODEL_FILE))
        done = int((work / STEP_FILE).read_text())
    names = dict(model.named_parameters())
    matrices = [p for n, p in names.items() if p.ndim > 1 and "embeddings" not in n]
    others = [p for n, p in names.items() if p.ndim < 2 or "embeddings" in n]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).is_cuda
    optimizer = torch.optim.AdamW(groups, plan.peak_lr, (0.9, 0.95), fused=fused)
    weights: list[Tensor] = list(names.values())
    average = [p.detach().clone() for p in weights]
    best, best_loss = [p.clone() for p in average], float("inf")
    progress = Progress(plan.steps, plan.seconds, plan.warmup_steps, done)
    sums = torch.zeros(3, device=weights[0].device)
    last_s = saved_s = time.monotonic()

    def save() -> None:
        save_weights(dict(zip(names, best, strict=True)), work / MODEL_FILE)
        (work / STEP_FILE).write_text(str(progress.step))

    while progress.next():
        semantic, right, other = run.losses(next(batches))
        optimizer.zero_grad(set_to_none=True)
        (semantic + 2 * other).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = progress.lr(plan.peak_lr)
        optimizer.step()
        # Early on the average must forget quickly.
        decay = min(plan.average, (progress.step - done) / (progress.step - done + 10))
        torch._foreach_lerp_(average, [p.detach() for p in weights], 1 - decay)
        sums += torch.stack((semantic, right, other)).detach()
        if progress.step % 200 == 0:
            with _in_place_of(weights, average):
                held = [float(v) for v in run.losses(exam)]
            if held[0] + 2 * held[2] < best_loss:
                best_loss = held[0] + 2 * held[2]
                torch._foreach_copy_(best, average)
            mean = [round(v, 3) for v in (sums / 200).tolist()]
            rate = 200 / (time.monotonic() - last_s)
            log(step=progress.step, semantic_right_other=mean,
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
