"""The rate of each client: counted by this server, or in a store that several servers share.

The store and its arithmetic are `limits`'. What this server counts is `Pace`'s: bounded in clients,
by a clock that nobody sets, which `limits`' own memory is not.
"""

import asyncio
import hashlib
import importlib
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from loguru import logger

from backend.api.pace import Pace
from backend.errors import BadSetting
from backend.serving.tasks import end
from backend.settings import Settings

if TYPE_CHECKING:
    from limits.aio.strategies import RateLimiter

T = TypeVar("T")

STORE_WAIT_S = 1.0
"""For the answer of the store; what it has not said by then, this server counts for itself."""
RETRY_S = 2.0
"""Between two looks at a store that did not answer; no request waits for them."""
_PROBE = "probe"
"""Counted, to see whether the store counts; no client has that name, for theirs are digests."""


class Rates:
    """How often each client may ask, over all servers that share the store of `limiter`.

    While the store does not answer, this server counts for itself: what it has let in before
    counts, too. Used from one event loop.
    """

    def __init__(
        self,
        per_minute: int,
        limiter: "RateLimiter | None" = None,
        scheme: str = "",
    ) -> None:
        """`scheme` is the store's, for people."""
        self.per_minute = per_minute
        self._pace, self._limiter, self._scheme = Pace(per_minute), limiter, scheme
        self._item: Any = None if limiter is None else _item(per_minute)
        self._problem = ""
        self._looking: asyncio.Task[None] | None = None

    async def wait_s(self, client: str) -> float:
        """0.0 if `client` may ask now, which counts; else seconds until it may."""
        if self._limiter is not None and not self._problem:
            try:
                wait_s = await _answer_of(self._shared_wait_s(self._limiter, client))
            except Exception as error:  # noqa: BLE001 - whatever the store's client library raises
                self._begin_without(error)
            else:
                if not wait_s:
                    self._pace.let_in(client)
                return wait_s
        return self._pace.wait_s(client)

    def status(self) -> dict[str, Any]:
        """What `GET /system-status` tells as `rates`."""
        is_shared = self._limiter is not None and not self._problem
        return {
            "per_minute": self.per_minute,
            "counted": "shared" if is_shared else "here",
            "store": self._scheme or None,
            "problem": self._problem,
        }

    async def close(self) -> None:
        """Part from the store."""
        await end(self._looking)
        # `limits` leaves its connections to the garbage collector, which Python warns of.
        bridge = getattr(getattr(self._limiter, "storage", None), "bridge", None)
        if (part := getattr(getattr(bridge, "storage", None), "aclose", None)) is not None:
            await part()

    async def _shared_wait_s(self, limiter: "RateLimiter", client: str) -> float:
        name = hashlib.sha256(client.encode()).hexdigest()
        if await limiter.hit(self._item, name):
            return 0.0
        reset_at_s = (await limiter.get_window_stats(self._item, name)).reset_time
        return max(reset_at_s - time.time(), 0.001)

    def _begin_without(self, error: Exception) -> None:
        if self._problem:
            return  # another request has found it out
        # Not what the library says: it may hold the store's address, and a password in it.
        self._problem = f"the store ({self._scheme}) does not answer ({type(error).__name__})"
        logger.warning(
            "Of the rates {}: until it does, this server counts for itself.", self._problem
        )
        self._looking = asyncio.create_task(self._look(), name="store of rates")

    async def _look(self) -> None:
        """Until the store counts again."""
        assert self._limiter is not None
        while self._problem:
            await asyncio.sleep(RETRY_S)
            try:
                await _answer_of(self._limiter.hit(self._item, _PROBE))
            except Exception as error:  # noqa: BLE001 - as above; it is looked at again
                logger.debug("The store of rates: {}", type(error).__name__)
            else:
                self._problem = ""
                logger.info("The store of rates ({}) counts again.", self._scheme)


async def _answer_of(asked: Coroutine[Any, Any, T]) -> T:
    """What the store answers. Raises `TimeoutError` where it does not, and what its client raises.

    The wait has two halves: a loop that could not run for as long, on a busy machine, meets its end
    before the answer that lies there.
    """
    asking = asyncio.ensure_future(asked)
    try:
        for _ in range(2):
            await asyncio.wait({asking}, timeout=STORE_WAIT_S / 2)
            if asking.done():
                return asking.result()
        raise TimeoutError
    finally:
        if not asking.done():
            await end(asking)


def rates_of(settings: Settings) -> Rates | None:
    """The rates that `settings` ask for; None without any. Raises `BadSetting`."""
    per_minute, url = settings.rate_limit_per_minute, settings.rate_store
    if url and not per_minute:
        raise BadSetting("SHOAL_RATE_STORE has nothing to count: set SHOAL_RATE_LIMIT_PER_MINUTE.")
    if not per_minute:
        return None
    if not url:
        if settings.shared_dir:
            tell_apart("Of the servers that share voices in SHOAL_SHARED_DIR")
        return Rates(per_minute)
    scheme, colon, _ = url.partition("://")
    if not colon or scheme.removeprefix("async+") in ("", "memory"):
        raise BadSetting(
            "SHOAL_RATE_STORE: give the URL of a store that servers share, redis://host:6379/0."
        )
    return Rates(per_minute, _limiter(url.removeprefix("async+"), scheme), scheme)


def tell_apart(where: str) -> None:
    """Log that each of the servers `where` counts rates for itself."""
    logger.warning(
        "{} each counts the requests of a client for itself: SHOAL_RATE_STORE names a store that "
        "counts for all.",
        where,
    )


def _limiter(url: str, scheme: str) -> "RateLimiter":
    """Exact to the request where the store can, by two counters where it cannot (memcached)."""
    # Of the clients that `limits` takes for redis, the one whose package is redis' own.
    options: dict[str, Any] = {"implementation": "redispy"} if scheme.startswith("redis") else {}
    try:
        strategies = importlib.import_module("limits.aio.strategies")
        errors = importlib.import_module("limits.errors")
        storage = importlib.import_module("limits.storage")
    except ModuleNotFoundError:
        raise BadSetting(
            'SHOAL_RATE_STORE needs a package that is missing: pip install "shoal-tts[rates]".'
        ) from None
    try:
        store = storage.storage_from_string(f"async+{url}", **options)
    except errors.ConfigurationError as error:
        raise BadSetting(_problem_of(scheme, str(error))) from None
    except Exception as error:  # noqa: BLE001 - what the store's library makes of its URL
        raise BadSetting(_problem_of(scheme, type(error).__name__)) from None
    try:
        limiter: RateLimiter = strategies.MovingWindowRateLimiter(store)
    except NotImplementedError:
        limiter = strategies.SlidingWindowCounterRateLimiter(store)
    return limiter


def _problem_of(scheme: str, told: str) -> str:
    """What is wrong; of what `limits` tells of it only what cannot hold the URL."""
    if "unknown" in told:
        told = "no store that limits knows, as redis, valkey, memcached and mongodb are"
    elif "prerequisite" in told:
        package, _, _ = told.partition(" prerequisite")
        told = f"its package {package} is not installed, or too old"
    else:
        told = "its URL cannot be read"
    return f"SHOAL_RATE_STORE, {scheme}: {told}."


def _item(per_minute: int) -> Any:
    return importlib.import_module("limits").RateLimitItemPerMinute(per_minute, namespace="shoal")
