"""Which language a text is read in: what the script and the words of short texts speak for."""

import pytest

from backend.core import LANGUAGES
from backend.text.normalize import normalize
from backend.text.normalize.language import Languages
from benchmarks.language import SENTENCES, errors, sentences

MOST_ENGLISH_WRONG = 0.002
LEAST_RIGHT = {"fr": 0.97, "es": 0.95, "tr": 0.95, "de": 0.97, "it": 0.97, "pl": 0.98, "pt": 0.97}
"""The others are told by their script."""


def live(*pieces: str, told: str = "auto", voice: str = "") -> list[str]:
    """What each piece is read in, of a request whose text comes in pieces."""
    languages = Languages(told, voice)
    read_in = []
    for piece in pieces:
        languages.hear(piece)
        read_in.append(next(languages.runs(piece))[1])
    return read_in


def test_the_set_is_whole() -> None:
    counts = {path.stem: len(sentences(path.stem)) for path in SENTENCES.glob("*.txt")}
    assert counts.keys() == set(LANGUAGES) - {"auto"}
    assert counts.pop("en") == 1000
    assert set(counts.values()) == {100}
    for language in counts:
        assert len(set(sentences(language))) == 100


def test_english_is_taken_for_no_other_language() -> None:
    _, wrong = errors("en", sentences("en"))
    assert len(wrong) <= MOST_ENGLISH_WRONG * 1000, wrong


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each not in ("auto", "en")])
def test_short_sentences_of_other_languages(language: str) -> None:
    taken_for, wrong = errors(language, sentences(language))
    assert len(wrong) <= 100 * (1 - LEAST_RIGHT.get(language, 1.0)) + 1e-9, (taken_for, wrong)


@pytest.mark.parametrize(
    "text",
    [
        # not in the set: what came to mind afterwards
        "I said I am in.",
        "Do you say so?",
        "Pan, pot, lid.",
        "A la carte, please.",
        "I ate pain au chocolat and a café con leche in Nice.",
        "We stayed at Hôtel du Louvre for 3 nights.",
        "Ask Frau Müller or Herr Schmidt by 5.",
        "My flat is at 5 Rue de la Paix.",
        "José and María de la Cruz have 3 kids.",
        "Play Despacito at 50%.",
        "Order 66.",
        "Set x to 5, y to 3.",
        "if (a > 5) { return b; }",
        "pip install num2words==0.5",
        "v1.2.3 is out",
        "10 a.m. to 5 p.m.",
        "Mr. De Luca owes me $5",
        "The El Niño year, 1998.",
        "Sie and du both mean you.",
        "Que sera, sera, she sang 3 times.",
        "Hasta la vista means see you, said 5 of us.",
        "OMG LOL 5 IDK",
        "THE END IS NEAR 5",
        "Alexa, 5 min",
        "ETA 5",
        "5",
        "",
        "...",
        "a b c d e f g",
        "i o u",
        "e.g. 5",
        "Vitamin B12 and vitamin C",
        "Con Edison raised rates 5%",
        "Don Juan de Marco (1994)",
        "Les is 30. Des is 31.",
        "Per capita GDP rose 3%",
        "Gare du Nord, 5 p.m.",
        "Bayern 4 Roma 2",
        "Temperature: 21,5 °C",
        "Hay bales: 12.",
        "Uno, 5 cards.",
        "Sin 30 = 0.5",
    ],
)
def test_english_with_foreign_words_stays_english(text: str) -> None:
    assert Languages.of(text, "auto").main == "en"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Noch 5 Minuten bis zum Ende."),
        ("de", "Die Temperatur beträgt 21,5 °C."),
        ("de", "Ich habe 3 Katzen."),
        ("de", "WIR HABEN HEUTE GESCHLOSSEN"),
        ("de", "Der Strompreis liegt bei 30 Cent."),
        ("fr", "La batterie est à 15 %."),
        ("es", "La tienda cierra a las 19:30."),
        ("it", "Sveglia alle 6:30."),
        ("pt", "O pacote chega em 2 dias."),
        ("pl", "Dwie kawy, 5,50 zł."),
        ("tr", "Pil %15."),
        ("fr", "Il reste 5 minutes."),
        ("fr", "J’ai 3 chats."),
        ("fr", "L'eau est à 20 °C."),
        ("es", "Quedan 5 minutos."),
        ("es", "¿Son las 5?"),
        ("it", "Mancano 5 minuti."),
        ("it", "Ho 2 fratelli e 1 sorella."),
        ("pt", "Faltam 5 minutos."),
        ("pt", "A sala está a 21,5 °C."),
        ("pl", "Zostało 5 minut."),
        ("pl", "Temperatura wynosi 21,5 °C, nie jest zimno."),
        ("tr", "5 dakika kaldı."),
        ("tr", "Salonda sıcaklık şu an 21,5 °C."),
        ("ru", "Осталось 5 минут."),
        ("ja", "あと5分です。"),
        ("ja", "残り時間は5分、室温は21度。"),
        ("zh", "还剩5分钟。"),
        ("zh", "iPhone 15很贵。"),
        ("ko", "5분 남았어요."),
        ("ar", "بقي 5 دقائق."),
        ("hi", "5 मिनट बाकी हैं।"),
    ],
)
def test_short_texts_of_other_languages(language: str, text: str) -> None:
    assert Languages.of(text, "auto").main == language


