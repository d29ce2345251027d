"""Domain errors: raised anywhere, turned into HTTP answers once, in `backend.app`."""

import math

_QUOTED_CHARACTERS = 60


class ShoalError(Exception):
    """Base of every error with a message meant for the user."""

    code = "error"
    """Stable name of the kind, the same on both sides of the worker's pipe."""


class BlankText(ShoalError):
    """There is nothing to speak."""

    code = "blank_text"


class TextTooLong(ShoalError):
    """The text can never be spoken on this machine or by this checkpoint."""

    code = "text_too_long"


class PromptTooLong(TextTooLong):
    """Text and reference together do not fit the checkpoint's context."""

    code = "prompt_too_long"


class BadReference(ShoalError):
    """The reference recording cannot be used: undecodable, too short, too long or silent."""

    code = "bad_reference"


class UploadTooLarge(ShoalError):
    """The upload is larger than the limit."""

    code = "upload_too_large"


class UploadTooSlow(ShoalError):
    """The body of a request did not arrive in time."""

    code = "upload_too_slow"


class BadCheckpoint(ShoalError):
    """A checkpoint folder is incomplete, of another architecture, or damaged."""

    code = "bad_checkpoint"


class BadField(ShoalError):
    """A field of a request is missing, unknown, or has a value outside its limits."""

    code = "bad_field"


class BadSetting(ShoalError):
    """A setting is unknown, or has a value that it cannot have."""

    code = "bad_setting"


class UnknownVoice(ShoalError):
    """No saved voice has that name or id."""

    code = "unknown_voice"


class UnknownFile(ShoalError):
    """The request log has no file of that name."""

    code = "unknown_file"


class VoiceConflict(ShoalError):
    """A voice of that name exists, or was encoded for another checkpoint's codec."""

    code = "voice_conflict"


class StorageFull(ShoalError):
    """No more voices are kept: their number or size is at its limit, or the disk is full."""

    code = "storage_full"


class StorageDown(ShoalError):
    """The store that keeps voices for several servers does not answer."""

    code = "storage_down"


class Unauthorized(ShoalError):
    """The API key is missing or wrong."""

    code = "unauthorized"


class ForeignHost(ShoalError):
    """The request is for another name than this server has."""

    code = "foreign_host"


class ForeignOrigin(ShoalError):
    """A web page that may not use this server sent the request."""

    code = "foreign_origin"


class RateLimited(ShoalError):
    """This client asks more often than it may."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverCapacity(ShoalError):
    """It would fit an idle machine, but not beside what is being spoken now."""

    code = "over_capacity"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When to try again, where that is known."""


class NotEnoughMemory(ShoalError):
    """The checkpoint, or one that was asked for, can never fit this machine's memory."""

    code = "not_enough_memory"


class TimedOut(ShoalError):
    """The request took longer than its deadline and was given up."""

    code = "timed_out"


class EngineDown(ShoalError):
    """The worker is not running: starting, restarting, or failing to start."""

    code = "engine_down"

    def __init__(self, message: str, *, is_from_outside: bool = False) -> None:
        super().__init__(message)
        self.is_from_outside = is_from_outside
        """Somebody else has ended it: what it was asked had no part in that."""


class EngineFailed(ShoalError):
    """The worker failed at this request."""

    code = "engine_failed"


class OutOfMemory(EngineFailed):
    """Memory ran short under this request, for all that was promised."""

    code = "out_of_memory"


class WorkerKilled(EngineDown):
    """The worker died because memory ran short."""

    code = "worker_killed"


class SteppedDown(EngineDown):
    """Memory ran short under a sentence, which may be tried again: the worker goes on with less."""

    code = "stepped_down"

    def __init__(self, message: str, step: str = "") -> None:
        super().__init__(message)
        self.step = step
        """Name of the step of the ladder that is stood on now."""


class Aborted(ShoalError):
    """The request was given up, by its client or by a shutdown."""

    code = "aborted"


def quoted(value: object) -> str:
    """The beginning of what a client sent, as a message repeats it; of a list or an object the
    kind, so that it takes no longer where there is more."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    shown = repr(value[:_QUOTED_CHARACTERS] if isinstance(value, str | bytes) else value)
    return shown if len(shown) <= _QUOTED_CHARACTERS else f"{shown[: _QUOTED_CHARACTERS - 3]}..."


def error_from_code(code: str, message: str, step: str = "") -> ShoalError:
    """The error of that `code`, with the `step` of a `SteppedDown`; an unknown code becomes
    `EngineFailed`."""
    kind = _BY_CODE.get(code, EngineFailed)
    if issubclass(kind, SteppedDown):
        return kind(message, step)
    return kind(message, 1.0) if issubclass(kind, RateLimited) else kind(message)


def _subclasses(kind: type[ShoalError]) -> list[type[ShoalError]]:
    return [kind, *(deep for direct in kind.__subclasses__() for deep in _subclasses(direct))]


_BY_CODE = {kind.code: kind for kind in _subclasses(ShoalError)}
