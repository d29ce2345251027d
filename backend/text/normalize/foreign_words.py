"""The words that numbers need in languages other than English."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """One language's words and habits of writing numbers."""

    minus: str
    plus: str
    times: str
    equals: str
    percent: str
    """With {} where the number stands; "one|few|many" where the number decides the word."""
    span: str
    """Between the two ends of a range."""
    currencies: dict[str, str]
    """Forms of each sign, as `counting.form` takes them."""
    cents: dict[str, str]
    """Forms of the hundredth part, for those signs whose amounts have one that is named."""
    ampersand: str = "&"
    between_cents: str = " "
    """Between the whole of an amount and its hundredths."""
    names_cents: bool = False
    """Whether they are named after them: "five rupees fifty paise"."""
    time: str = "{} {}"
    full_hour: str = "{}"
    date: str = "{day} {month} {year}"
    months: str = ""
    """In the form that follows a day, separated by spaces; "" where they are numbered."""
    month: str = ""
    """After the number of a month that has no name."""
    groups: str = ".'’ "
    """Separators of thousands."""
    abbreviations: tuple[tuple[str, str], ...] = ()


_CURRENCIES = (
    *("€ EUR", "$ USD US$", "£ GBP", "¥ JPY", "CHF SFr.", "₽ RUB руб. руб р.", "₺ TRY TL"),
    *("zł PLN zł.", "₹ INR Rs.", "CNY RMB", "₩ KRW", "R$ BRL"),
)


def _money(words: str) -> dict[str, str]:
    """The forms of `_CURRENCIES`, in their order; "_" is a space."""
    forms = [each.replace("_", " ") for each in words.split()]
    pairs = zip(_CURRENCIES, forms, strict=True)
    return {sign: each for signs, each in pairs for sign in signs.split()}


def _cents(cent: str, **others: str) -> dict[str, str]:
    """The forms of cents, of euros and dollars, and of the hundredths of other currencies, by the
    code of these."""
    forms = {"EUR": cent, "USD": cent, **others}
    codes = {signs.split()[1]: signs.split() for signs in _CURRENCIES if " " in signs}
    codes |= {"CHF": ["CHF", "SFr."], "CNY": ["CNY", "RMB"]}
    return {sign: each for code, each in forms.items() for sign in codes[code]}


def _abbreviations(table: str) -> tuple[tuple[str, str], ...]:
    """Pairs "short: long" separated by semicolons."""
    pairs = (entry.split(":") for entry in table.split(";"))
    return tuple((short.strip(), words.strip()) for short, words in pairs)


