"""Which library decodes a recording, by its first bytes.

From a closed list without playlists: left to itself FFmpeg would guess, and some of what it guesses
opens files and addresses. Ogg is FFmpeg's, too: libvorbis, which libsndfile calls, takes 2 GiB for
a file of 3 kB that claims large code books.
"""

from backend.errors import BadReference

_MAX_TAGS = 4
_TAG_HEADER_BYTES = 10
_HEAD_BYTES = 12


def find_demuxer(audio: bytes) -> str | None:
    """FFmpeg's name for what `audio` is in; None is nothing for FFmpeg."""
    start = _start(audio)
    head = audio[start : start + _HEAD_BYTES]
    if head[4:8] == b"ftyp":
        return "mov"  # m4a, mp4, mov, 3gp
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"  # webm
    if head.startswith(b"OggS"):
        return "ogg"
    if head.startswith((b"#!AMR\n", b"#!AMR-WB\n")):
        return "amr"
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head.startswith(b"caff"):
        return "caf"
    # AAC: mp3's sync word differs in the two bits of its layer.
    is_adts = len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0
    return "aac" if is_adts else None


def without_tags(audio: bytes) -> bytes:
    """`audio` without the ID3v2 tags that some recorders put in front.

    libsndfile would pass over them by itself, and look again at what it finds there.
    """
    start = _start(audio)
    return audio[start:] if start else audio


def _start(audio: bytes) -> int:
    """Where the tags end; `BadReference` where there are more than anybody writes."""
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
