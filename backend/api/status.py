"""What each domain error is over HTTP: the one table, which a test holds complete."""

import math
from http import HTTPStatus

from backend.errors import (
    Aborted,
    BadCheckpoint,
    BadField,
    BadReference,
    BadSetting,
    BlankText,
    EngineDown,
    EngineFailed,
    ForeignHost,
    ForeignOrigin,
    NotEnoughMemory,
    OutOfMemory,
    OverCapacity,
    PromptTooLong,
    RateLimited,
    ShoalError,
    SteppedDown,
    StorageDown,
    StorageFull,
    TextTooLong,
    TimedOut,
    Unauthorized,
    UnknownFile,
    UnknownVoice,
    UploadTooLarge,
    UploadTooSlow,
    VoiceConflict,
    WorkerKilled,
)

STATUS: dict[type[ShoalError], HTTPStatus] = {
    BlankText: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    ForeignOrigin: HTTPStatus.FORBIDDEN,
    ForeignHost: HTTPStatus.MISDIRECTED_REQUEST,
    UnknownVoice: HTTPStatus.NOT_FOUND,
    UnknownFile: HTTPStatus.NOT_FOUND,
    UploadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    VoiceConflict: HTTPStatus.CONFLICT,
    TextTooLong: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    PromptTooLong: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BadField: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadReference: HTTPStatus.UNPROCESSABLE_ENTITY,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    EngineFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    EngineDown: HTTPStatus.SERVICE_UNAVAILABLE,
    WorkerKilled: HTTPStatus.SERVICE_UNAVAILABLE,
    SteppedDown: HTTPStatus.SERVICE_UNAVAILABLE,
    OutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    OverCapacity: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageDown: HTTPStatus.SERVICE_UNAVAILABLE,
    NotEnoughMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    BadCheckpoint: HTTPStatus.SERVICE_UNAVAILABLE,
    BadSetting: HTTPStatus.SERVICE_UNAVAILABLE,
    Aborted: HTTPStatus.SERVICE_UNAVAILABLE,  # by a shutdown; a client that left reads nothing
    TimedOut: HTTPStatus.GATEWAY_TIMEOUT,
    StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
}

RETRY_AFTER_S = 5
"""Where nothing better is known."""


def status_of(error: ShoalError) -> HTTPStatus:
    """What `error` is over HTTP."""
    return STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)


def retry_after_s(error: ShoalError) -> int | None:
    """Seconds after which trying again makes sense; None where it does not."""
    if isinstance(error, RateLimited | OverCapacity) and error.retry_after_s is not None:
        return max(1, math.ceil(error.retry_after_s))
    return RETRY_AFTER_S if status_of(error) is HTTPStatus.SERVICE_UNAVAILABLE else None


def retry_headers(error: ShoalError) -> dict[str, str]:
    """The same as `Retry-After`."""
    seconds = retry_after_s(error)
    return {} if seconds is None else {"Retry-After": str(seconds)}
