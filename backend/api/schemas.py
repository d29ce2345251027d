"""What a request to speak may say: the fields, their limits, and how to tell what is wrong."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from backend.core import (
    LANGUAGES,
    MAX_SEED,
    SAMPLING_LIMITS,
    AudioFormat,
    AudioOutput,
    LongText,
    SamplingParams,
)
from backend.errors import BadField, quoted
from backend.languages import MAX_LANGUAGE_CHARACTERS, find_language, unknown_language
from backend.voices.voice import MAX_TRANSCRIPT_CHARACTERS

MAX_VOICE_NAME = 64
MAX_PROMPT_CHARACTERS = MAX_TRANSCRIPT_CHARACTERS
"""What is said in a recording, wherever it is sent."""
MAX_LINES = 1000
"""Of a dialogue."""
_MAX_NAME_CHARACTERS = 60
"""A longer name of a field is not taken for a known one that was misspelt."""
_DEFAULTS = SamplingParams()
Fields = TypeVar("Fields", bound=BaseModel)


def sampling_field(name: str) -> Any:
    """The field of a sampling parameter, with its limits and default."""
    least, greatest = SAMPLING_LIMITS[name]
    return Field(getattr(_DEFAULTS, name), ge=least, le=greatest, allow_inf_nan=False)


class DialogueLine(BaseModel):
    """One turn of a dialogue."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: str
    """What is said."""
    voice: str = Field("", max_length=MAX_VOICE_NAME)
    """Name or id of the saved voice that says it; without one, the request's own."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_first_unknown(cls, line: Any) -> Any:
        """Pydantic would go on to collect an error for each."""
        for name in line if isinstance(line, dict) else ():
            if name not in cls.model_fields:
                problem = _unknown(name, tuple(cls.model_fields))
                raise PydanticCustomError("unknown", "{problem}", {"problem": problem})
        return line


def _is_streamed(value: Any, understand: ValidatorFunctionWrapHandler) -> Any:
    try:
        return understand(value)
    except ValidationError:
        raise PydanticCustomError("stream", "Input should be true, false or events") from None


def _language(named: str) -> str:
    code = find_language(named)
    if code is None:
        problem = unknown_language(named)
        raise PydanticCustomError("unknown", "{problem}", {"problem": problem})
    return code


LanguageName = Annotated[
    str,
    Field(max_length=MAX_LANGUAGE_CHARACTERS, examples=list(LANGUAGES)),
    AfterValidator(_language),
]
"""One of `core.LANGUAGES`, sent as its code, as a tag such as "de-DE", or as its name."""


class NormalizeFields(BaseModel):
    """The fields of `POST /normalize`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: str
    """The text that would be read."""
    language: LanguageName = "auto"
    """Whose rules it is read by; "auto" decides by the text."""
    lang_code: LanguageName = "auto"
    """The same, as other servers call it."""


class TextFields(BaseModel):
    """What every text that is to be spoken may come with."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: str | None = None
    """What to speak; not blank."""
    language: LanguageName = "auto"
    """Language of the text: a code, a tag such as "de-DE", or a name; "auto" is the voice's if it
    has one, else what the text speaks for."""
    lang_code: LanguageName = "auto"
    """The same, as other servers call it."""
    normalize: bool = True
    """Speak numbers, dates, abbreviations and the like as words."""
    long_text: LongText | None = None
    """What to do with text past this machine's limit: truncate, split or reject."""
    optimize_for_memory: bool = False
    """Speak in the smallest pieces, one after another: less memory, slower."""


class EstimateFields(TextFields):
    """The fields of `POST /estimate-memory`."""

    text: str
    """The text that might be spoken."""


