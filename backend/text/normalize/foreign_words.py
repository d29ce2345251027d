"""The words that numbers need in languages other than English."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """One language's words and habits of writing numbers."""

    minus: str
    percent: str
    """With {} where the number stands; "one|few|many" where the number decides the word."""
    span: str
    """Between the two ends of a range."""
    currencies: dict[str, str]
    """Forms of each sign: "one|many" or "one|few|many"."""
    ampersand: str = "&"
    cents: str = " "
    """Between the whole of an amount and its hundredths."""
    one: str = ""
    """One before a noun, where it differs from the number."""
    time: str = "{} {}"
    full_hour: str = "{}"
    date: str = "{day} {month} {year}"
    months: str = ""
    """In the form that follows a day, separated by spaces."""
    groups: str = ". "
    """Separators of thousands."""
    abbreviations: tuple[tuple[str, str], ...] = ()


def _signs(words: str) -> dict[str, str]:
    """Currencies in the order € $ £ ¥."""
    return dict(zip("€$£¥", words.split(), strict=True))


def _abbreviations(table: str) -> tuple[tuple[str, str], ...]:
    """Pairs "short: long" separated by semicolons."""
    pairs = (entry.split(":") for entry in table.split(";"))
    return tuple((short.strip(), words.strip()) for short, words in pairs)


