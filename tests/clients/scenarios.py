"""What is tried with each client, and what must come of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.clients.driver import Answer, Driver, Heard
from tests.clients.roster import Client

TEXT = "The children walked home along the river."
OTHER = "Then it began to rain, and all of them ran."
LONG = " ".join([TEXT, OTHER, "The dog was first, and it did not wait.", TEXT])
MARKS = "😀"
VOICE = "anna"
PAGE = "http://127.0.0.1:8001"
"""The origin of a page in the browser, which the server's setting lists."""
IDLE_S = 5.0
"""Of the server's SHOAL_LIVE_IDLE_S here, so that a test can wait longer than that."""
LOST_S = 0.1
"""What a codec may pad, or a decoder leave out, at each sentence."""
LOUD = 0.01
"""RMS that speech exceeds, and silence does not."""


class Trial:
    """A client beside a server: what is asked of it, and what was measured."""

    def __init__(self, driver: Driver, url: str, key: str, voice_id: str) -> None:
        self._driver = driver
        self._url = url
        self._key = key
        self._voice_id = voice_id
        self.first_s: float | None = None
        """Until the first audio of a text that was streamed."""

    @property
    def client(self) -> Client:
        return self._driver.client

    @property
    def saved_voice(self) -> str:
        """As the client's users name it: Fish's by id."""
        return VOICE if self.client.speaks == "OpenAI" else self._voice_id

    @property
    def default_voice(self) -> str | None:
        return "alloy" if self.client.speaks == "OpenAI" else None

    def ask(self, do: str, *texts: str, **more: Any) -> Answer:
        """Whatever comes of it, an error too."""
        job = {"url": self._url, "key": self._key, "origin": PAGE, "voice": self.default_voice}
        return self._driver.do({**job, "texts": texts, "do": do, **more})

    def hear(self, do: str, *texts: str, **more: Any) -> list[Heard]:
        """One utterance for each text, and all that the server made of it, to `LOST_S`.

        Else the test fails, with the client's error if it has one.
        """
        before_s = self._made_s()
        answer = self.ask(do, *texts, **more)
        assert answer.error is None, answer.error
        assert len(answer.heard) == len(texts), f"{len(answer.heard)} of {len(texts)} sounded"
        made_s = self._made_s() - before_s
        heard_s = sum(heard.seconds for heard in answer.heard)
        allowed_s = LOST_S * sum(max(1, text.count(".")) for text in texts)
        if not self.client.hangs_up:
            assert abs(made_s - heard_s) < allowed_s, f"{heard_s:.2f} s of {made_s:.2f} s came"
        return answer.heard

    def _made_s(self) -> float:
        """Seconds of audio of all requests so far, as soon as none is at work."""
        headers = {"Authorization": f"Bearer {self._key}"}
        while True:
            told = httpx.get(f"{self._url}/metrics", headers=headers).raise_for_status().json()
            if told["in_flight"] == 0:
                return float(told["since_start"]["audio_s"])
            time.sleep(0.02)

    def refused(self, do: str, *names: str, **more: Any) -> None:
        """The client reports an error of its own, in which one of `names` stands."""
        answer = self.ask(do, TEXT, **more)
        error = answer.error
        assert error is not None, "it reports no error"
        assert any(name in error for name in names), f"its error does not say why: {error}"


def spoken(heard: Heard, least_s: float = 1.2, most_s: float = 6.0) -> None:
    """Speech of a length that fits its text."""
    assert heard.rms > LOUD, f"it is silent: {heard.seconds:.2f} s, rms {heard.rms:.4f}"
    assert least_s < heard.seconds < most_s, f"{heard.seconds:.2f} s of speech"


def long_and_early(trial: Trial, heard: Heard) -> None:
    """Speech of `LONG`, whose first audio came while the rest was being made."""
    spoken(heard, 5, 25)
    assert heard.early, "all of it was made before the first audio came"
    trial.first_s = heard.first_s


def pause(heard: Heard) -> None:
    """A text without words: a moment of silence, and no error."""
    assert 0.05 < heard.seconds < 1.0, f"{heard.seconds:.2f} s"
    assert heard.rms < LOUD, f"it is not silent: rms {heard.rms:.4f}"


