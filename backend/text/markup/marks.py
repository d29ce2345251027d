"""How the stages that read markup tell each other where a piece of text ends."""

from backend.text.fold import ITEM_END

__all__ = ["ITEM_END", "PARAGRAPH_END", "STOP"]

PARAGRAPH_END = "\n\n"
STOP = "\x1f"
"""Before an end: what ends there is a sentence, whether it has a full stop or not."""
