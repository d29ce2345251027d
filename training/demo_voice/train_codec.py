"""Train the codec: all of it, then its decoder against a critic, and without one at the end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from backend.model.dac import DAC
from backend.model.rvq import CodeBook
from training.demo_voice.codec_losses import Critic, SpectralLoss, critic_loss, generator_loss
from training.demo_voice.codec_start import books_of, fit_books_, init_codec_
from training.demo_voice.intonation import PITCHES
from training.demo_voice.progress import Log, Progress, save_weights
from training.demo_voice.recipe import PHONES, Recipe
from training.demo_voice.shards import Shards, speech_folders

CODES_FILE = "codec_codes.safetensors"
"""The codec once its codes are final; its decoder still improves."""
START_FILE = "codec_start.safetensors"
"""An earlier run's codec, to begin with instead of fresh weights."""
_PITCHED_BOOKS = 3
_READ_STEPS = 100
"""After so many, as many shards are read; to look what there is takes a tenth of a second."""
CODEC_FILE = "codec.safetensors"


class CodecTrainee(nn.Module):
    """Runs the codec with straight-through codes, and tells what the code books need to learn.

    A reader that does not ship tells the phoneme from the first code book: what the slow
    transformer predicts from text is then what was said, and the other books how. Another tells the
    pitch from the first three.

    What each book leaves over is measured in units of what there was. As long as it was not, the
    books added four times what they took away, and all but the first told again what was known.
    """

    def __init__(self, codec: DAC) -> None:
        super().__init__()
        self.codec = codec
        self.reader = nn.Conv1d(codec.config.latent_dim, PHONES, 3, padding=1)
        self.pitch_reader = nn.Conv1d(codec.config.latent_dim, PITCHES, 3, padding=1)

    def forward(
        self, x: Tensor, keep: Tensor, bypass: Tensor, phones: Tensor, pitches: Tensor
    ) -> tuple[Tensor, ...]:
        """x [B, 1, S]; use `keep` [B] code books, or none at all where `bypass` [B]; `phones` and
        `pitches` [B, T] are spoken.

        Returns the waveform; commitment, what the books leave over on average, phoneme and pitch
        losses; codes [B, N, T], and the points [B, N, T, D] that were looked up.
        """
        z = self.codec.quantizer.latent(self.codec.encoder(x)).float()
        left, kept, told = z, torch.zeros_like(z), torch.zeros_like(z)
        commitment, residue = z.new_zeros(()), z.new_zeros(())
        read = pitch = commitment
        whole = z.square().mean() + 1e-9
        codes, points = [], []
        for index, book in enumerate(books_of(self.codec)):
            with torch.autocast(z.device.type, enabled=False):
                projected = book.in_proj(left)
                code = book.nearest(projected.detach())
                found = book.codebook(code).transpose(1, 2)
                used = (index < keep).float()
                error = (projected - found).square().mean((1, 2))
                commitment = commitment + (error * used).mean()
                through = projected + (found - projected).detach()
                part = book.out_proj(through)
            if index < _PITCHED_BOOKS:
                told = told + part
            if index == 0:
                read = F.cross_entropy(self.reader(part).float(), phones)
            elif index == _PITCHED_BOOKS - 1:
                pitch = F.cross_entropy(self.pitch_reader(told).float(), pitches)
            kept = kept + part * used[:, None, None]
            left = left - part
            residue = residue + left.square().mean() / whole
            codes.append(code)
            points.append(projected.detach().transpose(1, 2))
        chosen = torch.where(bypass[:, None, None], z, kept)
        wave = self.codec.decoder(self.codec.quantizer.expand(chosen))
        coded = torch.stack(codes, 1), torch.stack(points, 1)
        return wave[:, 0], commitment, residue / len(codes), read, pitch, *coded


