"""Prometheus texts of several machines or ingresses as one: each metric once, with all samples. No
Ray."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Family:
    heads: dict[bytes, bytes] = field(default_factory=dict)
    """Of HELP and TYPE the line."""
    samples: list[bytes] = field(default_factory=list)


def merged(texts: Iterable[bytes], names: bytes = b"") -> bytes:
    """The metrics of `texts` whose names begin with `names`; the samples say themselves where they
    are from."""
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
        if name.startswith(names) and family.samples
        for line in (*family.heads.values(), *family.samples)
    )


def told_by(texts: Mapping[str, bytes], missing: int) -> bytes:
    """What the ingresses of `texts` tell, each sample with its ingress's name, which has none of
    the characters that a label would have to escape; `missing` more told nothing."""
    named = (_labelled(text, f'ingress="{name}"'.encode()) for name, text in texts.items())
    return merged(named) + counted("shoal_ingresses", "Ingresses", len(texts), missing)


def counted(metric: str, of: str, told: int, missing: int) -> bytes:
    """A `metric` of its own that says how many `of` them told theirs."""
    return (
        f"# HELP {metric} {of} by whether their metrics are here.\n"
        f"# TYPE {metric} gauge\n"
        f'{metric}{{metrics="told"}} {told}\n'
        f'{metric}{{metrics="missing"}} {missing}\n'
    ).encode()


def _labelled(text: bytes, label: bytes) -> bytes:
    return b"\n".join(_with(line, label) for line in text.splitlines())


def _with(line: bytes, label: bytes) -> bytes:
    if not line or line.startswith(b"#"):
        return line
    name, has_labels, rest = line.partition(b"{")
    if has_labels:
        return b"%s{%s,%s" % (name, label, rest)
    name, _, value = line.partition(b" ")
    return b"%s{%s} %s" % (name, label, value)
