"""What a request to speak may say: the fields, their limits, and how to tell what is wrong."""

import difflib
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from backend.core import LANGUAGES, MAX_SEED, SAMPLING_LIMITS, LongText, SamplingParams
from backend.errors import BadField

_DEFAULTS = SamplingParams()
Fields = TypeVar("Fields", bound=BaseModel)


def _limited(name: str) -> Any:
    least, greatest = SAMPLING_LIMITS[name]
    return Field(getattr(_DEFAULTS, name), ge=least, le=greatest, allow_inf_nan=False)


class SpeechFields(BaseModel):
    """The fields of `POST /tts`, apart from the upload."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: str
    """What to speak; not blank."""
    prompt_text: str = ""
    """What is said in `speaker_file`, if known."""
    language: Literal[LANGUAGES] = "auto"  # type: ignore[valid-type] # a tuple of literals
    """Language of the text; "auto" leaves it to the checkpoint."""
    temperature: float = _limited("temperature")
    """How freely tokens are drawn; 0 always takes the likeliest."""
    top_p: float = _limited("top_p")
    """Only the likeliest tokens that together reach this probability are drawn from."""
    repetition_penalty: float = _limited("repetition_penalty")
    """How much less likely a token becomes that was drawn a moment ago; 1 is not at all."""
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    """The same seed and request give the same speech; without one each call differs."""
    optimize_for_memory: bool = False
    """Speak in the smallest pieces, one after another: less memory, slower."""
    long_text: LongText | None = None
    """What to do with text past this machine's limit: truncate, split or reject."""

    @property
    def sampling(self) -> SamplingParams:
        """How to draw the tokens."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


class TextField(BaseModel):
    """The field of `POST /estimate-memory`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: str
    """The text that might be spoken."""


UPLOAD_FIELD = "speaker_file"
FIELD_NAMES = (*SpeechFields.model_fields, UPLOAD_FIELD)


def parse_fields(values: Mapping[str, Any]) -> SpeechFields:
    """The fields of a request to speak; `BadField` in one sentence."""
    return _parse(SpeechFields, values, FIELD_NAMES)


def parse_text(values: Mapping[str, Any]) -> str:
    """The text in `values`, which hold nothing else; `BadField` in one sentence."""
    return _parse(TextField, values, tuple(TextField.model_fields)).text


def _parse(kind: type[Fields], values: Mapping[str, Any], names: tuple[str, ...]) -> Fields:
    # An empty string means not given, as HTML forms send it.
    given = {k: v for k, v in values.items() if k == "text" or v not in ("", None)}
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
    return f"{name}: {what}, got {_shown(problem['input'])}."


def _unknown(name: str, names: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if nearest:
        return f"Unknown field {_shown(name)}; did you mean {nearest[0]}?"
    return f"Unknown field {_shown(name)}; the fields are {', '.join(names)}."


def _shown(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
