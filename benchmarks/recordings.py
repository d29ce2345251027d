"""`python -m benchmarks.recordings`: how often which fault of a recording is found, right or wrong.

Reads espeak-ng's voices as they are, and made worse in known ways, through the road that a
recording takes. Folders of real recordings (`--speech DIR`, `--music DIR`, each folder one
speaker) are cut into pieces of ten seconds; nothing is wrong with their speech but where it is
made so. The last line is JSON: of each set the share that each fault was found in.
"""

import argparse
import io
import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from backend.audio.pcm import Samples
from backend.audio.read import read_reference
from tests.recordings import encoded
from training.demo_voice.espeak_reader import CALM_SPEAKER, random_speaker, read_aloud

RATE_HZ = 22_050
PIECE_S, TURN_S = 10.0, 2.5
FAULTS = {
    "distorted": "clipped",
    "very quiet": "quiet",
    "noisy": "noisy",
    "music": "music",
    "mostly silent": "silent",
    "s of voice": "short",
    "two voices": "two",
}
CODED = (("mp3", "libmp3lame"), ("adts", "aac"))
TEXT = Path("training/demo_voice/heldout.txt")


def espeak_voices(speakers: int, seed: int) -> list[Samples]:
    """Three sentences of each speaker, with pauses."""
    draw, texts = random.Random(seed), TEXT.read_text("utf-8").splitlines()
    voices = []
    for index in range(speakers):
        speaker = random_speaker(draw) if index else CALM_SPEAKER
        said = read_aloud(draw.sample(texts, 3), speaker)
        pause = np.zeros(round(draw.uniform(0.1, 0.4) * RATE_HZ), np.float32)
        voices.append(np.concatenate([part for each in said for part in (each, pause)]))
    return voices


def decoded(path: Path) -> Samples:
    """All of a file, mixed down, at RATE_HZ."""
    kind = "g722" if path.suffix == ".g722" else None
    with av.open(str(path), format=kind) as file:
        rate_hz = file.streams.audio[0].codec_context.sample_rate
        resampler = av.AudioResampler("flt", "mono", rate_hz)
        frames = [out for each in file.decode(audio=0) for out in resampler.resample(each)]
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    resampled: Samples = soxr.resample(samples, rate_hz, RATE_HZ).astype(np.float32)
    return resampled


def pieces(folder: Path, draw: random.Random, most: int = 12) -> list[Samples]:
    """Ten seconds each of what is in `folder`; short files are joined."""
    files = [each for each in sorted(folder.iterdir()) if each.is_file()]
    draw.shuffle(files)
    found: list[Samples] = []
    waiting = np.zeros(0, np.float32)
    for file in files:
        try:
            sound = decoded(file)
        except (av.FFmpegError, IndexError, ValueError):
            continue
        length = round(PIECE_S * RATE_HZ)
        if len(sound) > RATE_HZ:
            waiting = np.concatenate([waiting, sound[: 2 * length]])
        if len(waiting) >= length:
            found.append(waiting[:length])
            waiting = waiting[:0]
        if len(found) == most:
            break
    return found


def faults(samples: Samples, container: str = "wav", codec: str = "") -> list[str]:
    """What is found in a recording of `samples`."""
    if container == "wav":
        out = io.BytesIO()
        soundfile.write(out, samples, RATE_HZ, format="WAV", subtype="PCM_16")
        audio = out.getvalue()
    else:
        audio = encoded(samples, RATE_HZ, container, codec)
    said = read_reference(audio, RATE_HZ, 60.0).warnings
    return [next(short for word, short in FAULTS.items() if word in each) for each in said]


def level(samples: Samples) -> Samples:
    """At -20 dB RMS where it sounds."""
    loud = np.abs(samples) > 0.01 * np.abs(samples).max()
    return samples * np.float32(0.1 / np.sqrt(np.mean(np.square(samples[loud]))))


def clipped(samples: Samples, share: float) -> Samples:
    """With `share` of its samples beyond full scale."""
    louder: Samples = samples / np.float32(np.quantile(np.abs(samples), 1 - share))
    return louder.clip(-1, 1)


def noisy(
    samples: Samples, over_noise_db: float, colour: str, draw: np.random.Generator
) -> Samples:
    """With noise under it, white or falling with frequency."""
    noise = draw.standard_normal(len(samples))
    if colour == "pink":
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum))), len(samples))
    noise *= 0.1 * 10 ** (-over_noise_db / 20) / np.std(noise)
    return (level(samples) + noise.astype(np.float32)).clip(-1, 1)


