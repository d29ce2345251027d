"""`python -m training.demo_voice.evaluate`: is the demo voice intelligible, and does it follow?

Speaks the held-out sentences through a real worker process with the server's default sampling, and
compares with espeak-ng reading the same sentences in the voice the model was trained on. Prints a
table, then one JSON line.
"""

import argparse
import asyncio
import io
import json
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soundfile
import torch

from backend.core import SamplingParams, VoicePrompt
from backend.hardware.deployment import Deployment
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.serving.launch import worker_command
from backend.settings import Settings
from backend.worker.messages import Done, EncodeVoice, Speak
from backend.worker.supervisor import supervised
from training.demo_voice.espeak import LEVEL_DBFS, SAMPLE_RATE_HZ, Espeak, apply_gain, level_gain
from training.demo_voice.measure import (
    Samples,
    level_dbfs,
    median_pitch_hz,
    mel_cepstra,
    rank_correlation,
    warped_distance,
)
from training.demo_voice.recognise import recognise_one_of, transcribe, word_errors
from training.demo_voice.speakers import DEFAULT_SPEAKER, Speaker, random_speaker

HELDOUT = Path(__file__).parent / "heldout.txt"
AT_ONCE = 4
CLONED = 20


@dataclass(frozen=True, slots=True)
class Spoken:
    """One sentence as the worker spoke it."""

    pcm: Samples
    rate_hz: int
    done: Done


def read_aloud(texts: list[str], speaker: Speaker) -> list[Samples]:
    """espeak-ng's reading, at the level of the training speech."""
    espeak = Espeak(seed=1)
    ungained = replace(speaker, gain=1.0)
    made = [espeak.speak(text, ungained) for text in texts]
    espeak.close()
    gain = level_gain(np.concatenate(made))
    return [_trim(np.float32(1 / 32768) * apply_gain(pcm, gain).astype(np.float32)) for pcm in made]


def _trim(pcm: Samples, threshold: float = 0.004) -> Samples:
    sound = np.flatnonzero(np.abs(pcm) > threshold)
    return pcm[sound[0] : sound[-1] + 1] if sound.size else pcm


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be spoken, and in whose voice: a recording and what is said in it."""

    speak: Speak
    recording: bytes = b""
    said: str = ""


async def speak_all(model_dir: Path | None, requests: list[Reading]) -> list[Spoken]:
    """Every request through one worker process, a few at a time."""
    settings = Settings(model_dir=model_dir, log_level="WARNING")
    client = supervised(worker_command(settings, Deployment.look(settings).plan))
    client.start()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(reading: Reading) -> Spoken:
        async with gate:
            speak, pieces = reading.speak, list[bytes]()
            if reading.recording:
                codes = await client.encode(EncodeVoice(speak.request_id, reading.recording))
                voice = VoicePrompt(codes, reading.said)
                speak = msgspec.structs.replace(speak, references=(voice,))
            done = await client.speak(speak, pieces.append)
            pcm = np.frombuffer(b"".join(pieces), "<f4")
            return Spoken(pcm, info.sample_rate_hz, done)

    try:
        info = await client.ready()
        return await asyncio.gather(*(one(request) for request in requests))
    finally:
        await client.close()


def _request(name: str, text: str, seed: int, recording: bytes = b"", said: str = "") -> Reading:
    return Reading(Speak(name, text, SamplingParams(seed=seed)), recording, said)


def wav_bytes(pcm: Samples) -> bytes:
    """A recording to send as a reference."""
    file = io.BytesIO()
    soundfile.write(file, pcm, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def intelligibility(
    model_dir: Path | None, sentences: list[str], seed: int, codec: Checkpoint | None
) -> dict[str, Any]:
    """The default voice on `sentences`, against espeak-ng's reading of them."""
    readings = read_aloud(sentences, DEFAULT_SPEAKER)
    requests = [_request(f"s{i}", text, seed + i) for i, text in enumerate(sentences)]
    began_s = time.perf_counter()
    spoken = asyncio.run(speak_all(model_dir, requests))
    took_s = time.perf_counter() - began_s
    errors: dict[str, list[int]] = {"espeak": [], "codec": [], "shoal": []}
    words, same, other, ended = 0, [], [], 0
    right = {"espeak": 0, "shoal": 0}
    cepstra = [mel_cepstra(reading, SAMPLE_RATE_HZ) for reading in readings]
    for i, (text, reading, speech) in enumerate(zip(sentences, readings, spoken, strict=True)):
        versions = {"espeak": reading, "shoal": speech.pcm}
        if codec is not None:
            with torch.inference_mode():
                codes = codec.codec.encode(torch.from_numpy(reading)[None])
                versions["codec"] = codec.codec.decode(codes)[0].numpy()
        for name, pcm in versions.items():
            errors[name].append(word_errors(text, transcribe(pcm, SAMPLE_RATE_HZ))[0])
        words += word_errors(text, "")[1]
        for name in right:
            right[name] += recognise_one_of(versions[name], SAMPLE_RATE_HZ, sentences) == i
        mine = mel_cepstra(_trim(speech.pcm), speech.rate_hz)
        same.append(warped_distance(mine, cepstra[i]))
        other.append(warped_distance(mine, cepstra[(i + 7) % len(sentences)]))
        ended += speech.done.stats.finish_reasons == ("end",)
    rate = {name: sum(found) / words for name, found in errors.items() if found}
    audio_s = sum(s.done.stats.audio_s for s in spoken)
    lengths = [len(_trim(s.pcm)) / len(r) for s, r in zip(spoken, readings, strict=True)]
    level = level_dbfs(np.concatenate([_trim(s.pcm) for s in spoken]))
    return {
        "sentences": len(sentences),
        "wer": rate,
        "wer_ratio": rate["shoal"] / rate["espeak"],
        "recognised": right["shoal"],
        "recognised_espeak": right["espeak"],
        "cepstral_distance_same": float(np.mean(same)),
        "cepstral_distance_other": float(np.mean(other)),
        "nearer_to_its_own": sum(a < b for a, b in zip(same, other, strict=True)),
        "ended_by_themselves": ended,
        "level_dbfs": level,
        "level_off_db": level - LEVEL_DBFS,
        "length_ratio_mean": float(np.mean(lengths)),
        "length_ratio_sd": float(np.std(lengths)),
        "audio_s": audio_s,
        "seconds_with_start": took_s,
    }


