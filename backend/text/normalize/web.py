"""Addresses as they are told on the telephone: "example dot com slash shop"."""

import re

_TLDS = (
    "com|org|net|edu|gov|mil|int|io|ai|dev|app|info|biz|tv|xyz|tech|cloud|shop|online|site|"
    "eu|uk|ca|au|de|fr|es|it|pt|pl|ru|nl|ch|dk|fi|jp|cn|kr|br|mx|tr|ae|"
    "pdf|txt|csv|jpe?g|png|gif|mp[34]|wav|zip|html?|json|ya?ml|toml|py|js|ts|rs|exe|docx?|xlsx?|pptx?"
)
_FILES = (
    "md|rst|cpp|hpp|cc|java|rb|php|sh|bat|ps1|css|scss|tsx|jsx|vue|sql|xml|ini|cfg|conf|lock|log|tar|gz|"
    "bz2|xz|7z|rar|iso|dmg|apk|deb|rpm|msi|dll|dat|db|sqlite|svg|webp|bmp|tiff?|ico|psd|ttf|otf|woff2?|"
    "flac|ogg|opus|m4a|aac|mov|avi|mkv|webm|epub|mobi|odt|rtf|tex|bib|ipynb|swift|kt|lua|env|yml|bak|tmp|"
    "cs|jar|whl|pem|crt|proto|gguf|safetensors|pth|ckpt|onnx|srt|vtt|ics|eml|"
    "PDF|TXT|CSV|JPE?G|PNG|GIF|MP[34]|WAV|ZIP|HTML?|JSON|EXE|DOCX?|XLSX?|PPTX?|MOV|ISO|DLL|BAT|INI|XML|LOG"
)
_NAMES_OF_DOTS = (
    "gitignore|bashrc|zshrc|vimrc|ssh|git|github|dockerignore|npmrc|htaccess|config|local"
)
_URL = re.compile(r"(?<!\w)(?:https?://|ftp://|www\.)[^\s<>\"“”]{1,2000}", re.IGNORECASE)
_EMAIL = re.compile(
    r"(?<![\w.+-])(?:mailto:)?([\w.+-]{1,64})@((?:[\w-]{1,63}\.){1,6}[A-Za-z]{2,24})(?![\w-])"
)
_DOMAIN = re.compile(
    rf"(?<![\w.@/-])((?:[A-Za-z0-9_-]{{1,63}}\.){{1,8}}(?:{_TLDS}|{_FILES})(?![\w(-])(?!\.\w))"
    r"(:\d{1,5})?(/[^\s<>\"“”]{0,2000})?"
)
_LOCAL = re.compile(r"(?<![\w.@/-])localhost(?::\d{1,5})?(?:/[\w./-]{0,400})?")
_PATH = re.compile(
    r"(?<![\w/.:<)\]~\\])(?:~|\.{1,2})?/(?:[\w.@+-]{1,80}/){1,20}[\w.@+-]{0,80}"
    r"|(?<![\w/.:<)\]~\\])(?:~|\.{1,2})/[\w.@+-]{1,80}"
    r"|(?<!\S)/[a-z][\w.-]{1,80}(?=[\s,;:!?)]|\.?$|\. )"
    r"|(?<![\w./@:-])(?:[\w.-]{1,80}/){1,20}[\w-]{1,80}(?:\.[\w-]{1,20}){0,3}"
    rf"\.(?:{_TLDS}|{_FILES}|[ch])(?![\w-])(?!\.\w)"
    r"|(?<![\w./@:-])[ru]/\w{2,40}(?![\w/])"
)
_DRIVE = re.compile(r"(?<!\w)([A-Za-z]):\\((?:[\w.+-]{1,80}\\?){0,20})")
_DOT_NAME = re.compile(
    rf"(?<![\w./])\.(?=(?:{_TLDS}|{_FILES}|{_NAMES_OF_DOTS})(?![\w-]))(?!(?:it|de|so|ai)\b)"
)
_HANDLE = re.compile(r"(?<![\w@/.])@(\w{1,64}(?:\.[a-z0-9_]\w{0,63}){0,3})")
_HASHTAG = re.compile(r"(?<![\w#&/])#(\d{0,4}[^\W\d_]\w{0,100})")
_TAIL = re.compile(r"[.,;:!?'*_~)\]}…。，、]{1,20}$")
_SCHEME = re.compile(r"^(?:[a-z]{3,5}://)?(?:www\.)?", re.IGNORECASE)
_PARAMETERS = re.compile(r"[?#].*$", re.DOTALL)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|(?<=[A-Z])(?=[A-Z][a-z])")
_MARK = re.compile(r"[./_:@~+=&%-]")
_MARKS = "./-_:@~+=&%"

