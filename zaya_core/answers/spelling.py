r"""One spelling for what is written in several ways: Unicode, plain text and TeX all become plain TeX.

`½`, `\dfrac12` and `\frac{1}{2}` are one text afterwards, `×`, `*` and `\times` are `\cdot`; what only formats is gone.
"""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Δ": "Delta", "Γ": "Gamma",
    "Ω": "Omega", "Σ": "Sigma",
}  # fmt: skip
_SIGNS = {
    "−": "-", "–": "-", "‑": "-", "×": r"\cdot ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "⁄": "/",
    "∕": "/", "∞": r"\infty ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "≡": r"\equiv ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
    "°": r"^\circ ",
    "º": r"^\circ ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}", "⟨": "(", "⟩": ")", "′": "'", "’": "'", "∠": r"\angle ", "∖": r"\setminus ",
    "“": "", "”": "", "∛": r"\sqrt[3]", "√": r"\sqrt", "→": r"\to ", "⇒": r"\Rightarrow ", "∨": r"\lor ",
}  # fmt: skip
_CHARACTERS = str.maketrans(_SIGNS | {letter: f"\\{name} " for letter, name in _GREEK.items()})

_SAME_COMMANDS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge",
    "neq": "ne", "times": "cdot", "ast": "cdot", "div": "/", "lt": "<", "gt": ">", "lbrace": r"\{", "rbrace": r"\}",
    "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lparen": "(", "rparen": ")", "lbrack": "[", "rbrack": "]",
    "dots": "ldots", "cdots": "ldots", "varnothing": "emptyset", "degree": r"^\circ", "textdegree": r"^\circ",
    "dbinom": "binom", "tbinom": "binom", "Bbb": "mathbb", "thinspace": " ", "quad": " ", "qquad": " ", "land": " and ",
    "lor": " or ", "vee": " or ", "R": r"\mathbb{R}", "colon": ":",
    "prime": "'", "imath": " i", "jmath": " j", "textdollar": r"\$", "textpercent": r"\%",
    "langle": "(", "rangle": ")", "infin": "infty", "thickapprox": "approx",
}  # fmt: skip
_FORMATTING = re.compile(
    r"\\(?:left|right|[bB]ig+[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|hfill|centering|small|large"
    r"|Large|rm|bf|it|sf|tt|em|bfseries|itshape|strut|null|relax|hline|mathstrut|allowbreak|newline)(?![a-zA-Z])\.?"
    r"|\\!|\\(?:hspace|vspace|phantom|hphantom|vphantom|label|tag)\*?\s*\{[^{}]*\}"
)
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|underline|mathbf|boldsymbol|bm|mathit|mathsf|mathtt|mathnormal|ensuremath|emph|displaylines)"
    r"\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
)
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mbox|operatorname\*?)\s*\{([^{}]*)\}"
)
_TOKEN = r"(\\[a-zA-Z]+|[0-9a-zA-Z])"
_GROUP = r"(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})"
_PLAIN_FUNCTIONS = re.compile(
    r"(?<![\\a-zA-Z])(sqrt|frac|pi|infty|sin|cos|tan|log|ln|arcsin|arccos|arctan|exp)(?![a-z])"
)
_CHEMICAL = re.compile(r"(?:\\text\{[A-Z][a-z]?\}(?: ?_ ?\{?\d+\}?)?){2,}")
_SPOKEN = re.compile(r"(?<=\d) ?(?:\\text\{)?\b(out of|over|divided by|times)\b\}? ?(?=\d)")
_AND_A_PART = re.compile(r"(?<=\d) ?(?:\\text\{)?\band (?:a|one)[ -](half|third|quarter|fourth)\b\}?")
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4}
_MOST_NESTED = 10


def spelled(text: str) -> str:
    r"""The one spelling. Words stay in `\text{}`, spaces single; linear in the text but for its nesting, at most 10."""
    text = _plain_characters(text)
    text = _without_delimiters(text)
    text = _FORMATTING.sub("", text)
    text = _COMMAND.sub(_same_command, text)
    text = re.sub(r"(?<!\\)\\[,;:> ]|~|\\\\\s*$", " ", text).replace("{,}", "")
    for _ in range(_MOST_NESTED):
        before, text = text, _TEXT.sub(_unwrapped, _WRAPPER.sub(_unframed, text))
        if text == before:
            break
    text = _one_arithmetic(text)
    return re.sub(r"(?<!\.)\.$", "", " ".join(text.split()).strip(" ,;:?")).rstrip()


def _plain_characters(text: str) -> str:
    text = "".join(map(_vulgar_fraction, text))
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    text = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).translate(_CHARACTERS)
    return "".join(character for character in text if character.isprintable() or character.isspace())


def _vulgar_fraction(character: str) -> str:
    if character.isascii() or not unicodedata.decomposition(character).startswith("<fraction>"):
        return character
    upper, _, lower = unicodedata.normalize("NFKC", character).partition("⁄")
    return rf" \frac{{{upper}}}{{{lower}}}" if lower else character


def _without_delimiters(text: str) -> str:
    r"""`$...$`, `\(...\)`, `**...**` and a full stop taken away; a `\$` and a lone `$` are money."""
    text = text.strip()
    for _ in range(_MOST_NESTED):
        before = text
        text = re.sub(r"(?<![.])\.$", "", text).strip().strip('`"')
        for mark in ("**", "__", "*"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)].strip()
        if text == before:
            break
    if text.count("$") - text.count(r"\$") == 1 and re.match(r"-?\$\s*[\d.]", text):
        text = text.replace("$", r"\$", 1)
    text = re.sub(r"(?<!\\)\$|\\[()\[\]]", " ", text)
    return re.sub(r"\.\s*$", "", text)


