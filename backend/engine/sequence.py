"""One text on its way to code frames: what is stored of it, and what follows from that."""

from dataclasses import dataclass

from backend.core import FinishReason, SamplingParams
from backend.engine.prompt import Prompt


@dataclass(eq=False, slots=True)
class Sequence:
    """A prompt being answered; compared by identity, since two may ask for the same."""

    prompt: Prompt
    sampling: SamplingParams
    frame_limit: int
    context_tokens: int
    read_tokens: int = 0
    """Of its prompt, so far."""
    launched: int = 0
    """Frames that the device was asked for."""
    frames: int = 0
    finish: FinishReason | None = None
    prefill_s: float = 0.0
    decode_s: float = 0.0
    """Time of the steps that this sequence had a row in."""
    weight_bytes: float = 0.0
    """Weights read for it while decoding. A step reads them once for all its rows, so each row is
    charged an equal share, and the shares of all sequences sum to what was read."""

    @property
    def prompt_tokens(self) -> int:
        """Positions of the prompt."""
        return len(self.prompt)

    @property
    def most_positions(self) -> int:
        """Positions it can come to hold in the cache."""
        return min(self.context_tokens, self.prompt_tokens + self.frame_limit)

    @property
    def generated_tokens(self) -> int:
        """Frames, and the end token if there was one."""
        return self.frames + (self.finish == "end")

    @property
    def may_go_on(self) -> bool:
        """Its prompt is read, and its limits allow another frame than those asked for."""
        positions = self.prompt_tokens + self.launched
        return (
            self.read_tokens == self.prompt_tokens
            and self.launched < self.frame_limit
            and positions < self.context_tokens
        )

    def limit_reached(self) -> FinishReason | None:
        """Why no further frame may follow, if so."""
        if self.prompt_tokens + self.frames >= self.context_tokens:
            return "context_full"
        return "frame_limit" if self.frames >= self.frame_limit else None
