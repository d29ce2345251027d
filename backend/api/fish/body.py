"""Bodies that clients of Fish Audio and of the Fish server send: read within bounds, checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Raw
from starlette.datastructures import Headers

from backend.api.dependencies import Origin
from backend.api.json_body import (
    Byte,
    check_values,
    from_base64,
    with_buffers_in_base64,
)
from backend.api.openapi import JSON, MSGPACK
from backend.core import (
    MAX_SEED,
    MIB,
    RECORDING_FORMATS,
    SAMPLING_LIMITS,
    AudioFormat,
    AudioOutput,
    ReferenceAudio,
    SamplingParams,
    SpeechRequest,
)
from backend.errors import BadField, BadReference, quoted
from backend.languages import MAX_LANGUAGE_CHARACTERS, one_language

_REFERENCES: dict[str, dict[str, Any]] = {
    "/v1/references/add": {"reference_id": ""},
    "/v1/references/delete": {"reference_id": ""},
    "/v1/references/list": {"reference_ids": []},
    "/v1/references/update": {"old_reference_id": "", "new_reference_id": ""},
}
"""Of these routes the Fish server's answers have the same fields, good or not, and `success`."""

T = TypeVar("T")
Wire = Literal["json", "msgpack"]

MEDIA_TYPES: dict[str, Wire] = {
    JSON: "json",
    MSGPACK: "msgpack",
    "application/x-msgpack": "msgpack",
}
_MAX_PROBLEM_CHARACTERS = 200
_MAX_USED = 4
"""Recordings of one request that are listened to."""
MAX_SENT = 64
"""Recordings that one may hold."""
_HOSTED = frozenset({"model", "developer-id"})
"""Headers of clients of the hosted service, of which each sends one at least."""
_ASSUMED_HZ = 44_100
"""What clients play wav and pcm at that asked for no rate."""
_DEFAULTS = SamplingParams()
_MAX_BUFFER_BYTES = 2 * MIB
"""Of msgpack with a list of a file's bytes, each of which takes eight while it is read."""
_PLACE = re.compile(r"(.*?)(?: - at `(?:key in )?\$\.?(.*)`)?", re.DOTALL)


class _NodeBuffer(msgspec.Struct, frozen=True):
    """A file's bytes, as Node tells them where they have gone through `JSON.stringify`."""

    type: Literal["Buffer"]
    data: list[Byte]


class FishReference(msgspec.Struct, frozen=True):
    """A recording of the voice to speak in."""

    audio: Annotated[
        Raw,
        Meta(
            description=f"The file itself, {RECORDING_FORMATS}: msgpack's bytes, base64, or "
            "Node's Buffer in JSON. No URL or path is ever read.",
            extra_json_schema={"type": "string", "contentEncoding": "base64"},
        ),
    ]
    text: Annotated[str, Meta(max_length=5000, description="What is said in it.")] = ""


class FishProsody(msgspec.Struct, frozen=True):
    """How it is spoken."""

    speed: Annotated[float, Meta(ge=0.5, le=2.0, description="Tempo; the pitch is kept.")] = 1.0
    volume: Annotated[float, Meta(ge=-20.0, le=20.0, description="Decibels; not applied.")] = 0.0


