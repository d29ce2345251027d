"""Words in brackets that tell a checkpoint how to speak, "(whispering)" say, or what to do."""

import re

_WORDS = r"[a-z][a-z ,'’-]{2,40}"
_AT_START = re.compile(rf"\W{{0,8}}(?:\({_WORDS}\)|\[{_WORDS}\])")
_ANYWHERE = re.compile(
    r"[(\[](?:in a hurry tone|shouting|screaming|whispering|soft tone|laughing|chuckling|sobbing"
    r"|crying loudly|crying|sighing|panting|groaning|crowd laughing|background laughter"
    r"|audience laughing)[)\]]"
)


def is_marked(text: str) -> bool:
    """Whether something in the sentence says how it is to sound: then that is how loud it is meant.

    A mood stands at the beginning, "(angry) Go away."; a tone or an effect may stand anywhere.
    """
    return bool(_AT_START.match(text) or _ANYWHERE.search(text))
