"""The questions of the evaluation, each asked of a checkpoint folder; `evaluate` puts them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from backend.model.checkpoint import Checkpoint
from training.demo_voice.compare import WordErrors, repeated, word_errors
from training.demo_voice.defects import LEVEL_STEP_DB, defects
from training.demo_voice.measure import (
    Samples,
    mel_cepstra,
    nearest,
    rank_correlation,
    speech_level_db,
    trim,
    voice_statistics,
    warped_distance,
)
from training.demo_voice.pitch import median_pitch_hz, pitch_deviation_semitones
from training.demo_voice.recognise import Heard, transcribe
from training.demo_voice.recordings import Recording
from training.demo_voice.speaker_embedding import SpeakerEncoder
from training.demo_voice.speaking import Utterance, Wish, as_heard, speak_texts, wav_bytes

Told = Callable[[str], None]
Found = dict[str, object]

LOW_HZ = 110.0
SPEAKERS = 20
_TOGETHER, _TIMES = 2, 4
"""Sentences by which an unseen speaker is told, and how often."""
_DROPPED_WORDS = 2
_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Listened:
    """An utterance, and what was heard in it."""

    utterance: Utterance
    heard: Heard
    errors: WordErrors

    @property
    def repeats(self) -> bool:
        return repeated(self.utterance.text, self.heard.text)

    @property
    def drops(self) -> bool:
        """More is missing than a recogniser that skips a short word explains."""
        return self.errors.deletions - self.errors.insertions >= _DROPPED_WORDS

    @property
    def is_whole(self) -> bool:
        return self.utterance.ended and not self.repeats and not self.drops


def listen(utterances: Sequence[Utterance], told: Told) -> list[Listened]:
    """By the recogniser."""
    found = []
    every = max(1, len(utterances) // 5)
    for number, each in enumerate(utterances, start=1):
        heard = transcribe(each.pcm, each.rate_hz)
        found.append(Listened(each, heard, word_errors(each.text, heard.text)))
        if number % every == 0:
            told(f"{number} of {len(utterances)} heard, {total(found).rate:.1%} of the words wrong")
    return found


def total(listened: Iterable[Listened]) -> WordErrors:
    """All errors together."""
    return sum((each.errors for each in listened), WordErrors())


def everyday(
    model_dir: Path | None, texts: Sequence[str], seeds: Sequence[int], told: Told
) -> tuple[Found, list[Listened]]:
    """Every text with every seed: words, whether all of it comes, pitch, what is wrong with it."""
    wishes = [Wish(text, 10_000 * seed + i) for seed in seeds for i, text in enumerate(texts)]
    listened = listen(speak_texts(model_dir, wishes, told), told)
    errors = total(listened)
    first = [each.utterance for each in listened[: len(texts)]]
    deviations = [pitch_deviation_semitones(u.pcm, u.rate_hz) for u in first]
    faults = _faults(first)
    return {
        "utterances": len(listened),
        "wer": errors.rate,
        "substitutions": errors.substitutions / errors.words,
        "insertions": errors.insertions / errors.words,
        "deletions": errors.deletions / errors.words,
        "whole": float(np.mean([each.is_whole for each in listened])),
        "ended": sum(each.utterance.ended for each in listened),
        "repeating": sum(each.repeats for each in listened),
        "dropping": sum(each.drops for each in listened),
        "silent": sum(not each.heard.text for each in listened),
        "log_probability": float(np.mean([each.heard.log_probability for each in listened])),
        "pitch_deviation": float(np.mean(deviations)),
        "pitch_hz": float(np.median([median_pitch_hz(u.pcm, u.rate_hz) for u in first])),
        **faults,
    }, listened


def _faults(utterances: Sequence[Utterance]) -> Found:
    """Of sentences one after another, as the server sends them and as the worker made them."""
    spoken = [sentence for utterance in utterances for sentence in utterance.sentences]
    rate_hz = spoken[0].rate_hz
    ways = {
        "defects": as_heard(spoken, [round(_PAUSE_S * rate_hz)] * len(spoken)),
        "raw_defects": [each.pcm for each in spoken],
    }
    found: Found = {}
    for key, parts in ways.items():
        levels = [speech_level_db(pcm, rate_hz) for pcm in parts]
        steps = [False, *(np.abs(np.diff(levels)) > LEVEL_STEP_DB)]
        named = [
            defects(pcm, rate_hz) + ["level step"] * bool(step)
            for pcm, step in zip(parts, steps, strict=True)
        ]
        found[key] = sum(bool(names) for names in named)
        found[f"{key}_by_kind"] = dict(Counter(name for names in named for name in names))
        found[f"{key}_level_sd_db"] = float(np.std(levels))
    return found


def long_texts(model_dir: Path | None, texts: Sequence[str], told: Told) -> Found:
    """Texts as users type them, through the server's reading and cutting."""
    wishes = [Wish(text, 500 + i) for i, text in enumerate(texts)]
    listened = listen(speak_texts(model_dir, wishes, told), told)
    worst = sorted(listened, key=lambda each: -each.errors.rate)[:3]
    return {
        "wer_long": total(listened).rate,
        "whole_long": sum(each.is_whole for each in listened),
        "worst_long": [[each.utterance.text, each.heard.text] for each in worst],
    }


