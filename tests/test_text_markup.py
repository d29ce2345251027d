"""What is read of Markdown and HTML: nothing that is a word is lost, no mark is spoken."""

import re

import pytest
from hypothesis import given

from backend.text.fold import ITEM_END
from backend.text.markup.reader import MarkupReader, read_markup
from backend.text.normalize import normalize
from backend.text.sentences import split_text
from tests.fuzz.effort import effort
from tests.markdown import ANYTHING, MARKDOWN, cut

READ = [
    # words are never lost
    ("```ls``` lists the files.", "ls lists the files."),
    ("~~~ and then he left ~~~", "and then he left"),
    ("``` and then he left", "and then he left"),
    ("~~~ Finally", "Finally"),
    ("```Hello\nworld\n```", "Hello.¶world"),
    ("Look:\n```bash\nls -la\n```\nThen go on.", "Look:¶ls -la.¶Then go on."),
    ("```\nls -la\nThen **look** at it.", "ls -la.¶Then look at it."),
    ("~~~~\n```\nx\n```\n~~~~\nDone.", "x.¶Done."),
    ("```md\n~~~\ny\n~~~\n```\nDone.", "y.¶Done."),
    ("  ```python title='x.py'\n  x = 1\n  ```\n  Done.", "x = 1.¶Done."),
    ("```{r, echo=FALSE}\nplot(x)\n```", "plot(x)"),
    ("``` js {1,3-5}\na()\n```", "a()"),
    ("- item\n  ```sh\n  ls\n  ```\n- next", "item.¶ls.¶next."),
    ("```\nls\n``` Then look at it.", "ls.¶Then look at it."),
    ("> ```\n> x\n> ```\n> Done.", "x.¶Done."),
    ("Here is `code", "Here is code"),
    ("a ``b `c` d`` e", "a b `c` d e"),
    ("Use the `<br>` tag", "Use the <br> tag"),
    ("`__init__` and `a*b*`", "__init__ and a*b*"),
    ("if a <b and c> d", "if a <b and c> d"),
    ("&lt;b&gt; is bold", "<b> is bold"),
    ("[unclosed and **on", "[unclosed and on"),
    ("<!-- unclosed", "<!-- unclosed"),
    ("~~~~~~~~\nOne line\nand on", "One line\nand on"),
    # headings, lists, tables, quotes, rules
    ("# Title #", "Title."),
    ("Title\n=====\nText", "Title.\n\nText"),
    ("Title\n---\nText", "Title.\n\nText"),
    ("**Ingredients**\nFlour", "Ingredients.\n\nFlour"),
    ("**Note:** it is late", "Note: it is late"),
    ("#hashtag and ####### seven", "#hashtag and seven"),
    ("- one\n- two\n\nThen", "one.¶two.\n\nThen"),
    ("List:\n* one\n* two!\nThen on", "List:¶one.¶two!¶Then on"),
    ("- one that\n  goes on\n- two", "one that\ngoes on.¶two."),
    ("- one that\ngoes on\n- two", "one that\ngoes on.¶two."),
    ("+ [ ] open\n+ [x] done", "open.¶done."),
    ("• one\n• two", "one.¶two."),
    ("- [sighs] one", "[sighs] one."),
    ("-5 degrees\n--flag", "-5 degrees\n--flag"),
    ("1) a\n2) b", "1) a.¶2) b."),
    ("3. Oktober", "3. Oktober"),
    ("Es war am\n3. Oktober schön", "Es war am\n3. Oktober schön"),
    ("Steps:\n3. Third", "Steps:¶3. Third"),
    ("| a | b |\n|---|:-:|\n| c \\| d | |", "a, b.\n\nc | d."),
    ("Name | Age\n--- | ---\nAnn | 30\nBob | 31\n\nEnd", "Name, Age.\n\nAnn, 30.¶Bob, 31.\n\nEnd"),
    ("│ Ann │ 30 │\n├─────┼────┤\n│ Bob │ 31 │", "Ann, 30.\n\nBob, 31."),
    ("|x| is the absolute value", "|x| is the absolute value"),
    ("> quoted\n> on\n\nnot", "quoted\non\n\nnot"),
    ("> > - deep", "deep."),
    (">5 people, >= 3", ">5 people, >= 3"),
    ("> [!NOTE]\n> Careful now", "Note.\n\nCareful now"),
    ("one\n***\ntwo", "one\n\ntwo"),
    ("one\n\n════════\n\ntwo", "one\n\ntwo"),
    ("one\n• • •\ntwo", "one\n\ntwo"),
    ("one\n...\ntwo", "one\n\ntwo"),
    ("one\n♪ ♪\ntwo", "one\n\ntwo"),
    ("--- Title ---\n\n=== More ===", "Title\n\nMore"),
    ("════ Title ════", "Title"),
    ("My name is ______.", "My name is ."),
    ("wait --- what", "wait — what"),
    ("— Кто там?", "— Кто там?"),
    # HTML
    ("<ul><li>One</li><li>Two</li></ul>After", "One.\n\nTwo.\n\nAfter"),
    ("<h1>Title</h1><p class='a'>Text</p>", "Title.\n\nText"),
    ("<table><tr><td>a</td><td>b</td></tr></table>", "a, b."),
    ("one<br/>two<hr>three", "one\ntwo\n\nthree"),
    ("a<!-- no -->b", "ab"),
    ("x &nbsp;&#233;&#x263A; &copy 5", "x \u00a0é☺ &copy 5"),
    # links
    ('[a **b**](http://x.y/z_(1) "T. t.") c', "a b c"),
    ("[![alt](a.png)](http://x.y) c", "alt c"),
    ("see [the docs][1] and [2][3]\n\n[1]: http://x.y 'T'", "see the docs and [2][3]"),
    ("[sighs][excited] Hello [sighs](excited)", "[sighs][excited] Hello [sighs](excited)"),
    ("[[Page|the page]] and [[Other]]", "the page and Other"),
    ("so it is[^1].\n\n[^1]: A note.", "so it is.\n\nA note."),
    ("<https://x.y/z> <a@b.co>", "https://x.y/z a@b.co"),
    # emphasis
    ("这是**重要**的词。", "这是重要的词。"),
    ("これは*とても*大事。", "これはとても大事。"),
    ("un**believ**able un*believ*able", "unbelievable unbelievable"),
    ("sub**ject to the** rule", "subject to the rule"),
    ("**Bold. More bold.** text", "Bold. More bold. text"),
    ("*a b. c d.* _e f. g h._ i", "a b. c d. e f. g h. i"),
    ("***both** of* them", "both of them"),
    ("*(laughing)* Hi", "(laughing) Hi"),
    ("\\*not bold\\* 2 \\* 3 snake\\_case", "not bold 2 * 3 snake_case"),
    ("snake_case __init__ _private a_b_c", "snake_case init private a_b_c"),
    ("2*3*4 2 * 3 a*b f(x)*g(x) 5* hotel", "2*3*4 2 * 3 a*b f(x)*g(x) 5* hotel"),
    ("x**2 + y**2", "x^2 + y^2"),
    ("f**k that sh*t", "f**k that sh*t"),
    ("$a_i * b_i$ or $x*y = _z_$ for $5 *or* $6.", "$a_i * b_i$ or $x*y = _z_$ for $5 or $6."),
    ("\\[\nE = mc^2\n\\]", "\\[\nE = mc^2\n\\]"),
    ("$$\nx_1 * x_2\n$$", "$$\nx_1 * x_2\n$$"),
    ("$HOME is *set*. It is", "$HOME is set. It is"),
    ("so [1](http://x.y) and [[2]](#c)", "so [1] and [2]"),
    ("~~gone~~ ~5 of them", "gone ~5 of them"),
    ("\\(E = mc^2\\) and \\[ok\\]", "\\(E = mc^2\\) and [ok]"),
    ("It is **5 km**, _really_.", "It is 5 km, really."),
]
"""¶ is the end of an item."""


