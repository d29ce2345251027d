"""What stands around Streamlit's server: our routes, other sites, and answers that never end."""

import asyncio
from typing import Any

import pytest

from ui import serving
from ui.desk import Desk
from ui.process import PageProcess
from ui.setup import Setup
from ui.speaking.speaker import LiveText

Sent = list[dict[str, Any]]


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "streamlit", "path": scope["path"]})


def ask(desk: Desk, scope: dict[str, Any]) -> Sent:
    sent: Sent = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {}

    full = {"method": "GET", "query_string": b"", "headers": [], **scope}
    asyncio.run(serving._Aside(_inner, desk)(full, receive, send))
    return sent


@pytest.fixture
def desk(tmp_path: Any) -> Desk:
    return Desk(PageProcess(Setup(data_dir=tmp_path)))


def websocket(**headers: str) -> dict[str, Any]:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "websocket", "path": "/_stcore/stream", "headers": pairs}


def test_what_is_below_page_is_ours_and_the_rest_is_streamlits(desk: Desk) -> None:
    ours = ask(desk, {"type": "http", "path": "/page/take.js"})
    assert ours[0]["status"] == 200 and b"shoal-take" in ours[1]["body"]
    assert ask(desk, {"type": "http", "path": "/page/nothing.js"})[0]["status"] == 404
    for path in ("/", "/pages", "/voices"):
        assert ask(desk, {"type": "http", "path": path}) == [{"type": "streamlit", "path": path}]


def test_below_another_path_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlit.config.get_option", lambda name: "/deep/")
    assert serving.root() == "/deep/page"
    assert ask(desk, {"type": "http", "path": "/deep/page/take.js"})[0]["status"] == 200


def test_pages_of_other_sites_do_not_connect(desk: Desk) -> None:
    refused = ask(desk, websocket(origin="http://evil.example", host="127.0.0.1:8501"))
    assert refused == [{"type": "websocket.close", "code": 1008}]
    for told in ({"origin": "http://me:8501", "host": "me:8501"}, {"host": "me:8501"}):
        assert ask(desk, websocket(**told))[0]["type"] == "streamlit"


def test_a_site_that_the_configuration_names_connects(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"server.corsAllowedOrigins": ["https://lab.example"], "server.baseUrlPath": ""}
    monkeypatch.setattr("streamlit.config.get_option", options.get)
    told = websocket(origin="https://lab.example", host="inside:8501")
    assert ask(desk, told)[0]["type"] == "streamlit"


def test_an_answer_that_never_ends_ends_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    closing = asyncio.Event()
    monkeypatch.setattr(serving, "_closing", closing)
    sent: Sent = []

    async def events(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start"})
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        closing.set()
        await asyncio.sleep(3600)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(serving._until_closing(events, {}, None, send))  # type: ignore[arg-type] # not used
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_what_goes_wrong_in_an_answer_is_told() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(serving._until_closing(broken, {}, None, None))  # type: ignore[arg-type]


def test_threads_are_answered_from_one_loop(desk: Desk) -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert desk.ask(loop()) is desk.ask(loop())
    assert desk.do(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        desk.do(lambda: 1 // 0)


def test_takes_of_tabs_that_were_closed_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    open_tabs = {"here", "closed"}
    monkeypatch.setattr("ui.desk._is_open", lambda tab: tab in open_tabs)
    monkeypatch.setattr("ui.desk._LOOK_S", 0.001)
    monkeypatch.setattr("ui.desk._GRACE_S", 0.003)
    monkeypatch.setattr(desk.process, "tabs", lambda: ["here", "closed"])

    async def run() -> None:
        ended = asyncio.Event()

        async def leave(tab: str) -> None:
            left.append(tab)
            ended.set()

        monkeypatch.setattr(desk.process, "leave", leave)
        minding = asyncio.create_task(desk.mind())
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert left == [], "both tabs are open"
        open_tabs.remove("closed")
        await asyncio.wait_for(ended.wait(), 5)
        minding.cancel()

    asyncio.run(run())
    assert set(left) == {"closed"}


def test_a_line_is_flushed_once_it_is_written() -> None:
    async def run() -> list[str]:
        text = LiveText()
        text.say("First line")
        text.say("Second")
        text.finish()
        return [piece async for piece in text.pieces()]

    assert asyncio.run(run()) == ["First line\n", "", "Second\n", ""]
