"""How often a client may ask: a rate for each, remembered within bounds."""

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from backend.api.paths import GET_SPEECH

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Of HTTP: they change nothing."""
OPEN_PATHS = frozenset({"/health", "/health/ready", "/v1/health"})
"""Asked without a key: load balancers have none, and nothing is told that needs one."""

_VOICE_AUDIO = re.compile(r"/voices/[^/]+/audio")
_MAX_CLIENTS = 10_000
_MINUTE_S = 60.0


def is_paced(method: str, path: str) -> bool:
    """Whether a request counts towards the rate: what changes something, speaks, encodes or
    decodes. WebSockets count, too."""
    if method in SAFE_METHODS:
        is_work = path == GET_SPEECH or _VOICE_AUDIO.fullmatch(path) is not None
        return method == "GET" and is_work
    return path not in OPEN_PATHS


class Pace:
    """How often each client has asked within the last minute.

    Of more than `max_clients` in a minute the one that is idle longest is forgotten.
    """

    def __init__(
        self,
        per_minute: int,
        max_clients: int = _MAX_CLIENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_minute = per_minute
        self._max_clients, self._clock = max_clients, clock
        # Of each client when it was let in, never empty; the one that asked last is last.
        self._let_in_s: OrderedDict[str, deque[float]] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many clients are."""
        return len(self._let_in_s)

    def wait_s(self, client: str) -> float:
        """0.0 if `client` may ask now, which counts; else seconds until it may."""
        now_s = self._clock()
        let_in_s = self._of(client, now_s)
        if len(let_in_s) >= self.per_minute:
            return let_in_s[-self.per_minute] + _MINUTE_S - now_s
        let_in_s.append(now_s)
        return 0.0

    def let_in(self, client: str) -> None:
        """Count what another count has let in."""
        now_s = self._clock()
        self._of(client, now_s).append(now_s)

    def _of(self, client: str, now_s: float) -> deque[float]:
        """When it was let in within the last minute; it is the one that asked last."""
        let_in_s = self._let_in_s.pop(client, deque())
        while let_in_s and let_in_s[0] <= now_s - _MINUTE_S:
            let_in_s.popleft()
        self._forget(now_s)
        self._let_in_s[client] = let_in_s
        return let_in_s

    def _forget(self, now_s: float) -> None:
        """Make room for one, and drop those of which nothing counts any more."""
        while self._let_in_s:
            idle_longest = next(iter(self._let_in_s.values()))
            is_over = idle_longest[-1] <= now_s - _MINUTE_S
            if not is_over and len(self._let_in_s) < self._max_clients:
                return
            self._let_in_s.popitem(last=False)
