"""The style sheets of the pages: what both show alike, then what is one page's own."""

from importlib.resources import files


def style(name: str) -> str:
    """The style sheet of a page, whose own part is the file `name`."""
    folder = files("ui.look")
    return "\n".join(folder.joinpath(each).read_text("utf-8") for each in ("shared.css", name))