class SpeechFields(TextFields):
    """The fields of `POST /tts`, apart from the upload."""

    dialogue: tuple[DialogueLine, ...] | None = Field(
        None, min_length=1, max_length=MAX_LINES, fail_fast=True
    )
    """A scene instead of `text`, in JSON: lines, each in its voice."""
    voice: str = Field("", max_length=MAX_VOICE_NAME)
    """Name or id of a saved voice."""
    prompt_text: str = Field("", max_length=MAX_PROMPT_CHARACTERS)
    """What is said in `speaker_file`, if known."""
    temperature: float = sampling_field("temperature")
    """How freely tokens are drawn; 0 always takes the likeliest."""
    top_p: float = sampling_field("top_p")
    """Only the likeliest tokens that together reach this probability are drawn from."""
    repetition_penalty: float = sampling_field("repetition_penalty")
    """How much less likely a token becomes that was drawn a moment ago; 1 is not at all."""
    speed: float = Field(1.0, ge=0.5, le=2.0, allow_inf_nan=False)
    """Tempo, at the same pitch; 2 is twice as fast."""
    pauses: float = Field(1.0, ge=0.0, le=4.0, allow_inf_nan=False)
    """How long the silence between sentences is, against the usual; 0 leaves none."""
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    """The same seed and request give the same speech; without one each call differs."""
    force_cpu: bool = False
    """Speak on a CPU worker beside the GPU's, or be refused where there is no memory for it."""
    response_format: AudioFormat = "wav"
    """How the audio is sent; opus is in Ogg, pcm is 16 bit little-endian."""
    sample_rate: int | None = Field(None, ge=8000, le=48_000)
    """Samples a second, or the nearest that the format has; without it the checkpoint's."""
    timestamps: bool = False
    """Answer JSON: the audio in base64, and where each sentence begins and ends."""
    subtitles: Literal["", "vtt", "srt"] = ""
    """Subtitles in that JSON, too: WebVTT or SRT."""
    stream: Annotated[bool | Literal["events"], WrapValidator(_is_streamed)] = False
    """Send audio as it is made; "events" sends it in events, with all that is known of it."""

    @property
    def sampling(self) -> SamplingParams:
        """How to draw the tokens."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )

    @property
    def output(self) -> AudioOutput:
        """How the audio is sent."""
        return AudioOutput(self.response_format, self.sample_rate, self.speed)


UPLOAD_FIELD = "speaker_file"
_WORDS = ("true", "false", "on", "off", "yes", "no", "t", "f", "y", "n")
_BOOLEANS = (0, 1, "0", "1", *_WORDS)
"""What Pydantic takes for one, beside the two."""
FIELD_NAMES = (*SpeechFields.model_fields, UPLOAD_FIELD)
LINK_NAMES = (
    *(
        "text",
        "voice",
        "language",
        "lang_code",
        "response_format",
        "sample_rate",
        "speed",
        "pauses",
    ),
    *("stream", "normalize", "long_text", "temperature", "top_p", "repetition_penalty", "seed"),
)
"""Of them those that a link may have."""


def schema_of(kind: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `kind` as `parse` reads it: null and "" are as good as not given, and a
    boolean may be a word, as a form sends it."""
    schema = kind.model_json_schema()
    for name in schema["properties"].keys() - set(schema.get("required", ())):
        told = schema["properties"][name]
        outer = {part: told.pop(part) for part in ("description", "default") if part in told}
        choices = told.get("anyOf", [told])
        is_boolean = any(each.get("type") == "boolean" for each in choices)
        also = [None, "", *(_BOOLEANS if is_boolean else ())]
        schema["properties"][name] = outer | {"anyOf": [*choices, {"enum": also}]}
    return schema


def parse_fields(values: Mapping[str, Any]) -> SpeechFields:
    """`values` within their limits; `BadField` in one sentence that names the field and the fix."""
    fields = parse(SpeechFields, values, FIELD_NAMES)
    if fields.dialogue is None and fields.text is None:
        raise BadField("text is missing; send it.")
    if fields.dialogue is not None and fields.text is not None:
        raise BadField("text and dialogue exclude each other; send one of them.")
    if fields.stream and fields.timestamps:
        raise BadField("timestamps are known when all is spoken; leave out stream.")
    if fields.subtitles and not fields.timestamps:
        raise BadField("subtitles are part of the JSON answer; send timestamps=true, too.")
    return fields


def parse_link(values: Mapping[str, Any]) -> SpeechFields:
    """The same of what `GET /tts` takes, which streams unless it is told not to."""
    sent = {name: value for name, value in values.items() if value != "" or name == "text"}
    fields = parse(SpeechFields, {"stream": True} | sent, LINK_NAMES)
    if fields.text is None:
        raise BadField("text is missing; send it.")
    if fields.stream == "events":
        raise BadField("stream: events are sent to a POST; choose true or false.")
    return fields


def link_parameters() -> list[dict[str, Any]]:
    """The parameters of `GET /tts` as the OpenAPI document has them."""
    told = schema_of(SpeechFields)["properties"]
    told["stream"] = {"type": "boolean", "default": True, "description": "As it is made."}
    return [
        {"name": name, "in": "query", "required": name == "text", "schema": told[name]}
        for name in LINK_NAMES
    ]


def parse_estimate(values: Mapping[str, Any]) -> EstimateFields:
    """The same of what `POST /estimate-memory` takes."""
    return parse(EstimateFields, values, tuple(EstimateFields.model_fields))


def parse_normalize(values: Mapping[str, Any]) -> NormalizeFields:
    """The same of what `POST /normalize` takes."""
    return parse(NormalizeFields, values, tuple(NormalizeFields.model_fields))


def parse(
    kind: type[Fields],
    values: Mapping[str, Any],
    names: tuple[str, ...],
    keeps_empty: bool = False,
) -> Fields:
    """`values` as `kind`; `BadField` names what is none of `names`, or has no such value.

    None means not given, and unless `keeps_empty` so does "", as HTML forms send it.
    """
    given = {
        name: value
        for name, value in values.items()
        if value is not None and (value != "" or keeps_empty or name == "text")
    }
    for name in given:
        if name not in names:
            raise BadField(_unknown(name, names))
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise BadField(describe_problem(error.errors()[0])) from None


def describe_problem(problem: ErrorDetails) -> str:
    """One sentence that names the field and how to put it right."""
    name = ".".join(str(part) for part in problem["loc"]) or "The request"
    if problem["type"] == "missing":
        return f"{name} is missing; send it."
    what = problem["msg"][:1].lower() + problem["msg"][1:]
    if problem["type"] == "unknown":
        return f"{name}: {what}"
    return f"{name}: {what}, got {quoted(problem['input'])}."


def _unknown(name: str, names: tuple[str, ...]) -> str:
    is_short = len(name) <= _MAX_NAME_CHARACTERS
    nearest = is_short and difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if nearest:
        return f"Unknown field {quoted(name)}; did you mean {nearest[0]}?"
    return f"Unknown field {quoted(name)}; the fields are {', '.join(names)}."