def tidy(read: str) -> str:
    read = re.sub("[ \t]*\n[ \t]*", "\n", read.replace(ITEM_END, "¶"))
    return re.sub("(?<=¶) +", "", re.sub("[ \t]+", " ", read)).strip()


@pytest.mark.parametrize(("written", "read"), READ)
def test_markup_is_read(written: str, read: str) -> None:
    assert tidy(read_markup(written)) == read


@effort(150)
@given(cut(MARKDOWN | ANYTHING))
def test_it_does_not_depend_on_the_pieces(texts: tuple[str, list[str]]) -> None:
    whole, pieces = texts
    reader = MarkupReader()
    read = "".join(map(reader.push, pieces)) + reader.flush()
    assert tidy(read) == tidy(read_markup(whole))


PROSE = (
    *("Hello", "world", "the", "end.", "Then", "look", "at", "it.", "No!", "five", "Ann", "left,"),
)


@effort(60)
@given(cut(MARKDOWN))
def test_no_word_of_prose_is_lost(texts: tuple[str, list[str]]) -> None:
    written, _ = texts
    kept = [word for word in re.findall(r"[A-Za-z]{3,}", written) if word in PROSE]
    read = re.findall(r"[A-Za-z]{3,}", read_markup(written))
    assert [word for word in read if word in PROSE] == kept


