"""Which clients are tried, what they are installed from, and what their users do with them.

A client is a row here and a program in `programs/`, which does what the row's `does` names. The
names of what is done are those of `scenarios.py`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Client:
    """One client: its packages, its program, and what is tried with it."""

    name: str
    """What the table in MDs/CLIENTS.md calls it."""
    program: str
    """A module of `programs/`; its environment has the same name."""
    speaks: Literal["OpenAI", "Fish Audio"]
    packages: tuple[str, ...]
    """What pip or npm installs; the first one's version is the client's, unless it has sources."""
    does: tuple[str, ...]
    runs_on: Literal["python", "node"] = "python"
    environment: str = ""
    """Of another client, where both share one; else its own."""
    python: tuple[int, int] = (3, 11)
    """The oldest that its packages take."""
    sources: str = ""
    """Of an application whose requests are rebuilt: where they were read, and at which version."""
    small: bool = False
    """Installed in seconds: `.ci/run` tries it too."""
    faults: tuple[tuple[str, str], ...] = ()
    """What fails through the client itself, and why."""
    hangs_up: bool = False
    """It closes before the server has ended, which then does not count what it has made."""
    keyless: bool = False
    """It can send no key, so it is tried with a server that asks for none."""

    @property
    def home(self) -> str:
        """The folder of its environment."""
        return self.environment or self.program


EVERYTHING = ("sentence", "stream", "two", "voice", "unknown_voice", "marks", "wrong_key")

CLIENTS = (
    Client(
        name="livekit-plugins-openai",
        program="livekit_openai",
        environment="livekit",
        speaks="OpenAI",
        packages=("livekit-plugins-openai>=1.8",),
        does=(*EVERYTHING, "events", "live"),
    ),
    Client(
        name="livekit-plugins-fishaudio",
        program="livekit_fish",
        environment="livekit",
        speaks="Fish Audio",
        packages=("livekit-plugins-fishaudio>=1.8",),
        does=(
            *EVERYTHING,
            "live",
            "live_two",
            "live_kept",
            "live_pause",
            "live_break",
            "live_unknown_voice",
            "live_marks",
        ),
    ),
    Client(
        name="pipecat-ai, OpenAITTSService",
        program="pipecat_openai",
        environment="pipecat",
        speaks="OpenAI",
        packages=("pipecat-ai[openai,fish]>=1.14",),
        does=("sentence", "stream", "two", "marks", "wrong_key", "live"),
    ),
    Client(
        name="pipecat-ai, FishAudioTTSService",
        program="pipecat_fish",
        environment="pipecat",
        speaks="Fish Audio",
        packages=("pipecat-ai[openai,fish]>=1.14",),
        does=(
            *("live", "live_two", "live_pause", "live_break", "live_voice"),
            *("live_unknown_voice", "live_marks", "live_wrong_key"),
        ),
        hangs_up=True,
    ),
    Client(
        name="npm openai",
        program="npm_openai",
        speaks="OpenAI",
        runs_on="node",
        packages=("openai@>=7",),
        does=(*EVERYTHING, "events", "formats", "lists"),
    ),
    Client(
        name="npm fish-audio",
        program="npm_fish_audio",
        speaks="Fish Audio",
        runs_on="node",
        packages=("fish-audio@>=0.1",),
        does=(
            *EVERYTHING,
            *("formats", "lists", "own_voice", "live", "live_two", "live_unknown_voice"),
            *("live_marks", "live_wrong_key"),
        ),
    ),
    Client(
        name="npm fish-audio-sdk",
        program="npm_fish_audio_sdk",
        speaks="Fish Audio",
        runs_on="node",
        packages=("fish-audio-sdk@>=2025.11",),
        does=(*EVERYTHING, "lists", "own_voice", "live"),
        faults=(
            (
                "live",
                "the client drops what comes while it does not wait: it got less than was sent",
            ),
        ),
    ),
    Client(
        name="wyoming_openai, with the client of wyoming",
        program="wyoming_openai",
        speaks="OpenAI",
        packages=("wyoming-openai>=0.8", "wyoming>=1.10"),
        python=(3, 12),
        does=(*EVERYTHING, "live", "lists", "lists_of_speaches", "lists_of_kokoro"),
    ),
    Client(
        name="Home Assistant, openai_tts",
        program="home_assistant",
        speaks="OpenAI",
        packages=("aiohttp>=3.9",),
        sources="github.com/sfortis/openai_tts 3.7, commit 5c8b3be",
        does=(*EVERYTHING, "asked_stream", "check", "extras"),
        small=True,
    ),
    Client(
        name="Open WebUI",
        program="open_webui",
        speaks="OpenAI",
        packages=("aiohttp>=3.9",),
        sources="open-webui 0.12.4 of PyPI, `routers/audio`",
        does=("sentence", "two", "voice", "unknown_voice", "marks", "wrong_key", "lists", "slash"),
    ),
    Client(
        name="SillyTavern, OpenAI compatible",
        program="silly_tavern",
        speaks="OpenAI",
        runs_on="node",
        packages=("node-fetch@>=3",),
        sources="github.com/SillyTavern/SillyTavern, commit 00a72b5",
        does=("sentence", "two", "voice", "unknown_voice", "marks", "wrong_key"),
    ),
    Client(
        name="SillyTavern, TTS WebUI, in the browser",
        program="silly_tavern_page",
        environment="silly_tavern",
        speaks="OpenAI",
        runs_on="node",
        packages=("node-fetch@>=3",),
        sources="github.com/SillyTavern/SillyTavern, commit 2a184b2",
        does=("preflight", "sentence", "stream", "marks"),
        keyless=True,
    ),
    Client(
        name="SillyTavern, Fish Audio",
        program="silly_tavern_fish",
        environment="silly_tavern",
        speaks="Fish Audio",
        runs_on="node",
        packages=("node-fetch@>=3",),
        sources="github.com/SillyTavern/SillyTavern, commit a0e36c9",
        does=("sentence", "stream", "two", "voice", "unknown_voice", "marks", "wrong_key", "lists"),
    ),
)