class FishSpeech(msgspec.Struct, frozen=True):
    """A request to speak. Other fields of other servers are accepted and change nothing."""

    text: Annotated[
        str, Meta(description="What to speak; not blank.", extra_json_schema={"minLength": 1})
    ]
    format: Annotated[
        str | None,
        Meta(
            description="wav, mp3, opus, flac, aac or pcm; not given, mp3 for clients that send "
            "a header `model` or `developer-id`, wav for others.",
            extra_json_schema={"enum": [*get_args(AudioFormat), None]},
        ),
    ] = None
    sample_rate: Annotated[
        Annotated[int, Meta(ge=8000, le=48_000)] | None,
        Meta(description="Hz; not given, 44,100 for wav and pcm, else the checkpoint's."),
    ] = None
    references: Annotated[
        Annotated[tuple[FishReference, ...], Meta(max_length=MAX_SENT)] | None,
        Meta(description="Recordings of the voice to speak in; the first four are used."),
    ] = None
    reference_id: Annotated[
        Annotated[str, Meta(max_length=256)] | None,
        Meta(description="Id or name of a saved voice; goes before `references`."),
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=-1, le=MAX_SEED)] | None,
        Meta(description="The same seed and request give the same speech; -1 is none."),
    ] = None
    normalize: Annotated[
        bool | None, Meta(description="Speak numbers, dates and the like as words.")
    ] = None
    streaming: Annotated[
        bool | None,
        Meta(
            description="Send audio as it is made; not given, true for clients that send a header "
            "`model` or `developer-id`."
        ),
    ] = None
    # The bounds are those of the clients; what is past the engine's is moved to them, with a note.
    temperature: Annotated[
        Annotated[float, Meta(ge=0.0, le=2.0)] | None,
        Meta(description="How freely tokens are drawn; 0 always takes the likeliest."),
    ] = None
    top_p: Annotated[
        Annotated[float, Meta(ge=0.0, le=1.0)] | None,
        Meta(description="Only the likeliest tokens that reach this together; 0.1 at least."),
    ] = None
    repetition_penalty: Annotated[
        Annotated[float, Meta(ge=0.0, le=2.0)] | None,
        Meta(description="How much less likely a token of a moment ago becomes; 1 at least."),
    ] = None
    prosody: Annotated[FishProsody | None, Meta(description="Tempo and volume.")] = None
    language: Annotated[
        Annotated[str, Meta(max_length=MAX_LANGUAGE_CHARACTERS)] | None,
        Meta(description="Language of `text`, as `POST /tts` takes it."),
    ] = None
    lang_code: Annotated[
        Annotated[str, Meta(max_length=MAX_LANGUAGE_CHARACTERS)] | None,
        Meta(description="The same, as other servers call it."),
    ] = None


def error_body(path: str, status: int, message: str) -> dict[str, Any]:
    """What clients of Fish Audio and of the Fish server read an error from."""
    body = {"status": status, "message": message, "detail": message}
    if path not in _REFERENCES:
        return body
    return {"success": False, **body, **_REFERENCES[path]}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request to speak as it was understood."""

    speech: SpeechRequest
    output: AudioOutput
    warnings: tuple[str, ...]
    """What could not be done as it was asked for."""


def kind_of(headers: Mapping[str, str]) -> str:
    """The media type of the body; "" where it is not declared."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def wire_of(headers: Mapping[str, str]) -> Wire:
    """How the body is encoded; raises `BadField`."""
    kind = kind_of(headers)
    if kind not in MEDIA_TYPES:
        raise BadField(
            f"The body is neither application/msgpack nor application/json but "
            f"{quoted(kind) if kind else 'of no declared type'}; set Content-Type."
        )
    return MEDIA_TYPES[kind]


