"""Recordings from elsewhere to follow: `python -m training.demo_voice.recordings --out DIR`.

Nothing of them is in the training speech, and none is kept in the project: people come from Debian
packages (LibriVox readings in pocketsphinx-testdata, public domain; telephone prompts of Asterisk,
CC BY-SA; alsa-utils), the rest from synthesizers that are installed here. What is missing is said
and left out. Writes `KIND.NAME.wav` at the rate of its source and, where the words are known,
`KIND.NAME.txt`.
"""

import argparse
import gzip
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from training.demo_voice.espeak_reader import SAMPLE_RATE_HZ, Speaker, read_aloud
from training.demo_voice.measure import Samples

PACKAGES = (
    *("pocketsphinx-testdata", "alsa-utils"),
    *(f"asterisk-core-sounds-{name}" for name in ("en", "en-g722", "es", "es-g722", "fr")),
    *(f"asterisk-core-sounds-{name}" for name in ("fr-g722", "it", "it-g722", "ru", "ru-g722")),
)
LEAST_S, MOST_S = 3.5, 14.0
ALTERED = ("person.librivox-1", "person.asterisk-en-1", "synthesizer.flite-rms", "language.de")
"""Those that are also heard over a telephone line and through noise."""

_OUT = "OUT"
"""Stands in a command for the file it writes."""
_ENGLISH = (
    "The lamp in the hallway flickers whenever a heavy truck drives past the house.",
    "I would like two tickets for the evening show, please, somewhere near the front.",
)
_SENTENCES = {
    "de": "Am Wochenende fahren wir mit dem Zug ans Meer und bleiben dort bis Montag.",
    "es": "El domingo por la mañana vamos al mercado y compramos fruta para toda la semana.",
    "fr": "Nous prenons le train demain matin pour voir nos amis à la campagne.",
    "it": "La domenica andiamo spesso al lago e mangiamo insieme vicino alla riva.",
    "pt": "No verão passamos as férias na praia com a família e os amigos.",
    "nl": "In de winter schaatsen de kinderen op het meer achter ons huis.",
    "pl": "Wieczorem siedzimy w kuchni i rozmawiamy o tym, co się wydarzyło.",
    "sv": "På sommaren badar vi i sjön och äter middag ute i trädgården.",
    "ru": "Вечером мы гуляем по берегу реки и разговариваем о книгах.",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """Somebody speaking."""

    name: str
    """Its kind, a dot, and who."""
    pcm: Samples
    rate_hz: int
    said: str = ""
    """Empty where nobody knows."""

    @property
    def kind(self) -> str:
        return self.name.partition(".")[0]


def read_folder(folder: Path) -> list[Recording]:
    """What `collect` or anybody else put there, in the order of the names."""
    found = []
    for path in sorted(folder.glob("*.wav")):
        pcm, rate_hz = soundfile.read(path, dtype="float32")
        words = path.with_suffix(".txt")
        said = words.read_text("utf-8").strip() if words.exists() else ""
        found.append(Recording(path.stem, pcm, rate_hz, said))
    return found


def write_folder(recordings: list[Recording], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in recordings:
        soundfile.write(folder / f"{each.name}.wav", each.pcm, each.rate_hz, subtype="PCM_16")
        if each.said:
            (folder / f"{each.name}.txt").write_text(each.said + "\n", "utf-8")


def collect(told: Callable[[str], None] = print) -> list[Recording]:
    """All that can be had here; `told` what cannot."""
    with tempfile.TemporaryDirectory(prefix="recordings-") as folder:
        root = _fetched(Path(folder), told)
        found = [*_librivox(root), *_asterisk(root), *_alsa(root), *_flite(told), *_pico(told)]
    found += _espeak()
    named = {each.name: each for each in found}
    for name in ALTERED:
        if name in named:
            found += altered(named[name])
    return found


def altered(recording: Recording) -> list[Recording]:
    """Over a telephone line, and with noise 20 and 15 dB below the speech."""
    who = recording.name.replace(".", "-")
    phone = telephone(recording.pcm, recording.rate_hz)
    made = [Recording(f"phone.{who}", phone, 8_000, recording.said)]
    for below_db in (20, 15):
        pcm = noisy(recording.pcm, below_db)
        made.append(Recording(f"noise{below_db}.{who}", pcm, recording.rate_hz, recording.said))
    return made


def telephone(pcm: Samples, rate_hz: int) -> Samples:
    """300 to 3,400 Hz, at 8 kHz."""
    narrow = soxr.resample(np.asarray(pcm, np.float32), rate_hz, 8_000)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / 8_000)
    spectrum[(hertz < 300) | (hertz > 3_400)] = 0
    passed: Samples = np.fft.irfft(spectrum, len(narrow)).astype(np.float32)
    return passed


def noisy(pcm: Samples, below_db: float, seed: int = 0) -> Samples:
    """With pink noise, as rooms have it, so far below the mean power of the recording."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(pcm)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, len(pcm))
    noise *= np.sqrt(np.mean(np.square(pcm)) / np.mean(np.square(noise))) * 10 ** (-below_db / 20)
    both: Samples = np.clip(pcm + noise, -1, 1).astype(np.float32)
    return both


def _fetched(folder: Path, told: Callable[[str], None]) -> Path:
    """The Debian packages, unpacked; an empty folder where there is no apt."""
    root = folder / "root"
    root.mkdir()
    if not shutil.which("apt-get"):
        told("no apt-get: no people are heard")
        return root
    for package in PACKAGES:
        command = ["apt-get", "download", "-q", package]
        fetched = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        archives = list(folder.glob(f"{package}_*.deb"))
        if fetched.returncode or not archives:
            told(f"{package} cannot be had: left out")
            continue
        subprocess.run(["dpkg", "-x", str(archives[0]), str(root)], check=True)
    return root


def _librivox(root: Path) -> Iterator[Recording]:
    folder = root / "usr/share/pocketsphinx/test/data/librivox"
    if not folder.is_dir():
        return
    lines = (folder / "transcription").read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        words, _, name = line.removeprefix("<s>").partition("</s>")
        pcm, rate_hz = soundfile.read(folder / f"{name.strip(' ()')}.wav", dtype="float32")
        if len(pcm) >= LEAST_S * rate_hz:
            yield Recording(f"person.librivox-{number}", pcm, rate_hz, words.strip().capitalize())


def _asterisk(root: Path) -> Iterator[Recording]:
    """Two stretches of prompts of each speaker."""
    for folder in sorted((root / "usr/share/asterisk/sounds").glob("*_*_*")):
        language = folder.name[:2]
        page = root / f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
        lines = gzip.decompress(page.read_bytes()).decode("utf-8", "replace").splitlines()
        prompts = [line.partition(":") for line in lines if not line.startswith(";")]
        known = [(name, text.strip()) for name, _, text in prompts if 40 < len(text) < 160]
        for number, start in enumerate((0, 12), start=1):
            pieces, said, seconds = list[Samples](), list[str](), 0.0
            for name, text in known[start:]:
                path = folder / f"{name.strip()}.g722"
                if seconds < 6 and path.exists() and not re.search(r"[\[\(<\d]", text):
                    pieces.append(_g722(path))
                    said.append(text)
                    seconds += len(pieces[-1]) / 16_000
            pcm = np.concatenate(pieces)[: int(MOST_S * 16_000)]
            yield Recording(f"person.asterisk-{language}-{number}", pcm, 16_000, " ".join(said))


def _g722(path: Path) -> Samples:
    with av.open(str(path), format="g722") as file:
        frames = [frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]
    samples: Samples = np.concatenate(frames).astype(np.float32) / np.float32(32_768)
    return samples


def _alsa(root: Path) -> Iterator[Recording]:
    paths = [root / f"usr/share/sounds/alsa/{name}.wav" for name in
             ("Front_Center", "Front_Left", "Rear_Center", "Side_Left")]  # fmt: skip
    if not all(path.exists() for path in paths):
        return
    pieces = [soundfile.read(path, dtype="float32") for path in paths]
    pcm = np.concatenate([pcm for pcm, _ in pieces])
    said = "Front center. Front left. Rear center. Side left."
    yield Recording("person.alsa", pcm, pieces[0][1], said)


def _flite(told: Callable[[str], None]) -> Iterator[Recording]:
    if not shutil.which("flite"):
        told("flite is not installed (apt-get install flite): its voices are left out")
        return
    for voice in ("kal16", "awb", "rms", "slt"):
        text = " ".join(_ENGLISH)
        command = ["flite", "-voice", voice, text, _OUT]
        yield _spoken_by(command, f"synthesizer.flite-{voice}", text)


def _pico(told: Callable[[str], None]) -> Iterator[Recording]:
    if not shutil.which("pico2wave"):
        told("pico2wave is not installed (libttspico-utils): its voices are left out")
        return
    texts = {"en-GB": " ".join(_ENGLISH)} | {
        f"{code}-{code.upper()}": _SENTENCES[code] for code in ("de", "es", "fr", "it")
    }
    for code, text in texts.items():
        kind = "synthesizer" if code == "en-GB" else "language"
        yield _spoken_by(["pico2wave", "-l", code, "-w", _OUT, text], f"{kind}.pico-{code}", text)


def _spoken_by(command: list[str], name: str, said: str) -> Recording:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "spoken.wav")
        filled = [path if word == _OUT else word for word in command]
        subprocess.run(filled, check=True, capture_output=True)
        pcm, rate_hz = soundfile.read(path, dtype="float32")
    return Recording(name, pcm[: int(MOST_S * rate_hz)], rate_hz, said)


def _espeak() -> Iterator[Recording]:
    for voice in ("en-us+m3", "en+f2"):
        pcm = np.concatenate(read_aloud(list(_ENGLISH), Speaker(voice)))
        yield Recording(f"synthesizer.espeak-{voice}", pcm, SAMPLE_RATE_HZ, " ".join(_ENGLISH))
    for index, (code, text) in enumerate(_SENTENCES.items()):
        voice = code if index % 2 else f"{code}+f3"
        (pcm,) = read_aloud([text], Speaker(voice))
        yield Recording(f"language.{code}", pcm, SAMPLE_RATE_HZ, text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    found = collect()
    write_folder(found, out)
    for each in found:
        print(f"{each.name:36} {len(each.pcm) / each.rate_hz:5.1f} s at {each.rate_hz} Hz")


if __name__ == "__main__":
    main()