def beside_teacher(
    codec: Checkpoint, listened: Sequence[Listened], folder: Path, told: Told
) -> Found:
    """How far the speech is from the teacher's `NN.wav`, and how far the codec alone puts that.

    `listened` are the sentences in their order, from 0; those without a file are left out.
    """
    paths = {int(path.stem): path for path in folder.glob("*.wav")}
    rate_hz = codec.codec_config.sample_rate_hz
    spoken, round_trip, errors, deviations = [], [], WordErrors(), []
    for number, each in enumerate(listened):
        if number not in paths:
            continue
        pcm, teacher_hz = soundfile.read(paths[number], dtype="float32")
        teacher = trim(soxr.resample(pcm, teacher_hz, rate_hz))
        with torch.inference_mode():
            codes = codec.codec.encode(torch.from_numpy(teacher)[None])
            again = codec.codec.decode(codes)[0].float().numpy()
        wanted = mel_cepstra(teacher, rate_hz)
        spoken.append(warped_distance(mel_cepstra(trim(each.utterance.pcm), rate_hz), wanted))
        round_trip.append(warped_distance(mel_cepstra(trim(again), rate_hz), wanted))
        errors += word_errors(each.utterance.text, transcribe(teacher, rate_hz).text)
        deviations.append(pitch_deviation_semitones(teacher, rate_hz))
        if number % 20 == 19:
            told(f"{number + 1} readings of the teacher compared")
    if not spoken:
        return {}
    return {
        "distance_ratio": float(np.mean(spoken) / np.mean(round_trip)),
        "distance": float(np.mean(spoken)),
        "distance_codec": float(np.mean(round_trip)),
        "wer_teacher": errors.rate,
        "pitch_deviation_teacher": float(np.mean(deviations)),
    }


def _follow(
    model_dir: Path | None,
    recordings: Sequence[Recording],
    texts: Sequence[str],
    each_says: int,
    told: Told,
) -> list[list[Utterance]]:
    """Every recording followed in `each_says` of `texts`, every fifth without its transcript."""
    wishes = []
    for index, each in enumerate(recordings):
        for turn in range(each_says):
            number = index * each_says + turn
            text, said = texts[number % len(texts)], "" if index % 5 == 4 else each.said
            recording = wav_bytes(each.pcm, each.rate_hz)
            wishes.append(Wish(text, 700 + number, recording, said))
    made = speak_texts(model_dir, wishes, told)
    return [made[i * each_says : (i + 1) * each_says] for i in range(len(recordings))]


def elsewhere(
    model_dir: Path | None,
    recordings: Sequence[Recording],
    texts: Sequence[str],
    each_says: int,
    told: Told,
) -> Found:
    """Words misheard where recordings of all kinds are followed, in all and of each kind."""
    made = _follow(model_dir, recordings, texts, each_says, told)
    listened = listen([utterance for group in made for utterance in group], told)
    by_kind: dict[str, WordErrors] = {}
    by_name: dict[str, WordErrors] = {}
    for index, each in enumerate(recordings):
        errors = total(listened[index * each_says : (index + 1) * each_says])
        by_kind[each.kind] = by_kind.get(each.kind, WordErrors()) + errors
        by_name[each.name] = errors
    return {
        "wer_elsewhere": total(listened).rate,
        "wer_elsewhere_by_kind": {kind: round(e.rate, 3) for kind, e in by_kind.items()},
        "wer_elsewhere_by_name": {name: round(e.rate, 3) for name, e in by_name.items()},
        "ended_elsewhere": float(np.mean([each.utterance.ended for each in listened])),
    }


def unseen(
    model_dir: Path | None,
    speakers: Sequence[Recording],
    texts: Sequence[str],
    encoder: SpeakerEncoder,
    told: Told,
) -> Found:
    """Speakers no training had: the first twenty are told apart, whatever they say, all low ones
    keep their octave."""
    made = _follow(model_dir, speakers, texts, _TIMES * _TOGETHER, told)
    rate_hz = made[0][0].rate_hz
    spoken: list[Samples] = [np.concatenate([u.pcm for u in group]) for group in made]
    wanted_hz = [median_pitch_hz(each.pcm, each.rate_hz) for each in speakers]
    got_hz = [median_pitch_hz(pcm, rate_hz) for pcm in spoken]
    several = speakers[:SPEAKERS]
    theirs = np.stack([encoder.embed(each.pcm, each.rate_hz) for each in several])
    cepstra = [voice_statistics(each.pcm, each.rate_hz) for each in several]
    right, right_cepstra = [], []
    for begin in range(0, _TIMES * _TOGETHER, _TOGETHER):
        said = [group[begin : begin + _TOGETHER] for group in made[:SPEAKERS]]
        pcm = [np.concatenate([u.pcm for u in some]) for some in said]
        likeness = np.stack([encoder.embed(each, rate_hz) for each in pcm]) @ theirs.T
        right += [i == j for i, j in enumerate(likeness.argmax(1))]
        told_apart = nearest([voice_statistics(each, rate_hz) for each in pcm], cepstra)
        right_cepstra += [i == j for i, j in enumerate(told_apart)]
    low = [(a, b) for a, b in zip(wanted_hz, got_hz, strict=True) if 0 < a < LOW_HZ]
    found: Found = {
        "speakers": len(speakers),
        "right_speaker": float(np.mean(right)),
        "right_speaker_by_cepstra": float(np.mean(right_cepstra)),
        "pitch_rank": rank_correlation(wanted_hz[:SPEAKERS], got_hz[:SPEAKERS]),
        "pitch_pairs_hz": [[round(a), round(b)] for a, b in zip(wanted_hz, got_hz, strict=True)],
        "low_voices": len(low),
    }
    if low:
        off = np.array([abs(np.log2(b / a)) if b else np.inf for a, b in low])
        # Half an octave up or down is nearer to the speaker's octave than to another.
        found["octave_kept"] = float(np.mean(off < 0.5))
        found["low_within_15_percent"] = float(np.mean(off < np.log2(1.15)))
    return found