def under(samples: Samples, music: Samples, over_music_db: float) -> Samples:
    """With music under it."""
    other = np.resize(music, len(samples)) / np.std(music)
    return (level(samples) + np.float32(0.1 * 10 ** (-over_music_db / 20)) * other).clip(-1, 1)


def chords(seconds: float, draw: random.Random) -> Samples:
    """Three plucked notes at a time, each half a second."""
    t = np.arange(round(0.5 * RATE_HZ)) / RATE_HZ
    parts = []
    for _ in range(round(seconds / 0.5)):
        root = 110.0 * 2 ** (draw.randrange(12) / 12)
        notes = (root * 2 ** (step / 12) for step in (0, 4, 7, 12))
        sound = sum(
            np.sin(2 * np.pi * note * k * t) * np.exp(-2 * k * t) / k
            for note in notes
            for k in range(1, 8)
        )
        parts.append(0.1 * sound)
    return np.concatenate(parts).astype(np.float32)


def turns(one: Samples, other: Samples, draw: random.Random) -> Samples:
    """Four turns of two speakers."""
    parts, length = [], round(TURN_S * RATE_HZ)
    for number in range(4):
        voice = level((one, other)[number % 2])
        start = draw.randrange(max(1, len(voice) - length))
        parts += [voice[start : start + length], np.zeros(RATE_HZ // 4, np.float32)]
    return np.concatenate(parts)


def sparse(samples: Samples) -> Samples:
    """A second of it in every five."""
    return np.concatenate(
        [
            part
            for start in range(0, len(samples) - RATE_HZ, RATE_HZ)
            for part in (samples[start : start + RATE_HZ], np.zeros(4 * RATE_HZ, np.float32))
        ]
    )[: 50 * RATE_HZ]


def tell(
    name: str, recordings: Iterable[Samples], container: str = "wav", codec: str = ""
) -> dict[str, float]:
    """The share of `recordings` in which each fault is found; printed, too."""
    found = [faults(recording, container, codec) or ["none"] for recording in recordings]
    counted = Counter(each for some in found for each in some)
    shares = {fault: round(count / len(found), 3) for fault, count in counted.items()}
    said = "  ".join(f"{fault} {share:.1%}" for fault, share in shares.items())
    print(f"{name:36} {len(found):4}  {said}", flush=True)
    return shares


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="*", default=[], help="a folder per speaker")
    parser.add_argument("--music", type=Path, nargs="*", default=[])
    parser.add_argument("--speakers", type=int, default=40, help="of espeak-ng")
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    draw, noise = random.Random(asked.seed), np.random.default_rng(asked.seed)
    groups = {}
    if asked.speakers:
        groups["espeak-ng"] = espeak_voices(asked.speakers, asked.seed)
    real = [pieces(folder, draw) for folder in asked.speech]
    if real:
        groups["people"] = [piece for each in real for piece in each]
    music = [piece for folder in asked.music for piece in pieces(folder, draw, 100)]
    if music:
        groups["music"] = music
    told = {}
    for group, voices in groups.items():
        told[group] = tell(f"{group}, as it is", voices)
        if group == "music":
            continue
        for container, codec in CODED:
            told[f"{group} {codec}"] = tell(f"{group}, {codec}", voices, container, codec)
        for db in (30, 20, 15, 10):
            for colour in ("white", "pink"):
                made = (noisy(each, db, colour, noise) for each in voices)
                told[f"{group} {colour} {db}"] = tell(
                    f"{group}, {colour} noise {db} dB below", made
                )
        for db in (20, 10):
            made = (
                under(each, draw.choice(music) if music else chords(8, draw), db) for each in voices
            )
            told[f"{group} music {db}"] = tell(f"{group}, music {db} dB below", made)
        for share in (0.001, 0.01, 0.05):
            name = f"{group}, {share:.1%} clipped"
            told[name] = tell(name, (0.9 * clipped(each, share) for each in voices))
        for container, codec in CODED:
            name = f"{group}, 5% clipped, {codec}"
            made = (0.9 * clipped(each, 0.05) for each in voices)
            told[name] = tell(name, made, container, codec)
        for db in (-20, -30, -40):
            name = f"{group}, {-20 + db} dB RMS"
            told[name] = tell(name, (level(each) * np.float32(10 ** (db / 20)) for each in voices))
        told[f"{group} sparse"] = tell(f"{group}, a second in five", map(sparse, voices))
        pairs = [draw.sample(range(len(voices)), 2) for _ in range(60)]
        made = (turns(voices[a], voices[b], draw) for a, b in pairs)
        told[f"{group} two"] = tell(f"{group}, two in turns", made)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