def cloning(model_dir: Path | None, sentences: list[str], seed: int, pairs: int) -> dict[str, Any]:
    """Speakers no training shard had, each read for 3 to 15 s, speak a sentence of their own."""
    draw = random.Random(f"evaluate/{seed}")
    wanted_hz, requests = [], []
    for index in range(pairs):
        speaker = random_speaker(draw)
        picked = draw.sample(sentences, 3)
        target, said = picked[0], " ".join(picked[1:])
        reading = read_aloud([said], speaker)[0][: 15 * SAMPLE_RATE_HZ]
        wanted_hz.append(median_pitch_hz(reading, SAMPLE_RATE_HZ))
        # Every fifth without a transcript, as in training.
        transcript = "" if index % 5 == 4 else said
        requests.append(_request(f"c{index}", target, seed + index, wav_bytes(reading), transcript))
    spoken = asyncio.run(speak_all(model_dir, requests))
    got_hz = [median_pitch_hz(s.pcm, s.rate_hz) for s in spoken]
    return {
        "pairs": pairs,
        "pitch_hz": [[round(a), round(b)] for a, b in zip(wanted_hz, got_hz, strict=True)],
        "pitch_rank_correlation": rank_correlation(wanted_hz, got_hz),
        "median_off_percent": float(
            100 * np.median([abs(b - a) / a for a, b in zip(wanted_hz, got_hz, strict=True)])
        ),
        "ended_by_themselves": sum(s.done.stats.finish_reasons == ("end",) for s in spoken),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, help="instead of the shipped voice")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=CLONED)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sentences = HELDOUT.read_text("utf-8").splitlines()
    folder = arguments.model_dir or Settings().checkpoint_dir
    codec = load_checkpoint(folder)
    result = intelligibility(
        arguments.model_dir, sentences[: arguments.sentences], arguments.seed, codec
    )
    result["cloning"] = cloning(arguments.model_dir, sentences, arguments.seed, arguments.pairs)
    for name, value in result.items():
        print(f"{name:26} {value}")
    print(json.dumps(result))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