class CodeBookAverages:
    """Each code moves to the running mean of the points that chose it; unused ones are moved."""

    def __init__(self, books: list[CodeBook]) -> None:
        self._books = books
        self._counts = [torch.ones_like(book.codebook.weight[:, 0]) for book in books]
        self._sums = [book.codebook.weight.detach().clone() for book in books]

    @torch.no_grad()
    def update(self, codes: Tensor, points: Tensor, revive: bool, decay: float = 0.98) -> None:
        """codes [B, N, T], points [B, N, T, D]."""
        for index, book in enumerate(self._books):
            code, point = codes[:, index].flatten(), points[:, index].flatten(0, 1).float()
            counts, sums = self._counts[index], self._sums[index]
            seen = torch.bincount(code, minlength=counts.numel()).to(counts)
            counts.mul_(decay).add_(seen, alpha=1 - decay)
            total = torch.zeros_like(sums).index_add_(0, code, point)
            sums.mul_(decay).add_(total, alpha=1 - decay)
            if revive:
                mean = counts.mean()
                dead = counts < 0.05 * mean
                pick = torch.randint(0, len(point), (len(counts),), device=point.device)
                sums.copy_(torch.where(dead[:, None], point[pick] * mean * 0.5, sums))
                counts.copy_(torch.where(dead, mean * 0.5, counts))
            book.codebook.weight.copy_(sums / counts.clamp(min=1e-5)[:, None])

    def used(self) -> list[int]:
        """Codes in use, a book."""
        return [int((c > 0.05 * c.mean()).sum()) for c in self._counts]


class NormClip:
    """Clips each tensor's gradient at twice its own running norm: one bad tensor once collapsed
    the codec where a common norm let it through."""

    def __init__(self) -> None:
        self._running: Tensor | None = None

    def __call__(self, gradients: list[Tensor]) -> None:
        norms = torch.stack(torch._foreach_norm(gradients)).float()
        norms = torch.nan_to_num(norms, 1e9, 1e9, 1e9)
        last = norms if self._running is None else self._running
        self._running = torch.minimum(last * 0.95 + norms * 0.05, last * 1.1 + 1e-6)
        scale = (2 * self._running / (norms + 1e-9)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(scale.unbind()))


def train_codec(recipe: Recipe, work: Path, device: torch.device) -> None:
    """Both stages, each skipped or taken up where `work` says it stands."""
    log, plan = Log(work / "codec.log"), recipe.codec_training
    torch.manual_seed(recipe.seed)
    codec = DAC(recipe.codec)
    frame = recipe.codec.frame_samples
    shards = Shards(speech_folders(work), min(plan.hours, recipe.hours), frame, device)
    init_codec_(codec)
    for name in (START_FILE, CODES_FILE):
        if (work / name).exists():
            codec.load_state_dict(load_file(work / name))
    codec.to(device)
    if not (work / CODES_FILE).exists():
        _train_whole(recipe, codec, shards, log, (work / START_FILE).exists())
        save_weights(codec.state_dict(), work / CODES_FILE)
        log(event="codes final")
    if (work / CODEC_FILE).exists():
        codec.load_state_dict(load_file(work / CODEC_FILE))
    _train_decoder(recipe, codec, shards, log, work)
    save_weights(codec.state_dict(), work / CODEC_FILE)
    log(event="done")


