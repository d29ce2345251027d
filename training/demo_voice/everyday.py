"""Everyday sentences from templates of our own: speech of short, middling and long turns."""

import random
from collections.abc import Callable, Iterator, Sequence

from training.demo_voice import everyday_words as w
from training.demo_voice.english import article, capital, plural

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Everyday:
    """Draws sentences; everything follows from the generator given."""

    def __init__(self, rng: random.Random, words: Sequence[str]) -> None:
        self._rng = rng
        self._words = words
        self._middling: tuple[Callable[[], str], ...] = (
            self._action, self._action, self._scene, self._request, self._description,
            self._question, self._date, self._clock, self._weather, self._travel, self._price,
            self._digits, self._spelling, self._dialogue, self._direction, self._comparison,
            self._report, self._counting, self._words_sentence, self._condition,
        )  # fmt: skip

    def sentences(self) -> Iterator[str]:
        """Endlessly: about a quarter short (5 to 30 characters), a sixth long (110 and more)."""
        while True:
            kind = self._rng.random()
            if kind < 0.26:
                yield self.short()
            elif kind < 0.84:
                yield self.middling()
            else:
                yield self.long()

    def _pick(self, items: Sequence[str]) -> str:
        return self._rng.choice(items)

    def _one_of(self, *items: str) -> str:
        return self._rng.choice(items)

    def _noun_phrase(self) -> str:
        noun = self._pick(w.NOUNS)
        if self._rng.random() < 0.45:
            noun = f"{self._pick(w.ADJECTIVES)} {noun}"
        kind = self._rng.random()
        if kind < 0.4:
            return f"the {noun}"
        return article(noun) if kind < 0.7 else f"{self._pick(w.OWN)} {noun}"

    def _number(self) -> str:
        """A number below a few thousand in words."""
        kind = self._rng.random()
        unit, tens = self._pick(w.UNITS), self._pick(w.TENS)
        if kind < 0.3:
            return self._pick(w.UNITS[1:])
        if kind < 0.5:
            return self._pick(w.TEENS)
        if kind < 0.6:
            return tens
        if kind < 0.8:
            return f"{tens}-{unit}"
        if kind < 0.93:
            return f"{unit} hundred and {self._pick(w.TEENS + w.TENS)}"
        return f"{unit} thousand {self._pick(w.UNITS)} hundred"

    def _time(self) -> str:
        hour = self._pick(w.UNITS + w.TEENS[:3])
        return self._one_of(
            f"{hour} o'clock", f"half past {hour}", f"a quarter to {hour}",
            f"a quarter past {hour}", f"{hour} {self._pick(w.TENS[:4])}",
            f"{self._pick(w.TEENS)} minutes past {hour}", f"ten to {hour}",
            f"{self._rng.randint(1, 12)}:{self._rng.randint(10, 59)}", f"exactly {hour}",
        )  # fmt: skip

    def clause(self) -> str:
        """A past-tense clause without capital or full stop."""
        who = self._pick(w.PEOPLE + w.NAMES) if self._rng.random() < 0.8 else self._noun_phrase()
        kind = self._rng.random()
        if kind < 0.3:
            return f"{who} {self._pick(w.WENT)} {self._pick(w.PLACES)}"
        if kind < 0.75:
            return f"{who} {self._pick(w.DID)} {self._noun_phrase()}"
        if kind < 0.88:
            return f"{self._noun_phrase()} was {self._pick(w.HOW)} {self._pick(w.ADJECTIVES)}"
        return f"{who} had to {self._pick(w.TASKS)}"

    def short(self) -> str:
        """A greeting, reply, order or other turn of a few words."""
        name, adjective, noun = (self._pick(x) for x in (w.NAMES, w.ADJECTIVES, w.NOUNS))
        end = self._pick((".", ".", "!", "?"))
        return self._one_of(
            self._pick(w.REPLIES) + end,
            f"{self._pick(w.REPLIES)}, {name}{end}",
            f"{self._pick(w.REPLIES)}, {self._pick(w.REPLIES).lower()}.".replace("i'", "I'"),
            f"{self._pick(w.GREETINGS)}, {name}{end}",
            f"{capital(self._pick(w.TASKS))}{end}",
            f"{self._pick(('Please', 'Never', 'Always', 'Now'))} {self._pick(w.TASKS)}.",
            f"I am {self._pick(w.FEELINGS)}{end}", f"Are you {self._pick(w.FEELINGS)}?",
            f"{capital(adjective)} {noun}{end}", f"The {noun} is {adjective}.",
            f"{capital(article(noun))}{end}", f"{capital(self._number())}{end}",
            f"What {article(adjective)} {noun}!", f"Where is the {noun}?",
            f"It is {self._time()}.", f"{self._pick(w.DAYS)}, {self._pick(w.TIMES)}.",
            f"{capital(self._pick(w.PLACES))}{end}", f"{name} {self._pick(w.WENT)}.",
            f"{name} and {self._pick(w.NAMES)}{end}", f"{capital(self._pick(self._words))}{end}",
            f"{capital(self._pick(self._words))} {self._pick(self._words)}{end}",
            f"{self._rng.randint(0, 9999)}{end}", f"{self._pick(w.CITIES)}, {self._pick(w.TIMES)}.",
            f"Who {self._pick(w.DID)} the {noun}?", f"My {noun}!", f"This is {name}.",
        )  # fmt: skip

    def middling(self) -> str:
        """One sentence of ordinary length."""
        return self._rng.choice(self._middling)()

    def long(self) -> str:
        """Two to four clauses or sentences joined as a story or a conversation would."""
        kind = self._rng.random()
        if kind < 0.4:
            parts = [self.clause()]
            for _ in range(self._rng.randint(2, 4)):
                parts.append(f"{self._pick(w.JOINERS)} {self.clause()}")
            return capital(", ".join(parts)) + "."
        if kind < 0.6:
            return f"{self._pick(w.OPENERS)}, {self.clause()}. {self.middling()} {self.middling()}"
        return " ".join(self.middling() for _ in range(self._rng.randint(2, 3)))

    def _action(self) -> str:
        when = f" {self._pick(w.TIMES)}" if self._rng.random() < 0.5 else ""
        opener = f"{self._pick(w.OPENERS)}, " if self._rng.random() < 0.15 else ""
        return capital(f"{opener}{self.clause()}{when}.")

    def _scene(self) -> str:
        number, noun, adjective = self._number(), self._pick(w.NOUNS), self._pick(w.ADJECTIVES)
        return self._one_of(
            f"There are {number} {adjective} {plural(noun)} {self._pick(w.PLACES)}.",
            f"{capital(self._noun_phrase())} {self._pick(w.PLACES)} {self._pick(w.BE)} "
            f"{self._pick(w.HOW)} {adjective}.",
            f"{capital(adjective)} {plural(noun)} {self._pick(w.OFTEN)} need "
            f"{self._pick(w.ADJECTIVES)} {plural(self._pick(w.NOUNS))}.",
        )

    def _request(self) -> str:
        task, name = self._pick(w.TASKS), self._pick(w.NAMES)
        start = self._pick(("Could you please", "Can you show me how to", "I would like to",
                            "Do you want to", "Let's", "You should", "We might",
                            "Would it be possible to", "I forgot to", "May I"))  # fmt: skip
        end = "?" if start[0] in "CDWM" and start != "We might" else "."
        tail = self._pick((f", {name}", f" {self._pick(w.TIMES)}", f" with {name}", ""))
        return f"{start} {task}{tail}{end}"

    def _description(self) -> str:
        return (f"{capital(self._noun_phrase())} {self._pick(w.BE)} {self._pick(w.ADJECTIVES)}, "
                f"{self._pick(('but', 'and', 'yet'))} {self._noun_phrase()} "
                f"{self._pick(w.BE)} {self._pick(w.ADJECTIVES)}.")  # fmt: skip

    def _question(self) -> str:
        noun, name = self._pick(w.NOUNS), self._pick(w.NAMES)
        return self._one_of(
            f"Why did {name} {self._pick(w.TASKS)} {self._pick(w.TIMES)}?",
            f"What kind of {noun} would you like, {name}?",
            f"Where did you find {self._noun_phrase()}, {name}?",
            f"How many {plural(noun)} do we need {self._pick(w.TIMES)}?",
            f"Who told {name} about {self._noun_phrase()}?",
            f"Isn't {self._noun_phrase()} too {self._pick(w.ADJECTIVES)} for {name}?",
            f"When will {name} come back from {self._pick(w.CITIES)}?",
        )

    def _date(self) -> str:
        month, day = self._pick(w.MONTHS), self._pick(w.ORDINALS)
        year = self._rng.randint(1700, 2040)
        return self._one_of(
            f"Today is {self._pick(w.DAYS)}, the {day} of {month}.",
            f"{month} {self._rng.randint(1, 31)}, {year}, was "
            f"{article(self._pick(w.ADJECTIVES))} day for {self._pick(w.NAMES)}.",
            f"{self._pick(w.NAMES)} was born on the {day} of {month} in {year}.",
            f"My birthday is on {month} {day}, {self._pick(w.TIMES)}.",
        )

    def _clock(self) -> str:
        thing = self._pick(w.EVENTS)
        return self._one_of(
            f"The {thing} on {self._pick(w.DAYS)} starts at {self._time()}.",
            f"We will meet at {self._time()} {self._pick(w.PLACES)}.",
            f"The {self._pick(w.RIDES)} to {self._pick(w.CITIES)} leaves at {self._time()}.",
            f"It was almost {self._time()} when {self.clause()}.",
        )

    def _weather(self) -> str:
        one, two = self._pick(w.WEATHERS), self._pick(w.WEATHERS)
        return self._one_of(
            f"The weather in {self._pick(w.CITIES)} is {one} {self._pick(w.TIMES)}.",
            f"It will be {one} on {self._pick(w.DAYS)} and {two} on {self._pick(w.DAYS)}.",
            f"In {self._pick(w.MONTHS)} it is usually {one} in {self._pick(w.COUNTRIES)}.",
            f"{capital(one)} mornings, {two} evenings, {self._rng.randint(-9, 40)} degrees.",
        )

    def _travel(self) -> str:
        ride, city = self._pick(w.RIDES), self._pick(w.CITIES)
        return (f"{capital(self._pick(w.PEOPLE))} traveled from {city} to "
                f"{self._pick(w.CITIES + w.COUNTRIES)} by {ride}, and it took "
                f"{self._number()} {self._pick(('hours', 'days', 'minutes'))}.")  # fmt: skip

    def _price(self) -> str:
        cost = self._pick((self._number(), str(self._rng.randint(2, 2000))))
        return self._one_of(
            f"{capital(self._noun_phrase())} costs {cost} {self._pick(w.MONEY)}.",
            f"I paid {cost} {self._pick(w.MONEY)} for {self._noun_phrase()}.",
            f"That will be {cost} {self._pick(w.MONEY)}, please.",
        )

    def _digits(self) -> str:
        digits = " ".join(self._pick((*w.UNITS, "zero")) for _ in range(self._rng.randint(5, 8)))
        number = self._rng.randint(2, 9999)
        return self._one_of(
            f"My phone number is {digits}.", f"Dial {digits} {self._pick(w.TIMES)}.",
            f"Please turn to page {number}, chapter {self._rng.randint(1, 60)}.",
            f"Flight {number} to {self._pick(w.CITIES)} is at gate {self._rng.randint(1, 80)}.",
            f"{number} people live near {self._noun_phrase()}.",
            f"The answer is {self._rng.randint(0, 99)}.{self._rng.randint(1, 99)}, not {number}.",
        )  # fmt: skip

    def _spelling(self) -> str:
        word = self._pick(self._words)
        letters = "-".join(word[:8].upper())
        start = self._rng.randint(0, 20)
        alphabet = ", ".join(_ALPHABET[start : start + self._rng.randint(3, 9)])
        return self._one_of(
            f"The word {word[:8]} is spelled {letters}.",
            f"{letters} spells {word[:8]}.",
            f"{alphabet}, says {self._pick(w.NAMES)}.",
            f"The letters {alphabet} are {self._pick(w.PLACES)}.",
        )

    def _dialogue(self) -> str:
        quote = self._rng.choice((self.short, self._request, self._action))()
        said, name = self._pick(w.SAID), self._pick(w.NAMES)
        if quote.endswith("."):
            quote = quote[:-1] + ","
        return self._one_of(
            f'"{quote}" {said} {name}.',
            f'{name} {said}, "{quote[:-1]}{"." if quote[-1] == "," else quote[-1]}"',
            f'"{quote}" {said} the {self._pick(w.NOUNS)} {self._pick(w.PLACES)}.',
        )  # fmt: skip

    def _direction(self) -> str:
        side, other = self._pick(w.SIDES), self._pick(w.SIDES)
        return self._one_of(
            f"Turn {side} at the {self._pick(w.NOUNS)}, then take the {self._pick(w.ORDINALS)} "
            f"street on the {other}.",
            f"Go straight for {self._number()} {self._pick(('blocks', 'miles', 'meters'))}, and "
            f"you will see the {self._pick(w.NOUNS)} on your {side}.",
            f"The {self._pick(w.NOUNS)} is {self._pick(w.PLACES)}, just past the "
            f"{self._pick(w.ADJECTIVES)} {self._pick(w.NOUNS)}.",
        )

    def _comparison(self) -> str:
        one, two = self._pick(w.NOUNS), self._pick(w.NOUNS)
        return self._one_of(
            f"Which {one} is better, the {self._pick(w.ADJECTIVES)} one or the other?",
            f"{capital(article(one))} is not as {self._pick(w.ADJECTIVES)} as {article(two)}.",
            f"I prefer {plural(one)} to {plural(two)}, don't you?",
        )

    def _report(self) -> str:
        return f"{self._pick(w.NAMES)} {self._pick(w.THOUGHT)} that {self.clause()}."

    def _counting(self) -> str:
        return self._one_of(
            f"{capital(self._number())} {self._pick(w.MEASURES)} is "
            f"{self._pick(('more', 'less', 'better', 'worse'))} than {self._number()}.",
            ", ".join(self._number() for _ in range(self._rng.randint(3, 6))).capitalize() + ".",
            f"{capital(self._number())} plus {self._number()} makes {self._number()}.",
            f"She needs {self._number()} {plural(self._pick(w.NOUNS))} and {self._number()} "
            f"{plural(self._pick(w.NOUNS))}.",
        )

    def _words_sentence(self) -> str:
        one, two = self._pick(self._words), self._pick(self._words)
        return self._one_of(
            f"Say {one} again, and then say {two}.",
            f"The word {one} comes before {two}.",
            f"{capital(one)} and {two} are words that {self._pick(w.NAMES)} knew.",
        )

    def _condition(self) -> str:
        return self._one_of(
            f"If you {self._pick(w.TASKS)}, you will be {self._pick(w.FEELINGS)}.",
            f"{capital(self.clause())} {self._pick(w.JOINERS)} {self.clause()}.",
            f"I'm {self._pick(w.FEELINGS)} because {self.clause()}.",
            f"You can't {self._pick(w.TASKS)} without {article(self._pick(w.NOUNS))}.",
        )
