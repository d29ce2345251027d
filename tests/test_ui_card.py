"""The pre-flight card and the words of the pages: each verdict, each fact, each mend."""

from typing import Any

import pytest

from ui import words
from ui.speaking import card


def told(**changes: Any) -> dict[str, Any]:
    """What a new server tells of a text that fits."""
    estimate = {
        "estimated_mb": 120.0,
        "available_mb": 2048.0,
        "safe": True,
        "text_length": 10,
    }
    return {
        "status": "ok",
        "estimate": estimate,
        "sentences": 3,
        "expected_s": 4.0,
        "expected_audio_s": 8.0,
        "wait_s": 0.0,
        "speed": "measured",
        "text_limit": {"limit": 400, "is_truncated": False, "spoken_length": 10},
        **changes,
    }


def test_a_text_that_fits_and_everything_known_of_it() -> None:
    shown = card.card("x" * 10, told())
    assert '<div class="card ">' in shown and "Fits this machine." in shown
    for fact in (
        "<b>10</b> of 400 characters",
        "<span>3 sentences</span>",
        "<b>120 MB</b> of 2.0 GB",
    ):
        assert fact in shown
    assert "about <b>4.0 s</b> for 8.0 s of speech" in shown
    assert "<b>2.0 ×</b> faster than real time" in shown
    assert "waits" not in shown and "(expected)" not in shown


def test_one_sentence_is_one() -> None:
    assert "<span>1 sentence</span>" in card.card("x", told(sentences=1))


def test_a_slow_machine_that_was_not_measured() -> None:
    shown = card.card("x", told(expected_s=16.0, speed="expected"))
    assert "<b>2.0 ×</b> slower than real time (expected)" in shown


def test_no_pace_is_told_where_nothing_is_expected() -> None:
    assert "real time" not in card.card("x", told(expected_s=0.0))
    assert "real time" not in card.card("x", told(expected_audio_s=0.0))


@pytest.mark.parametrize(("wait_s", "is_told"), [(0.4, False), (0.5, True), (120.0, True)])
def test_a_wait_worth_telling(wait_s: float, is_told: bool) -> None:
    assert ("waits <b>" in card.card("x", told(wait_s=wait_s))) == is_told


def test_short_memory_comes_first_and_says_what_to_do() -> None:
    answer = told(recommendation="Shorten it to <b>.")
    answer["estimate"]["safe"] = False
    answer["text_limit"]["is_truncated"] = True
    shown = card.card("x", answer)
    assert 'class="card bad"' in shown
    assert "Memory is short for this. Shorten it to &lt;b&gt;." in shown
    del answer["recommendation"]
    assert "Memory is short for this.<" in card.card("x", answer)


def test_a_text_that_would_be_cut_off() -> None:
    limit = {"limit": 400, "is_truncated": True, "spoken_length": 1390}
    shown = card.card("x" * 2000, told(text_limit=limit))
    assert 'class="card warn"' in shown
    assert "Only the first 1,390 characters would be spoken." in shown
    assert "<b>2,000</b> of 400 characters" in shown


def test_an_older_server_tells_less() -> None:
    estimate = {"estimated_mb": 1.0, "available_mb": 5.0, "safe": True, "text_length": 900}
    shown = card.card("x" * 900, {"status": "ok", "estimate": estimate})
    assert "Fits this machine." in shown and "<b>900</b> characters" in shown
    assert "sentence" not in shown and "real time" not in shown
    shown = card.card("x" * 900, {"estimate": estimate, "text_limit": {"limit": 400}})
    assert "Longer than the 400 characters this machine speaks at once." in shown


def test_mends_are_the_fields_and_values_that_help() -> None:
    answer = told(
        mends=[
            {"field": "long_text", "value": "split", "reason": "r"},
            {"field": "force_cpu", "value": True, "reason": "r"},
        ]
    )
    assert card.mends(answer) == {"long_text": "split", "force_cpu": True}
    assert card.mends(told()) == {}
    assert set(card.MEND_LABELS) == {"long_text", "optimize_for_memory", "force_cpu"}


def test_cards_without_an_answer() -> None:
    assert "up to 1,200 characters" in card.empty_card(1200)
    assert "characters" not in card.empty_card(None)
    assert "&lt;script&gt;" in card.problem_card("<script>")
    assert card.counter(5, None) == "<b>5</b> characters"


# -- words ----------------------------------------------------------------------------------------


def test_fourteen_languages_and_automatic() -> None:
    codes = ["auto", "en", "zh", "ja", "ko", "fr", "de", "es", "pl", "ru", "it", "pt", "ar"]
    assert list(words.LANGUAGES) == [*codes, "hi", "tr"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.99, "10.0 s"),
        (10, "10 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("mb", "said"), [(0.2, "0 MB"), (999.4, "999 MB"), (1024, "1.0 GB"), (81_920, "80.0 GB")]
)
def test_sizes(mb: float, said: str) -> None:
    assert words.size(mb) == said


def test_counts() -> None:
    assert [words.count(n, "voice") for n in (0, 1, 1234)] == [
        "0 voices",
        "1 voice",
        "1,234 voices",
    ]


def test_every_source_of_a_choice_is_said_in_words() -> None:
    assert set(words.DECIDED_BY) == {"tier", "machine", "checkpoint", "measured", "user"}