def sentence(trial: Trial) -> None:
    (heard,) = trial.hear("speak", TEXT)
    spoken(heard)


def stream(trial: Trial) -> None:
    does = "stream" if trial.client.program in STREAMS_APART else "speak"
    (heard,) = trial.hear(does, LONG)
    long_and_early(trial, heard)


STREAMS_APART = ("npm_openai", "home_assistant", "silly_tavern_page")
"""Their users stream in another way than they ask for the whole."""


def two(trial: Trial) -> None:
    for heard in trial.hear("speak", TEXT, OTHER):
        spoken(heard)


def voice(trial: Trial) -> None:
    (heard,) = trial.hear("speak", TEXT, voice=trial.saved_voice)
    spoken(heard)


def unknown_voice(trial: Trial) -> None:
    # The proxy wyoming_openai passes no reason on.
    trial.refused("speak", "404", "nobody", "Text-to-speech", voice="nobody")


def marks(trial: Trial) -> None:
    (heard,) = trial.hear("speak", MARKS)
    pause(heard)


def wrong_key(trial: Trial) -> None:
    trial.refused("speak", "401", "API key", "Text-to-speech", key="wrong-key")


def events(trial: Trial) -> None:
    does = "events" if trial.client.program == "npm_openai" else "speak"
    (heard,) = trial.hear(does, LONG, model="gpt-4o-mini-tts")
    long_and_early(trial, heard)


def formats(trial: Trial) -> None:
    names = ("mp3", "opus", "aac", "flac", "wav", "pcm")
    for name in names if trial.client.speaks == "OpenAI" else ("mp3", "opus", "wav", "pcm"):
        (heard,) = trial.hear("speak", TEXT, format=name)
        spoken(heard)


def lists(trial: Trial) -> None:
    answer = trial.ask("lists")
    assert answer.error is None, answer.error
    if "models" in answer.told:
        assert "tts-1" in answer.told["models"], f"models: {answer.told['models']}"
    if "voices" in answer.told:
        wanted = "alloy" if trial.client.program == "wyoming_openai" else VOICE
        assert wanted in answer.told["voices"], f"voices: {answer.told['voices']}"


def _proxy_lists(trial: Trial, backend: str) -> None:
    answer = trial.ask("lists", voice="", backend=backend)
    assert answer.error is None, answer.error
    assert {"alloy", VOICE} <= set(answer.told["voices"]), f"voices: {answer.told['voices']}"


def lists_of_speaches(trial: Trial) -> None:
    _proxy_lists(trial, "SPEACHES")


def lists_of_kokoro(trial: Trial) -> None:
    _proxy_lists(trial, "KOKORO_FASTAPI")


def own_voice(trial: Trial) -> None:
    answer = trial.ask("own_voice", TEXT, title="made by a client")
    assert answer.error is None, answer.error
    assert answer.told["state"] == "trained"
    spoken(answer.heard[0])


def live(trial: Trial) -> None:
    (heard,) = trial.hear("live", LONG)
    long_and_early(trial, heard)


def live_two(trial: Trial) -> None:
    for heard in trial.hear("live", TEXT, OTHER):
        spoken(heard)


def live_kept(trial: Trial) -> None:
    answer = trial.ask("live", TEXT, OTHER, TEXT)
    assert answer.error is None, answer.error
    for heard in answer.heard:
        spoken(heard)
    assert answer.told["kept"] == 2, f"{answer.told['kept']} of 2 turns used the first's connection"


def live_pause(trial: Trial) -> None:
    for heard in trial.hear("live", TEXT, OTHER, pause_s=IDLE_S + 2):
        spoken(heard)


def live_break(trial: Trial) -> None:
    answer = trial.ask("broken_off", LONG, OTHER)
    assert answer.error is None, answer.error
    spoken(answer.heard[0])


def live_voice(trial: Trial) -> None:
    (heard,) = trial.hear("live", TEXT, voice=trial.saved_voice)
    spoken(heard)


def live_unknown_voice(trial: Trial) -> None:
    trial.refused("live", "nobody", "error", "404", voice="nobody")


