"""Server-sent events, as every stream of them is written."""

import json
from typing import Any

EVENT_STREAM = "text/event-stream"


def event(kind: str, *, is_named: bool = True, **fields: Any) -> bytes:
    """One event of one line of JSON, which holds its type; `is_named` says it beside that, too."""
    name = f"event: {kind}\n" if is_named else ""
    return f"{name}data: {json.dumps({'type': kind, **fields})}\n\n".encode()
