"""What all connections of a server share."""

from backend.connections.limits import Limits
from backend.connections.log import Seldom
from backend.connections.quota import Quota


class Shared:
    """The limits, who has what of them, and whether the server stops."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places = Quota(limits.connections, limits.connections_per_address)
        self.uploads = Quota(limits.uploads_bytes, limits.uploads_bytes_per_address)
        self.seldom = Seldom()
        self.is_stopping = False
