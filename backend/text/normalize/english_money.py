"""English amounts of money."""

import re

from backend.text.normalize.english_quantity import NO_NUMBER_BEFORE, NUMBER, SCALES, read_number
from backend.text.normalize.number import cardinal

_CURRENCIES = {
    "US$": ("dollar", "dollars", "cent"),
    "A$": ("Australian dollar", "Australian dollars", "cent"),
    "AU$": ("Australian dollar", "Australian dollars", "cent"),
    "CA$": ("Canadian dollar", "Canadian dollars", "cent"),
    "C$": ("Canadian dollar", "Canadian dollars", "cent"),
    "HK$": ("Hong Kong dollar", "Hong Kong dollars", "cent"),
    "R$": ("real", "reais", "centavo"),
    "$": ("dollar", "dollars", "cent"),
    "€": ("euro", "euros", "cent"),
    "£": ("pound", "pounds", "penny"),
    "¥": ("yen", "yen", ""),
    "₹": ("rupee", "rupees", "paisa"),
    "Rs.": ("rupee", "rupees", "paisa"),
    "Rs": ("rupee", "rupees", "paisa"),
    "NZ$": ("New Zealand dollar", "New Zealand dollars", "cent"),
    "S$": ("Singapore dollar", "Singapore dollars", "cent"),
    "NT$": ("Taiwan dollar", "Taiwan dollars", "cent"),
    "MX$": ("Mexican peso", "Mexican pesos", "centavo"),
    "₦": ("naira", "naira", "kobo"),
    "₱": ("peso", "pesos", "centavo"),
    "₫": ("dong", "dong", ""),
    "₪": ("shekel", "shekels", "agora"),
    "₴": ("hryvnia", "hryvnias", "kopiyka"),
    "฿": ("baht", "baht", "satang"),
    "₽": ("ruble", "rubles", "kopeck"),
    "₩": ("won", "won", ""),
    "₺": ("lira", "lira", "kurush"),
    "₿": ("bitcoin", "bitcoins", ""),
    "zł": ("zloty", "zlotys", "grosz"),
}
_CODES = {
    "USD": "$",
    "EUR": "€",
    "GBP": "£",
    "JPY": "¥",
    "INR": "₹",
    "RUB": "₽",
    "KRW": "₩",
    "TRY": "₺",
    "AUD": "A$",
    "CAD": "C$",
    "HKD": "HK$",
    "BRL": "R$",
    "PLN": "zł",
    "BTC": "₿",
    "CNY": "yuan",
    "CHF": "franc",
    "NZD": "NZ$",
    "SGD": "S$",
    "MXN": "MX$",
    "ZAR": "rand",
    "SEK": "krona",
    "NOK": "krone",
    "DKK": "Danish krone",
    "CZK": "koruna",
    "THB": "฿",
    "ILS": "₪",
    "UAH": "₴",
}
_CURRENCIES["yuan"] = ("yuan", "yuan", "")
_CURRENCIES["franc"] = ("Swiss franc", "Swiss francs", "centime")
_CURRENCIES["rand"] = ("rand", "rand", "cent")
_CURRENCIES["krona"] = ("Swedish krona", "Swedish kronor", "")
_CURRENCIES["krone"] = ("Norwegian krone", "Norwegian kroner", "")
_CURRENCIES["Danish krone"] = ("Danish krone", "Danish kroner", "")
_CURRENCIES["koruna"] = ("Czech koruna", "Czech korunas", "")
_CENTS = {
    "kobo": "kobo",
    "agora": "agorot",
    "kopiyka": "kopiykas",
    "satang": "satang",
    "penny": "pence",
    "paisa": "paise",
    "kurush": "kurush",
    "grosz": "groszy",
}
_SYMBOL = "(" + "|".join(re.escape(symbol) for symbol in _CURRENCIES if len(symbol) < 4) + ")"
_SCALE = (
    r"(?: ?(thousand|million|billion|trillion|lakh|crore|lac|cr)\b"
    r"|([kKmM]|mn|mm|[bB]|bn|[tT]|tn)\b)?"
)
_MONEY = re.compile(
    rf"(?<![\w$])(-|−)?{_SYMBOL} ?({NUMBER})(?: ?[–-] ?{_SYMBOL}?({NUMBER}))?{_SCALE}"
)
_MONEY_AFTER = re.compile(
    rf"{NO_NUMBER_BEFORE}(-|−)?({NUMBER}){_SCALE} ?(?:([€£¥₹₽₩₺$]|zł)|({'|'.join(_CODES)})\b)"
)
_CODE_BEFORE = re.compile(rf"\b({'|'.join(_CODES)}) ?({NUMBER})(?: ?[–-] ?({NUMBER}))?{_SCALE}")
_SPAN = re.compile(r"(?<=\d[kKmMbB]) ?[–-] ?(?=[$€£¥₹]?\d)|(?<=\d[mb]n) ?[–-] ?(?=[$€£¥₹]?\d)")
_CODE = "|".join(_CODES)
_SPAN_AFTER = re.compile(
    rf"(?<![\w.,$€£¥₹-])({NUMBER}) ?[–-] ?(?={NUMBER}{_SCALE} ?(?:[€£¥₹₽₩₺$]|(?:{_CODE})\b))"
)
_CENT_SIGN = re.compile(rf"{NO_NUMBER_BEFORE}({NUMBER}) ?¢")
_CENTS_ALONE = re.compile(r"(?<=[$€£])\.(?=\d\d(?!\d))")
_ZEROS = re.compile(r"\.0+$")


def read_money(text: str) -> str:
    """Amounts with a sign or code of a currency before or after them."""
    text = _CENTS_ALONE.sub("0.", text)
    text = _SPAN_AFTER.sub(r"\1 to ", _SPAN.sub(" to ", text))
    text = _MONEY.sub(_money, text)
    text = _CODE_BEFORE.sub(_code_before, text)
    text = _MONEY_AFTER.sub(
        lambda m: _amount(m[1] or "", m[2], m[3] or m[4], m[5] or _CODES[m[6]]), text
    )
    return _CENT_SIGN.sub(
        lambda m: f"{read_number(m[1])} {'cent' if m[1] == '1' else 'cents'}", text
    )


def _code_before(m: re.Match[str]) -> str:
    code, first, second, scale_word, scale_letter = m.groups()
    amount = _amount("", second or first, scale_word or scale_letter, _CODES[code])
    return f"{read_number(first)} to {amount}" if second else amount


def _money(m: re.Match[str]) -> str:
    minus, symbol, first, _, second, scale_word, scale_letter = m.groups()
    if second:
        end = _amount("", second, scale_word or scale_letter, symbol)
        return f"{read_number(first)} to {end}"
    return _amount(minus or "", first, scale_word or scale_letter, symbol)


def _amount(minus: str, number: str, scale: str | None, symbol: str) -> str:
    one, many, cent = _CURRENCIES[symbol]
    sign = "minus " if minus else ""
    number = _ZEROS.sub("", number)
    if scale:
        return f"{sign}{read_number(number)} {SCALES.get(scale.lower(), scale)} {many}"
    whole, _, fraction = number.replace(",", "").partition(".")
    if not fraction or len(fraction) != 2 or not cent:
        return f"{sign}{read_number(number)} {one if number == '1' else many}"
    count = int(fraction)
    cents = f"{cardinal(str(count))} {cent if count == 1 else _CENTS.get(cent, cent + 's')}"
    if not int(whole):
        return sign + cents
    return f"{sign}{cardinal(whole)} {one if whole == '1' else many} and {cents}"
