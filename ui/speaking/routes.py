"""What the browser asks of the page's process about takes: what happens to them, and their sound.

A take's id is its password: it has 128 bits, and only the browser it belongs to is told it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from ui.setup import Setup
from ui.speaking import picture, receipt
from ui.speaking.files import FORMATS, SUBTITLES, audio_file, file_name, subtitles
from ui.speaking.speaker import Speaker
from ui.speaking.take import Take
from ui.wire import Refused, ServerAway

_PIECE_BYTES = 32 * 1024
_LEAST_PAUSE_S = 0.1
"""Between two looks at what changed: a page needs no more than ten a second."""
_SCRIPTS = frozenset({"player.js", "looks.js", "take.js"})
_PICTURES: dict[str, Callable[[Take], bytes]] = {
    "waveform": picture.waveform,
    "spectrogram": picture.spectrogram,
}
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_FRESH = {"Cache-Control": "no-cache"}


def take_routes(setup: Setup, speaker: Speaker) -> APIRouter:
    """The routes below `/page`, for takes that `speaker` has spoken."""
    router = APIRouter(prefix="/page")

    def find(take_id: str) -> Take:
        take = speaker.shelf.get(take_id)
        if take is None:
            raise HTTPException(404, "This take is not kept any more.")
        return take

    Found = Annotated[Take, Depends(find)]  # noqa: N806 - a type

    @router.get("/{asset}.js")
    async def script(asset: str) -> Response:
        name = f"{asset}.js"
        if name not in _SCRIPTS:
            raise HTTPException(404)
        text = files("ui.speaking").joinpath(name).read_text("utf-8")
        return Response(text, media_type="text/javascript", headers=_FRESH)

    @router.get("/takes/{take_id}/events")
    async def events(take: Found) -> Response:
        return StreamingResponse(_views(take), media_type="text/event-stream", headers=_FRESH)

    @router.get("/takes/{take_id}/audio")
    async def audio(take: Found, start: int = 0) -> Response:
        return StreamingResponse(
            _sound(take, min(max(0, start - start % 2), take.audio_bytes)),
            media_type="application/octet-stream",
            headers={"Cache-Control": "no-store"},
        )

    @router.get("/takes/{take_id}/speech.{kind}")
    async def speech(take: Found, kind: str) -> Response:
        name = quote(file_name(take, kind))
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"} | _FRESH
        if kind in SUBTITLES:
            return Response(subtitles(take, kind), media_type=SUBTITLES[kind], headers=headers)
        if kind not in FORMATS or not take.audio_bytes:
            raise HTTPException(404, "There is no such file of this take.")
        path = await asyncio.to_thread(audio_file, take, kind)
        return FileResponse(path, media_type=FORMATS[kind], headers=headers)

    @router.get("/takes/{take_id}/{name}.png")
    async def look(take: Found, name: str) -> Response:
        if name not in _PICTURES:
            raise HTTPException(404)
        png = await asyncio.to_thread(_PICTURES[name], take)
        return Response(png, media_type="image/png", headers=_FOREVER)

    @router.get("/takes/{take_id}/receipt")
    async def told(take: Found) -> dict[str, object]:
        return {"figures": receipt.figures(take), "commands": receipt.commands(take, setup)}

    @router.post("/takes/{take_id}/stop", dependencies=[Depends(_ours)])
    async def stop(take: Found) -> None:
        await speaker.stop(take)

    @router.post("/takes/{take_id}/again", dependencies=[Depends(_ours)])
    async def again(take: Found) -> None:
        speaker.again(take)

    @router.post("/takes/{take_id}/sentences/{index}/redo", dependencies=[Depends(_ours)])
    async def redo(take: Found, index: int) -> dict[str, str]:
        """`problem` says in words why it stayed as it was; "" where it was said again."""
        sentences = take.record.sentences
        if not take.is_over or not 0 <= index < len(sentences) or sentences[index].end_s is None:
            raise HTTPException(409, "This sentence was not spoken yet.")
        try:
            await speaker.redo(take, index)
        except (ServerAway, Refused) as error:
            return {"problem": str(error)}
        return {"problem": ""}

    return router


def _ours(request: Request) -> None:
    """Refuse what another site's page asks for."""
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "Pages of other sites may not do this.")


async def _views(take: Take) -> AsyncIterator[str]:
    """What the take is, then what becomes of it until it is over.

    Not longer: a browser opens six connections to a page's process, and each tab needs some.
    """
    seen = 0
    while True:
        is_over, view = take.is_over, take.view(seen)
        seen = view["version"]
        yield f"data: {json.dumps(view)}\n\n"
        if is_over:
            return
        await asyncio.sleep(_LEAST_PAUSE_S)
        try:
            await asyncio.wait_for(take.changed(seen), 15)
        except TimeoutError:
            yield ": still here\n\n"


async def _sound(take: Take, start: int) -> AsyncIterator[bytes]:
    """The sound from byte `start` on, as it may be heard, to its end."""
    with take.pcm.open("rb") as file:
        file.seek(start)
        at = start
        while True:
            version, is_over = take.version, take.is_over
            while (size := min(_PIECE_BYTES, take.playable_bytes - at)) > 0:
                data = file.read(size)
                if not data:
                    return  # it was said again meanwhile, and is shorter
                at += len(data)
                yield data
            if is_over:
                return
            try:
                # Steadiness is a matter of time as well: look again though nothing changed.
                await asyncio.wait_for(take.changed(version), 0.25)
            except TimeoutError:
                continue