WORDS = {
    "de": Words(
        minus="minus",
        plus="plus",
        times="mal",
        equals="gleich",
        percent="{} Prozent",
        span="bis",
        currencies=_money(
            "Euro|Euro Dollar|Dollar Pfund|Pfund Yen|Yen Franken|Franken Rubel|Rubel +Lira|Lira "
            "Zloty|Zloty +Rupie|Rupien Yuan|Yuan Won|Won Real|Real"
        ),
        cents=_cents(
            "Cent|Cent", CHF="Rappen|Rappen", RUB="+Kopeke|Kopeken", PLN="Groschen|Groschen"
        ),
        ampersand="und",
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
        plus="plus",
        times="fois",
        equals="égale",
        percent="{} pour cent",
        span="à",
        currencies=_money(
            "euro|euros dollar|dollars +livre|livres yen|yens franc|francs rouble|roubles "
            "+livre_turque|livres_turques zloty|zlotys +roupie|roupies yuan|yuans won|wons "
            "real|reals"
        ),
        cents=_cents("centime|centimes", CHF="centime|centimes"),
        ampersand="et",
        time="{} heures {}",
        full_hour="{} heures",
        months=(
            "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
        ),
        groups=" '’",
        abbreviations=_abbreviations(
            "M.: Monsieur; Mme: Madame; Mlle: Mademoiselle; Dr: docteur; etc.: et cetera;"
            "env.: environ; p. ex.: par exemple; n°: numéro; N°: Numéro; c.-à-d.: c'est-à-dire"
        ),
    ),
    "es": Words(
        minus="menos",
        plus="más",
        times="por",
        equals="igual a",
        percent="{} por ciento",
        span="a",
        currencies=_money(
            "euro|euros dólar|dólares +libra|libras yen|yenes franco|francos rublo|rublos "
            "+lira|liras esloti|eslotis +rupia|rupias yuan|yuanes won|wones real|reales"
        ),
        cents=_cents("céntimo|céntimos", BRL="centavo|centavos"),
        ampersand="y",
        between_cents=" con ",
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
        plus="più",
        times="per",
        equals="uguale",
        percent="{} per cento",
        span="a",
        currencies=_money(
            "euro|euro dollaro|dollari +sterlina|sterline yen|yen franco|franchi rublo|rubli "
            "+lira|lire zloty|zloty +rupia|rupie yuan|yuan won|won real|real"
        ),
        cents=_cents("centesimo|centesimi", CHF="centesimo|centesimi"),
        ampersand="e",
        between_cents=" e ",
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
        plus="mais",
        times="vezes",
        equals="igual a",
        percent="{} por cento",
        span="a",
        currencies=_money(
            "euro|euros dólar|dólares +libra|libras iene|ienes franco|francos rublo|rublos "
            "+lira|liras zloty|zlotys +rupia|rupias yuan|yuans won|wons real|reais"
        ),
        cents=_cents("cêntimo|cêntimos", BRL="centavo|centavos"),
        ampersand="e",
        between_cents=" e ",
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
        plus="plus",
        times="razy",
        equals="równa się",
        percent="{} procent",
        span="do",
        currencies=_money(
            "-euro|euro|euro|euro dolar|dolary|dolarów|dolara funt|funty|funtów|funta "
            "jen|jeny|jenów|jena frank|franki|franków|franka rubel|ruble|rubli|rubla "
            "+lira|liry|lir|liry złoty|złote|złotych|złotego +rupia|rupie|rupii|rupii "
            "juan|juany|juanów|juana won|wony|wonów|wona real|reale|reali|reala"
        ),
        cents=_cents(
            "cent|centy|centów|centa",
            PLN="grosz|grosze|groszy|grosza",
            RUB="+kopiejka|kopiejki|kopiejek|kopiejki",
        ),
        ampersand="i",
        months=(
            "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
            "listopada grudnia"
        ),
        groups=" '’",
        abbreviations=_abbreviations(
            "np.: na przykład; itd.: i tak dalej; itp.: i tym podobne; tzn.: to znaczy;"
            "tzw.: tak zwany; ul.: ulica; dr: doktor; nr: numer; m.in.: między innymi; ok.: około"
        ),
    ),
    "ru": Words(
        minus="минус",
        plus="плюс",
        times="умножить на",
        equals="равно",
        percent="{} процент|процента|процентов",
        span="до",
        currencies=_money(
            "евро|евро|евро доллар|доллара|долларов фунт|фунта|фунтов +иена|иены|иен "
            "франк|франка|франков рубль|рубля|рублей +лира|лиры|лир злотый|злотых|злотых "
            "+рупия|рупии|рупий юань|юаня|юаней +вона|воны|вон реал|реала|реалов"
        ),
        cents=_cents("цент|цента|центов", RUB="+копейка|копейки|копеек"),
        ampersand="и",
        date="{day} {month} {year} года",
        months=(
            "января февраля марта апреля мая июня июля августа сентября октября ноября декабря"
        ),
        groups=" '’",
        abbreviations=_abbreviations(
            "т. е.: то есть; т.е.: то есть; т. д.: так далее; т.д.: так далее;"
            "т. п.: тому подобное; т.п.: тому подобное; т. к.: так как; т.к.: так как;"
            "напр.: например; ул.: улица; №: номер"
        ),
    ),
    "tr": Words(
        minus="eksi",
        plus="artı",
        times="çarpı",
        equals="eşittir",
        percent="yüzde {}",
        span="ila",
        currencies=_money("avro dolar sterlin yen frank ruble lira zloti rupi yuan won real"),
        cents=_cents("sent", TRY="kuruş"),
        ampersand="ve",
        months=("Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık"),
        abbreviations=_abbreviations(
            "vb.: ve benzeri; vs.: vesaire; örn.: örneğin; Dr.: Doktor; Prof.: Profesör;"
            "bkz.: bakınız; No.: numara"
        ),
    ),
    "ar": Words(
        minus="سالب",
        plus="زائد",
        times="ضرب",
        equals="يساوي",
        percent="{} بالمئة",
        span="إلى",
        currencies=_money("يورو دولار جنيه ين فرنك روبل ليرة زلوتي روبية يوان وون ريال"),
        cents=_cents("سنت"),
        ampersand="و",
        months=("يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر"),
        groups=",",
    ),
    "ja": Words(
        minus="マイナス",
        plus="プラス",
        times="かける",
        equals="は",
        percent="{}パーセント",
        span="から",
        currencies=_money(
            "ユーロ ドル ポンド 円 フラン ルーブル リラ ズウォティ ルピー 元 ウォン レアル"
        ),
        cents=_cents("セント"),
        ampersand="アンド",
        between_cents="",
        time="{}時{}分",
        full_hour="{}時",
        date="{year}年{month}{day}日",
        month="月",
        groups=",",
    ),
    "ko": Words(
        minus="마이너스",
        plus="플러스",
        times="곱하기",
        equals="는",
        percent="{} 퍼센트",
        span="에서",
        currencies=_money("유로 달러 파운드 엔 프랑 루블 리라 즈워티 루피 위안 원 헤알"),
        cents=_cents("센트"),
        ampersand="앤드",
        time="{} 시 {} 분",
        full_hour="{} 시",
        date="{year}년 {month} {day}일",
        month="월",
        groups=",",
    ),
    "zh": Words(
        minus="负",
        plus="加",
        times="乘",
        equals="等于",
        percent="百分之{}",
        span="到",
        currencies=_money("欧元 美元 英镑 日元 法郎 卢布 里拉 兹罗提 卢比 元 韩元 雷亚尔")
        | dict.fromkeys("¥￥元", "元"),
        cents={},
        ampersand="和",
        between_cents="",
        time="{}点{}分",
        full_hour="{}点",
        date="{year}年{month}{day}日",
        month="月",
        groups=",，",
    ),
    "hi": Words(
        minus="माइनस",
        plus="प्लस",
        times="गुणा",
        equals="बराबर",
        percent="{} प्रतिशत",
        span="से",
        currencies=_money("यूरो डॉलर पाउंड येन फ़्रैंक रूबल लीरा ज़्लॉटी रुपया|रुपये युआन वॉन रियाल"),
        cents=_cents("सेंट", INR="पैसा|पैसे"),
        ampersand="और",
        names_cents=True,
        time="{} बजकर {} मिनट",
        full_hour="{} बजे",
        months="जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर",
        groups=",",
        abbreviations=_abbreviations("डॉ.: डॉक्टर; रु.: रुपये; सं.: संख्या"),
    ),
}
"""Of each language but English."""