def decode(body: bytes | Raw, wire: Wire, kind: Any, *, strict: bool = True) -> Any:
    """`body` as a `kind`; raises `BadField` that names the field. Not `strict`, text may stand for
    a number or a boolean, as forms have them.

    What `kind` does not know is skipped without being built, so that memory stays bounded by the
    body's size.
    """
    try:
        if wire == "json":
            if isinstance(body, bytes):  # else it is a part of one, and counted
                body = with_buffers_in_base64(body)
                check_values(body)
            return msgspec.json.decode(body, type=kind, strict=strict)
        return msgspec.msgpack.decode(body, type=kind, strict=strict)
    except msgspec.ValidationError as error:
        raise BadField(_described(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadField(f"The body is not valid {wire}; send an object of the fields.") from None


def wanted(
    fields: FishSpeech,
    wire: Wire,
    headers: Headers,
    origin: Origin,
) -> Wanted:
    """What `fields` ask for; raises `BadField`, `BadReference`."""
    warnings: list[str] = []
    is_hosted = any(name in headers for name in _HOSTED)
    prosody = fields.prosody or FishProsody()
    if prosody.volume:
        warnings.append("prosody.volume is not applied; change the volume where it is played")
    references = fields.references or ()
    if fields.reference_id and references:
        warnings.append("references were not used, because reference_id names a saved voice")
        references = ()
    if len(references) > _MAX_USED:
        warnings.append(f"of {len(references)} references the first {_MAX_USED} were used")
        references = references[:_MAX_USED]
    speech = SpeechRequest(
        request_id=origin.request_id,
        text=fields.text,
        language=one_language(fields.language or "", fields.lang_code or ""),
        sampling=_sampling(fields, warnings),
        references=tuple(
            ReferenceAudio(_recording(each.audio, wire, f"references.{index}.audio"), each.text)
            for index, each in enumerate(references)
        ),
        voice=fields.reference_id or "",
        long_text="split",
        is_silence_taken=True,
        normalize=fields.normalize is not False,
        speed=prosody.speed,
        is_streamed=is_hosted if fields.streaming is None else fields.streaming,
        client=origin.client,
        timeout_s=origin.timeout_s,
        arrived_s=origin.arrived_s,
        trace_parent=origin.trace_parent,
    )
    audio_format, rate_hz = _format(fields.format, is_hosted), fields.sample_rate
    if rate_hz is None and audio_format in ("wav", "pcm"):
        rate_hz = _ASSUMED_HZ
    output = AudioOutput(audio_format, rate_hz, prosody.speed)
    return Wanted(speech, output, tuple(warnings))


def speech_schema() -> dict[str, Any]:
    """The JSON schema of `FishSpeech`, complete in itself."""
    _, parts = msgspec.json.schema_components([FishSpeech], ref_template="{name}")

    def inlined(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inlined(parts[node["$ref"]])
            return {key: inlined(value) for key, value in node.items()}
        return [inlined(each) for each in node] if isinstance(node, list) else node

    schema: dict[str, Any] = inlined(parts["FishSpeech"])
    return schema


def _format(name: str | None, is_hosted: bool) -> AudioFormat:
    if name is None:
        return "mp3" if is_hosted else "wav"
    known: tuple[AudioFormat, ...] = get_args(AudioFormat)
    for each in known:
        if name == each:
            return each
    raise BadField(f"format: {quoted(name)} is not known; choose one of {', '.join(known)}.")


def _sampling(fields: FishSpeech, warnings: list[str]) -> SamplingParams:
    drawn = {}
    for name, (least, greatest) in SAMPLING_LIMITS.items():
        asked = getattr(fields, name)
        if asked is None:
            asked = getattr(_DEFAULTS, name)
        drawn[name] = min(max(asked, least), greatest)
        if drawn[name] != asked:
            warnings.append(f"{name} was taken as {drawn[name]:g} instead of {asked:g}")
    return SamplingParams(**drawn, seed=None if fields.seed == -1 else fields.seed)


def _recording(encoded: Raw, wire: Wire, name: str) -> bytes:
    try:
        audio: bytes = _file(encoded, wire)
    except (BadField, ValueError):
        raise BadField(
            f"{name} is not the file itself, as msgpack's bytes or in base64; URLs and paths are "
            "not read."
        ) from None
    if not audio:
        raise BadReference(f"{name} is empty; send a {RECORDING_FORMATS} file.")
    return audio


def _file(encoded: Raw, wire: Wire) -> bytes:
    if wire == "json":
        return from_base64(decode(encoded, wire, str))
    try:
        return bytes(decode(encoded, wire, bytes))
    except BadField:
        pass
    try:
        return from_base64(decode(encoded, wire, str))
    except BadField:
        if len(memoryview(encoded)) > _MAX_BUFFER_BYTES:
            raise
        numbers = decode(encoded, wire, _NodeBuffer | list[Byte])
        return bytes(numbers if isinstance(numbers, list) else numbers.data)


def _described(problem: str) -> str:
    """One sentence that names the field, of msgspec's "Expected … - at `$.field`"."""
    if len(problem) > 2 * _MAX_PROBLEM_CHARACTERS:  # all of a tag that is none is in it
        problem = problem[:_MAX_PROBLEM_CHARACTERS] + problem[-_MAX_PROBLEM_CHARACTERS:]
    found = _PLACE.fullmatch(problem)
    what, place = (found[1], found[2]) if found else (problem, None)
    what = what.replace("`", "")[:_MAX_PROBLEM_CHARACTERS]
    if not place:
        return f"The body is wrong: {what[:1].lower()}{what[1:]}."
    name = re.sub(r"\[(\d+)\]", r".\1", place)[:100]
    return f"{name}: {what[:1].lower()}{what[1:]}."