def _same_command(match: re.Match[str]) -> str:
    same = _SAME_COMMANDS.get(match[1])
    if same is None:
        return match[0]
    return f"\\{same}" if same.isalpha() else same


def _unframed(match: re.Match[str]) -> str:
    return match[1] if len(match[1]) == 1 else f"{{{match[1]}}}"


def _unwrapped(match: re.Match[str]) -> str:
    r"""Words stay `\text{words}`; a letter that is a constant, a number and a formula are as good without."""
    content = " ".join(match[1].split())
    if content in ("and", "or", ", and", ", or"):
        return f" {content.strip(', ')} "
    if re.fullmatch(r"[A-Za-z]+(?: ?\\cdot ?[A-Za-z]+(?:\^-?\d)?)+", content):
        return rf"\text{{{content}}}"  # a unit
    if content == "infinity":
        return r"\infty "
    if content in ("e", "i", "d", "j", "") or not re.fullmatch(r"[^\W\d_][^\d\\(){}^_=+<>$]*", content):
        return content if match[1] == content else f" {content} "
    return re.sub(r"( ?, ?(?:and |or )?| and | or )", r"}\1\\text{", rf"\text{{{content}}}")


def _one_arithmetic(text: str) -> str:
    text = _SPOKEN.sub(lambda match: r"\cdot " if match[1] == "times" else "/", text)
    text = re.sub(r"(?<=\d) ?(?:\\text\{ ?)?([ap])\. ?m\b\.?(?: ?\})?", r" \1m", text)
    text = _AND_A_PART.sub(lambda match: rf" \frac{{1}}{{{_PARTS[match[1]]}}}", text)
    text = re.sub(r"<=|=<", r"\\le ", text)
    text = re.sub(r">=|=>", r"\\ge ", text).replace("!=", r"\ne ").replace("==", "=").replace("**", "^")
    text = re.sub(r"\s*\*\s*", r"\\cdot ", text)
    text = re.sub(r"(?<=[\d}]) ?x ?(?=10 ?\^)", r"\\cdot ", text)
    text = _PLAIN_FUNCTIONS.sub(r"\\\1", text)
    text = re.sub(r"(?<![\\a-zA-Z])(?:infinity|Infinity|inf|oo)(?![a-zA-Z])", r"\\infty ", text)
    text = re.sub(r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ", r"^\\circ ", text)
    text = re.sub(r"\(? ?\\?[pb]?mod ?\{? ?(\d+|[a-z])(?![a-z]) ?\}? ?\)?", r"\\pmod{\1}", text)
    text = re.sub(r"_ ?(?:\{ ?)?\\text\{(\w+)\}(?: ?\})?", r"_{\1}", text)
    text = re.sub(r"\\log ?_ ?(?:e(?![a-zA-Z])|\{e\})", r"\\ln", text)
    text = _CHEMICAL.sub(lambda match: re.sub(r"\\text\{(\w+)\}", r"\1", match[0]), text)
    text = re.sub(r"\{ ?([^{}]+?) ?\\choose ?([^{}]+?) ?\}", r"\\binom{\1}{\2}", text)
    text = re.sub(r"\\mathbb\s*([A-Z])", r"\\mathbb{\1}", text)
    text = _braced_fractions(text)
    text = re.sub(r"\\log ?_ ?(\d)", r"\\log_{\1}", _parentheses_to_braces(text))
    text = re.sub(r"\{(\d+)\} ?(?=_)", r"\1", text)
    return re.sub(
        r"([_^]) ?(?:\{ ?(\w+) ?\}|(-?\d+|[A-Za-z]))", lambda match: f"{match[1]}{{{match[2] or match[3]}}}", text
    )


def _braced_fractions(text: str) -> str:
    text = re.sub(rf"\\frac\s*{_TOKEN}\s*{_TOKEN}", r"\\frac{\1}{\2}", text)
    text = re.sub(rf"\\frac\s*{_TOKEN}\s*\{{", r"\\frac{\1}{", text)
    text = re.sub(rf"\\frac\s*{_GROUP}\s*{_TOKEN}", r"\\frac\1{\2}", text)
    text = re.sub(r"\\frac\s*\{\s*", r"\\frac{", text)
    return re.sub(
        rf"\\sqrt\s*(\[[^\[\]]*\])?\s*{_TOKEN}", r"\\sqrt\1{\2}", re.sub(r"\\sqrt\s*(\d+)(?!\d)", _whole_root, text)
    )


def _whole_root(match: re.Match[str]) -> str:
    r"""`\sqrt12` is one root of 12 to those who write it so in plain text; TeX's own reading, of 1, is never meant."""
    return rf"\sqrt{{{match[1]}}}"


def _parentheses_to_braces(text: str) -> str:
    r"""`\sqrt(x+1)` and `2^(x+1)` with braces."""
    for start in [match.end() for match in re.finditer(r"\\sqrt(?:\[\d+\])?\s*(?=\()|\^\s*(?=\()", text)][::-1]:
        depth = 0
        for position in range(start, len(text)):
            depth += (text[position] == "(") - (text[position] == ")")
            if depth == 0:
                text = f"{text[:start]}{{{text[start + 1 : position]}}}{text[position + 1 :]}"
                break
    return text
