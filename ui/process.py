"""What the parts of a page share: the server, the takes, and the tabs that are open."""

import secrets
from collections import defaultdict
from typing import Any

from loguru import logger

from ui.client import Shoal
from ui.setup import Setup
from ui.speaking.shelf import Shelf
from ui.speaking.speaker import Speaker
from ui.speaking.take import Take
from ui.wire import Refused, ServerAway


class PageProcess:
    """One process that serves the page to everybody who opens it."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.client = Shoal(setup)
        self.speaker = Speaker(self.client, Shelf(setup))
        self._open: defaultdict[str, set[str]] = defaultdict(set)
        """Of each open tab, its takes that may be at work."""
        self._owners: dict[str, str] = {}
        """Of each open tab whose browser has no secret yet, the one that it is given."""

    @property
    def shelf(self) -> Shelf:
        """The takes that are kept."""
        return self.speaker.shelf

    def owner(self, tab: str, kept: dict[str, Any] | None) -> str:
        """Whose takes a tab's are: its browser's own secret, which `kept` tells.

        A browser that comes for the first time has none. It may have something spoken before the
        page has given it one, so the tab is given one at once, and the browser keeps that.
        """
        if secret := (kept or {}).get("owner"):
            return str(secret)
        return self._owners.setdefault(tab, secrets.token_urlsafe(24))

    def watch(self, tab: str, take: Take) -> None:
        """The take is to end with the tab that it was asked for in."""
        self._open[tab].add(take.id)

    def tabs(self) -> list[str]:
        """The tabs that have a take."""
        return list(self._open)

    def has_take(self, tab: str) -> bool:
        """Something was asked for in that tab."""
        return tab in self._open

    async def leave(self, tab: str) -> None:
        """The tab is closed: nobody listens to what is being spoken there."""
        self._owners.pop(tab, None)
        for take_id in self._open.pop(tab, set()):
            if (take := self.shelf.get(take_id)) is not None and not take.is_over:
                logger.info("A tab was closed; its take {} is stopped.", take_id)
                await self.speaker.stop(take)

    async def text_limit(self) -> int | None:
        """Characters that the machine speaks at once; None where the server does not say."""
        try:
            told = await self.client.estimate("Hello.")
        except (ServerAway, Refused):
            return None
        limit: int | None = told.get("text_limit", {}).get("limit")
        return limit

    async def close(self) -> None:
        """Give up what is being spoken, and the connections."""
        await self.speaker.close()
        await self.client.__aexit__(None, None, None)
