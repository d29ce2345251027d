"""Signs between numbers and beside names."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("5-3=2", "five minus three equals two"),
    ("5 - 3 = 2", "five minus three equals two"),
    ("2x-3=7", "two x minus three equals seven"),
    ("10/2=5", "ten divided by two equals five"),
    ("1/2 = 0.5", "one half equals zero point five"),
    ("3*4=12", "three times four equals twelve"),
    ("2+2=4", "two plus two equals four"),
    ("-5-3=-8", "minus five minus three equals minus eight"),
    ("x = 5, y < 3", "x equals five, y is less than three"),
    ("p < 0.05", "p is less than zero point zero five"),
    ("k < j", "k is less than j"),
    ("x >= 5 and y <= 10", "x is at least five and y is at most ten"),
    ("x != 3", "x is not equal to three"),
    ("a -> b", "a to b"),
    ("2-1 win", "two to one win"),
    ("won 3-1", "won three to one"),
    ("pages 3-5 and 10–20", "pages three to five and ten to twenty"),
    ("pages 3 - 5", "pages three to five"),
    ("1990-2000", "nineteen ninety to two thousand"),
    ("50-50 chance", "fifty fifty chance"),
    ("20/20 vision", "twenty twenty vision"),
    ("a 3:2 ratio", "a three to two ratio"),
    ("16:9 and 1:100", "sixteen to nine and one to one hundred"),
    ("2:1:1", "two to one to one"),
    ("Read Genesis 1:1-3.", "Read Genesis one one to three."),
    ("John 3:16", "John three sixteen"),
    ("John 3:16-18", "John three sixteen to eighteen"),
    ("1 Corinthians 13:4–7", "First Corinthians thirteen four to seven"),
    ("2 Tim. 3:16", "Second Timothy three sixteen"),
    ("Ps. 23:1-4", "Psalm twenty-three one to four"),
    (
        "Genesis 1:1-3, John 3:16, 1 John 4:8",
        "Genesis one one to three, John three sixteen, First John four eight",
    ),
    ("Quran 2:255", "Quran two two hundred and fifty-five"),
    ("Read 1:1-3.", "Read one one to three."),
    ("10–20%", "ten to twenty percent"),
    ("10%-20%", "ten percent to twenty percent"),
    ("$5-10 and $5-$10", "five to ten dollars and five to ten dollars"),
    ("5-10 km", "five to ten kilometers"),
    ("5km-10km", "five kilometers to ten kilometers"),
    ("-5°C", "minus five degrees Celsius"),
    ("5°C-10°C", "five degrees Celsius to ten degrees Celsius"),
    (
        "1e-5 and 3.2e8",
        "one times ten to the power of minus five and three point two times ten to the "
        "power of eight",
    ),
    ("10^6 and x^2 and e^x", "ten to the power of six and x squared and e to the power of x"),
    ("α-helix and ΔT", "alpha-helix and delta T"),
    ("+5 and −5 and ±5", "plus five and minus five and plus or minus five"),
    ("a+b", "a plus b"),
    ("x-y and well-known", "x-y and well-known"),
    ("e-mail and T-shirt", "e-mail and T-shirt"),
    ("the C<word> tag", "the C<word> tag"),
    ("a - b", "a - b"),
    ("He said - and left.", "He said - and left."),
    ("–1 degree", "minus one degree"),
    ("40°42'46\"N", "forty degrees forty-two minutes forty-six seconds north"),
    ("40.7128° N", "forty point seven one two eight degrees north"),
    ("x ≥. y; a ≤ b; x→y", "x is at least. y; a is at most b; x to y"),
    ("Lakers vs. Celtics, 5 vs. 6", "Lakers versus Celtics, five versus six"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
