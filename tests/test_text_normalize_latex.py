"""Formulas are read aloud; money between dollar signs stays money."""

import pytest

from backend.text.normalize import normalize

CASES = [
    ("The formula $E = mc^2$ is famous.", "The formula E equals m c squared is famous."),
    ("Area is $\\pi r^2$.", "Area is pi r squared."),
    ("so \\(x_1\\) is", "so x sub one is"),
    (
        "$$\\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}$$",
        "minus b plus or minus the square root of b squared minus four a c, over two a",
    ),
    (
        "\\[ \\sum_{i=1}^{n} i = \\frac{n(n+1)}{2} \\]",
        "the sum from i equals one to n of i equals n (n plus one), over two",
    ),
    ("$\\alpha \\leq \\beta$", "alpha is less than or equal to beta"),
    ("$a \\geq b$ and $a \\neq b$", "a is greater than or equal to b and a is not equal to b"),
    ("$\\frac{1}{2}$ cup", "one half cup"),
    ("$\\frac{3}{4}$ of it", "three quarters of it"),
    ("$\\dfrac{x}{y}$", "x over y"),
    ("the $n$th term and the $x$-axis", "the nth term and the x-axis"),
    (
        "$\\lim_{x \\to 0} \\frac{\\sin x}{x} = 1$",
        "the limit as x goes to zero of sine x over x equals one",
    ),
    (
        "$\\int_0^\\infty e^{-x^2} dx$",
        "the integral from zero to infinity of e to the power of minus x squared d x",
    ),
    ("about 90$^\\circ$ and $90^\\circ$", "about ninety degrees and ninety degrees"),
    ("$f(x) = 2x + 1$", "f of (x) equals two x plus one"),
    ("use \\alpha and \\beta here", "use alpha and beta here"),
    ("$a^2 + b^2 = c^2$", "a squared plus b squared equals c squared"),
    ("$x \\in \\mathbb{R}$", "x is in R"),
    (
        "$\\sqrt{2}$ and $\\sqrt[3]{8} = 2$",
        "the square root of two and the cube root of eight equals two",
    ),
    ("$10^{-3}$ of it", "ten to the power of minus three of it"),
    ("$3 \\times 10^8$", "three times ten to the power of eight"),
    ("$\\text{speed} = \\frac{\\text{distance}}{\\text{time}}$", "speed equals distance over time"),
    ("\\begin{align} a &= b \\\\ c &= d \\end{align}", "a equals b; c equals d"),
    ("$n!$ ways", "n factorial ways"),
    ("$\\vec{v}$ and $\\hat{x}$ and $\\bar{y}$", "vector v and x hat and y bar"),
    ("$\\Delta x$ is small", "delta x is small"),
    ("$A_{ij}$ and $A^T$", "A sub i j and A transpose"),
    ("$x^{n+1}$", "x to the power of n plus one"),
    ("$f'(x)$", "f prime (x)"),
    ("$\\log_2 8 = 3$", "log base two of eight equals three"),
    ("$\\binom{n}{k}$", "n choose k"),
    ("$\\theta$.", "theta."),
    ("$x$, $y$ and $z$", "x, y and z"),
    ("$10$ apples", "ten apples"),
    ("$ E = mc^2 $ spaced", "E equals m c squared spaced"),
    ("if $x>0$, then", "if x is greater than zero, then"),
    ("$P(A)$", "P of (A)"),
    ("$50\\%$", "fifty percent"),
    ("$\\{a, b\\}$", "a, b"),
    ("I owe $5 and $10.", "I owe five dollars and ten dollars."),
    ("$5, $10 and 7$", "five dollars, ten dollars and seven dollars"),
    (
        "It costs $20 in cash and 30$ in coins.",
        "It costs twenty dollars in cash and thirty dollars in coins.",
    ),
    ("$1,000-$2,000", "one thousand to two thousand dollars"),
    ("win $5-$10, or $x$!", "win five to ten dollars, or x!"),
    ("pay $5 (or 5$)", "pay five dollars (or five dollars)"),
    ("$50/month vs $60/month", "fifty dollars per month versus sixty dollars per month"),
    ("echo $HOME and $PATH", "echo HOME and PATH"),
    ("US$5 and A$7", "five dollars and seven Australian dollars"),
    ("\\$5 only", "five dollars only"),
    ("C:\\alpha\\beta", "C colon backslash alpha backslash beta"),
    ("\\(not a link\\)", "(not a link)"),
    ("$x and $y are names", "x and y are names"),
    ("$|x|$ and $F_{net}$", "the absolute value of x and F sub net"),
    ("$5\\text{ km}$ and $10\\,\\mathrm{m/s}$", "five kilometers and ten meters per second"),
    ("$O(n \\log n)$ time", "O of (n log n) time"),
    (
        "$x = \\begin{cases} 1 & x > 0 \\\\ 0 & x \\le 0 \\end{cases}$",
        "x equals one, x is greater than zero; zero, x is less than or equal to zero",
    ),
    ("5 \\times 3 and \\sqrt{x} + 1", "five times three and the square root of x plus one"),
    ("45\\degree", "forty-five degrees"),
    ("x_1 + x_2 and snake_case", "x sub one plus x sub two and snake_case"),
    ("$NVDA and $TSLA rose", "NVDA and TSLA rose"),
    (
        "He paid $20 (about £15) for $3 worth of it.",
        "He paid twenty dollars (about fifteen pounds) for three dollars worth of it.",
    ),
]


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_read(written: str, said: str) -> None:
    assert normalize(written, "en") == said


def test_a_deep_formula_ends() -> None:
    """However deep it is, and wherever it is left open."""
    for unit in ("{", "\\frac{", "\\sqrt[", "x^{", "\\left("):
        said = normalize(f"It is \\frac{{1}}{{2}}{unit * 20_000}", "en")
        assert said.startswith("It is one half")
