"""A little English grammar for the sentence templates."""

VOWELS = "aeiou"


def article(word: str) -> str:
    vowel = word[0] in VOWELS and not word.startswith(("uni", "use", "one", "eu"))
    return f"{'an' if vowel or word in ('hour', 'honest') else 'a'} {word}"


def plural(noun: str) -> str:
    irregular = {"man": "men", "woman": "women", "child": "children", "foot": "feet",
                 "mouse": "mice", "knife": "knives", "leaf": "leaves", "wife": "wives",
                 "wolf": "wolves", "shelf": "shelves", "deer": "deer"}  # fmt: skip
    if noun in irregular:
        return irregular[noun]
    if noun[-1] == "y" and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    endings = ("s", "x", "ch", "sh", "potato", "tomato")
    return noun + ("es" if noun.endswith(endings) else "s")


def capital(text: str) -> str:
    return text[0].upper() + text[1:]
