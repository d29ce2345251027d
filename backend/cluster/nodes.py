"""What Ray's nodes tell Prometheus of themselves."""

import asyncio
from typing import Any

import aiohttp
import ray

from backend.cluster.exposition import counted, merged

NODES_WAIT_S = 2.0
"""For all nodes; Prometheus itself waits for 10 s."""
_OF_RAY = b"ray_"
"""How the names begin that are passed on: an agent's own interpreter is of no interest."""
MAX_NODE_BYTES = 8 * 1024 * 1024
"""Of one node's text; of one that is longer nothing is told."""


async def ray_metrics() -> bytes:
    """The metrics of all nodes that answer in time, and how many did."""
    nodes = [each for each in await asyncio.to_thread(ray.nodes) if each["Alive"]]
    urls = [
        f"http://{each['NodeManagerAddress']}:{each['MetricsExportPort']}/metrics"
        for each in nodes
        if each["MetricsExportPort"]
    ]
    return await told_at(urls, len(nodes))


async def told_at(urls: list[str], nodes: int) -> bytes:
    """What is told at `urls` by so many nodes."""
    patience = aiohttp.ClientTimeout(total=NODES_WAIT_S)
    async with aiohttp.ClientSession(timeout=patience) as session:
        found = await asyncio.gather(*(_text(session, url) for url in urls))
    texts = [text for text in found if text]
    missing = nodes - len(texts)
    count = counted("shoal_ray_nodes", "Machines of the cluster", len(texts), missing)
    return count + await asyncio.to_thread(merged, texts, _OF_RAY)


async def _text(session: Any, url: str) -> bytes:
    """b"" where it cannot be had."""
    try:
        async with session.get(url) as answer:
            if answer.status != 200:
                return b""
            text = bytearray()
            async for piece in answer.content.iter_any():
                text += piece
                if len(text) > MAX_NODE_BYTES:
                    return b""
            return bytes(text)
    except (aiohttp.ClientError, TimeoutError):
        return b""
