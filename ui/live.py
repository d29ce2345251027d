"""A connection of the live route: text goes out while it is written, events of speech come in."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ui.wire import Event, Refused, ServerAway


class Live:
    """Write text, and iterate over what becomes of it, at the same time."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def write(self, text: str) -> None:
        """Some more text; whole sentences in it are spoken at once."""
        await self._tell(type="text", text=text)

    async def flush(self) -> None:
        """Speak what is there, finished or not."""
        await self._tell(type="flush")

    async def end(self) -> None:
        """No text follows."""
        await self._tell(type="end")

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of `Shoal.speak`, as far as this route tells them."""
        index, kind = 0, ""
        with suppress(ConnectionClosed):
            async for message in self._socket:
                if isinstance(message, bytes):
                    yield Event("audio", {"index": index}, message)
                    continue
                event = _event(message)
                kind, index = event.kind, event.fields.get("index", index)
                yield event
        if kind not in ("done", "error"):
            raise ServerAway("The server stopped in the middle of the speech.")

    async def _tell(self, **message: Any) -> None:
        try:
            await self._socket.send(json.dumps(message))
        except ConnectionClosed:
            raise ServerAway("The server ended the connection.") from None


def _event(message: str) -> Event:
    try:
        fields = json.loads(message)
        kind = str(fields.pop("type"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ServerAway("What answers the live route is no Shoal server.") from None
    return Event("plan" if kind == "session.started" else kind, fields)


@asynccontextmanager
async def connect(api_url: str, api_key: str, start: Mapping[str, Any]) -> AsyncIterator[Live]:
    """A connection that was told `start`, the fields of `session.start`; pcm is asked for."""
    parts = urlsplit(api_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    url = urlunsplit((scheme, parts.netloc, f"{parts.path}/v1/audio/stream", "", ""))
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        socket = await connect_websocket(
            # A proxy is for what is far away; what a page speaks to is its own server.
            *(url,),
            additional_headers=headers,
            max_size=None,
            proxy=None,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise Refused(status, f"The live route answered {status}.") from None
    except (OSError, TimeoutError, WebSocketException):
        raise ServerAway(
            f"No server answers at {api_url}. Is `shoal serve` running there?"
        ) from None
    async with socket:
        live = Live(socket)
        await live._tell(type="session.start", response_format="pcm", **start)
        yield live