def test_what_is_held_back_is_bounded() -> None:
    for mark in ("`", "[", "[a", "[a](", "*", "_", "~", "\\(", "<b ", "<!--", "&", "|", "| ", "#",
                 "# a ", "> ", ">", " ", "═", "=", "- ", "```a ", "**a ", "-", "a`"):  # fmt: skip
        reader = MarkupReader()
        text = mark * (30_000 // len(mark))
        for start in range(0, len(text), 100):
            reader.push(text[start : start + 100])
        stages = (reader._tags._held, reader._lines._line, reader._inline._held)
        assert sum(map(len, stages)) < 4000, mark


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Sure! Here", "Sure!"),
        ("Sure!\n\nHere", "Sure!"),
        ("- One. Two", "One. Tw"),
        ("**Note:** it", "Note: i"),
        ("> Yes. No", "Yes. N"),
    ],
)
def test_prose_is_passed_on_while_it_comes(text: str, first: str) -> None:
    reader = MarkupReader()
    assert reader.push(text).startswith(first)


def test_headings_items_and_marks_are_pauses() -> None:
    text = normalize(
        "# A heading of some length\nFirst the text.\n═════\n- An item of the list\n- Another item",
        "en",
    )
    assert [sentence.text for sentence in split_text(text, 200)] == [
        "A heading of some length.",
        "First the text.",
        "An item of the list.",
        "Another item.",
    ]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        *("`", "`a ", "``a` ", "[", "[a", "[a](", "[a](b 'c", "[[", "[a][", "*", "*a", "a**b "),
        *(
            "_a",
            "~",
            "\\",
            "\\(a",
            "&a",
            "<b ",
            "<b a=",
            "<!--",
            "<li>",
            "| ",
            "a | ",
            "# ",
            "# a\n",
        ),
        *(
            "- ",
            "- a\n",
            "1. a\n",
            "> ",
            ">",
            "```a\n",
            "~~~ ",
            "==\n",
            "═ ",
            "[^a]",
            "[1]: http://a ",
        ),
        *("**a**\n", "\\[a=", "|-|\n", "\n", "\r", "\u2029", "e\u0301"),
    ],
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    read_markup(text)
    reader = MarkupReader()
    for start in range(0, 20_000, 4):
        reader.push(text[start : start + 4])
    reader.flush()
