"""A text that is there: how much of it is spoken here, and what is known of that beforehand."""

from dataclasses import dataclass

from loguru import logger

from backend.core import Line, LongText, SpeechRequest, TextLimit
from backend.errors import TextTooLong
from backend.hardware.memory import Demand
from backend.learning.case import Case, case_of
from backend.serving.lane import Lane
from backend.serving.script import (
    ReadIn,
    Spelling,
    characters_for,
    languages_of,
    lines,
    shorten,
)


@dataclass(frozen=True, slots=True)
class Given:
    """A text that is there."""

    lines: tuple[Line, ...]
    """What is spoken of it; none where it is rejected."""
    limit: TextLimit
    demand: Demand
    """Of all that was sent."""
    case: Case
    """What is spoken of it, as predictions see it."""
    read_in: ReadIn
    """The languages of its lines, by their voices."""

    @property
    def is_rejected(self) -> bool:
        """It is too long, and is not to be cut."""
        return not self.lines

    @property
    def characters(self) -> int:
        """To speak, as it was written."""
        return self.limit.spoken_length

    def check(self, tier: str) -> None:
        """Raise `TextTooLong` where it is rejected; log where it is cut."""
        limit = self.limit
        if self.is_rejected:
            raise TextTooLong(
                f"text has {limit.original_length} characters; this machine speaks at most "
                f"{limit.limit} at once, {limit.reason}. Send less, or long_text=split."
            )
        if limit.is_truncated:
            logger.warning(
                "Text truncated from {} to {} characters: the limit of {} is {}, {}.",
                *(limit.original_length, limit.spoken_length, tier, limit.limit, limit.reason),
            )


def given(
    request: SpeechRequest, demand: Demand, lane: Lane, spelling: Spelling, long_text: LongText
) -> Given:
    """The text of `request`, which demands `demand` of `lane`."""
    length = len(request.text)
    allowed, reason = lane.memory.text_limit(lane.config, demand)
    script, spoken_length = lines(request), length
    if long_text != "split" and request.normalize:
        speakable = characters_for(script, allowed)
        if speakable < allowed:
            allowed, reason = speakable, "because its figures are so many words"
    if length > allowed and long_text == "reject":
        script, spoken_length = (), 0
    elif length > allowed and long_text == "truncate":
        script = shorten(script, allowed)
        spoken_length = sum(len(line.text) for line in script)
    spoken, read_in = "\n".join(line.text for line in script), languages_of(script, spelling)
    language = read_in[script[0].voice].main if script else ""
    case = case_of(spoken, language, lane.running_plan, demand.reference_s)
    limit = TextLimit(allowed, reason, length, spoken_length)
    return Given(script, limit, demand, case, read_in)
