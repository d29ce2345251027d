"""The place that several servers share: a folder, or a URL of any protocol of fsspec."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from backend.voices.files import Files, LocalFiles
from backend.voices.remote import RemoteFiles, Store

SETTING = "SHOAL_SHARED_DIR"

Place = Callable[[str, str], Files]
"""The files of a folder there, by its name and their suffix."""


def shared_place(where: str) -> Place | None:
    """What the setting names; None where it names nothing. Raises `BadSetting`."""
    if not where:
        return None
    if "://" not in where:
        return _folder(Path(where))
    if urlsplit(where).scheme in ("file", "local"):
        return _folder(Path(url2pathname(urlsplit(where).path)))
    store = Store(where, SETTING)
    return lambda name, suffix: RemoteFiles(store, name, suffix)


def _folder(folder: Path) -> Place:
    return lambda name, suffix: LocalFiles(folder / name, suffix, SETTING)
