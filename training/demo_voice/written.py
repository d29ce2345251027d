"""More everyday sentences: figures as people write them, names, questions, long and short turns.

Figures are for `backend.text.normalize` to turn into words, as the server does.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from training.demo_voice import everyday_words as w
from training.demo_voice import names
from training.demo_voice.english import article, capital, plural
from training.demo_voice.everyday import Everyday

_LONG = range(150, 251)
_SHORT_WORDS = """Yes. No. Hello! Hi there. Thanks. Thank you. Please. Sorry? Okay. Sure. Maybe.
Wait! Stop! Look! Listen. Really? Why? When? Where? Who? What? How? Good. Great! Fine. Right. Wrong.
Exactly. Welcome! Goodbye. Bye! Cheers! Good morning! Good night. Good evening. Good afternoon.
See you. Come in. Go on. Not yet. Not now. Me too. So what? Who knows? Of course. All right. Well
done! Oh no! My pleasure. No problem. Never mind. One moment. Just a second. I see. I know. I agree.
I do. We can. You did. They will. She won't. He can't. Let's go. Let me see. That's it. That's all.
Excuse me. How much? How many? How far? What time? Which one? This one. Over there. Right here.
Hurry up! Calm down. Good luck! Take care. Sounds good. Makes sense. Fair enough. No way! Oh, I see.
Happy birthday! Be quiet. Be careful! Watch out! Help yourself. Keep going. Try again. Once more.
Next, please. Any questions? Is it? Are you? Did she? Will they? Don't. Won't you? Hmm. Ah. Oh.
Absolutely. Definitely. Perhaps. Certainly. Possibly. Never. Always. Sometimes. Today. Tomorrow.
Tonight. Monday. Later. Soon. Again? Ready? Done. Finished! Nothing. Everything. Someone. Nobody.
Here. There. Up. Down. Left. Right? Inside. Outside. First. Second. Last."""


class Written:
    """Draws sentences; everything follows from the generator given."""

    def __init__(self, rng: random.Random, words: Sequence[str]) -> None:
        self._rng, self._words = rng, words
        self._everyday = Everyday(rng, words)
        self._shorts = list(_split_turns(_SHORT_WORDS))

    def _pick(self, items: Sequence[str]) -> str:
        return self._rng.choice(items)

    def _endless(self, *makers: Callable[[], str]) -> Iterator[str]:
        while True:
            yield self._rng.choice(makers)()

    def figures(self) -> Iterator[str]:
        """Endlessly: dates, times, money, measures, numbers, as digits and signs."""
        return self._endless(
            self._date, self._time, self._money, self._measure, self._count, self._short_form
        )

    def people(self) -> Iterator[str]:
        """Endlessly: names of people and places."""
        return self._endless(self._person, self._place, self._meeting)

    def questions(self) -> Iterator[str]:
        """Endlessly."""
        return self._endless(self._asked, self._asked_who, self._asked_how, self._tag_question)

    def turns(self) -> Iterator[str]:
        """Endlessly: one to three words."""
        while True:
            word = self._pick(self._words)
            yield self._rng.choice(
                (
                    self._pick(self._shorts),
                    self._pick(self._shorts),
                    f"{capital(word)}{self._pick('....?!')}",
                    f"{self._pick(names.FIRST)}{self._pick('.?!')}",
                    f"{self._pick(('Hello', 'Thanks', 'Sorry', 'Yes', 'No'))}, "
                    f"{self._pick(names.FIRST)}.",
                    f"{capital(self._pick(w.ADJECTIVES))} {self._pick(w.NOUNS)}.",
                    f"The {self._pick(w.NOUNS)}{self._pick('.?!')}",
                    f"In {self._pick(names.PLACES)}.",
                )
            )

    def long(self) -> Iterator[str]:
        """Endlessly: one sentence of 150 to 250 characters, or two or three."""
        while True:
            text, wanted = self._long_start(), self._rng.choice(_LONG)
            while len(text) < wanted - 40:
                text += self._long_more()
            text += "."
            if len(text) in _LONG:
                yield text

    def _clause(self) -> str:
        return self._everyday.clause()

    def _name(self) -> str:
        kind = self._rng.random()
        if kind < 0.4:
            return self._pick(names.FIRST)
        if kind < 0.75:
            return f"{self._pick(names.FIRST)} {self._pick(names.LAST)}"
        return f"{self._pick(names.TITLES)} {self._pick(names.LAST)}"

    def _long_start(self) -> str:
        opener = f"{self._pick(w.OPENERS)}, " if self._rng.random() < 0.4 else ""
        return capital(opener + self._clause())

    def _long_more(self) -> str:
        things = [plural(self._pick(w.NOUNS)) for _ in range(self._rng.randint(3, 5))]
        listed = f"{', '.join(things[:-1])} and {things[-1]}"
        return self._rng.choice(
            (
                f", {self._pick(w.JOINERS)} {self._clause()}",
                f" {self._pick(w.JOINERS)} {self._clause()}",
                f"; {self._clause()}",
                f", as {self._name()} had {self._pick(('promised', 'feared', 'said'))}",
                f" {self._pick(w.TIMES)}, {self._pick(w.JOINERS)} {self._clause()}",
                f" with {listed}",
                f". {capital(self._clause())}",
                f", who {self._pick(w.WENT)} {self._pick(w.PLACES)}",
            )
        )

    def _date(self) -> str:
        month, day = self._pick(w.MONTHS), self._rng.randint(1, 28)
        year, short = self._rng.randint(1750, 2045), self._pick(w.MONTHS)[:3]
        return self._rng.choice(
            (
                f"{self._name()} was born on {month} {day}, {year}.",
                f"The {self._pick(w.EVENTS)} is on {day} {month} {year}.",
                f"From {year} to {year + self._rng.randint(1, 60)} they lived in "
                f"{self._pick(names.PLACES)}.",
                f"Please reply before {self._pick(w.DAYS)}, {short}. {day}.",
                f"It was built in the {self._rng.randint(180, 202)}0s.",
                f"We moved here on the {self._ordinal(day)} of {month}.",
            )
        )

    @staticmethod
    def _ordinal(number: int) -> str:
        ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"

    def _time(self) -> str:
        hour, minute = self._rng.randint(1, 12), self._rng.randint(0, 59)
        half = self._pick(("a.m.", "p.m.", "am", "pm"))
        return self._rng.choice(
            (
                f"The {self._pick(w.RIDES)} to {self._pick(names.PLACES)} leaves at "
                f"{hour}:{minute:02} {half}",
                f"Can we meet at {hour} {half} instead of {hour % 12 + 1}:{minute:02}?",
                f"Open {hour} {half} to {hour % 12 + 1} {half}, {self._pick(w.DAYS)} only.",
                f"At {self._rng.randint(13, 23)}:{minute:02} {self._clause()}.",
            )
        )

    def _money(self) -> str:
        sign, amount = self._pick("$$£€"), self._rng.randint(1, 999)
        cents = self._rng.randint(1, 99)
        return self._rng.choice(
            (
                f"{capital(article(self._pick(w.NOUNS)))} costs {sign}{amount}.{cents:02}.",
                f"{self._name()} paid {sign}{amount},{self._rng.randint(0, 999):03} for it.",
                f"That makes {sign}{amount}, please.",
                f"The budget grew to {sign}{amount % 90 + 1}.{cents % 9 + 1} "
                f"{self._pick(('million', 'billion'))}.",
                f"I still owe you {sign}{cents}.",
            )
        )

    def _measure(self) -> str:
        unit, number = self._pick(names.UNITS), self._rng.randint(2, 900)
        return self._rng.choice(
            (
                f"It is {number} {unit} from here.",
                f"{capital(self._pick(w.NOUNS))}: {number}.{self._rng.randint(1, 9)} {unit}.",
                f"{self._rng.randint(1, 99)}% of the {plural(self._pick(w.NOUNS))} were "
                f"{self._pick(w.ADJECTIVES)}.",
                f"It was {self._rng.randint(-20, 40)} degrees in {self._pick(names.PLACES)}.",
                f"Add 1/{self._pick('234')} of the {self._pick(w.NOUNS)}, then wait "
                f"{number % 50 + 2} min.",
            )
        )

    def _count(self) -> str:
        number = self._rng.choice((self._rng.randint(0, 120), self._rng.randint(100, 99_999)))
        digits = "-".join(f"{self._rng.randint(100, 999)}" for _ in range(2))
        return self._rng.choice(
            (
                f"We counted {number:,} {plural(self._pick(w.NOUNS))}.",
                f"{self._name()} finished {self._ordinal(number % 40 + 1)} out of {number:,}.",
                f"Call 555-{digits} {self._pick(w.TIMES)}.",
                f"Room {number % 900 + 1} is on the {self._ordinal(number % 12 + 1)} floor.",
                f"Version {number % 12}.{self._rng.randint(0, 20)} is out.",
                f"The score was {self._rng.randint(0, 9)} to {self._rng.randint(0, 9)}.",
                f"Chapter {number % 40 + 1}, page {number % 700 + 1}.",
            )
        )

    def _short_form(self) -> str:
        form, letter = self._pick(names.SHORT_FORMS), self._pick("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        return self._rng.choice(
            (
                f"The {form} is {self._pick(w.ADJECTIVES)} {self._pick(w.TIMES)}.",
                f"{self._name()} works for the {form} in {self._pick(names.PLACES)}.",
                f"What does {form} stand for?",
                f"Take bus {letter}{self._rng.randint(1, 99)} to gate {letter}.",
                f"{self._pick(names.FIRST)} {letter}. {self._pick(names.LAST)} wrote it.",
                f"Bring food, drinks, etc., and your {form}.",
                f"The letter {letter} comes {self._pick(('first', 'last', 'next'))}.",
                f"Plan {letter} is better than plan {self._pick('ABCDE')}.",
            )
        )

    def _person(self) -> str:
        return self._rng.choice(
            (
                f"{self._name()} {self._pick(w.DID)} {self._name()}'s {self._pick(w.NOUNS)}.",
                f"This is {self._name()} speaking.",
                f"{self._name()} and {self._name()} {self._pick(w.WENT)} {self._pick(w.PLACES)}.",
                f"Give it to {self._name()}, not to {self._name()}.",
                f"Dear {self._name()}, thank you for the {self._pick(w.NOUNS)}.",
                f'"{capital(self._pick(w.TASKS))}," said {self._name()}.',
            )
        )

    def _place(self) -> str:
        return self._rng.choice(
            (
                f"{self._name()} moved from {self._pick(names.PLACES)} to "
                f"{self._pick(names.PLACES)}.",
                f"The weather in {self._pick(names.PLACES)} is {self._pick(w.WEATHERS)}.",
                f"{self._pick(names.PLACES)}, {self._pick(names.PLACES)} and "
                f"{self._pick(names.PLACES)} are {self._pick(w.ADJECTIVES)}.",
                f"They opened {article(self._pick(w.NOUNS))} in {self._pick(names.PLACES)}.",
            )
        )

    def _meeting(self) -> str:
        return (
            f"{self._name()} will meet {self._name()} in {self._pick(names.PLACES)} "
            f"on {self._pick(w.DAYS)}."
        )

    def _asked(self) -> str:
        who, task = self._pick(("you", "we", "they", "I")), self._pick(w.TASKS)
        start = self._pick(("Do", "Did", "Will", "Could", "Should", "Would", "Can", "Don't"))
        return f"{start} {who} {task} {self._pick(w.TIMES)}?"

    def _asked_who(self) -> str:
        noun, adjective = self._pick(w.NOUNS), self._pick(w.ADJECTIVES)
        return self._rng.choice(
            (
                f"Who {self._pick(w.DID)} my {adjective} {noun}?",
                f"Which {noun} did {self._name()} like?",
                f"Whose {noun} is this?",
                f"Is {self._name()} {self._pick(w.PLACES)}?",
                f"Was the {noun} {adjective} or {self._pick(w.ADJECTIVES)}?",
                f"Have you ever been to {self._pick(names.PLACES)}?",
                f"Where in {self._pick(names.PLACES)} is the {noun}?",
            )
        )

    def _asked_how(self) -> str:
        noun = self._pick(w.NOUNS)
        return self._rng.choice(
            (
                f"How {self._pick(w.ADJECTIVES)} is the {noun}?",
                f"How do you {self._pick(w.TASKS)}?",
                f"Why is the {noun} so {self._pick(w.ADJECTIVES)}?",
                f"When does the {self._pick(w.EVENTS)} start?",
                f"What happened to {self._name()}'s {noun}?",
                f"What if {self._clause()}?",
            )
        )

    def _tag_question(self) -> str:
        return self._rng.choice(
            (
                f"The {self._pick(w.NOUNS)} is {self._pick(w.ADJECTIVES)}, isn't it?",
                f"You can {self._pick(w.TASKS)}, can't you?",
                f"{capital(self._clause())}, right?",
                f"{self._name()} won't {self._pick(w.TASKS)}, will they?",
            )
        )


def _split_turns(text: str) -> Iterator[str]:
    """Turns apart at their marks."""
    turn = ""
    for word in text.split():
        turn = f"{turn} {word}".strip()
        if word[-1] in ".!?":
            yield turn
            turn = ""
