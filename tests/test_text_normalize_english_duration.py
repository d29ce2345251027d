"""What a letter after a number means."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("It takes 1h 20m to get there.", "It takes one hour twenty minutes to get there."),
    ("Wait 5m 30s, please.", "Wait five minutes thirty seconds, please."),
    ("1h20m of it", "one hour twenty minutes of it"),
    ("1h20 of it", "one hour twenty minutes of it"),
    ("1h 20m 30s", "one hour twenty minutes thirty seconds"),
    ("12h 05m", "twelve hours five minutes"),
    ("2d 4h and 3w 2d", "two days four hours and three weeks two days"),
    ("1s 200ms", "one second two hundred milliseconds"),
    ("1hr 20min", "one hour twenty minutes"),
    ("2 hrs 30 mins", "two hours thirty minutes"),
    ("1 h 5 min", "one hour five minutes"),
    ("a 5m 30s delay", "a five minutes thirty seconds delay"),
    ("5m, 30s", "five minutes thirty seconds"),
    ("2h of it", "two hours of it"),
    ("Two 747s landed.", "Two seven forty-sevens landed."),
    ("Many 404s and 501s", "Many four oh fours and five oh ones"),
    ("the 737s and 787s", "the seven thirty-sevens and seven eighty-sevens"),
    ("a 120s timeout", "a one hundred and twenty seconds timeout"),
    ("wait 125s", "wait one hundred and twenty-five seconds"),
    ("it took 45s", "it took forty-five seconds"),
    ("Wait 90s.", "Wait ninety seconds."),
    ("for 30s", "for thirty seconds"),
    ("within 60s", "within sixty seconds"),
    ("in the 90s", "in the nineties"),
    ("the 90s were good", "the nineties were good"),
    ("90s music", "nineties music"),
    ("in her 30s", "in her thirties"),
    ("early 20s and late 80s", "early twenties and late eighties"),
    ("the 1990s", "the nineteen nineties"),
    ("the '90s", "the nineties"),
    ("for 90s kids", "for nineties kids"),
    ("the 80s and 90s", "the eighties and nineties"),
    ("10s of thousands", "tens of thousands"),
    ("100s of people", "hundreds of people"),
    ("1000s of users", "thousands of users"),
    ("2.3m people live there.", "two point three million people live there."),
    ("1.5m new users", "one point five million new users"),
    ("5M users and 10M downloads", "five million users and ten million downloads"),
    ("2.5K views", "two point five thousand views"),
    ("a population of 2.3m", "a population of two point three million"),
    ("$2.3m", "two point three million dollars"),
    ("€1.5bn", "one point five billion euros"),
    ("7B parameters", "seven billion parameters"),
    ("30-40k users", "thirty to forty thousand users"),
    ("1.2bn people", "one point two billion people"),
    ("2bn", "two billion"),
    ("He is 5m tall.", "He is five meters tall."),
    ("5m away", "five meters away"),
    ("a 100m race", "a one hundred meter race"),
    ("5m of cable", "five meters of cable"),
    ("3m by 4m", "three meters by four meters"),
    ("10m", "ten meters"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
