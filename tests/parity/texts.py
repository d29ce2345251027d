"""500 strings in 14 languages and a small byte-pair vocabulary learnt from them."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "The quick brown fox doesn't jump over lazy dogs any more.",
        "We'll meet at half past seven, won't we?",
        "She's read 'Moby-Dick' twice; I'd rather not.",
        "Nobody knew why the lighthouse had gone dark.",
    ),
    "zh": (
        "今天天气很好,我们去公园散步吧。",
        "他说:“这本书我已经读过三遍了!”",
        "人工智能正在改变我们的生活方式。",
        "请在下午三点之前把文件发给我,谢谢。",
    ),
    "ja": (
        "今日はとても良い天気ですね。",
        "駅前のカフェでコーヒーを飲みました。",
        "「明日、会議は何時からですか?」と彼女は聞いた。",
        "カタカナとひらがなと漢字が混ざっています。",
    ),
    "ko": (
        "오늘 날씨가 정말 좋네요.",
        "내일 아침 일곱 시에 만나요!",
        "이 책은 어디에서 살 수 있어요?",
        "바람이 불고 비가 오기 시작했다.",
    ),
    "fr": (
        "L'été dernier, nous étions à la plage près de Saint-Malo.",
        "Où est-ce qu'on achète des œufs, s'il vous plaît ?",
        "« C'est déjà Noël », s'écria-t-elle.",
        "Le garçon a mangé une crêpe à la crème brûlée.",
    ),
    "de": (
        "Die Straße führt über den Fluß nach Köln.",
        "Äpfel, Öl und Übermut: das genügt.",
        "Ich hätte gern ein Stück Käsekuchen, bitte!",
        "Donaudampfschifffahrtsgesellschaft ist ein langes Wort.",
    ),
    "es": (
        "¿Cuándo llega el próximo tren a Málaga?",
        "¡Qué sorpresa! El niño aprendió a nadar.",
        "Mañana comeremos en casa de mis abuelos.",
        "La cigüeña voló sobre el viejo campanario.",
    ),
    "pl": (
        "Zażółć gęślą jaźń.",
        "W Szczebrzeszynie chrząszcz brzmi w trzcinie.",
        "Czy mógłbyś mi podać sól, proszę?",
        "Wczoraj śnieg padał przez całą noc.",
    ),
    "ru": (
        "Съешь же ещё этих мягких французских булок.",
        "Завтра утром мы поедем на дачу.",
        "«Почему ты молчишь?» — спросила она.",
        "Объявление висело на двери подъезда.",
    ),
    "it": (
        "Perché non vieni anche tu al mare?",
        "L'acqua è più fredda di quanto pensassi.",
        "Città, università e libertà portano l'accento.",
        "Il gatto dorme sulla sedia vicino alla finestra.",
    ),
    "pt": (
        "Não há açúcar nem pão na cozinha.",
        "Você já ouviu falar do coração de mãe?",
        "Amanhã às oito horas, na estação.",
        "Os pássaros voaram para além do horizonte.",
    ),
    "ar": (
        "مرحبًا بكم في مدينتنا الجميلة.",
        "كيف حالك اليوم؟",
        "ذهبتُ إلى السوق واشتريتُ تفاحًا وبرتقالًا.",
        "القراءة غذاء العقل.",
    ),
    "hi": (
        "आज मौसम बहुत अच्छा है।",
        "क्या आप मुझे रास्ता बता सकते हैं?",
        "उसने कहा, “मैं कल आऊँगा।”",
        "किताबें हमारी सबसे अच्छी मित्र हैं।",
    ),
    "tr": (
        "Bugün hava çok güzel, değil mi?",
        "İstanbul'da ılık bir akşamüstüydü.",
        "Çocuklar bahçede şarkı söylüyor.",
        "Lütfen kapıyı kapatır mısın?",
    ),
}

EXTRAS = (
    "🙂 👩‍👩‍👧‍👦 🇩🇪 ☕️",
    "0123456789 3.14159 1,000,000 ٣٤٥ १२३",
    "https://example.org/a/b?x=1&y=%20#top",
    "!!! ... —?! (a) [b] {c} <d> «e» …",
    "   \t  spaces   \t\t before   and after     ",
    "line one\nline two\r\n\r\n\n  line three\n",
    "e\u0301 \u00e9 \u200b \ufeff \u00a0 \u3000 \x00\x1f",
    "mail@example.com +49 (0)30 123-456 #tag @name",
    "$9.99 €5 ¥300 50% ½ x² H₂O",
    "(?!nothing) \\s+(?!\\S) ?! \u2028\u2029",
)


@cache
def strings() -> tuple[str, ...]:
    """The 500 strings, always the same."""
    return tuple(dict.fromkeys(_compose()))[:500]


def _compose() -> Iterator[str]:
    yield from ("", " ", "\n", "'s", *EXTRAS)
    languages = list(SENTENCES.values())
    for turn in range(4):
        for index, own in enumerate(languages):
            text, extra = own[turn % len(own)], EXTRAS[(index + turn) % len(EXTRAS)]
            other = languages[(index + turn + 5) % len(languages)][turn % 4]
            middle = len(text) // 2
            yield text
            yield text.upper() + " " * (turn + 1)
            yield text[:middle] + extra + text[middle:]
            yield f"{text} {other}"
            yield f"{extra}{text}\n\n{other}"
            yield text.replace(" ", "  \t ")
            yield "".join(reversed(text)) + str(turn * 1009 + index)
            yield (text + "\r\n") * 3
            yield text[middle:] + text[:middle].lower() + "?!" + extra[::-1]


@cache
def ranks(merges: int = 2400) -> dict[bytes, int]:
    """Byte-pair ranks: the 256 bytes, then merges of the commonest pairs, forty in a round."""
    counts = Counter(_pieces())
    words = {word: [bytes([byte]) for byte in word] for word in counts}
    found = {bytes([byte]): byte for byte in range(256)}
    while len(found) < 256 + merges:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        best = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:40]
        if not best:
            break
        chosen = {pair for pair in best if pair[0] + pair[1] not in found}
        for left, right in sorted(chosen, key=best.index):
            if len(found) < 256 + merges:
                found.setdefault(left + right, len(found))
        for word, parts in words.items():
            words[word] = _merge(parts, chosen)
    return found


def _pieces() -> Iterator[bytes]:
    # Pairs that the split pattern keeps apart: a wrong pattern would use them.
    for number in range(1000, 1040):
        yield str(number).encode()
    for run in ("?!", "...", "!!!", "\n\n", "\r\n", "  ", " \t", "\t\t", "\n ", ".\n", "x1"):
        yield from [run.encode()] * 9
    for sentences in SENTENCES.values():
        for text in sentences:
            for word in text.split():
                yield f" {word}".encode()
                yield word.encode()


def _merge(parts: list[bytes], pairs: set[tuple[bytes, bytes]]) -> list[bytes]:
    merged: list[bytes] = []
    index = 0
    while index < len(parts):
        if tuple(parts[index : index + 2]) in pairs:
            merged.append(parts[index] + parts[index + 1])
            index += 2
        else:
            merged.append(parts[index])
            index += 1
    return merged
