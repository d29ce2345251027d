"""Prometheus texts of several machines as one: each metric once, with all samples. No Ray."""

from collections.abc import Iterable
from dataclasses import dataclass, field

_OF_RAY = b"ray_"
"""How the names begin that are passed on: an agent's own interpreter is of no interest."""


@dataclass(slots=True)
class _Family:
    heads: dict[bytes, bytes] = field(default_factory=dict)
    """Of HELP and TYPE the line."""
    samples: list[bytes] = field(default_factory=list)


def merged(texts: Iterable[bytes]) -> bytes:
    """Ray's metrics of `texts`, whose samples say themselves where they are from."""
    families: dict[bytes, _Family] = {}
    for text in texts:
        family = _Family()
        for line in text.splitlines():
            if line.startswith((b"# HELP ", b"# TYPE ")):
                _, kind, name, *_ = line.split(b" ", 3)
                family = families.setdefault(name, _Family())
                family.heads.setdefault(kind, line)
            elif line and not line.startswith(b"#"):
                family.samples.append(line)
    return b"".join(
        b"%s\n" % line
        for name, family in families.items()
        if name.startswith(_OF_RAY) and family.samples
        for line in (*family.heads.values(), *family.samples)
    )
