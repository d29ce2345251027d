"""Which checkpoint a folder holds, told from its files without reading them whole."""

import hashlib
import os
from pathlib import Path

from backend.core import MIB
from backend.errors import BadCheckpoint

_ENDS_BYTES = MIB
_DIGEST_BYTES = 12


def codec_fingerprint(folder: Path) -> str:
    """A name for the codec in `folder`: the same for a copy of its files, another for any other.

    Of `codec.json`, and of the size, first and last MiB of the weights, which is read in
    milliseconds however large they are: training changes every weight, and a .pth file ends in
    checksums of all that is in it. Raises `BadCheckpoint` where there are no weights.
    """
    return _fingerprint(folder, "codec", folder / "codec.json")


def checkpoint_fingerprint(folder: Path) -> str:
    """The same for transformer and codec together."""
    model = _fingerprint(folder, "model", folder / "config.json")
    return f"{model}-{codec_fingerprint(folder)}"


def packed_fingerprint(folder: Path, fingerprint: str) -> str:
    """The same, which is `fingerprint`, for what is made of its weights and kept on this machine:
    another, too, where they were written again and only their middle is another."""
    return f"{fingerprint}-{_stored(folder, 'model').stat().st_mtime_ns:x}"


def codec_part(fingerprint: str) -> str:
    """What `codec_fingerprint` says, out of what `checkpoint_fingerprint` said."""
    return fingerprint.rpartition("-")[2]


def _fingerprint(folder: Path, part: str, config: Path) -> str:
    weights = _stored(folder, part)
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    try:
        digest.update(config.read_bytes() if config.is_file() else b"")
        with weights.open("rb") as stored:
            size = stored.seek(0, os.SEEK_END)
            digest.update(f"/{size}/".encode())
            for begin in (0, max(0, size - _ENDS_BYTES)):
                stored.seek(begin)
                digest.update(stored.read(_ENDS_BYTES))
    except OSError as error:
        raise BadCheckpoint(f"cannot read the {part} in {folder}: {error.strerror}") from error
    return digest.hexdigest()


def _stored(folder: Path, part: str) -> Path:
    names = (f"{part}.safetensors", f"{part}.pth")
    weights = next((file for name in names if (file := folder / name).is_file()), None)
    if weights is None:
        raise BadCheckpoint(f"{folder} holds neither {' nor '.join(names)}")
    return weights
