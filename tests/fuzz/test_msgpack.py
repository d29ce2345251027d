"""Messages between server and worker, bodies of Fish's clients, voices' files: read, or refused."""

from typing import Any

import msgspec
from hypothesis import example, given, note
from hypothesis import strategies as st
from starlette.datastructures import Headers

from backend.api.dependencies import Origin
from backend.api.fish.body import FishSpeech, decode, wanted
from backend.core import ReferenceCodes, SamplingParams, VoicePrompt
from backend.errors import ShoalError
from backend.voices import sealed
from backend.voices.voice import Saved, Voice, new_time, open_foreign
from backend.worker.messages import (
    Abort,
    Configure,
    DecodeCodes,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    Load,
    MessageDecoder,
    Pcm,
    Ready,
    Speak,
    from_worker_decoder,
    to_worker_decoder,
)
from tests.fuzz.effort import effort, in_proportion
from tests.fuzz.hostile import DEPTH, mutated, values
from tests.monitored import stats
from tests.test_serving_session import info

CODES = ReferenceCodes(bytes(20), 1, "scripted", 0.1)
pack = msgspec.msgpack.encode
TO_WORKER = tuple(
    pack(message)
    for message in (
        Speak("r", "Hi.", SamplingParams(seed=1), (VoicePrompt(CODES, "said"),), True),
        EncodeVoice("r", b"RIFF"),
        DecodeCodes("r", CODES),
        Configure(2, 64),
        Abort("r"),
    )
)
FROM_WORKER = tuple(
    pack(message)
    for message in (
        Ready(info()),
        Pcm("r", bytes(16)),
        Done("r", stats(), CODES),
        Encoded("r", CODES),
        Failed("r", "bad_reference", "it is none"),
        Load(1, 2, 3, 4),
    )
)
SPEECH = (
    pack({"text": "Hi.", "references": [{"audio": b"RIFF", "text": "said"}], "format": "mp3"}),
    pack({"text": "Hi.", "prosody": {"speed": 1.5, "volume": 0}, "seed": 7, "top_p": 0.5}),
    pack({"text": "Hi.", "reference_id": "anna", "streaming": True, "chunk_length": 200}),
)
ORIGIN = Origin("r", "client", None, 0.0, "")
deep = st.sampled_from((b"\x91" * DEPTH, b"\x81\xa4text" * DEPTH, b"\x81\xa1a" * DEPTH))


def packed(value: Any) -> bytes:
    """As msgpack; a string where it has no such value."""
    try:
        return pack(value)
    except (OverflowError, UnicodeEncodeError):
        return b"\xd9\x02\xff\xfe"


anything = st.one_of(values.map(packed), st.binary(max_size=200), deep)


@effort(150)
@given(st.one_of(mutated(TO_WORKER), anything))
@example(b"\x81\xa4text" * DEPTH)
@example(b"\x82\xa4type\xa5abort\xaarequest_id\xa1\xff")
def test_a_message_to_the_worker(data: bytes) -> None:
    decoded(to_worker_decoder, data)


@effort(150)
@given(st.one_of(mutated(FROM_WORKER), anything))
@example(b"\x81\xa4text" * DEPTH)
@example(b"\x82\xa4type\xa7decoded\xaarequest_id\xa1\xff")
def test_a_message_from_the_worker(data: bytes) -> None:
    decoded(from_worker_decoder, data)


def decoded(decoder: MessageDecoder[Any], data: bytes) -> None:
    """What `data` says can be said again, or it is no message."""
    note(repr(data))
    with in_proportion(len(data)):
        try:
            message = decoder.decode(data)
        except msgspec.DecodeError:
            return
    assert decoder.decode(pack(message)) == message


def fields_of(body: bytes, wire: Any) -> None:
    """`body` is a request to speak, or refused in a sentence that does not repeat it."""
    note(repr(body))
    with in_proportion(len(body)):
        try:
            asked = wanted(decode(body, wire, FishSpeech), wire, Headers(), ORIGIN)
        except ShoalError as refusal:
            assert 0 < len(str(refusal)) < 400
            return
    assert isinstance(asked.speech.text, str)
    assert len(asked.speech.references) <= 4


@effort(200)
@given(st.one_of(mutated(SPEECH), anything))
def test_a_body_of_fishs_clients(data: bytes) -> None:
    fields_of(data, "msgpack")


@effort(100)
@given(
    st.dictionaries(
        st.sampled_from(msgspec.structs.fields(FishSpeech)).map(lambda field: field.name), values
    ).map(lambda fields: packed({"text": "Hi."} | fields))
)
def test_values_that_no_field_means(data: bytes) -> None:
    fields_of(data, "msgpack")


VOICE = Saved(
    1,
    Voice("0" * 32, "anna", "said", "scripted", 1, 10, 0.1, new_time(), "a voice"),
    bytes(20),
)


def opened(data: bytes) -> None:
    """`data` is the file of a voice that adds up, or refused."""
    note(repr(data))
    with in_proportion(len(data)):
        try:
            saved = open_foreign(data)
        except sealed.DamagedFile:
            return
    voice = saved.voice
    assert len(saved.codes) == 2 * voice.num_codebooks * voice.frames
    assert sealed.opened(sealed.seal(saved), Saved) == saved


@effort(50)
@given(st.one_of(mutated((sealed.seal(VOICE),)), st.binary(max_size=200)))
def test_a_voices_file_that_was_damaged(data: bytes) -> None:
    opened(data)


@effort(150)
@given(st.one_of(mutated((pack(VOICE),)), anything))
def test_a_voices_file_that_somebody_sealed(body: bytes) -> None:
    """Anybody can: its digest is right, whatever it says."""
    opened(sealed._MAGIC + sealed._digest(body) + body)
