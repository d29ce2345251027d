"""Takes of a Streamlit session: begin one, which is shown, which is still being spoken."""

from typing import Any

from streamlit.runtime.scriptrunner import get_script_run_ctx

from ui.desk import desk
from ui.notes import say_later
from ui.speaking.kept import Kept
from ui.speaking.speaker import LiveText
from ui.speaking.take import Take
from ui.speaking.wish import RECORDING, Unfinished, fields_of, order


def takes(kept: Kept) -> list[Take]:
    """This browser's, the newest first."""
    return desk().do(desk().process.shelf.of, kept.owner)


def shown(kept: Kept) -> Take | None:
    """The take to look at; the newest, where none was chosen."""
    if kept.shown is None:
        mine = takes(kept)
        kept.shown = mine[0].id if mine else ""
    return _mine(kept, kept.shown)


def at_work(kept: Kept) -> Take | None:
    """The take of this session that is being spoken."""
    take = _mine(kept, kept.working)
    return None if take is None or take.is_over else take


def begin(kept: Kept, said: Any, recording: bytes | None, transcript: str) -> None:
    """Have `said` spoken, a text or lines of a dialogue; what is missing is told on the page."""
    try:
        fields, audio = order(kept.settings, said, recording, transcript)
        take = desk().do(desk().process.speaker.begin, kept.owner, fields, audio)
    except Unfinished as error:
        say_later("speak", "problem", str(error))
        return
    except OSError as error:
        say_later("speak", "problem", f"The disk refuses: {error.strerror}.")
        return
    _attend(kept, take)


def say_line(kept: Kept, line: str) -> None:
    """Have one more line spoken at once, over the connection of the lines before if it is open."""
    if at_work(kept) is None or kept.live is None:
        if kept.settings["voice"] == RECORDING:
            told = "Lines are spoken in the default or in a saved voice: save the recording first."
            say_later("speak", "problem", told)
            return
        kept.live = LiveText()
        fields = fields_of(kept.settings) | {"text": line}
        try:
            take = desk().do(desk().process.speaker.begin_live, kept.owner, fields, kept.live)
        except OSError as error:
            say_later("speak", "problem", f"The disk refuses: {error.strerror}.")
            return
        _attend(kept, take)
    desk().do(kept.live.say, " ".join(line.split()))


def finish_lines(kept: Kept) -> None:
    """No line follows."""
    if kept.live is not None:
        desk().do(kept.live.finish)
        kept.live = None


def forget(kept: Kept) -> None:
    """Delete the take that is shown."""
    if (take := shown(kept)) is None:
        return
    desk().ask(desk().process.speaker.stop(take))
    desk().do(desk().process.shelf.remove, take)
    kept.shown = None


def _attend(kept: Kept, take: Take) -> None:
    kept.shown = kept.working = take.id
    kept.is_heard = True
    context = get_script_run_ctx()
    assert context is not None
    desk().watch(context.session_id, take)


def _mine(kept: Kept, take_id: str) -> Take | None:
    take = desk().do(desk().process.shelf.get, take_id)
    return take if take is not None and take.record.owner == kept.owner else None