def _train_whole(recipe: Recipe, codec: DAC, shards: Shards, log: Log, begun: bool) -> None:
    plan, device = recipe.codec_training, shards.audio.device
    books, spectra = books_of(codec), SpectralLoss().to(device)
    for book in books:
        book.codebook.requires_grad_(False)
    clip = NormClip()
    trainee = CodecTrainee(codec).to(device)
    run = torch.compile(trainee) if recipe.compile else trainee
    weights = [p for p in trainee.parameters() if p.requires_grad]
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        weights, plan.peak_lr, (0.8, 0.99), weight_decay=1e-3, fused=fused
    )
    progress = Progress(plan.steps, plan.seconds, plan.warmup_steps)
    samples, count = plan.crop_frames * recipe.codec.frame_samples, len(books)
    _warm_up(run, plan.batch, samples, plan.crop_frames, device)
    codec.zero_grad(set_to_none=True)
    shards.wait_for(plan.first_hours)
    log(event="speech", hours=shards.hours)
    if begun:
        left_over = fit_books_(codec, _latents(codec, shards, plan.fitted_frames, samples))
        log(event="books fitted", left_over=[round(share, 3) for share in left_over])
    averages = CodeBookAverages(books)
    sums, last_s = torch.zeros(8, device=device), time.monotonic()
    while progress.next():
        if progress.step % _READ_STEPS == 0:
            shards.read_new(limit=_READ_STEPS)
        x, phones, pitches = shards.crops(plan.batch, samples)
        drop = torch.rand(plan.batch, device=device) < 0.4
        keep = torch.where(drop, torch.randint(1, count + 1, (plan.batch,), device=device), count)
        # The decoder first learns from unquantised latents: early codes say little.
        unquantised = 0.0 if begun else (400 - progress.step) / 250
        bypass = torch.rand(plan.batch, device=device) < unquantised
        with torch.autocast(device.type, torch.bfloat16):
            wave, commitment, residue, read, pitch, codes, points = run(
                x[:, None], keep, bypass, phones, pitches
            )
        mel, linear, colour = spectra(wave.float(), x)
        ramp = min(1.0, progress.step / 500)
        loss = 15 * mel + 4 * linear + plan.colour * colour + 0.25 * ramp * commitment
        loss = loss + plan.residue * residue + ramp * (plan.phones * read + plan.pitch * pitch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip([w.grad for w in weights if w.grad is not None])
        for group in optimizer.param_groups:
            group["lr"] = progress.lr(plan.peak_lr)
        optimizer.step()
        averages.update(codes, points, revive=progress.fraction < 0.7 and progress.step % 10 == 0)
        terms = (mel, linear, colour, commitment, residue, read, pitch, loss)
        sums += torch.stack(terms).detach()
        if progress.step % plan.log_steps == 0:
            mean = [round(v, 3) for v in (sums / plan.log_steps).tolist()]
            rate = plan.log_steps / (time.monotonic() - last_s)
            log(step=progress.step, mel_linear_colour_commit_residue_phones_pitch_loss=mean,
                used=averages.used(), steps_per_s=rate, fraction=progress.fraction,
                hours=shards.hours)  # fmt: skip
            sums.zero_()
            last_s = time.monotonic()


@torch.no_grad()
def _latents(codec: DAC, shards: Shards, frames: int, samples: int) -> Tensor:
    """Of speech, [frames, latent_dim]."""
    together = max(1, samples // codec.config.frame_samples)
    found = []
    for _ in range(-(-frames // (16 * together))):
        x, *_ = shards.crops(16, samples)
        latents = codec.quantizer.latent(codec.encoder(x[:, None]))
        found.append(latents.transpose(1, 2).flatten(0, 1))
    return torch.cat(found)


def _warm_up(
    run: Callable[..., tuple[Tensor, ...]], batch: int, samples: int, frames: int,
    device: torch.device,
) -> None:  # fmt: skip
    """Compile while speech is being made."""
    keep = torch.full((batch,), 8, device=device)
    phones = torch.zeros(batch, frames, dtype=torch.long, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        noise = 0.1 * torch.randn(batch, 1, samples, device=device)
        wave, *losses, _, _ = run(noise, keep, keep < 0, phones, phones)
    torch.stack((wave.float().mean(), *losses)).sum().backward()


def _train_decoder(recipe: Recipe, codec: DAC, shards: Shards, log: Log, work: Path) -> None:
    """Codes stay as they are; everything behind them learns to sound real.

    At the end it goes on without the critic, who buys natural sound with detail that was never
    spoken: a recogniser hears the difference. What is kept is the running average of the weights.
    """
    plan, device = recipe.codec_training, shards.audio.device
    shards.wait_for(plan.first_hours)
    quantizer, spectra, critic = codec.quantizer, SpectralLoss().to(device), Critic().to(device)
    codec.requires_grad_(False)
    behind = nn.ModuleList((quantizer.post_module, quantizer.upsample, codec.decoder))
    behind.requires_grad_(True)
    weights: list[Tensor] = list(behind.parameters())
    average, clip = [p.detach().clone() for p in weights], NormClip()
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        weights, plan.decoder_lr, (0.8, 0.99), weight_decay=1e-3, fused=fused
    )
    against = torch.optim.AdamW(
        critic.parameters(), plan.decoder_lr, (0.8, 0.99), weight_decay=1e-3, fused=fused
    )

    def decode(quantised: Tensor) -> Tensor:
        return cast(Tensor, codec.decoder(quantizer.expand(quantised))[:, 0])

    def quantise(x: Tensor) -> Tensor:
        return quantizer.look_up(quantizer.encode(codec.encoder(x[:, None])))

    run = torch.compile(decode) if recipe.compile else decode
    look_up = torch.compile(quantise) if recipe.compile else quantise
    progress = Progress(plan.decoder_steps, plan.decoder_seconds, plan.warmup_steps)
    samples = plan.crop_frames * recipe.codec.frame_samples
    window = plan.critic_frames * recipe.codec.frame_samples
    sums, last_s, saved_s = torch.zeros(6, device=device), time.monotonic(), time.monotonic()
    while progress.next():
        if progress.step % _READ_STEPS == 0:
            shards.read_new(limit=_READ_STEPS)
        polishes = progress.fraction > 1 - plan.polish
        x, *_ = shards.crops(plan.batch, samples, plan.default_share if polishes else None)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                quantised = look_up(x)
            wave = run(quantised).float()
        mel, linear, colour = spectra(wave, x)
        loss = 15 * mel + 4 * linear + plan.colour * colour
        if not polishes:
            passes, alike, verdict = _judge(critic, against, x, wave, window)
            ramp = min(1.0, progress.step / 300)
            loss = loss + ramp * (3 * passes + 6 * alike)
            sums[3:] += torch.stack((passes, alike, verdict)).detach()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip([w.grad for w in weights if w.grad is not None])
        rate = progress.lr(plan.decoder_lr)
        if polishes:
            rate = plan.polish_lr * (1 - progress.fraction) / plan.polish
        for group in (*optimizer.param_groups, *against.param_groups):
            group["lr"] = rate
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in weights], 1 - plan.decoder_average)
        sums[:3] += torch.stack((mel, linear, colour)).detach()
        if progress.step % plan.log_steps == 0:
            mean = [round(v, 3) for v in (sums / plan.log_steps).tolist()]
            log(decoder_step=progress.step, mel_linear_colour_passes_alike_critic=mean,
                steps_per_s=plan.log_steps / (time.monotonic() - last_s),
                fraction=progress.fraction)  # fmt: skip
            sums.zero_()
            last_s = time.monotonic()
        if time.monotonic() - saved_s > 60:
            save_weights(codec.state_dict(), work / CODEC_FILE)
            saved_s = time.monotonic()
    with torch.no_grad():
        torch._foreach_copy_(weights, average)


def _judge(
    critic: Critic, against: torch.optim.Optimizer, x: Tensor, wave: Tensor, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The critic learns from a stretch of real and made speech [B, samples], and says of the made
    one how well it passes for real and how alike it is; last, how far the critic is mistaken."""
    begin = int(torch.randint(0, x.shape[1] - window + 1, ()))
    real, made = x[:, begin : begin + window], wave[:, begin : begin + window]
    with torch.autocast(x.device.type, torch.bfloat16):
        verdict = critic_loss(critic(real), critic(made.detach()))
    against.zero_grad(set_to_none=True)
    verdict.backward()
    against.step()
    critic.requires_grad_(False)
    with torch.autocast(x.device.type, torch.bfloat16):
        with torch.no_grad():
            wanted = critic(real)
        passes, alike = generator_loss(wanted, critic(made))
    critic.requires_grad_(True)
    return passes, alike, verdict
