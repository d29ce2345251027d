"""Times of day with zones and spans."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("at 10:30 a.m. EST", "at ten thirty AM EST"),
    ("at 10:30 a.m. EST. Then", "at ten thirty AM EST. Then"),
    ("at 10:30 EST. Then", "at ten thirty EST. Then"),
    ("at 14:05 UTC", "at fourteen oh five UTC"),
    ("at 5 pm PST", "at five PM PST"),
    ("6-8 pm", "six to eight PM"),
    ("6–8:30 pm", "six to eight thirty PM"),
    ("10am-2pm", "ten AM to two PM"),
    ("10 am - 2 pm", "ten AM to two PM"),
    ("9:30-10:30 a.m.", "nine thirty to ten thirty AM."),
    ("12:00-13:00", "twelve o'clock to thirteen hundred"),
    ("from 9 to 5", "from nine to five"),
    ("UTC+2 and GMT-5", "UTC plus two and GMT minus five"),
    ("UTC+05:30", "UTC plus five thirty"),
    (
        "2024-03-05T15:45:00Z",
        "March fifth, twenty twenty-four at fifteen forty-five and zero seconds UTC",
    ),
    (
        "2024-03-05T15:45:00+02:00",
        "March fifth, twenty twenty-four at fifteen forty-five and zero seconds UTC plus two",
    ),
    (
        "2024-03-05T15:45:00.123Z",
        "March fifth, twenty twenty-four at fifteen forty-five and zero point one two "
        "three seconds UTC",
    ),
    ("10.30am", "ten thirty AM"),
    ("1430 hours and 0800 hours", "fourteen thirty hours and oh eight hundred hours"),
    ("3:30", "three thirty"),
    ("7:05 PM", "seven oh five PM"),
    ("12 noon", "twelve noon"),
    ("5 o'clock", "five o'clock"),
    ("I am 5.", "I am five."),
    ("Jan 5-7, 2024", "January fifth to seventh, twenty twenty-four"),
    ("May 3-5", "May third to fifth"),
    ("5-7 January", "the fifth to the seventh of January"),
    ("12/25/24", "December twenty-fifth, twenty twenty-four"),
    ("on 3/4 we met", "on March fourth we met"),
    ("on Monday, 3/4", "on Monday, March fourth"),
    ("3/4 of it", "three quarters of it"),
    ("Mon. 5 Jan. 2024", "Monday the fifth of January twenty twenty-four"),
    ("Mon-Fri", "Monday to Friday"),
    ("2020/21 season", "twenty twenty twenty-one season"),
    ("FY2024", "FY twenty twenty-four"),
    ("the class of '24", "the class of twenty-four"),
    ("the '00s", "the two thousands"),
    ("mid-1980s", "mid-nineteen eighties"),
    ("1980s-1990s", "nineteen eighties to nineteen nineties"),
    ("1939-45", "nineteen thirty-nine to forty-five"),
    ("Mon 9am", "Monday nine AM"),
    ("2000/1/1", "January first, two thousand"),
    ("the 19th-20th centuries", "the nineteenth to twentieth centuries"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
