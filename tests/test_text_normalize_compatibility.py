"""Characters that only look different are read as those they are."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("ﬁrst ﬂoor oﬃce", "first floor office"),
    ("Act Ⅳ, Scene Ⅸ", "Act four, Scene nine"),
    ("25 ºC outside", "twenty-five degrees Celsius outside"),
    ("77 ºF inside", "seventy-seven degrees Fahrenheit inside"),
    ("20 ˚C and 20 °C", "twenty degrees Celsius and twenty degrees Celsius"),
    ("25 ° C", "twenty-five degrees Celsius"),
    ("①②③ are steps", "one two three are steps"),
    ("⑴ first, ⒉ second", "one first, two. second"),
    ("Plan Ⓐ or ⓑ", "Plan A or b"),
    ("Ｈｅｌｌｏ， Ｗｏｒｌｄ！", "Hello, World!"),
    ("１２３ items at １０：３０", "one hundred and twenty-three items at ten thirty"),
    ("＄５ and ５０％", "five dollars and fifty percent"),
    ("5㎏ of it", "five kilograms of it"),
    ("10㎞ away", "ten kilometers away"),
    ("20㎡ and 5㎥", "twenty square meters and five cubic meters"),
    ("100㎖", "one hundred milliliters"),
    ("㏂ or ㏘", "a.m. or p.m."),
    ("𝐛𝐨𝐥𝐝 and 𝓼𝓬𝓻𝓲𝓹𝓽", "bold and script"),
    ("𝕕𝕠𝕦𝕓𝕝𝕖 𝟏𝟐𝟑", "double one hundred and twenty-three"),
    ("the 1ˢᵗ and 2ⁿᵈ", "the first and second"),
    ("ᴴᴱᴸᴸᴼ there", "HELLO there"),
    ("ʜᴇʟʟᴏ there", "hello there"),
    ("🅷🅴🅻🅻🅾 there", "HELLO there"),
    ("❶ and ➋", "one and two"),
    ("Type Ⅱ diabetes", "Type two diabetes"),
    ("World War Ⅱ", "World War two"),
    ("Henry Ⅷ", "Henry the eighth"),
    ("№ 5", "number five"),
    ("Nº 7 and nº 8", "Number seven and number eight"),
    ("H₂O and CO₂", "H two O and CO two"),
    ("x² and y³", "x squared and y cubed"),
    ("10⁻³ of it", "ten to the power of minus three of it"),
    ("½ cup and 2 ½ hours", "one half cup and two and a half hours"),
    ("⅓ of it", "one third of it"),
    ("5 μm and 5 µm", "five micrometers and five micrometers"),
    ("the Café's naïve façade", "the Café's naïve façade"),
    ("non‑breaking and soft\xadhyphen", "non-breaking and softhyphen"),
    ("10⁄2 of it", "ten halves of it"),
    ("Wait… what—no – yes", "Wait… what—no – yes"),
    ("Really‼ What⁉", "Really!! What!?"),
    ("ĳs and ſo", "ijs and so"),
    ("℅ John", "care of John"),
    ("2ℓ of ℎ", "two liters of h"),
    ("™ and ®", "and"),
    ("漢字，and", "漢字，and"),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said
