"""Domain errors: raised anywhere, turned into HTTP answers once, in `backend.app`."""


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


class BadCheckpoint(ShoalError):
    """A checkpoint folder is incomplete, of another architecture, or damaged."""

    code = "bad_checkpoint"


class BadField(ShoalError):
    """A field of a request is missing, unknown, or has a value outside its limits."""

    code = "bad_field"


class BadSetting(ShoalError):
    """A setting is unknown, or has a value that it cannot have."""

    code = "bad_setting"


class OverCapacity(ShoalError):
    """It would fit an idle machine, but not beside what is being spoken now."""

    code = "over_capacity"


class NotEnoughMemory(ShoalError):
    """The checkpoint, or one that was asked for, can never fit this machine's memory."""

    code = "not_enough_memory"


class TimedOut(ShoalError):
    """The request took longer than its deadline and was given up."""

    code = "timed_out"


class EngineDown(ShoalError):
    """The worker is not running: starting, restarting, or failing to start."""

    code = "engine_down"


class EngineFailed(ShoalError):
    """The worker failed at this request, out of memory included."""

    code = "engine_failed"


class Aborted(ShoalError):
    """The request was given up, by its client or by a shutdown."""

    code = "aborted"


def error_from_code(code: str, message: str) -> ShoalError:
    """The error of that `code`; an unknown code becomes `EngineFailed`."""
    return _BY_CODE.get(code, EngineFailed)(message)


def _subclasses(kind: type[ShoalError]) -> list[type[ShoalError]]:
    return [kind, *(deep for direct in kind.__subclasses__() for deep in _subclasses(direct))]


_BY_CODE = {kind.code: kind for kind in _subclasses(ShoalError)}
