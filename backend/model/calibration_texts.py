"""What a checkpoint is asked to say while it is being calibrated: every kind of plain sentence."""

from collections.abc import Collection, Iterator

ENGLISH = (
    "The morning train was late again, so we walked along the river instead.",
    "Could you tell me where the nearest pharmacy is, please?",
    "She opened the letter slowly, as if it might bite.",
    "Never in my life have I seen such a beautiful garden!",
    "Twenty-seven people signed up for the course last autumn.",
    "If it rains tomorrow, the match will be moved to Thursday.",
    "My grandfather repaired clocks for more than forty years.",
    "Please keep your seat belts fastened until the plane has stopped.",
    "The soup needs salt, a little pepper and ten more minutes.",
    "Why would anyone paint a bicycle bright purple?",
    "He whispered the password twice, but nobody answered.",
    "Our new neighbours play the trumpet, the drums and the harp.",
    "A thin layer of ice covered the lake before sunrise.",
    "Turn left at the lighthouse and follow the gravel road.",
    "The judge asked everyone in the courtroom to stand up.",
    "Wait, did you really leave the oven on all night?",
    "Bees can recognise faces, and they remember where flowers grow.",
    "Thank you for calling; all of our lines are busy right now.",
    "The old bookshop smelled of dust, leather and strong coffee.",
    "It took three attempts to push the wardrobe up the stairs.",
    "Scientists measured the temperature of the ocean every hour.",
    "I would rather have tea, unless there is any lemonade left.",
    "Jonathan's younger sister studies chemistry in Edinburgh.",
    "The children built a castle of sand and named it after a cat.",
    "Stop right there and put down that cake!",
    "Prices rose by four percent between January and March.",
    "Few visitors ever find the small door behind the waterfall.",
    "You should have seen his face when the lights came on.",
    "The committee has not yet agreed on a date for the election.",
    "Carefully lift the lid, then add the onions and the garlic.",
    "Somewhere in the distance a dog began to bark.",
    "What a strange thing to say at a wedding...",
    "The first edition sold out within a single afternoon.",
    "Both engines failed, yet the pilot landed without a scratch.",
    "There is no such thing as a quiet room full of parrots.",
    "Good evening, and welcome to the late news.",
    "Her suitcase weighed nineteen kilograms and held only shoes.",
    "Farmers in the valley are hoping for a mild winter.",
    "Ask me again next week, when I have slept a little.",
    "The museum is closed on Mondays and on public holidays.",
    "Thick fog rolled over the hills and swallowed the village.",
    "To be honest, I expected the ending to be much sadder.",
    "Wash the brushes in warm water before the paint dries.",
    "How many zebras does it take to stop a bus?",
    "The lift is out of order, but the view is worth the climb.",
    "Mister Albright collects stamps, coins and broken umbrellas.",
    "They danced until the band had packed up and gone home.",
    "Your parcel will arrive on Friday between nine and eleven.",
    "Jupiter has dozens of moons, and some of them hide an ocean.",
    "He laughed so loudly that the glasses on the shelf shook.",
    "Nothing in the contract says that we must pay in advance.",
    "The violinist tuned her instrument and looked at the audience.",
    "Would you mind closing the window? It is freezing in here.",
    "A journey of a thousand miles begins with a single step.",
    "The password must contain at least eight characters.",
    "We found an injured hedgehog under the garden shed.",
    "Unfortunately, the last bus left five minutes ago.",
    "Spring came early that year and the cherry trees bloomed.",
    "Press the green button once and wait for the signal.",
    "In my opinion, the second chapter is far too long.",
    "Sailors believed that whistling on board would bring a storm.",
    "The bakery around the corner opens at half past six.",
    "Quick, hide the presents before she comes downstairs!",
    "Every answer leads to another question, and that is the fun of it.",
)

OTHERS = (
    ("zh", "今天下午我们一起去公园散步，好不好？"),
    ("de", "Der Zug nach Hamburg hat heute leider zwanzig Minuten Verspätung."),
    ("fr", "Je voudrais deux croissants et un café au lait, s'il vous plaît."),
    ("es", "Mañana por la tarde iremos todos juntos a la playa."),
    ("ja", "駅前の小さな喫茶店で、友達と待ち合わせをしています。"),
    ("ru", "Вчера вечером мы долго гуляли по набережной и слушали музыку."),
    ("ar", "وصل القطار إلى المحطة قبل موعده بعشر دقائق."),
    ("it", "Il vecchio mercato apre ogni mattina alle sette in punto."),
    ("pt", "O menino correu pela rua com um balão vermelho na mão."),
    ("ko", "주말에는 가족과 함께 산에 올라가 맑은 공기를 마셨어요."),
    ("hi", "कल सुबह हम सब मिलकर नदी के किनारे घूमने जाएँगे।"),
    ("pl", "Na końcu ulicy stoi stara biblioteka z ogromnym ogrodem."),
    ("tr", "Akşam yemeğinden sonra hep birlikte sahilde yürüyüşe çıktık."),
    ("zh", "图书馆里非常安静，只能听见翻书的声音。"),
    ("de", "Hast du schon gehört, dass die alte Mühle verkauft worden ist?"),
    ("fr", "La neige est tombée toute la nuit sur les toits du village."),
)
"""(language, text)"""


def calibration_texts(count: int, languages: Collection[str]) -> list[str]:
    """`count` texts, 64 at most, every fourth in another of `languages` (all if there are none)."""
    others = iter([text for language, text in OTHERS if not languages or language in languages])
    return list(_mixed(iter(ENGLISH), others))[: min(count, len(ENGLISH))]


def _mixed(english: Iterator[str], others: Iterator[str]) -> Iterator[str]:
    for index, text in enumerate(english):
        if index % 3 == 0:
            yield from (other for other in [next(others, None)] if other is not None)
        yield text
