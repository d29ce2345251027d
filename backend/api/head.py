"""HEAD wherever GET is: the same answer without its body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware: to what is below it a HEAD is a GET, and `state.is_head` tells it apart.

    So keys, rates and refusals are those of the GET, and a route for which the body is the work can
    leave it out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        state = scope.setdefault("state", {})
        state["is_head"] = True
        await self._app({**scope, "method": "GET"}, receive, send_head)
