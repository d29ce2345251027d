"""What the browser asks of the page's process about voices: one as a file to keep."""

from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Response

from ui.client import Shoal
from ui.wire import Refused, ServerAway


def voice_routes(client: Shoal) -> APIRouter:
    """The routes below `/page/voices`."""
    router = APIRouter(prefix="/page/voices")

    @router.get("/{name}.voice")
    async def export(name: str) -> Response:
        try:
            found = await client.export_voice(name)
        except Refused as error:
            raise HTTPException(error.status, error.detail) from None
        except ServerAway as error:
            raise HTTPException(502, str(error)) from None
        disposition = f"attachment; filename*=UTF-8''{quote(found.name)}"
        headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
        return Response(found.data, media_type="application/octet-stream", headers=headers)

    return router
