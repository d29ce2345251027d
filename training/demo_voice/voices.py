"""`python -m training.demo_voice.voices`: recordings become the voices that a checkpoint ships.

    python -m training.demo_voice.voices --recordings DIR --checkpoint FOLDER

DIR holds NAME.wav for each voice, or another format that `POST /voices` takes, and NAME.txt: what
is said in it, and after an empty line whatever is worth noting of the voice. FOLDER/voices is made
anew. Codes are the codec's: run it again whenever the codec has changed.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from backend.core import ReferenceCodes
from backend.errors import ShoalError
from backend.hardware.deployment import Deployment
from backend.model.config import codec_fingerprint
from backend.serving.launch import worker_command
from backend.settings import Settings
from backend.voices.shipped import VOICES_FOLDER, ShippedVoices, write_shipped
from backend.voices.voice import VOICE_SUFFIX
from backend.worker.messages import EncodeVoice
from backend.worker.supervisor import supervised

TEXT_SUFFIX = ".txt"


@dataclass(frozen=True, slots=True)
class Recording:
    """A voice to be made."""

    name: str
    audio: bytes
    transcript: str
    description: str


def read_recordings(folder: Path) -> list[Recording]:
    """Those of `folder`, in the order of their names; OSError where one has no text."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != TEXT_SUFFIX)
    return [_recording(path) for path in paths]


def _recording(path: Path) -> Recording:
    text = path.with_suffix(TEXT_SUFFIX).read_text("utf-8").strip()
    said, _, noted = text.partition("\n\n")
    return Recording(path.stem, path.read_bytes(), " ".join(said.split()), " ".join(noted.split()))


async def encode(checkpoint: Path, recordings: list[Recording]) -> list[ReferenceCodes]:
    """Each as `POST /voices` would encode it."""
    settings = Settings(model_dir=checkpoint, log_level="WARNING")
    client = supervised(worker_command(settings, Deployment.look(settings).plan))
    client.start()
    try:
        await client.ready()
        return [await client.encode(EncodeVoice(r.name, r.audio)) for r in recordings]
    finally:
        await client.close()


def ship(checkpoint: Path, recordings: list[Recording]) -> ShippedVoices:
    """Put the voices of `recordings` into `checkpoint`, in the place of those it ships."""
    codes = asyncio.run(encode(checkpoint, recordings))
    folder = checkpoint / VOICES_FOLDER
    for path in folder.glob(f"*{VOICE_SUFFIX}"):
        path.unlink()
    for each, encoded in zip(recordings, codes, strict=True):
        path = write_shipped(folder, each.name, encoded, each.transcript, each.description)
        told = "".join(f"; {warning}" for warning in encoded.warnings)
        print(f"{each.name}: {encoded.audio_s:.1f} s, {path.stat().st_size:,} bytes{told}")
    return ShippedVoices.read(folder, codec_fingerprint(checkpoint))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.demo_voice.voices")
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        recordings = read_recordings(arguments.recordings)
        shipped = ship(arguments.checkpoint, recordings)
    except (OSError, ShoalError) as error:
        sys.exit(str(error))
    if len(shipped.voices) != len(recordings):
        sys.exit(f"Only {len(shipped.voices)} of {len(recordings)} voices can be read back.")


if __name__ == "__main__":
    main()
