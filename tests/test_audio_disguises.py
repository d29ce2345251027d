"""Uploads that would make FFmpeg open something else: it opens nothing, and they are refused."""

import io
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import soundfile

from backend.audio import demux
from backend.audio.read import read_reference
from backend.audio.sniff import find_demuxer
from backend.errors import BadReference
from tests.recordings import decode_container, encoded, speech_like

DEMUXERS = ("mov", "matroska", "ogg", "aac", "amr", "aiff", "caf", "mp3", "flac")
HEADS = (
    b"",
    b"\0\0\0\x18ftypM4A ",
    b"\x1aE\xdf\xa3",
    b"#!AMR\n",
    b"OggS",
    b"caff\0\1\0\0",
    b"\xff\xf1",
    b"\xff\xfb\x90\0",
    b"fLaC\0\0\0\x22" + bytes(34),
)


class Bait:
    """A file and an address that notice being opened."""

    def __init__(self, folder: Path) -> None:
        self.wav = folder / "secret.wav"
        soundfile.write(self.wav, speech_like(3.0, 16_000), 16_000)
        self.pipe = folder / "pipe.wav"
        os.mkfifo(self.pipe)
        self._opener = threading.Thread(target=self._wait_for_a_reader)
        self._opener.start()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/a.wav"

    def _wait_for_a_reader(self) -> None:
        with self.pipe.open("wb"):
            pass

    def was_opened(self) -> bool:
        self._opener.join(0.2)
        return not self._opener.is_alive()

    def was_called(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        if self._opener.is_alive():
            os.close(os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK))
        self._opener.join()
        self._listener.close()


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[Bait]:
    if sys.platform == "win32":
        pytest.skip("no named pipes in folders")
    bait = Bait(tmp_path)
    yield bait
    bait.close()


def disguises(place: str) -> dict[str, str]:
    """Texts that lead to `place`, by the name of what FFmpeg would take them for."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{place}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{place}'\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="audio/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{place}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={place}\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=audio 5004 RTP/AVP 0\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{place}"/></svg>',
        "html": f'<!DOCTYPE html><html><audio src="{place}"></audio></html>',
        "asx": f'<asx version="3.0"><entry><ref href="{place}"/></entry></asx>',
        "pls": f"[playlist]\nFile1={place}\nNumberOfEntries=1\n",
        "ffmetadata": f";FFMETADATA1\ntitle={place}\n",
    }


@pytest.mark.parametrize("kind", disguises(""))
def test_a_disguise_is_refused_and_nothing_is_opened(bait: Bait, kind: str) -> None:
    for place in (str(bait.wav), str(bait.pipe), bait.url):
        text = disguises(place)[kind].encode()
        for head in HEADS:
            with pytest.raises(BadReference, match="speaker_file") as caught:
                read_reference(head + text, 16_000, 30.0)
            assert place not in str(caught.value)
    assert not bait.was_called()
    assert not bait.was_opened()


@pytest.mark.parametrize("demuxer", DEMUXERS)
def test_no_demuxer_of_ours_follows_a_disguise(bait: Bait, demuxer: str) -> None:
    for place in (str(bait.pipe), bait.url):
        for text in disguises(place).values():
            with pytest.raises((demux.Problem, av.FFmpegError)):
                list(demux.decode(text.encode(), demuxer, 8, (4_000, 192_000), 120.0))
    assert not bait.was_called()
    assert not bait.was_opened()


def test_left_alone_ffmpeg_would_follow_them(bait: Bait) -> None:
    """Else the tests above would prove nothing."""
    playlist = io.BytesIO(disguises(bait.url)["hls"].encode())
    with pytest.raises(av.FFmpegError):
        av.open(
            playlist,
            "r",
            format="hls",
            options={"protocol_whitelist": "http,tcp", "allowed_extensions": "ALL"},
            timeout=0.5,
        )
    assert bait.was_called()
    script = io.BytesIO(disguises(str(bait.wav))["concat"].encode())
    unsafe = {"safe": "0", "protocol_whitelist": "file"}
    with av.open(script, "r", format="concat", options=unsafe) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) == 3 * 16_000


def elsewhere(path: Path) -> bytes:
    """A QuickTime movie whose sound lies in another file, that of `path`."""
    audio = encoded(speech_like(3.0, 16_000), 16_000, "mov", "pcm_s16le")
    at = audio.index(b"dref") + 12  # behind its flags and its number of entries
    (length,) = struct.unpack_from(">I", audio, at)
    name = os.fsencode(path)
    fields = [b"\0\2", struct.pack(">H", len(name)), name, bytes(len(name) % 2), b"\xff\xff\0\0"]
    volume = bytes([4]) + b"disk".ljust(27, b"\0")
    file = bytes([8]) + b"pipe.wav".ljust(63, b"\0")
    levels = struct.pack(">HH", 1, 1)
    alias = bytes(10) + volume + bytes(12) + file + bytes(16) + levels + bytes(16)
    body = b"alis" + bytes(4) + alias + b"".join(fields)
    entry = struct.pack(">I", 4 + len(body)) + body
    grown = bytearray(audio[:at] + entry + audio[at + length :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        # The last minf's: QuickTime has none but the sound's.
        place = audio.rindex(box, 0, at) - 4
        (size,) = struct.unpack_from(">I", grown, place)
        struct.pack_into(">I", grown, place, size + len(entry) - length)
    return bytes(grown)


def test_a_movie_that_points_to_another_file_holds_no_sound(
    bait: Bait, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = elsewhere(bait.pipe)
    assert find_demuxer(movie) == "mov"
    with pytest.raises(BadReference, match=r"holds no sound|refers to another file"):
        decode_container(movie, "mov")
    # Were FFmpeg told to follow it, there would still be nothing to open it with.
    told = {**demux._OPTIONS, "enable_drefs": "1", "use_absolute_path": "1"}
    monkeypatch.setattr(demux, "_OPTIONS", told)
    with pytest.raises(demux.Problem, match="elsewhere"):
        list(demux.decode(movie, "mov", 8, (4_000, 192_000), 120.0))
    assert not bait.was_opened()


def test_nothing_is_read_but_what_is_in_memory() -> None:
    assert demux._OPTIONS["protocol_whitelist"] == ""
    file = demux._Memory(b"0123456789")
    assert file.seek(-3, 2) == 7
    assert file.seek(-1) < 0
    assert file.seek(-11, 2) < 0
    assert file.read() == b"789"
    assert file.seek(100) == 100
    assert file.read() == b""