def live_marks(trial: Trial) -> None:
    (heard,) = trial.hear("live", MARKS)
    pause(heard)


def live_wrong_key(trial: Trial) -> None:
    trial.refused("live", "401", "403", key="wrong-key")


def check(trial: Trial) -> None:
    (heard,) = trial.hear("check", ".")
    pause(heard)


def extras(trial: Trial) -> None:
    seeded = {"seed": 7, "temperature": 0.5, "language": "en"}
    first, again = trial.hear("speak", TEXT, TEXT, extras=seeded)
    spoken(first)
    assert first.samples.tobytes() == again.samples.tobytes(), "the seed was not followed"


def asked_stream(trial: Trial) -> None:
    (heard,) = trial.hear("stream", LONG, extras={"stream": True})
    long_and_early(trial, heard)


def slash(trial: Trial) -> None:
    (heard,) = trial.hear("speak", TEXT, base="/v1/")
    spoken(heard)


def preflight(trial: Trial) -> None:
    told = trial.ask("preflight", origin=PAGE).told
    assert told["status"] == 200, f"the browser is answered {told['status']}"
    assert told["origin"] == PAGE
    assert {"cache-control", "content-type"} <= set(
        told["headers"].lower().replace(" ", "").split(",")
    )
    assert told["network"] == "true", "a page of another network is not let in"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that a client's users do."""

    does: Callable[[Trial], None]
    title: str
    """In the table of MDs/CLIENTS.md."""
    meaning: str
    """Below it."""
    keyless: bool = False
    """Tried with a server that asks for no key."""


LISTED = "told that the server is {}, it finds the saved voice; it sends no key with that"
EARLY = "the first audio comes while the rest is made"

SCENARIOS = {
    each.does.__name__: each
    for each in (
        Scenario(sentence, "a sentence", "in the default voice: speech, as long as it takes"),
        Scenario(stream, "a stream", f"four sentences; {EARLY}"),
        Scenario(two, "two in a row", "two sentences by the same client"),
        Scenario(voice, "a saved voice", "by its name, for Fish Audio's clients by its id"),
        Scenario(unknown_voice, "an unknown voice", "the client reports an error"),
        Scenario(marks, f"{MARKS} alone", "a moment of silence, no error"),
        Scenario(wrong_key, "a wrong key", "the client reports an error"),
        Scenario(events, "events", "a stream of server-sent events"),
        Scenario(formats, "formats", "each that the client can ask for, a whole file"),
        Scenario(lists, "lists", "of models and voices, as the client asks for them"),
        Scenario(lists_of_speaches, "lists of speaches", LISTED.format("speaches"), keyless=True),
        Scenario(lists_of_kokoro, "lists of Kokoro-FastAPI", LISTED.format("Kokoro-FastAPI")),
        Scenario(own_voice, "a voice of one's own", "made of a recording, heard, deleted"),
        Scenario(live, "live", f"four sentences as a language model writes them; {EARLY}"),
        Scenario(live_two, "two turns live", "one after the other, by the same client"),
        Scenario(live_kept, "a kept connection", "three turns, the last two over the first's"),
        Scenario(live_pause, "a pause live", "of more than SHOAL_LIVE_IDLE_S between two turns"),
        Scenario(live_break, "broken off live", "its user interrupts, and hears the next answer"),
        Scenario(live_voice, "a saved voice live", "by its id"),
        Scenario(live_unknown_voice, "an unknown voice live", "the client reports an error"),
        Scenario(live_marks, f"{MARKS} alone live", "a moment of silence, no error"),
        Scenario(live_wrong_key, "a wrong key live", "the client reports an error"),
        Scenario(check, "its check", "the full stop that its setup sends is answered"),
        Scenario(extras, "extras", "fields of other servers in its settings: a seed is followed"),
        Scenario(asked_stream, "a stream that is asked for", 'as a stream, with `"stream": true`'),
        Scenario(slash, "a slash too many", "a base URL that ends in a slash"),
        Scenario(preflight, "a preflight", "the browser may send what the page asks for"),
    )
}
