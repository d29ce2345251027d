"""Thousands are kept apart in many ways."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("About 10 000 people came.", "About ten thousand people came."),
    (
        "The town has 12 345 inhabitants.",
        "The town has twelve thousand three hundred and forty-five inhabitants.",
    ),
    ("10\xa0000 and 10\u202f000 and 10\u2009000", "ten thousand and ten thousand and ten thousand"),
    (
        "1\u202f234\u202f567.50",
        "one million two hundred and thirty-four thousand five hundred and sixty-seven "
        "point five zero",
    ),
    ("₹1,00,000 is a lakh.", "one hundred thousand rupees is a lakh."),
    (
        "12,34,567 of them",
        "one million two hundred and thirty-four thousand five hundred and sixty-seven of them",
    ),
    ("1,00,00,000 rupees", "ten million rupees"),
    ("CHF 1'000", "one thousand Swiss francs"),
    (
        "1’234’567 francs",
        "one million two hundred and thirty-four thousand five hundred and sixty-seven francs",
    ),
    ("1_000_000 rows", "one million rows"),
    ("€10 000", "ten thousand euros"),
    ("5 000 km", "five thousand kilometers"),
    ("1 000 000 of them", "one million of them"),
    ("from 10 000 to 20 000.", "from ten thousand to twenty thousand."),
    ("10 000-20 000 people", "ten thousand to twenty thousand people"),
    ("10 000–20 000 people", "ten thousand to twenty thousand people"),
    ("1 250 inhabitants", "one thousand two hundred and fifty inhabitants"),
    ("10 000.50", "ten thousand point five zero"),
    ("₹5 lakh and ₹2 crore", "five lakh rupees and two crore rupees"),
    ("Rs. 500 and Rs 1,00,000", "five hundred rupees and one hundred thousand rupees"),
    ("On May 5 300 people came.", "On May fifth three hundred people came."),
    ("Room 12 345", "Room twelve three hundred and forty-five"),
    ("Apollo 8 300 km up", "Apollo eight three hundred kilometers up"),
    ("in 2024 300 people", "in twenty twenty-four three hundred people"),
    ("3, 100 and 5", "three, one hundred and five"),
    ("100 200 300", "one hundred two hundred three hundred"),
    ("1,234,567", "one million two hundred and thirty-four thousand five hundred and sixty-seven"),
    ("snake_100_200", "snake_one hundred_two hundred"),
    ("5'11\"", "five feet eleven"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
