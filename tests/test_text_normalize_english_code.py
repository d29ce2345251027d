"""Numbers that are names."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("Call 5551234567.", "Call five five five, one two three, four five six seven."),
    ("Call 555.123.4567 now.", "Call five five five, one two three, four five six seven now."),
    ("Call (555) 123-4567.", "Call five five five, one two three, four five six seven."),
    ("Call 555-123-4567.", "Call five five five, one two three, four five six seven."),
    ("Call 555-1234 now.", "Call five five five, one two three four now."),
    ("Call 555 123 4567.", "Call five five five, one two three, four five six seven."),
    (
        "Call +1 (555) 123-4567.",
        "Call plus one, five five five, one two three, four five six seven.",
    ),
    ("Call +1-555-123-4567.", "Call plus one, five five five, one two three, four five six seven."),
    ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
    ("020 7946 0958", "zero two zero, seven nine four six, zero nine five eight"),
    ("(020) 7946 0958", "zero two zero, seven nine four six, zero nine five eight"),
    ("0800 123 456", "zero eight zero zero, one two three, four five six"),
    ("07911 123456", "zero seven nine one one, one two three four five six"),
    ("07911123456", "zero seven nine one one, one two three, four five six"),
    ("+33 1 23 45 67 89", "plus three three, one, two three, four five, six seven, eight nine"),
    ("01 23 45 67 89", "zero one, two three, four five, six seven, eight nine"),
    ("+91 98765 43210", "plus nine one, nine eight seven six five, four three two one zero"),
    ("1-800-555-1234", "one, eight zero zero, five five five, one two three four"),
    ("1-800-FLOWERS today", "one, eight zero zero, FLOWERS today"),
    ("Call 911 now.", "Call nine one one now."),
    ("Call 12 people.", "Call twelve people."),
    ("Text 12345 to win.", "Text one two three four five to win."),
    ("Tel: 555-1234 ext. 12", "Tel: five five five, one two three four extension twelve"),
    ("500-1000 words", "five hundred to one thousand words"),
    ("4111 1111 1111 1111", "four one one one, one one one one, one one one one, one one one one"),
    ("4111-1111-1111-1111", "four one one one, one one one one, one one one one, one one one one"),
    (
        "3782 822463 10005",
        "three seven eight two, eight two two four six three, one zero zero zero five",
    ),
    ("My id is 1234567890.", "My id is one two three, four five six, seven eight nine zero."),
    (
        "There are 1234567890 people.",
        "There are one billion two hundred and thirty-four million five hundred and "
        "sixty-seven thousand eight hundred and ninety people.",
    ),
    ("1000000000 of them", "one billion of them"),
    (
        "1234567 of them",
        "one million two hundred and thirty-four thousand five hundred and sixty-seven of them",
    ),
    ("Your PIN is 4821.", "Your PIN is four eight two one."),
    ("the code 123456", "the code one two three four five six"),
    ("Order #12345 shipped.", "Order one two three four five shipped."),
    ("62704-1234", "six two seven zero four, one two three four"),
    ("123-45-6789", "one two three, four five, six seven eight nine"),
    (
        "ISBN 978-3-16-148410-0",
        "ISBN nine seven eight, three, one six, one four eight four one zero, zero",
    ),
    ("ISBN 0-306-40615-X", "ISBN zero, three zero six, four zero six one five, X"),
    (
        "DE89 3704 0044 0532 0130 00",
        "D E eight nine, three seven zero four, zero zero four four, zero five three "
        "two, zero one three zero, zero zero",
    ),
    ("A Boeing 737-800 landed.", "A Boeing seven thirty-seven eight hundred landed."),
    ("an Airbus A320-200", "an Airbus A three twenty two hundred"),
    (
        "a 787-9 and a 777-300ER",
        "a seven eighty-seven nine and a seven seventy-seven three hundred E R",
    ),
    ("two Boeing 747-400s", "two Boeing seven forty-seven four hundreds"),
    ("Flight 747 and Room 101", "Flight seven forty-seven and Room one oh one"),
    ("v2.0.1 and v2", "version two point zero point one and version two"),
    (
        "v1.2.3-beta.1 and 2.0.0-rc1",
        "version one point two point three beta one and two point zero point zero R C one",
    ),
    ("Python 3.11 and 3.11.2", "Python three point eleven and three point eleven point two"),
    ("Ubuntu 22.04", "Ubuntu twenty-two point oh four"),
    ("iOS 17.2", "iOS seventeen point two"),
    ("version 1.10", "version one point ten"),
    (
        "192.168.0.1:8080",
        "one hundred and ninety-two point one hundred and sixty-eight point zero point "
        "one port eight thousand and eighty",
    ),
    ("802.11ac", "eight oh two point eleven a c"),
    ("H.264", "H point two sixty-four"),
    ("1080p and 720p", "ten eighty p and seven twenty p"),
    ("10-12-15", "ten, twelve, fifteen"),
    ("4-4-2", "four, four, two"),
    ("1.000.000 people", "one million people"),
    ("pages 3-5", "pages three to five"),
    ("3.14159", "three point one four one five nine"),
    ("+49 (0)30 123456", "plus four nine, zero, three zero, one two three four five six"),
    ("1300 123 456", "one three zero zero, one two three, four five six"),
    ("Text STOP to 12345", "Text STOP to one two three four five"),
    ("account 1234-5678", "account one two three four, five six seven eight"),
    ("Order 5000 units", "Order five thousand units"),
    ("10.0.0.1/24", "ten point zero point zero point one slash twenty-four"),
    ("a V8 engine", "a V eight engine"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
