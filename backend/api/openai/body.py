"""Bodies that OpenAI's clients send and read: the fields of a speech, and the shape of an error."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from backend.api.json_body import read_object
from backend.api.schemas import LanguageName, describe_problem, sampling_field
from backend.core import MAX_SEED, AudioFormat, LongText, SamplingParams
from backend.errors import BadField, quoted
from backend.languages import one_language

BUILT_IN_VOICES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx"),
    *("sage", "shimmer", "verse"),
)
"""OpenAI's own names: the default voice, unless a saved one is called so."""

DEFAULT_VOICE = "default"
"""Names the default voice where a client has to name one; likewise."""

MAX_NAME = 256
"""Characters of a model's or a voice's name."""
MAX_INSTRUCTIONS = 10_000
"""Characters."""

_NAMED_FIELDS = 8
"""Of those that are unknown."""
_INSTRUCTIONS_WARNING = (
    "instructions are not followed, the mood comes from the voice: choose one that was recorded "
    "in it, see GET /emotions"
)

_CODES = {"unauthorized": "invalid_api_key", "rate_limited": "rate_limit_exceeded"}
"""What OpenAI calls a domain error of ours; the others keep their name."""
_PARAMS = {
    "blank_text": "input",
    "text_too_long": "input",
    "prompt_too_long": "input",
    "unknown_voice": "voice",
    "voice_conflict": "voice",
    "model_not_found": "model",
}
"""The field that a domain error is about."""


def _voice_name(value: object) -> object:
    return value["id"] if isinstance(value, dict) and "id" in value else value


VoiceName = Annotated[
    str,
    Field(max_length=MAX_NAME),
    BeforeValidator(_voice_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_NAME},
                {
                    "type": "object",
                    "properties": {"id": {"type": "string", "maxLength": MAX_NAME}},
                    "required": ["id"],
                },
            ]
        }
    ),
]
"""A voice's name or id, sent as a string or as {"id": …}."""

Speed = Annotated[float, Field(ge=0.25, le=4.0, allow_inf_nan=False)]


class OpenAISpeech(BaseModel):
    """The fields of `POST /v1/audio/speech`: OpenAI's own, then those of `POST /tts` that say how
    to speak. Others are ignored, as clients send more."""

    model_config = ConfigDict(strict=True, frozen=True, use_attribute_docstrings=True)

    model: str = Field(max_length=MAX_NAME)
    """Any name is taken, and the checkpoint that is loaded speaks."""
    input: str
    """What to speak; not blank."""
    voice: VoiceName
    """A saved voice, by name or id; OpenAI's own names are the default voice."""
    instructions: str | None = Field(None, max_length=MAX_INSTRUCTIONS)
    """Accepted, and not followed: the model takes its mood from the voice's recording."""
    response_format: AudioFormat = "mp3"
    """The container; pcm is 16 bit little-endian, mono, at 24 kHz."""
    speed: Speed = 1.0
    """Tempo; the pitch is kept."""
    stream_format: Literal["audio", "sse"] | None = None
    """Sends audio as it is made: itself, or events with pieces of it in base64."""
    stream: bool | None = None
    """Send audio as it is made; mp3, opus and pcm always are unless this is false."""
    language: LanguageName = "auto"
    """Language of `input`, which OpenAI's own API has not: as `POST /tts` takes it."""
    lang_code: LanguageName = "auto"
    """The same, as other servers call it."""
    normalize: bool = True
    """Speak numbers, dates, abbreviations and the like as words."""
    long_text: LongText = "split"
    """What to do with text past this machine's limit: truncate, split or reject."""
    temperature: float = sampling_field("temperature")
    """How freely tokens are drawn; 0 always takes the likeliest."""
    top_p: float = sampling_field("top_p")
    """Only the likeliest tokens that together reach this probability are drawn from."""
    repetition_penalty: float = sampling_field("repetition_penalty")
    """How much less likely a token becomes that was drawn a moment ago; 1 is not at all."""
    seed: int | None = Field(None, ge=-1, le=MAX_SEED)
    """The same seed and request give the same speech; -1 is none."""
    sample_rate: int | None = Field(None, ge=8000, le=48_000)
    """Samples a second, or the nearest that the format has."""

    @property
    def sampling(self) -> SamplingParams:
        """How to draw the tokens."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=None if self.seed == -1 else self.seed,
        )


class BadBody(Exception):
    """A body that is refused with 400, as OpenAI does; `param` is the field that is wrong."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def parse_speech(body: bytes, max_characters: int) -> tuple[OpenAISpeech, tuple[str, ...]]:
    """The fields in a JSON `body`, and what its sender should know; raises `BadBody`."""
    try:
        values = read_object(body)
    except BadField as error:
        raise BadBody(str(error), "invalid_json") from None
    given = {name: value for name, value in values.items() if value is not None}
    try:
        fields = OpenAISpeech.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        param, is_missing = str(problem["loc"][0]), problem["type"] == "missing"
        code = "missing_required_parameter" if is_missing else "invalid_value"
        raise BadBody(describe_problem(problem), code, param) from None
    try:
        one_language(fields.language, fields.lang_code)
    except BadField as error:
        raise BadBody(str(error), "invalid_value", "language") from None
    length = len(fields.input)
    if length > max_characters:
        raise BadBody(
            f"input has {length} characters; send at most {max_characters} at once.",
            "string_above_max_length",
            "input",
        )
    return fields, _warnings(fields, given)


def _warnings(fields: OpenAISpeech, given: Iterable[str]) -> tuple[str, ...]:
    unknown = [name for name in given if name not in (*OpenAISpeech.model_fields, "lang_code")]
    warnings = []
    if fields.instructions:
        warnings.append(_INSTRUCTIONS_WARNING)
    if unknown:
        named = ", ".join(quoted(name) for name in unknown[:_NAMED_FIELDS])
        more = len(unknown) - _NAMED_FIELDS
        also = f" and {more} more" if more > 0 else ""
        warnings.append(f"unknown fields were ignored: {named}{also}")
    return tuple(warnings)


def speech_schema() -> dict[str, Any]:
    """The JSON schema of `OpenAISpeech`; null is as good as not given."""
    schema = OpenAISpeech.model_json_schema()
    optional = schema["properties"].keys() - set(schema["required"])
    for name in optional:
        told = schema["properties"][name]
        outer = {key: told.pop(key) for key in ("default", "description", "title") if key in told}
        schema["properties"][name] = outer | {"anyOf": [told, {"type": "null"}]}
    return schema


def error_body(
    status: int, message: str, code: str = "", param: str | None = None
) -> dict[str, Any]:
    """What OpenAI's clients read an error from; `code` is the domain error's.

    `param` is the field that is wrong, where `code` does not tell.
    """
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": message,
            "type": "rate_limit_error" if status == 429 else kind,
            "param": param or _PARAMS.get(code),
            "code": _CODES.get(code, code) or None,
        }
    }
