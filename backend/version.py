"""Which Shoal this is."""

from importlib.metadata import PackageNotFoundError, version


def shoal_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("shoal-tts")
    except PackageNotFoundError:
        return "unknown, not installed"
