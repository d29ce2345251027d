import pytest

from backend.text.markers import is_marked


@pytest.mark.parametrize(
    "text",
    [
        "(whispering) Come here.",
        "(in a hurry tone) We are late!",
        "[angry] Go away.",
        '"(sad)(soft tone) I know," she said.',
        "He said it (shouting) again.",
        "That was good. (laughing) Ha, ha.",
        "(very excited) Look!",
    ],
)
def test_a_marker_is_found(text: str) -> None:
    assert is_marked(text)


@pytest.mark.parametrize(
    "text",
    [
        "He came (late, as always) and left.",
        "See the table (page three).",
        "(1) The first of them.",
        "(See below.) It is so.",
        "Nothing here.",
        "(",
        "(a" * 1000,
        "(" + "a " * 5000,
        "",
    ],
)
def test_other_brackets_are_none(text: str) -> None:
    assert not is_marked(text)