def test_what_is_told_goes_before_words() -> None:
    assert Languages.of("Ich habe 3 Katzen.", "en").main == "en"
    assert Languages.of("I have 3 cats.", "de").main == "de"
    assert Languages.of("5", "ja").main == "ja"


def test_a_sentence_in_another_script_is_read_by_it() -> None:
    text = "It has 3 rooms. У меня 3 кота. I have 2 dogs.\n\n猫が3匹います。 That makes 5."
    assert normalize(text, "auto") == (
        "It has three rooms. У меня три кота. I have two dogs.\n\n猫が三匹います。 That makes five."
    )
    assert normalize("У меня 3 кота. I have 2 dogs. Да.", "ru") == (
        "У меня три кота. I have two dogs. Да."
    )
    assert normalize("Ich habe 3. У меня 3 кота.", "de") == "Ich habe drei. У меня три кота."


def test_a_word_in_another_script_is_no_sentence_in_it() -> None:
    assert normalize("The word привет is said 5 times.", "auto") == (
        "The word привет is said five times."
    )
    assert normalize("Откройте README 5 раз. iPhone 15 Pro.", "auto") == (
        "Откройте README пять раз. iPhone пятнадцать Pro."
    )
    assert normalize("См. example.com и 5 котов.", "auto").endswith("и пять котов.")


def test_runs_are_the_text() -> None:
    text = "One. Два… 三。\n\nFour! пять?? «шесть». 3.5 and так далее.\n"
    languages = Languages.of(text)
    assert "".join(run for run, _ in languages.runs(text)) == text


def test_japanese_without_kana_is_read_as_the_rest_of_its_request() -> None:
    languages = Languages.of("これは本です。東京駅。")
    assert [language for _, language in languages.runs("東京駅。")] == ["ja"]
    assert Languages.of("東京駅。", "auto").main == "zh"


def test_live_text_has_one_language_once_its_words_have_told() -> None:
    assert live("Das ist nicht gut.", "Okay, 5!", "Timer 5.") == ["de", "de", "de"]
    assert live("That is what I said to them.", "Ja, 5.", "Danke, das ist nicht nur gut.") == [
        *("en", "en", "en")
    ]
    assert live("Okay.", "Der Timer läuft noch 5 Minuten.") == ["en", "de"], "one word tells little"
    assert live("That is what I said.", "У меня 3 кота.", "5 more.") == ["en", "ru", "en"]


def test_a_voice_carries_its_language() -> None:
    assert live("Timer 5.", voice="de") == ["de"]
    assert live("У меня 3 кота.", voice="de") == ["ru"]
    assert live("Timer 5.", told="en", voice="de") == ["en"]
    assert live("I have 3 cats.", voice="ja") == ["en"], "the script decides"
    assert live("5", voice="ja") == ["ja"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a", "é", "der ", "l'", "''", ". ", "а. b. ", "中a", "¿", "…", "A.", "\n", "/", "1,1"]
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    normalize(unit * (100_000 // len(unit)), "auto")
