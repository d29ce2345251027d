"""What the shipped voice is trained with, on models small enough to learn in a test."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from backend.model.config import CodecConfig, DualARConfig
from backend.model.dac import DAC
from tests.recordings import speech_like
from tests.tiny import TINY, TINY_CODEC, randomize_
from training.demo_voice.codec_losses import SpectralLoss
from training.demo_voice.codec_start import books_of, fit_books_, init_codec_
from training.demo_voice.encoding import Encode, encode_all
from training.demo_voice.progress import Log
from training.demo_voice.recipe import Recipe, TransformerTraining, demo_tokenizer
from training.demo_voice.rows import Rows
from training.demo_voice.shards import Shards, Utterance
from training.demo_voice.together import Together
from training.demo_voice.train_codec import CodeBookAverages, CodecTrainee
from training.demo_voice.train_transformer import MODEL_FILE, TransformerRun, _train

CPU = torch.device("cpu")
CODEC = CodecConfig(**TINY_CODEC)
FRAME = CODEC.frame_samples
BOOKS = CODEC.num_codebooks


def tiny(wrong_codes: float = 0.04) -> Recipe:
    config = DualARConfig.from_json(TINY | {"vocab_size": 256 + 3 + 1024, "codebook_size": 1024})
    plan = TransformerTraining(
        rows=2, row_tokens=96, fast_frames=48, encode_samples=1 << 14, wrong_codes=wrong_codes
    )
    return replace(
        Recipe(),
        codec=CODEC,
        transformer=config,
        transformer_training=plan,
        compile=False,
    )


def speech(folder: Path, lengths: list[int]) -> Shards:
    """Sentences of so many frames, the second half of them by a speaker who is not the default."""
    shards = Shards([folder], 0.0, FRAME, CPU)
    shards.samples = sum(lengths) * FRAME
    voice = speech_like(shards.samples / 8000 + 0.1, 8000, 150.0)[: shards.samples]
    shards.audio[: shards.samples] = torch.from_numpy((voice * 6000).astype(np.int16))
    begin = 0
    for index, frames in enumerate(lengths):
        speaker = 0 if index < len(lengths) // 2 else 12
        shards.utterances.append(Utterance(f"Line {index}.", speaker, begin, frames))
        begin += frames
    return shards


def test_sentences_encoded_together_have_the_codes_they_have_alone(tmp_path: Path) -> None:
    lengths = [7, 41, 40, 13, 64, 65, 1, 390, 22, 130]
    shards, encode = speech(tmp_path, lengths), Encode(tiny(), CPU)
    randomize_(encode.codec, 3)
    torch.manual_seed(0)
    codes, changed, done = encode_all(encode, shards, float("inf"))
    assert done == len(lengths)
    differs = 0
    for each in shards.utterances:
        frames = slice(each.begin_frame, each.begin_frame + each.frames)
        samples = slice(frames.start * FRAME, frames.stop * FRAME)
        with torch.inference_mode():
            alone = encode.codec.encode((shards.audio[samples] / 32_768)[None])
        assert torch.equal(codes[frames].long(), alone[0].T.long()), each
        if each.speaker_id:
            differs += int((changed[frames] != codes[frames]).any())
        else:
            assert not changed[frames].any(), "nobody asks for the default speaker's"
    assert differs >= 3, "what was made strange sounds otherwise"


def test_encoding_ends_with_its_seconds(tmp_path: Path) -> None:
    shards, encode = speech(tmp_path, [5, 6]), Encode(tiny(), CPU)
    assert encode_all(encode, shards, 0.0)[2] == 0


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
class TestTransformer:
    @pytest.fixture
    def run(self) -> TransformerRun:
        run = TransformerRun(tiny(wrong_codes=0.3), CPU)
        torch.manual_seed(0)
        run.codes = torch.randint(0, 60, (400, 4))
        run.phones = (run.codes[:, 0] // 4 + 1).to(torch.uint8)
        run.pitches = (run.codes[:, 1] // 4 + 1).to(torch.uint8)
        return run

    @pytest.fixture
    def rows(self, run: TransformerRun) -> Rows:
        sentences = [Utterance(f"Line {n}.", 0, 10 * n, 10) for n in range(40)]
        return Rows(sentences, run.codes[:, 0].numpy().astype(np.int16), 96, 23.4, seed=0)

    def test_only_frames_slip(self, run: TransformerRun, rows: Rows) -> None:
        batch = next(rows.batches(2))
        tokens, frames = batch.tokens.long(), batch.frames.long()
        codes = run.codes[frames.clamp(min=0)] * (frames >= 0)[..., None]
        read, read_codes = run.trainee._slip(tokens, codes)
        changed = read != tokens
        assert 0.02 < float(changed.float().mean()) < 0.3
        assert (frames[changed] >= 0).all()
        begin = demo_tokenizer().semantic_begin_id
        spoken = frames >= 0
        assert torch.equal(read[spoken] - begin, read_codes[spoken][:, 0]), "token and codes agree"
        assert torch.equal(read_codes[~spoken], codes[~spoken])
        still = (read_codes == codes).all(-1)
        assert still[~changed & ~spoken].all()

    def test_it_learns(self, run: TransformerRun, rows: Rows) -> None:
        batch = next(rows.batches(2))
        before = run.exam(batch)
        weights = list(run.trainee.parameters())
        optimizer = torch.optim.AdamW(weights, 3e-3)
        for _ in range(30):
            semantic, _, other, phoneme, pitch = run.losses(batch)
            optimizer.zero_grad()
            torch.autograd.backward(semantic + other + phoneme + pitch)
            optimizer.step()
        after = run.exam(batch)
        for was, is_ in zip(before[::2], after[::2], strict=True):
            assert is_ < 0.9 * was
        assert after[1] > before[1]
        assert after[3] < before[3]

    def test_a_run_goes_to_its_end_and_keeps_what_was_best(
        self, run: TransformerRun, rows: Rows, tmp_path: Path
    ) -> None:
        recipe = tiny()
        plan = replace(recipe.transformer_training, steps=10, warmup_steps=1, log_steps=2)
        recipe = replace(recipe, transformer_training=plan)
        before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
        batches, log = rows.batches(2), Log(tmp_path / "run.log")
        _train(recipe, run, batches, next(batches), tmp_path, log, Together())
        told = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
        assert told[-1] == told[-1] | {"event": "done", "step": 10}
        kept = load_file(tmp_path / MODEL_FILE)
        assert any(not torch.equal(kept[name], before[name]) for name in kept)

    def test_no_text_token_is_likely_where_a_code_is_due(
        self, run: TransformerRun, rows: Rows
    ) -> None:
        batch = next(rows.batches(2))
        optimizer = torch.optim.AdamW(run.trainee.parameters(), 3e-3)
        for _ in range(30):
            optimizer.zero_grad()
            torch.autograd.backward(run.losses(batch)[0])
            optimizer.step()
        run.trainee.eval()
        tokens, frames = batch.tokens.long(), batch.frames.long()
        codes = run.codes[frames.clamp(min=0)] * (frames >= 0)[..., None]
        with torch.no_grad():
            hidden = run.model.slow(tokens[:, :-1], codes[:, :-1])
            chances = nn.functional.linear(run.model.norm(hidden), run.model.embeddings.weight)
        text = chances.softmax(-1)[..., :256].sum(-1)
        assert float(text[batch.learnt].max()) < 0.15, "256 of 1,283 were a fifth"

    def test_the_exam_leaves_nothing_to_chance(self, run: TransformerRun, rows: Rows) -> None:
        batch = next(rows.batches(2))
        torch.manual_seed(1)
        once = run.exam(batch)
        torch.manual_seed(2)
        assert run.exam(batch) == pytest.approx(once, rel=1e-3)
        learning = run.losses(batch)[0].item()
        assert learning != once[0]


class TestCodec:
    @pytest.fixture
    def crops(self) -> tuple[Tensor, Tensor]:
        voices = [speech_like(8 * FRAME / 8000, 8000, hz) for hz in (100.0, 150.0, 200.0, 250.0)]
        wave = 0.3 * torch.from_numpy(np.stack(voices)).float()
        return wave, torch.arange(8).repeat(4, 1)

    def test_it_learns(self, crops: tuple[Tensor, Tensor]) -> None:
        torch.manual_seed(0)
        codec = DAC(CODEC)
        init_codec_(codec)
        trainee, books = CodecTrainee(codec), books_of(codec)
        for book in books:
            nn.init.normal_(book.codebook.weight).requires_grad_(False)
        averages = CodeBookAverages(books)
        wave, phones = crops
        keep, bypass = torch.full((4,), BOOKS), torch.zeros(4).bool()
        optimizer = torch.optim.AdamW([p for p in trainee.parameters() if p.requires_grad], 2e-3)
        losses = []
        for step in range(40):
            made, commitment, residue, read, pitch, codes, points = trainee(
                wave[:, None], keep, bypass, phones, phones
            )
            assert made.shape == wave.shape
            assert codes.shape == (4, BOOKS, 8)
            loss = (made - wave).square().mean() * 10 + 0.1 * commitment + residue + read + pitch
            losses.append([loss.item(), read.item(), residue.item(), pitch.item()])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            averages.update(codes, points, revive=step < 20)
        assert losses[-1][0] < 0.7 * losses[0][0]
        assert losses[-1][1] < 0.9 * losses[0][1], "the first book tells the phonemes"
        assert losses[-1][2] < 0.7, "books take away more than they add"
        assert losses[-1][3] < 0.9 * losses[0][3], "the first three tell the pitch"

    def test_fitted_books_leave_less_and_less_over(self) -> None:
        torch.manual_seed(0)
        codec = DAC(CODEC)
        randomize_(codec, 2)
        books, dim = books_of(codec), CODEC.latent_dim
        latents = torch.randn(3000, dim) * torch.logspace(0, -2, dim) + 0.3
        kept = [books[0].codebook.weight.clone(), books[0].in_proj.weight.clone()]
        before = books[0].nearest(books[0].in_proj(latents.T[None]))
        shares = fit_books_(codec, latents)
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] < 0.5 * shares[0] < 0.5
        assert torch.equal(kept[0], books[0].codebook.weight), "the first book's codes stay"
        assert torch.equal(before, books[0].nearest(books[0].in_proj(latents.T[None])))
        with torch.inference_mode():
            first, rest = codec.quantizer.semantic_quantizer.encode(latents.T[None])
            others, _ = codec.quantizer.quantizer.encode(rest)
            found = codec.quantizer.look_up(torch.cat((first, others), 1))[0].T
        left = float((latents - found).square().mean() / latents.square().mean())
        assert left == pytest.approx(shares[-1], rel=0.05), "as the codec itself encodes"

    def test_colour_is_what_stays_when_words_change(self) -> None:
        loss, hz = SpectralLoss(), 24_000
        one, same = (torch.randn(1, hz) * 0.1 for _ in range(2))
        duller = torch.cumsum(same, 1)
        duller = (duller - duller.mean()) * 0.1 / duller.std()
        assert float(loss(same, one)[2]) < 0.3 * float(loss(duller, one)[2])
        assert float(loss(one, one)[2]) == 0

    def test_its_codes_are_those_it_ships_with(self, crops: tuple[Tensor, Tensor]) -> None:
        codec = DAC(CODEC)
        randomize_(codec, 1)
        wave, phones = crops
        with torch.inference_mode():
            keep = torch.full((4,), BOOKS)
            trainee = CodecTrainee(codec)
            *_, codes, _ = trainee(wave[:, None], keep, keep < 0, phones, phones)
            assert torch.equal(codes, codec.encode(wave))
