"""Texts as language models write them, and worse, for the tests of what is read of them."""

from itertools import pairwise

from hypothesis import strategies as st

WORDS = (
    *("Hello", "the", "end.", "Dr.", "Yes!", "Why?", "No.", "5", "$5", "3.5", "...", "—", "--"),
    *("**bold**", "*it*", "_em_", "~~no~~", "`code a_b`", "`", "``x", "**", "*", "_", "~~~", "|"),
    *("snake_case", "2*3*4", "f(x)*g(x)", "x**2", "f**k", "un**believ**able", "这是**重要**的词。"),
    *("[link](http://x.com)", "![i](p.png)", "[a][1]", "[2][3]", "[^1]", "[sighs]", "[un", "]("),
    *("&amp;", "&lt;b&gt;", "<b>x</b>", "<br>", "a<b", "<!-- no -->", "\\*", "\\", "==", "---"),
    *("(laughing)", "“Quote.”", "😀", "🍕", "今日は晴れ。", "e\u0301"),
)
LINES = (
    *("# {}", "## {} ##", "- {}", "* {}", "  - {}", "- [x] {}", "1. {}", "2) {}", "3. {}"),
    *("> {}", "> - {}", "| {} | {} |", "|---|---|", "{} | {}", "--- | ---", "**{}**"),
    *("```", "```python", "``` {}", "~~~", "~~~ {}", "---", "***", "* * *", "===", "════"),
    *("• • •", "...", "😀", "♪", "[1]: http://x.y", "[^1]: {}", "<li>{}</li>", "<h2>{}</h2>"),
    *("{}", "{}", "{}", "{} {}", "    {}", "{} ", "{}\\", "", ""),
)
_SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
_LINES = st.tuples(st.sampled_from(LINES), _SENTENCES).map(lambda it: it[0].replace("{}", it[1]))
MARKDOWN = st.lists(_LINES, min_size=1, max_size=12).map("\n".join)
ANYTHING = st.text(max_size=120) | st.text(
    'aB1 .!?*_`~[]()<>|#-=\\&;:/\n\r"x😀这e\u0301，。h1p>\x1e\x1f\t', max_size=120
)


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, list[str]]:
    """A text, and the same in pieces."""
    text = draw(texts)
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    ends = [0, *places, len(text)]
    if draw(st.booleans()):
        return text, list(text)
    return text, [text[start:end] for start, end in pairwise(ends)]
