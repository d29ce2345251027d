"""How a request's failure is told."""

from backend.errors import ShoalError
from backend.logs import log_fault
from backend.model.out_of_memory import told_of
from backend.worker.messages import Failed


def failed(request_id: str, error: Exception) -> Failed:
    """The answer to the request that `error` ended; whatever is not meant for a user is logged."""
    if isinstance(error, ShoalError):
        return Failed(request_id, error.code, str(error))
    log_fault("Request {} failed.", request_id, error=error)
    told = told_of(error)
    return Failed(request_id, told.code, str(told))
