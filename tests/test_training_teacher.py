"""The teacher of the shipped voice: what its files keep, who reads, how shards are cut."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.demo_voice.corpus import held_out_filter, held_out_sentences, random_words
from training.demo_voice.intonation import PITCHES, pitch_numbers
from training.demo_voice.speakers import (
    DEFAULT_SPEAKER,
    FIRST_NUMBERED_ID,
    LOW_HZ,
    NAMED_SPEAKERS,
    find_speaker,
    random_speaker,
    reader,
)
from training.demo_voice.speech import (
    FRAME_SAMPLES,
    LEVEL_DBFS,
    PEAK_LIMIT,
    levelled,
    shard_at,
    write_shard,
)
from training.demo_voice.teacher import Recording, _finished
from training.demo_voice.teacher_lines import load_lines, save_lines
from training.demo_voice.teacher_styles import VOICES, Styles, pack_styles
from training.demo_voice.teacher_weights import Quantized, load_weights, save_weights
from training.demo_voice.written import Written

RATE_HZ = 24_000


def recording(level: float, seconds: float, hz: float = 200.0) -> Recording:
    steps = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pcm = (level * np.sin(2 * math.pi * hz * steps)).astype(np.float32)
    thirds = np.array([0.0, 0.1, 0.5, 1.0, 1.0]) * pcm.size
    f0_at = np.array([0.25, 0.75, 1.0]) * pcm.size
    return Recording(pcm, b"\x05\x06\x07", thirds, np.array([0.0, hz, 2 * hz], np.float32), f0_at)


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    lines = [
        ("The cat sat.", b"\x51\x10\x35\x45\x10\x3d\x04"),
        ("The end.", b"\x52\x10\x56\x38\x04"),  # another "the"
        ("The cat.", b"\x51\x10\x35\x45\x04"),
    ]
    odd = ("two words", b"\x05")
    assert save_lines(tmp_path / "lines", [*lines, odd]) == len(lines)
    assert load_lines(tmp_path / "lines") == lines


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    signed = np.array([[-128, 127], [3, -4]], np.int8)
    per_channel = Quantized.of(signed, np.array(3, np.int8), np.array([0.5, 2.0], np.float32))
    plain = np.array([1.5, -0.25], np.float32)
    save_weights({"matrix": per_channel, "bias": plain}, tmp_path / "weights")
    loaded = load_weights(tmp_path / "weights")
    wanted = [[-65.5, 62.0], [0.0, -14.0]]
    torch.testing.assert_close(loaded["matrix"], torch.tensor(wanted))
    torch.testing.assert_close(loaded["bias"], torch.from_numpy(plain))


def test_a_voice_keeps_its_rows_when_packed(tmp_path: Path) -> None:
    lengths = np.linspace(0, 1, 510)[:, None]
    for number, name in enumerate(VOICES):
        rows = np.sin(lengths * 3 + number) * np.ones((1, 256))
        rows.astype("<f4").tofile(tmp_path / f"{name}.bin")
    assert pack_styles(tmp_path, tmp_path / "styles.npy") < 0.01
    first = np.eye(len(VOICES))[0]
    kept = Styles(tmp_path / "styles.npy").rows(first, np.array([1, 256, 510, 600]))
    wanted = np.sin(np.array([0, 255 / 509, 1, 1]) * 3)
    np.testing.assert_allclose(kept[:, 0], wanted, atol=0.01)


def test_readers_are_the_same_each_time_and_have_their_shares() -> None:
    readers = [reader(shard) for shard in range(4000)]
    assert readers == [reader(shard) for shard in range(4000)]
    ids = [speaker_id for _, speaker_id in readers]
    assert ids.count(0) / len(ids) == pytest.approx(0.40, abs=0.03)
    for named, speaker in enumerate(NAMED_SPEAKERS, 1):
        assert ids.count(named) / len(ids) == pytest.approx(0.012, abs=0.006)
        assert find_speaker(speaker.name) == speaker
    numbered = [i for i in ids if i >= FIRST_NUMBERED_ID]
    assert len(set(numbered)) == len(numbered)
    assert find_speaker(DEFAULT_SPEAKER.name) == DEFAULT_SPEAKER


def test_every_speaker_is_a_blend() -> None:
    others = [random_speaker(str(seed)) for seed in range(400)]
    for speaker in (DEFAULT_SPEAKER, *NAMED_SPEAKERS, *others):
        assert sum(speaker.voices) == pytest.approx(1)
        assert np.count_nonzero(speaker.voices) >= 3
        assert 0.85 <= speaker.speed <= 1.2 and 0.9 <= speaker.stretch <= 1.12
    low = sum(speaker.f0_hz is not None and speaker.f0_hz <= 110 for speaker in others)
    assert low / len(others) == pytest.approx(0.22, abs=0.06)


def test_more_of_the_readers_are_low() -> None:
    readers = [reader(shard) for shard in range(1000)]
    others = [speaker for speaker, number in readers if number >= FIRST_NUMBERED_ID]
    low = sum(speaker.f0_hz is not None and speaker.f0_hz < LOW_HZ for speaker in others)
    assert 0.22 < low / len(others) < 0.40


def test_numbered_speakers_begin_in_a_language_of_their_own() -> None:
    lines = [(f"The cat sat on mat {n}.", b"\x51\x10\x35\x45") for n in range(64)]
    index = next(n for n in range(99) if reader(n)[1] >= FIRST_NUMBERED_ID)
    shard, plain = shard_at(index, lines), [lines[(16 * index + n) % 64] for n in range(16)]
    assert shard.foreign == 3
    assert list(shard.lines[3:]) == plain[3:]
    for own, english in zip(shard.lines[:3], plain[:3], strict=True):
        assert own[0] != english[0] and own[1] != english[1]


def test_pitches_are_numbered_in_steps_below_a_semitone() -> None:
    hertz = np.array([0.0, 49.0, 55.0, 110.0, 220.0, 2_000.0])
    assert pitch_numbers(hertz).tolist() == [0, 0, 1, 21, 41, PITCHES - 1]
    steps = pitch_numbers(100.0 * 2 ** (np.arange(13) / 12)).astype(int)
    assert (np.diff(steps) >= 1).all()


def test_a_speaker_is_levelled_and_utterances_stay_near_each_other() -> None:
    made = levelled([recording(level, 1.0) for level in (0.9, 0.5, 0.2, 0.6)])
    level_db = [10 * np.log10(np.mean((pcm / 32768.0) ** 2)) for pcm in made]
    assert max(level_db) - min(level_db) <= 2.01
    together = np.concatenate(made) / 32768.0
    assert 10 * np.log10(np.mean(together**2)) == pytest.approx(LEVEL_DBFS, abs=0.02)


def test_peaks_stay_below_the_limit() -> None:
    peaky = recording(0.001, 1.0)
    peaky.pcm[1000] = 0.9
    (made,) = levelled([peaky])
    assert np.abs(made.astype(int)).max() <= PEAK_LIMIT


def test_a_shard_holds_whole_frames_and_a_phoneme_for_each(tmp_path: Path) -> None:
    lines = [(f"Line {number}.", b"\x05\x06\x07") for number in range(20)]
    index = next(n for n in range(1, 99) if reader(n)[1] == 0)
    shard = replace(shard_at(index, lines), index=1)
    begin = 16 * index
    assert shard.lines[0][0] == f"Line {begin % 20}." and shard.foreign == 0
    assert shard.lines[15][0] == f"Line {(begin + 15) % 20}."
    none = np.zeros(0)
    silent = Recording(none.astype(np.float32), b"", np.zeros(2), none.astype(np.float32), none)
    read = [silent, *[recording(0.5, 0.5 + 0.01 * number) for number in range(15)]]
    samples = write_shard(tmp_path, shard, read)
    pcm = np.load(tmp_path / "00001.npy")
    phones = np.load(tmp_path / "00001.phones.npy")
    pitches = np.load(tmp_path / "00001.pitches.npy")
    entry = json.loads((tmp_path / "00001.json").read_text())
    assert pcm.dtype == np.int16 and phones.dtype == np.uint8 and pcm.size == samples
    assert [text for text, *_ in entry["items"]] == [text for text, _ in shard.lines[1:]]
    frames = entry["items"][0][1]
    assert sum(count for _, count, _ in entry["items"]) * FRAME_SAMPLES == pcm.size
    assert phones.size * FRAME_SAMPLES == pitches.size * FRAME_SAMPLES == pcm.size
    centres = (np.arange(frames) + 0.5) * FRAME_SAMPLES / (0.5 * RATE_HZ)
    wanted = np.select([centres < 0.1, centres < 0.5, centres < 1.0], [5, 6, 7], 0)
    np.testing.assert_array_equal(phones[:frames], wanted)
    hertz = np.select([centres <= 0.25, centres <= 0.75], [0.0, 200.0], 400.0)
    np.testing.assert_array_equal(pitches[:frames], pitch_numbers(hertz))
    assert entry["speaker_id"] == shard.speaker_id


def test_sound_is_trimmed_stretched_and_has_no_offset() -> None:
    steps = torch.arange(2 * RATE_HZ) / RATE_HZ
    tone = 0.3 * torch.sin(2 * math.pi * 500 * steps) + 0.1
    tone[: RATE_HZ // 2] = 0
    tone[-RATE_HZ // 2 :] = 0
    pcm, span = _finished(torch.stack([tone, tone]), [1.0, 1.1])
    for row, factor in enumerate((1.0, 1.1)):
        begin, end = (span[row] / RATE_HZ).tolist()
        assert begin == pytest.approx(0.5 / factor - 0.02, abs=0.012)
        # What a high-pass makes of an offset that ends dies away in 15 ms, and counts as sound.
        assert end == pytest.approx(1.5 / factor + 0.08, abs=0.02)
        inner = pcm[row, int(0.6 * RATE_HZ) : int(1.2 * RATE_HZ)].float() / 32768
        assert abs(float(inner.mean())) < 0.002
        spectrum = torch.fft.rfft(inner * torch.hann_window(inner.numel())).abs()
        hz = float(spectrum.argmax()) * RATE_HZ / inner.numel()
        assert hz == pytest.approx(500 * factor, abs=3)


def test_every_word_comes_once_before_any_comes_twice() -> None:
    words = [f"{a}{b}" for a in "abcdefgh" for b in "ijklmnop"]
    stream = random_words(random.Random(0), words)
    heard: list[str] = []
    while len(heard) < 40:
        line = next(stream).lower()
        heard += [w.strip(",.?!") for w in line.split() if w.strip(",.?!") in words]
    assert len(set(heard)) == len(heard)


def test_written_sentences_are_of_their_kind() -> None:
    words = ["stone", "river", "candle"]
    written = Written(random.Random(0), words)

    def draw(name: str, count: int = 200) -> list[str]:
        stream = getattr(written, name)()
        return [next(stream) for _ in range(count)]

    assert all(150 <= len(line) <= 250 for line in draw("long"))
    assert all(line.endswith("?") for line in draw("questions"))
    assert all(len(line.split()) <= 3 for line in draw("turns"))
    assert any(any(c.isdigit() for c in line) for line in draw("figures"))


def test_held_out_sentences_are_kept_out() -> None:
    sentences = held_out_sentences()
    shares = held_out_filter(sentences)
    assert len(sentences) >= 100
    assert all(shares(sentence) for sentence in sentences)
    assert not shares("Nothing of this was ever said.")
