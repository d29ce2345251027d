"""How a request's failure is told."""

from backend.engine.out_of_memory import is_out_of_memory
from backend.errors import EngineFailed, OutOfMemory, ShoalError
from backend.logs import log_fault
from backend.worker.messages import Failed


def failed(request_id: str, error: Exception) -> Failed:
    """The answer to the request that `error` ended; whatever is not meant for a user is logged."""
    if isinstance(error, ShoalError):
        return Failed(request_id, error.code, str(error))
    log_fault("Request {} failed.", request_id, error=error)
    told = told_of(error)
    return Failed(request_id, told.code, str(told))


def told_of(error: Exception) -> EngineFailed:
    """What is told of an error that is not meant for a user."""
    if is_out_of_memory(error):
        return OutOfMemory("There is not enough memory to speak this; try again later.")
    return EngineFailed(f"The engine failed: {type(error).__name__}: {error}")
