"""The Gradio page: `shoal ui gradio`, `python -m ui.gradio_app`, or beside a server by `--ui`."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from ui.guide.tab import GuideTab
from ui.look.style import style
from ui.look.theme import theme
from ui.process import PageProcess
from ui.setup import BadSetup, Setup, browser_secret, read_setup
from ui.speaking.routes import take_routes
from ui.speaking.tab import SpeakTab, element
from ui.speaking.wish import EMPTY, voice_choices
from ui.status import StatusLine
from ui.system.tab import SystemTab
from ui.voices.routes import voice_routes
from ui.voices.tab import VoicesTab
from ui.wire import Refused, ServerAway

HEAD = '<script type="module" src="page/take.js"></script>'
# In the browser alone, without a journey to the page's process: what that brings back would undo
# what was typed meanwhile, and what is typed is kept though the page is closed at once.
_RESTORE_TEXT = "(kept, text) => text || kept?.text || ''"
_REMEMBER = """(kept, text, ...values) => !window.shoalIsRestored ? kept : {
  ...kept, text: text.slice(0, 20000),
  settings: Object.fromEntries(%s.map((name, index) => [name, values[index]])),
}"""
_IS_RESTORED = "(...all) => { window.shoalIsRestored = true; return (%s)(...all); }"


def create_page(setup: Setup) -> FastAPI:
    """The page as an ASGI app: Gradio at `/`, and beside it what a take's element asks for."""
    page = PageProcess(setup)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await page.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(take_routes(setup, page.speaker))
    app.include_router(voice_routes(page.client))
    gr.mount_gradio_app(
        app,
        build(page),
        "/",
        server_name=setup.host,
        server_port=setup.port,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size="48mb",
        theme=theme(),
        css=style("page.css"),
        head=HEAD,
        ssr_mode=False,
        pwa=False,
    )
    return app


def build(page: PageProcess) -> gr.Blocks:
    """The Blocks."""
    blocks = gr.Blocks(title="Shoal", analytics_enabled=False, delete_cache=(3600, 86_400))
    with blocks:
        kept = gr.BrowserState(
            {"owner": "", "text": "", "settings": {}},
            storage_key="shoal",
            secret=browser_secret(page.setup),
        )
        with gr.Row(elem_id="top"):
            gr.HTML("<h1>Shoal</h1>", elem_id="name")
            status = StatusLine(page)
        with gr.Tabs():
            with gr.Tab("Speak", id="speak") as speak_tab:
                speak = SpeakTab(page, kept)
            with gr.Tab("Voices", id="voices") as voices_tab:
                voices = VoicesTab(page, speak)
            with gr.Tab("Emotion guide", id="guide") as guide_tab:
                GuideTab(page, guide_tab)
            with gr.Tab("System", id="system") as system_tab:
                system = SystemTab(page, system_tab)
        for other in (speak_tab, voices_tab, guide_tab):
            system.stop_when_leaving(other)
        _keep(blocks, page, kept, speak)
        status.wire(blocks, voices)

        async def leave(request: gr.Request) -> None:
            await page.leave(str(request.session_hash))
            speak.leave(str(request.session_hash))

        blocks.unload(leave)
    return blocks


def _keep(blocks: gr.Blocks, page: PageProcess, kept: gr.BrowserState, speak: SpeakTab) -> None:
    """Let the browser remember text and settings, and find its takes again."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
    settings, names = speak.settings.values, speak.settings.names

    async def restore(request: gr.Request, found: dict[str, Any]) -> list[Any]:
        tab = str(request.session_hash)
        found = {"text": "", "settings": {}, **(found or {}), "owner": page.owner(tab, found)}
        saved = await _voice_names(page)
        known = found["settings"]
        values = [gr.update(value=known[n]) if n in known else gr.skip() for n in names]
        voice = known.get("voice", "")
        is_known = voice in ("", *(saved or ()), "recording:")
        values[names.index("voice")] = gr.update(
            choices=voice_choices(saved or []), value=voice if is_known else ""
        )
        mine = page.shelf.of(found["owner"])
        # The servers' voices took a while: what was asked for meanwhile stays in view.
        shown = element(mine[0], False) if mine else EMPTY
        shown = gr.skip() if page.has_take(tab) else shown
        choices = speak.choices(found["owner"], mine[0] if mine else None)
        return [found, *values, shown, choices, saved or []]

    remember = _REMEMBER % json.dumps(names)
    known = [kept, speak.text, *settings]
    blocks.load(
        restore,
        kept,
        [kept, *settings, speak.take, speak.takes, speak.scene.names],
        **quiet,
    ).then(None, known, kept, js=_IS_RESTORED % remember)
    blocks.load(None, [kept, speak.text], speak.text, js=_RESTORE_TEXT)
    changes = [control.change for control in (speak.text, *settings)]
    gr.on(changes, None, known, kept, js=remember)


async def _voice_names(page: PageProcess) -> list[str] | None:
    try:
        return [voice["name"] for voice in await page.client.voices()]
    except (ServerAway, Refused):
        return None


def main() -> None:
    """Serve the page until stopped."""
    try:
        setup = read_setup()
    except BadSetup as error:
        sys.exit(f"shoal: {error}")
    listener = _listen(setup)
    server = uvicorn.Server(
        uvicorn.Config(create_page(setup), log_level="warning", timeout_graceful_shutdown=1)
    )
    print(f"The page is at http://{setup.host}:{listener.getsockname()[1]}", flush=True)
    asyncio.run(server.serve(sockets=[listener]))


def _listen(setup: Setup) -> socket.socket:
    """Bound before anything else: a port in use is told in a line, and port 0 is known."""
    try:
        return socket.create_server(
            (setup.host, setup.port),
            family=socket.AF_INET6 if ":" in setup.host else socket.AF_INET,
        )
    except OSError as error:
        sys.exit(f"shoal: {setup.host}:{setup.port} cannot be listened on: {error.strerror}.")


if __name__ == "__main__":
    main()
