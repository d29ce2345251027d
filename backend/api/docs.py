"""`/docs`, which works without the internet: Swagger UI's files come from an installed package."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

_PATH = "/docs"
_ASSETS_PATH = "/docs/assets"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; media-src 'self' blob:; frame-ancestors 'none'"
)
"""The browser asks nobody else, whatever a later Swagger UI would like to load; `blob:` is the
speech of an answer, to listen to on the page."""


def add_docs(app: FastAPI) -> None:
    """Serve the page at `/docs`; make the app with `docs_url=None` and `redoc_url=None`."""

    @app.get(_PATH, include_in_schema=False)
    async def docs() -> HTMLResponse:
        """Every route and field, to read and to try."""
        # Relative, so that the page also works where a proxy serves it under a prefix.
        assets = _ASSETS_PATH.lstrip("/")
        page = get_swagger_ui_html(
            title="Shoal",
            openapi_url="openapi.json",
            swagger_js_url=f"{assets}/swagger-ui-bundle.js",
            swagger_css_url=f"{assets}/swagger-ui.css",
            swagger_favicon_url=f"{assets}/favicon-32x32.png",
            # Swagger UI would send the document to a public validator.
            swagger_ui_parameters={"validatorUrl": None, "displayRequestDuration": True},
        )
        page.headers["Content-Security-Policy"] = _POLICY
        return page

    files = StaticFiles(packages=[("fastapi_swagger", "resources")])
    app.mount(_ASSETS_PATH, files, name="docs-assets")
