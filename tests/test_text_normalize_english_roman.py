"""Roman numerals, where what stands before them counts."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("Elizabeth II's reign was long.", "Elizabeth the second's reign was long."),
    ("Louis XIV of France", "Louis the fourteenth of France"),
    ("Henry VIII", "Henry the eighth"),
    ("Pope John Paul II", "Pope John Paul the second"),
    ("Charles III", "Charles the third"),
    ("King Charles I was beheaded.", "King Charles the first was beheaded."),
    ("Charles I of England", "Charles the first of England"),
    ("Charles I's reign", "Charles the first's reign"),
    ("Elizabeth I, the queen", "Elizabeth the first, the queen"),
    ("Charles I think", "Charles I think"),
    ("John Smith III", "John Smith the third"),
    ("World War II", "World War two"),
    ("World War I began.", "World War one began."),
    ("Chapter IV", "Chapter four"),
    ("Chapter XLII", "Chapter forty-two"),
    ("Chapters IV and V", "Chapters four and five"),
    ("Part II and Part III", "Part two and Part three"),
    ("Act III, Scene ii", "Act three, Scene two"),
    ("act iv, scene i.", "act four, scene one."),
    ("Super Bowl LVIII", "Super Bowl fifty-eight"),
    ("Rocky IV", "Rocky four"),
    ("Final Fantasy VII", "Final Fantasy seven"),
    ("Type II diabetes", "Type two diabetes"),
    ("Type I error", "Type one error"),
    ("the Mk II", "the Mark two"),
    ("phase III trial", "phase three trial"),
    ("Vatican II", "Vatican two"),
    ("the XIX century", "the nineteenth century"),
    ("MMXXIV and MCMXCIX", "twenty twenty-four and nineteen ninety-nine"),
    ("I, II and III", "one, two and three"),
    ("options I and II", "options one and two"),
    ("I. Intro\nII. Methods\nIII. Results", "one. Intro\ntwo. Methods\nthree. Results"),
    ("Malcolm X", "Malcolm X"),
    ("Part I wrote", "Part I wrote"),
    ("an IV drip", "an IV drip"),
    ("vitamin C, plan B", "vitamin C, plan B"),
    ("CD, DVD, XL, MIX, CIVIC", "CD, DVD, XL, MIX, CIVIC"),
    ("I and V and X", "I and V and X"),
    ("V for Vendetta", "V for Vendetta"),
    ("of type V, phase V", "of type V, phase five"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
