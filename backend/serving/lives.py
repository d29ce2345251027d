"""How often something is tried again that a worker died under."""

from dataclasses import dataclass

from backend.errors import EngineDown

KILLS = 20
"""Workers that somebody else may end under one sentence or recording, which has no part in it."""


@dataclass(slots=True)
class Lives:
    """Of one sentence or recording: so many workers may die under it, for it may be what kills
    them. Those that somebody else ended are counted apart."""

    most: int
    deaths: int = 0
    kills: int = 0
    """Of the deaths, those that were somebody else's doing."""

    def lose(self, error: EngineDown) -> None:
        """A worker has died under it; raises `error` where it is not to be tried again."""
        self.deaths += 1
        self.kills += error.is_from_outside
        if self.deaths - self.kills == self.most or self.kills == KILLS:
            raise error
