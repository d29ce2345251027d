"""One path for each route: as it is called here, whatever the client wrote."""

import re

_SLASHES = re.compile("/{2,}")
_NAMES = {
    # Clients whose base URL has no /v1.
    "/audio": "/v1/audio",
    "/models": "/v1/models",
    # What speaches, openai-edge-tts and Open WebUI call the lists.
    "/v1/audio/models": "/v1/models",
    "/v1/voices": "/v1/audio/voices",
    "/v1/voices/all": "/v1/audio/voices",
    "/voices/all": "/v1/audio/voices",
}
"""Names of other servers for our routes; under the first two, `_ROOTS`, all is ours, too."""
_RELATIVE = "/docs"
"""What is below it has links that depend on the slash at the end."""
_ROOTS = ("/audio", "/models")

LISTS = frozenset({"/v1/audio/voices", "/v1/models"})
"""What `SHOAL_PUBLIC_LISTS` lets everybody read: names of voices and models, and nothing else."""
GET_SPEECH = "/tts"
"""What speaks for a GET, where `SHOAL_GET_SPEECH` lets it."""


def canonical(path: str) -> str:
    """`path` as its route is called: without slashes that say nothing, and by our name for it."""
    if not path.startswith("/"):  # an absolute URL, which the guard reads the server's name from
        return path
    plain = _SLASHES.sub("/", path)
    if not plain.startswith(_RELATIVE):
        plain = plain.rstrip("/") or "/"
    for root in _ROOTS:
        if plain == root or plain.startswith(root + "/"):
            plain = _NAMES[root] + plain.removeprefix(root)
    return _NAMES.get(plain, plain)
