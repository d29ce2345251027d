"""Marks of references are not read; indices, lists and sounds stay."""

import pytest

from backend.text.normalize import normalize

CASES = [
    (
        "He died in 2000.[2][3] His wife survived him.",
        "He died in two thousand. His wife survived him.",
    ),
    ("It works.[2] Then we left.", "It works. Then we left."),
    ("Smith et al. found this [1].", "Smith and others found this."),
    ("as was seen before [1, 4–6].", "as was seen before."),
    ("It works [12]. Next.", "It works. Next."),
    ("It works[12], and so on.", "It works, and so on."),
    ("the city[2] was old", "the city was old"),
    ("in 2000[2] he left", "in two thousand he left"),
    ("“so it is”[4] he said", "“so it is” he said"),
    ("(1990)[2] he left", "(nineteen ninety) he left"),
    ("It works.[1][2][3]", "It works."),
    ("It works. [1] Then.", "It works. Then."),
    ("said.[1]. Next", "said. Next"),
    ("It works.[2]Then we left.", "It works. Then we left."),
    ("a claim[citation needed] that", "a claim that"),
    ("a claim[when?] that", "a claim that"),
    ("a note[note 1] here", "a note here"),
    ("a note[a] here", "a note[a] here"),
    ("a note[^1] here", "a note here"),
    ("a fact [1](https://en.wikipedia.org/wiki/X).", "a fact."),
    ("a fact [[1]](https://example.com/a) here", "a fact here"),
    ("a fact【4:0†source】.", "a fact."),
    ("it was.²³ Then", "it was. Then"),
    ("it works² well", "it works well"),
    ("As shown in [3], we go.", "As shown in reference three, we go."),
    ("See [4] for more.", "See reference four for more."),
    ("Lee [1] and [2] agree.", "Lee agree."),
    ("Lee [1], [2], [3] agree.", "Lee agree."),
    (
        "[1] Smith, J. A book.\n[2] Lee, K. A paper.",
        "one. Smith, J. A book.\ntwo. Lee, K. A paper.",
    ),
    ("[sighs] I am tired.", "[sighs] I am tired."),
    ("[laughs] [2] fine", "[laughs] fine"),
    ("a[2] is three", "a two is three"),
    ("items[0] is first", "items zero is first"),
    ("array[2] is third", "array two is third"),
    ("matrix[2][3] is", "matrix two three is"),
    ("self.items[3] is", "self.items three is"),
    ("The list is [1, 2, 3].", "The list is one, two, three."),
    ("The interval [0, 1] is closed.", "The interval zero, one is closed."),
    ("x = [1, 2]", "x equals one, two"),
    ("print([4, 5])", "print(four, five)"),
    ("the price [US$5] rose", "the price [five dollars] rose"),
    ("x² + y²", "x squared plus y squared"),
    ("10² = 100", "ten squared equals one hundred"),
    ("$foo[2] stays", "foo[two] stays"),
    ("[Chapter 3] begins", "[Chapter three] begins"),
    ("[12 March 2020]", "[the twelfth of March twenty twenty]"),
    ("see [1-3] and [5],[6]", "see references one to three and five and six"),
    ("He said [3]. [4] disagrees with it.", "He said. Reference four disagrees with it."),
    ("see ref. [3]", "see ref. three"),
    ("the value at index [1] is", "the value at index one is"),
    ("the C<${foo[2]}> syntax", "the C<{foo[two]}> syntax"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