WORDS = {
    "de": Words(
        minus="minus",
        percent="{} Prozent",
        span="bis",
        currencies=_signs("Euro|Euro Dollar|Dollar Pfund|Pfund Yen|Yen"),
        ampersand="und",
        one="ein",
        time="{} Uhr {}",
        full_hour="{} Uhr",
        months=(
            "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
        ),
        abbreviations=_abbreviations(
            "z. B.: zum Beispiel; z.B.: zum Beispiel; d. h.: das heißt; d.h.: das heißt;"
            "u. a.: unter anderem; u.a.: unter anderem; usw.: und so weiter;"
            "bzw.: beziehungsweise; ca.: circa; Nr.: Nummer; Dr.: Doktor; Prof.: Professor;"
            "Hr.: Herr; Fr.: Frau; evtl.: eventuell; ggf.: gegebenenfalls; inkl.: inklusive;"
            "vgl.: vergleiche; Mio.: Millionen; Mrd.: Milliarden; Str.: Straße; St.: Sankt"
        ),
    ),
    "fr": Words(
        minus="moins",
        percent="{} pour cent",
        span="à",
        currencies=_signs("euro|euros dollar|dollars livre|livres yen|yens"),
        ampersand="et",
        time="{} heures {}",
        full_hour="{} heures",
        months=(
            "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
        ),
        groups=" ",
        abbreviations=_abbreviations(
            "M.: Monsieur; Mme: Madame; Mlle: Mademoiselle; Dr: docteur; etc.: et cetera;"
            "env.: environ; p. ex.: par exemple; n°: numéro; N°: Numéro; c.-à-d.: c'est-à-dire"
        ),
    ),
    "es": Words(
        minus="menos",
        percent="{} por ciento",
        span="a",
        currencies=_signs("euro|euros dólar|dólares libra|libras yen|yenes"),
        ampersand="y",
        cents=" con ",
        one="un",
        time="{} y {}",
        date="{day} de {month} de {year}",
        months=(
            "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
            "diciembre"
        ),
        abbreviations=_abbreviations(
            "Sr.: señor; Sra.: señora; Srta.: señorita; Dr.: doctor; Dra.: doctora; Ud.: usted;"
            "Uds.: ustedes; etc.: etcétera; pág.: página; p. ej.: por ejemplo; n.º: número;"
            "EE. UU.: Estados Unidos; EE.UU.: Estados Unidos"
        ),
    ),
    "it": Words(
        minus="meno",
        percent="{} per cento",
        span="a",
        currencies=_signs("euro|euro dollaro|dollari sterlina|sterline yen|yen"),
        ampersand="e",
        cents=" e ",
        one="un",
        time="{} e {}",
        months=(
            "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre "
            "novembre dicembre"
        ),
        abbreviations=_abbreviations(
            "Sig.: signor; Sig.ra: signora; Dott.: dottor; Prof.: professor; ecc.: eccetera;"
            "pag.: pagina; es.: esempio"
        ),
    ),
    "pt": Words(
        minus="menos",
        percent="{} por cento",
        span="a",
        currencies={
            **_signs("euro|euros dólar|dólares libra|libras iene|ienes"),
            "R$": "real|reais",
        },
        ampersand="e",
        cents=" e ",
        time="{} e {}",
        date="{day} de {month} de {year}",
        months=(
            "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro "
            "dezembro"
        ),
        abbreviations=_abbreviations(
            "Sr.: senhor; Sra.: senhora; Dr.: doutor; Dra.: doutora; etc.: et cetera;"
            "pág.: página; p. ex.: por exemplo; n.º: número"
        ),
    ),
    "pl": Words(
        minus="minus",
        percent="{} procent",
        span="do",
        currencies={
            **_signs("euro|euro|euro dolar|dolary|dolarów funt|funty|funtów jen|jeny|jenów"),
            "zł": "złoty|złote|złotych",
        },
        ampersand="i",
        months=(
            "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
            "listopada grudnia"
        ),
        groups=" ",
        abbreviations=_abbreviations(
            "np.: na przykład; itd.: i tak dalej; itp.: i tym podobne; tzn.: to znaczy;"
            "tzw.: tak zwany; ul.: ulica; dr: doktor; nr: numer; m.in.: między innymi; ok.: około"
        ),
    ),
    "ru": Words(
        minus="минус",
        percent="{} процент|процента|процентов",
        span="до",
        currencies={
            **_signs("евро|евро|евро доллар|доллара|долларов фунт|фунта|фунтов иена|иены|иен"),
            "₽": "рубль|рубля|рублей",
        },
        ampersand="и",
        date="{day} {month} {year} года",
        months=(
            "января февраля марта апреля мая июня июля августа сентября октября ноября декабря"
        ),
        groups=" ",
        abbreviations=_abbreviations(
            "т. е.: то есть; т.е.: то есть; т. д.: так далее; т.д.: так далее;"
            "т. п.: тому подобное; т.п.: тому подобное; т. к.: так как; т.к.: так как;"
            "напр.: например; ул.: улица; руб.: рублей; тыс.: тысяч; млн: миллионов;"
            "млрд: миллиардов; №: номер"
        ),
    ),
    "tr": Words(
        minus="eksi",
        percent="yüzde {}",
        span="ila",
        currencies={
            **_signs("avro|avro dolar|dolar sterlin|sterlin yen|yen"),
            "₺": "lira|lira",
        },
        ampersand="ve",
        months=("Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık"),
        abbreviations=_abbreviations(
            "vb.: ve benzeri; vs.: vesaire; örn.: örneğin; Dr.: Doktor; Prof.: Profesör;"
            "bkz.: bakınız; No.: numara"
        ),
    ),
    "ar": Words(
        minus="سالب",
        percent="{} بالمئة",
        span="إلى",
        currencies=_signs("يورو|يورو دولار|دولار جنيه|جنيه ين|ين"),
        ampersand="و",
        months=("يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر"),
        groups=",",
    ),
    "ja": Words(
        minus="マイナス",
        percent="{}パーセント",
        span="から",
        currencies=_signs("ユーロ|ユーロ ドル|ドル ポンド|ポンド 円|円"),
        ampersand="アンド",
        cents="",
        time="{}時{}分",
        full_hour="{}時",
        date="{year}年{month}{day}日",
        groups=",",
    ),
    "ko": Words(
        minus="마이너스",
        percent="{} 퍼센트",
        span="에서",
        currencies={
            **_signs("유로|유로 달러|달러 파운드|파운드 엔|엔"),
            "₩": "원|원",
        },
        ampersand="앤드",
        time="{} 시 {} 분",
        full_hour="{} 시",
        date="{year}년 {month} {day}일",
        groups=",",
    ),
}
"""Languages with rules of their own; Chinese and Hindi have none, and keep their digits."""
