"""Keys and values of voices' prompts, kept so that the next text in a voice need not read it."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from backend.engine.prompt import Prompt

LEAST_TOKENS = 32
"""A prompt that is shorter is read again as fast as it is copied."""


class KeptVoices:
    """What was used last stays, as far as `most_bytes` reach."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Bytes held now."""
        return sum(kept.nbytes for kept in self._kept.values())

    def find(self, prompt: Prompt) -> Tensor | None:
        """Keys and values [layers, 2, KV, voice_tokens, D] of the voice in `prompt`, or None."""
        if not self._is_worth_it(prompt):
            return None
        key = _key(prompt)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, prompt: Prompt, snapshot: Callable[[], Tensor]) -> None:
        """Keep what `find` is to find, copied by `snapshot` where it is not kept yet, and let go of
        what was not used for longest."""
        if self._is_worth_it(prompt) and (key := _key(prompt)) not in self._kept:
            self._kept[key] = snapshot()
            self.limit(self._most_bytes)

    def limit(self, most_bytes: int) -> None:
        """Hold at most so much from now on."""
        self._most_bytes = most_bytes
        held_bytes = self.held_bytes
        while held_bytes > max(0, most_bytes):
            _, gone = self._kept.popitem(last=False)
            held_bytes -= gone.nbytes

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()

    def _is_worth_it(self, prompt: Prompt) -> bool:
        return prompt.voice_tokens >= LEAST_TOKENS and self._most_bytes > 0


def _key(prompt: Prompt) -> bytes:
    end = prompt.voice_tokens
    said = prompt.tokens[:end].numpy().tobytes() + prompt.codes[:end].numpy().tobytes()
    return hashlib.blake2b(said, digest_size=16).digest()