_WORDS = {
    "en": "dot slash dash underscore colon at tilde plus equals and percent",
    "de": "Punkt Schrägstrich Bindestrich Unterstrich Doppelpunkt ät Tilde plus gleich und Prozent",
    "fr": "point slash tiret souligné deux-points arobase tilde plus égal et pour-cent",
    "es": "punto barra guion guion-bajo dos-puntos arroba tilde más igual y por-ciento",
    "pl": "kropka ukośnik myślnik podkreślnik dwukropek małpa tylda plus równa-się i procent",
    "ru": "точка слэш дефис подчёркивание двоеточие собака тильда плюс равно и процент",
    "it": "punto barra trattino trattino-basso due-punti chiocciola tilde più uguale e percento",
    "pt": "ponto barra hífen sublinhado dois-pontos arroba til mais igual e por-cento",
    "tr": "nokta eğik-çizgi tire alt-çizgi iki-nokta et tilde artı eşittir ve yüzde",
    "ar": "نقطة شرطة-مائلة شرطة شرطة-سفلية نقطتان آت تيلدا زائد يساوي و بالمئة",
}
_SPOKEN_MARKS = {
    language: {
        mark: f" {word.replace('-', ' ')} "
        for mark, word in zip(_MARKS, words.split(), strict=True)
    }
    for language, words in _WORDS.items()
}


def read_addresses(text: str, language: str) -> str:
    """Addresses of pages, files and mail as words; the scheme and the parameters of a page are left
    out. Handles and hashtags too, in English. Languages without words for the marks keep them."""
    marks = _SPOKEN_MARKS.get(language)
    if marks is None:
        return text

    def page(found: re.Match[str]) -> str:
        address = found[0]
        tail = _TAIL.search(address)
        end = tail[0] if tail else ""
        address = _PARAMETERS.sub("", _SCHEME.sub("", address.removesuffix(end))).rstrip("/")
        return _read(address, marks) + end

    def path(found: re.Match[str]) -> str:
        tail = _TAIL.search(found[0])
        end = tail[0] if tail else ""
        return _read(found[0].removesuffix(end), marks) + end

    text = _EMAIL.sub(lambda mail: _read(f"{mail[1]}@{mail[2]}", marks), text)
    text = _URL.sub(page, text)
    text = _PATH.sub(path, _LOCAL.sub(path, text))
    text = _DOMAIN.sub(page, text)
    if language == "en":
        text = _DRIVE.sub(_drive, text)
        text = _DOT_NAME.sub("dot ", text)
        text = _HASHTAG.sub(lambda tag: "hashtag " + _camel(tag[1]), text)
        text = _HANDLE.sub(lambda handle: "at " + _camel(handle[1].replace(".", " dot ")), text)
    return text


def _read(address: str, marks: dict[str, str]) -> str:
    return " ".join(_MARK.sub(lambda mark: marks[mark[0]], address).split())


def _drive(found: re.Match[str]) -> str:
    names = found[2].rstrip("\\.").split("\\")
    end = "." if found[2].endswith(".") else ""
    words = " backslash ".join(_read(name, _SPOKEN_MARKS["en"]) for name in names)
    return f"{found[1]} colon backslash {words}".rstrip() + end


def _camel(name: str) -> str:
    return " ".join(_CAMEL.sub(" ", name.replace("_", " ")).split())
