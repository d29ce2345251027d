"""Which library decodes a recording, by its first bytes.

From a closed list without playlists: left to itself FFmpeg would guess, and some of what it guesses
opens files and addresses. Ogg is FFmpeg's, too: libvorbis, which libsndfile calls, takes 2 GiB for
a file of 3 kB that claims large code books.
"""

from backend.audio.frames import find_first_frame, kind_of_frame, tells_length
from backend.errors import BadReference

_MAX_TAGS = 4
_TAG_HEADER_BYTES = 10
_HEAD_BYTES = 12
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Boxes that a movie begins with: the first one in all that are younger than 2001."""
_LIBSNDFILE = (b"RIFF", b"RIFX", b"RF64", b"fLaC")


def find_demuxer(audio: bytes) -> str | None:
    """FFmpeg's name for what `audio` is in; None is nothing for FFmpeg."""
    start = find_start(audio)
    if demuxer := _container(audio[start : start + _HEAD_BYTES]):
        return demuxer
    if audio.startswith(b"fLaC", start):
        return None if _flac_tells_length(audio, start) else "flac"
    kind = kind_of_frame(audio, start)
    return None if kind == "mp3" and tells_length(audio, start) else kind


def find_start(audio: bytes) -> int:
    """Where the recording begins: behind ID3v2 tags, and what an mp3 or AAC was cut through.

    `BadReference` where there are more tags than anybody writes.
    """
    start = _behind_tags(audio)
    head = audio[start : start + _HEAD_BYTES]
    if _container(head) or head.startswith(_LIBSNDFILE) or kind_of_frame(audio, start):
        return start
    first = find_first_frame(audio, start)
    return start if first is None else first


def _container(head: bytes) -> str | None:
    if head[4:8] in _QUICKTIME:
        return "mov"  # m4a, mp4, mov, 3gp
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"  # webm
    if head.startswith(b"OggS"):
        return "ogg"
    if head.startswith((b"#!AMR\n", b"#!AMR-WB\n")):
        return "amr"
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    return "caf" if head.startswith(b"caff") else None


def _flac_tells_length(audio: bytes, start: int) -> bool:
    """Whether the header has a number of samples, without which libsndfile cannot read on."""
    length = audio[start + 21 : start + 26]
    return len(length) < 5 or bool(length[0] & 15 or any(length[1:]))


def _behind_tags(audio: bytes) -> int:
    """libsndfile would pass over them by itself, and look again at what it finds there."""
    start = 0
    for _ in range(_MAX_TAGS):
        if audio[start : start + 3] != b"ID3" or len(audio) < start + _TAG_HEADER_BYTES:
            return start
        length = 0
        for byte in audio[start + 6 : start + _TAG_HEADER_BYTES]:
            length = length << 7 | byte & 0x7F
        start += _TAG_HEADER_BYTES + length
    if audio[start : start + 3] == b"ID3":
        raise BadReference("speaker_file has more tags than a recording can; export it again.")
    return start
