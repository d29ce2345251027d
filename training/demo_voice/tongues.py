"""Made-up languages: what a recording to be followed may say that English never does.

A speaker of one has sounds, spelling and rhythm of its own: each English sound is always replaced
by the same other one, out of all that the teacher knows, and each letter by another of some script.
The voice stays the speaker's, and the model hears and reads what it does not understand.
"""

import itertools
import random
from dataclasses import dataclass

# Kokoro's ids: those of English first, in both.
_VOWELS = bytes((83, 102, 51, 72, 86, 138, 76, 69, 63, 42, 70, 87, 177, 135, 24, 25, 31, 39, 41))
_CONSONANTS = bytes(
    (123, 56, 62, 61, 46, 54, 53, 68, 55, 81, 58, 48, 65, 44, 64, 50, 36, 112, 92, 52, 131, 82, 119,
     133, 147)
)  # fmt: skip
_OTHER_VOWELS = bytes((43, 47, 57, 67, 71, 101, 110, 116, 120, 140))
"""a e o y ɒ ɨ ɯ ø œ ɤ."""
_OTHER_CONSONANTS = bytes(
    (20, 21, 45, 59, 60, 66, 75, 77, 78, 90, 99, 103, 113, 114, 118, 125, 128, 130, 132, 136, 139,
     142, 143, 148)
)  # fmt: skip
"""ʦ ʨ c q r x β ɕ ç ɟ ɥ ʝ ɳ ɲ ɸ ɾ ʁ ʂ ʈ ʋ ɣ χ ʎ ʔ."""
_SPACE, _STRESS, _LONG = b"\x10", b"\x9c", b"\x9e"
_ANY_VOWEL = frozenset(_VOWELS + _OTHER_VOWELS)

_LATIN = "abcdefghijklmnopqrstuvwxyz"
_ACCENTED = "áàâäãåæçčćďéèêëęíîïłñńóòôöõøřšśßťúùûüýžź"
_SCRIPTS = (
    _LATIN,
    _ACCENTED,
    "абвгдежзийклмнопрстуфхцчшщыьэюяё",
    "αβγδεζηθικλμνξοπρστυφχψωάέίόύώ",
)
_PLAIN = 0.7
"""Share of the letters that stay plain where a language has accents: so it is in Europe."""


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language that nobody speaks."""

    sounds: bytes
    """What each of Kokoro's 256 ids becomes."""
    letters: dict[int, str]
    """What small letters become, as `str.translate` takes it."""
    long_share: float
    """Of the stressed syllables, how many are long."""

    def say(self, text: str, phonemes: bytes, rng: random.Random) -> tuple[str, bytes]:
        """A line of English, its words in another order, as this language has it."""
        words, said = text.lower().split(" "), phonemes.split(_SPACE)
        if len(words) == len(said):
            order = rng.sample(range(len(words)), len(words))
            words, said = [words[i] for i in order], [said[i] for i in order]
        heard = bytearray()
        for sound in _SPACE.join(said).translate(self.sounds):
            heard.append(sound)
            is_stressed = sound in _ANY_VOWEL and heard[-2:-1] == _STRESS
            if is_stressed and rng.random() < self.long_share:
                heard += _LONG
        written = " ".join(words).translate(self.letters)
        return written[:1].upper() + written[1:], bytes(heard)


def tongue(seed: str) -> Tongue:
    """The language that grows from any word."""
    rng = random.Random(f"tongue/{seed}")
    vowels = rng.sample(_VOWELS[:10] + _OTHER_VOWELS, rng.randint(5, 9))
    consonants = rng.sample(_CONSONANTS + 2 * _OTHER_CONSONANTS, rng.randint(14, 22))
    sounds = bytearray(range(256))
    for english, own in ((_VOWELS, vowels), (_CONSONANTS, consonants)):
        for sound, other in zip(english, itertools.cycle(own)):
            sounds[sound] = other
    script = rng.choice(_SCRIPTS)
    letters = rng.sample(script, len(_LATIN))
    if script is _ACCENTED:
        plain = rng.sample(_LATIN, len(_LATIN))
        letters = [p if rng.random() < _PLAIN else q for p, q in zip(plain, letters, strict=True)]
    spelled = {ord(english): other for english, other in zip(_LATIN, letters, strict=True)}
    return Tongue(bytes(sounds), spelled, rng.uniform(0.0, 0.5))
