"""Whole numbers in words of Chinese and Hindi, and in the native words of Korean: num2words has
none of these."""


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_HAN_DIGITS = "零一二三四五六七八九"
_HAN_TENS = ("", "十", "百", "千")
_HAN_GROUPS = ("", "万", "亿", "万亿")

_HINDI = _listed(
    "शून्य एक दो तीन चार पाँच छह सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह सोलह सत्रह अठारह उन्नीस "
    "बीस इक्कीस बाईस तेईस चौबीस पच्चीस छब्बीस सत्ताईस अट्ठाईस उनतीस तीस इकतीस बत्तीस तैंतीस चौंतीस "
    "पैंतीस छत्तीस सैंतीस अड़तीस उनतालीस चालीस इकतालीस बयालीस तैंतालीस चौवालीस पैंतालीस छियालीस "
    "सैंतालीस अड़तालीस उनचास पचास इक्यावन बावन तिरपन चौवन पचपन छप्पन सत्तावन अट्ठावन उनसठ साठ इकसठ "
    "बासठ तिरसठ चौंसठ पैंसठ छियासठ सड़सठ अड़सठ उनहत्तर सत्तर इकहत्तर बहत्तर तिहत्तर चौहत्तर पचहत्तर "
    "छिहत्तर सतहत्तर अठहत्तर उनासी अस्सी इक्यासी बयासी तिरासी चौरासी पचासी छियासी सत्तासी अट्ठासी नवासी "
    "नब्बे इक्यानवे बानवे तिरानवे चौरानवे पचानवे छियानवे सत्तानवे अट्ठानवे निन्यानवे"
)
_HINDI_SCALES = (
    *((10**11, "खरब"), (10**9, "अरब"), (10**7, "करोड़"), (10**5, "लाख"), (1000, "हज़ार")),
    (100, "सौ"),
)

_NATIVE_ONES = (*("", "한", "두", "세", "네"), *("다섯", "여섯", "일곱", "여덟", "아홉"))
_NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")


def chinese(value: int) -> str:
    """`value`, less than 10**16, in Chinese."""
    if value == 0:
        return _HAN_DIGITS[0]
    words = ""
    groups = []
    while value:
        value, group = divmod(value, 10_000)
        groups.append(group)
    for place in range(len(groups) - 1, -1, -1):
        group = groups[place]
        if not group:
            continue
        if words and group < 1000 and not words.endswith(_HAN_DIGITS[0]):
            words += _HAN_DIGITS[0]
        words += _han_group(group) + _HAN_GROUPS[place]
    # Ten to nineteen at the start are said without their one.
    return words[1:] if words.startswith("一十") else words


def _han_group(value: int) -> str:
    words, is_gap = "", False
    for place in range(3, -1, -1):
        digit = value // 10**place % 10
        if digit:
            zero = _HAN_DIGITS[0] if is_gap and words else ""
            words += zero + _HAN_DIGITS[digit] + _HAN_TENS[place]
        is_gap = not digit
    return words


def hindi(value: int) -> str:
    """`value`, less than 10**16, in Hindi, with lakh and crore."""
    if value < 100:
        return _HINDI[value]
    for scale, name in _HINDI_SCALES:
        if value >= scale:
            many, rest = divmod(value, scale)
            return f"{hindi(many)} {name}" + (f" {hindi(rest)}" if rest else "")
    raise AssertionError(value)


def native_korean(value: int) -> str:
    """`value`, 1 to 99, as it is said before what is counted."""
    if value == 20:
        return "스무"
    return _NATIVE_TENS[value // 10] + _NATIVE_ONES[value % 10]
