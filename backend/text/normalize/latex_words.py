"""What LaTeX's commands and signs are called, in English."""


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


GREEK = _names(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma "
    "tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
FUNCTIONS = _names(
    "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln lg exp max min sup inf det "
    "dim ker gcd lcm arg deg Pr mod argmax argmin rank tr span sgn"
)
"""They are written as words within a formula, with a backslash or without."""
_NOT_SAID = _names(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr middle displaystyle textstyle scriptstyle "
    "limits nolimits nonumber label tag hline noindent"
)
_STYLES = _names(
    "mathbf mathit mathsf mathtt mathcal mathbb mathfrak mathscr boldsymbol bm mathbin mathrel "
    "mathop mathord vphantom hphantom phantom underline boxed overbrace underbrace"
)
FUNCTION_WORDS = {
    "sin": "sine",
    "cos": "cosine",
    "tan": "tangent",
    "cot": "cotangent",
    "sec": "secant",
    "csc": "cosecant",
    "sinh": "hyperbolic sine",
    "cosh": "hyperbolic cosine",
    "tanh": "hyperbolic tangent",
    "arcsin": "arc sine",
    "arccos": "arc cosine",
    "arctan": "arc tangent",
    "ln": "natural log",
    "lg": "log",
    "exp": "exponential",
    "max": "maximum",
    "min": "minimum",
    "sup": "supremum",
    "inf": "infimum",
    "det": "determinant",
    "dim": "dimension",
    "ker": "kernel",
    "gcd": "greatest common divisor",
    "lcm": "least common multiple",
    "arg": "argument",
    "deg": "degree",
    "Pr": "probability",
    "argmax": "arg max",
    "argmin": "arg min",
    "tr": "trace",
    "sgn": "sign",
}
COMMANDS = {
    "varepsilon": "epsilon",
    **{"vartheta": "theta", "varphi": "phi", "varrho": "rho", "varsigma": "sigma", "varpi": "pi"},
    **{"times": "times", "cdot": "times", "ast": "times", "div": "divided by", "bullet": "times"},
    **{"pm": "plus or minus", "mp": "minus or plus", "circ": "composed with"},
    **{"leq": "is less than or equal to", "le": "is less than or equal to"},
    **{"leqslant": "is less than or equal to", "geqslant": "is greater than or equal to"},
    **{"geq": "is greater than or equal to", "ge": "is greater than or equal to"},
    **{"lt": "is less than", "gt": "is greater than", "ll": "is much less than"},
    **{"gg": "is much greater than", "neq": "is not equal to", "ne": "is not equal to"},
    **{"approx": "is approximately", "sim": "is similar to", "simeq": "is approximately"},
    **{"cong": "is congruent to", "equiv": "is equivalent to", "propto": "is proportional to"},
    **{"in": "is in", "notin": "is not in", "ni": "contains", "subset": "is a subset of"},
    **{"subseteq": "is a subset of", "supset": "is a superset of", "supseteq": "is a superset of"},
    **{"cup": "union", "cap": "intersection", "setminus": "minus", "emptyset": "the empty set"},
    **{"varnothing": "the empty set", "forall": "for all", "exists": "there exists"},
    **{"land": "and", "wedge": "and", "lor": "or", "vee": "or", "neg": "not", "lnot": "not"},
    **{"oplus": "plus", "otimes": "tensor", "infty": "infinity", "partial": "partial"},
    **{
        "nabla": "nabla",
        "to": "to",
        "rightarrow": "to",
        "longrightarrow": "to",
        "mapsto": "maps to",
    },
    **{"leftarrow": "from", "gets": "from", "Rightarrow": "implies", "implies": "implies"},
    **{"Longrightarrow": "implies", "iff": "if and only if", "Leftrightarrow": "if and only if"},
    **{"leftrightarrow": "corresponds to", "perp": "is perpendicular to", "mid": "given"},
    **{"parallel": "is parallel to", "angle": "angle", "triangle": "triangle", "degree": "degrees"},
    **{"hbar": "h bar", "ell": "l", "Re": "the real part of", "Im": "the imaginary part of"},
    **{"aleph": "aleph", "prime": "prime", "top": "top", "therefore": "therefore"},
    **{"because": "because", "ldots": "and so on", "cdots": "and so on", "dots": "and so on"},
    **{"vdots": "and so on", "ddots": "and so on", "qquad": ",", "quad": ",", "colon": ":"},
    **{"lfloor": "the floor of", "rfloor": "", "lceil": "the ceiling of", "rceil": ""},
    **{
        "langle": "",
        "rangle": "",
        "vert": "",
        "Vert": "",
        "lvert": "",
        "rvert": "",
        "star": "star",
    },
    **{"dagger": "dagger", "backslash": "backslash", "percent": "percent", "And": "and"},
    **dict.fromkeys(_NOT_SAID, ""),
}
"""Those that stand for a word, or for nothing."""
SUMS = {
    "sum": "the sum",
    "prod": "the product",
    "int": "the integral",
    "iint": "the double integral",
    "iiint": "the triple integral",
    "oint": "the closed integral",
    "bigcup": "the union",
    "bigcap": "the intersection",
    "lim": "the limit",
}
"""Those that go from something to something."""
ACCENTS = {
    "hat": "hat",
    "widehat": "hat",
    "bar": "bar",
    "overline": "bar",
    "tilde": "tilde",
    "widetilde": "tilde",
    "dot": "dot",
    "ddot": "double dot",
    "check": "check",
    **dict.fromkeys(_STYLES, ""),
}
"""Said after what they stand over; the styles are not said."""
TEXTS = _names("text mathrm textbf textit textrm textsf texttt operatorname mbox emph")
"""Their argument is text."""
SIGNS = {
    "+": "plus",
    "-": "minus",
    "−": "minus",
    "=": "equals",
    "<": "is less than",
    ">": "is greater than",
    "/": "over",
    "*": "times",
    "×": "times",
    "·": "times",
    "÷": "divided by",
    "±": "plus or minus",
    "≤": "is less than or equal to",
    "≥": "is greater than or equal to",
    "≠": "is not equal to",
    "≈": "is approximately",
    "∞": "infinity",
    "→": "to",
    "∈": "is in",
    "!": "factorial",
    "'": "prime",
    "%": "percent",
    "&": ",",
    "~": "",
    "°": "degrees",
    "|": "",
    "[": "",
    "]": "",
}
ESCAPED = {"%": "percent", "&": "and", "$": "dollars", "#": "number", "_": "", "|": "", "\\": ";"}
"""After a backslash; spaces and braces are not said."""
