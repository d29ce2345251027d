"""Ray's metrics of several machines in one text with ours."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families

from backend.cluster import nodes
from backend.cluster.exposition import merged
from tests.replicas import cluster

NODE = """\
# HELP python_info Python platform information
# TYPE python_info gauge
python_info{{version="3.11"}} 1.0
# HELP ray_node_mem_used Memory usage on a ray node
# TYPE ray_node_mem_used gauge
ray_node_mem_used{{ip="{ip}"}} {used}
# HELP ray_serve_replica_processing_latency_ms The latency.
# TYPE ray_serve_replica_processing_latency_ms histogram
ray_serve_replica_processing_latency_ms_bucket{{replica="{ip}",le="1.0"}} 1.0
ray_serve_replica_processing_latency_ms_bucket{{replica="{ip}",le="+Inf"}} 2.0
ray_serve_replica_processing_latency_ms_count{{replica="{ip}"}} 2.0
ray_serve_replica_processing_latency_ms_sum{{replica="{ip}"}} 9.0
"""


def node(ip: str, used: float) -> str:
    return NODE.format(ip=ip, used=used)


def families(text: str) -> dict[str, dict[str, float]]:
    """Of each metric the values by their labels, as Prometheus reads them."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in found, f"{family.name} is there twice"
        found[family.name] = {
            ",".join((each.name, *each.labels.values())): each.value for each in family.samples
        }
    return found


def test_each_metric_is_there_once_with_the_samples_of_all() -> None:
    texts = [node("a", 1.5).encode(), node("b", 2.5).encode(), b""]
    found = families(merged(texts, b"ray_").decode())
    assert found["ray_node_mem_used"] == {"ray_node_mem_used,a": 1.5, "ray_node_mem_used,b": 2.5}
    assert len(found["ray_serve_replica_processing_latency_ms"]) == 8
    assert "python_info" not in found
    assert merged([]) == b""


def test_nodes_that_do_not_answer_are_counted_and_cost_no_more_than_they_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "NODES_WAIT_S", 0.5)
    monkeypatch.setattr(nodes, "MAX_NODE_BYTES", 4096)

    async def told(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/a" | "/b":
                return web.Response(text=node(request.path[1:], 1.0))
            case "/huge":
                return web.Response(text=node("huge", 1.0) * 10)
            case "/broken":
                return web.Response(status=500)
            case _:
                await asyncio.Event().wait()
                raise AssertionError

    async def work() -> None:
        app = web.Application()
        app.router.add_get("/{name}", told)
        async with TestServer(app) as server:
            names = ("a", "b", "huge", "broken", "hangs")
            urls = [*(str(server.make_url(f"/{name}")) for name in names), "http://127.0.0.1:1/"]
            found = families((await nodes.told_at(urls, 7)).decode())
        assert found["shoal_ray_nodes"] == {"shoal_ray_nodes,told": 2, "shoal_ray_nodes,missing": 5}
        assert set(found["ray_node_mem_used"]) == {"ray_node_mem_used,a", "ray_node_mem_used,b"}

    asyncio.run(work())


def test_one_scrape_has_ours_and_the_clusters() -> None:
    async def metrics() -> bytes:
        return node("a", 1.0).encode()

    async def work() -> None:
        async with cluster({}, metrics=metrics) as (http, _, _):
            for path, accept in (("/metrics/prometheus", "*/*"), ("/metrics", "text/plain")):
                found = families((await http.get(path, headers={"Accept": accept})).text)
                assert found["ray_node_mem_used"] == {"ray_node_mem_used,a": 1.0}
                assert found["shoal_each_worker_up"]

    asyncio.run(work())
