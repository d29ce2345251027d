"""What all connections of a server share."""

from backend.connections.limits import Limits
from backend.connections.quota import Holding, Quota
from backend.connections.seldom import Seldom

BUFFER_BYTES = 16 * 1024


class Shared:
    """The limits, what each address holds of them, and whether the server stops."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places = Quota(limits.connections, limits.connections_per_address)
        self.uploads = Quota(limits.uploads_bytes, limits.uploads_bytes_per_address)
        self.seldom = Seldom()
        self.is_stopping = False
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        """Where bytes of any connection arrive, to be copied in the same turn of the loop."""

    def has_room(self, upload: Holding, size_bytes: int) -> bool:
        """Whether `upload` may hold so many bytes; where not, the log tells once in a while."""
        if upload.grow_to(size_bytes):
            return True
        self.seldom.warn("Uploads are refused: those of others hold all room for them.")
        return False
