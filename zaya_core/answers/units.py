r"""Units behind a value: `12 cm`, `12\text{ square units}`, `90^\circ`, `50\%`, `\$5`. Graders do not ask for them."""

from __future__ import annotations

import re

from zaya_core.answers.rationals import rational

_KNOWN = {
    "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre", "m": "meter metre",
    "in": "inch inche", "ft": "feet foot", "yd": "yard", "mi": "mile", "g": "gram", "kg": "kilogram", "mg": "milligram",
    "lb": "pound lbs", "oz": "ounce", "s": "second sec", "min": "minute", "h": "hour hr", "day": "", "week": "",
    "month": "", "year": "yr", "mph": "", "kph": "kmh", "l": "liter litre", "ml": "milliliter millilitre",
    "gal": "gallon", "dollar": r"\$ usd", "cent": "¢", "€": "euro eur", "£": "gbp", "%": "percent percentage pct",
    "degree": "° deg", "rad": "radian", "j": "joule", "kj": "kilojoule", "n": "newton", "kn": "", "pa": "pascal",
    "kpa": "",
    "mpa": "", "w": "watt", "kw": "kilowatt", "v": "volt", "a": "ampere amp", "k": "kelvin", "hz": "hertz", "khz": "",
    "mhz": "",
    "ghz": "", "mol": "mole", "ev": "", "kev": "", "mev": "", "gev": "", "nm": "nanometer nanometre", "atm": "",
    "acre": "", "ha": "hectare", "cal": "calorie", "kcal": "", "ohm": r"\omega", "t": "ton tonne",
    "celsius": "c coulomb", "fahrenheit": "f farad", "am": "", "pm": "",
}  # fmt: skip
_CANONICAL = {spelling: unit for unit, others in _KNOWN.items() for spelling in (unit, *others.split())}
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "bn": 9, "trillion": 12}

_LONE_LETTER = "mgshLNJKWVCF"  # a unit only where a space stands between it and a number
_BARE_UNIT = "|".join(
    sorted((re.escape(one) for one in _CANONICAL if len(one) > 1 and one.isalpha()), key=len, reverse=True)
)
_POWER = r"(?:\^ ?\{?[-\d]+\}?)?"
_TEXT_UNIT = re.compile(rf"(?<=[\w)}}|'!\]]) ?\\(?:text|mathrm)\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}} ?{_POWER}[^\W\d]?$")
_DEGREES = re.compile(r"\^\\circ ?(?:\\text\{ ?)?([CF]?)(?: ?\})?$")
_WORDS = re.compile(
    rf"(?<=[\d)}}%]) ?(?P<unit>(?:(?:sq|cu|square|cubic)\.? )?(?:(?:{_BARE_UNIT})(?:s|es)?(?![a-z])"
    rf"(?:/(?:{_BARE_UNIT}|[mgsh])s?(?![a-z]))?|(?<= )[{_LONE_LETTER}]|[ck]?m/(?:s|h|min)))\.?{_POWER}$",
    re.IGNORECASE,
)
PARTS = (  # words behind a number that change its value
    "dozens?|half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|eighths?|tenths?|hundredths?"
    "|squared|cubed|factorial"
    "|January|February|March|April|May|June|July|August|September|October|November|December"
)
_NOUNS = re.compile(rf"(?<=\d )\(?(?!and |or |(?:{PARTS})\b)[A-Za-z]{{3,}}(?: (?!and |or )[A-Za-z]{{2,}}){{0,3}}\)?$")
_MONEY = re.compile(r"^(-?) ?(\\\$|€|£|(?:\\text\{)?(?:USD|EUR|GBP)\}?) ?(?=[\d.\\(-])")


def without_unit(text: str) -> tuple[str, str]:
    """A value in the one spelling without its unit, and the unit, "" for none and for nouns that are no measure."""
    text, scale = _without_scale(text)
    if money := _MONEY.match(text):
        value, _ = without_unit(text[money.end() :])
        return scaled_up(money[1] + value, scale), canonical(money[2])
    if text.endswith((r"\%", "%")):
        return text.removesuffix("%").removesuffix("\\").strip(), "%"
    if (degrees := _DEGREES.search(text)) and not re.search(
        r"\\(?:a?(?:rc)?(?:sin|cos|tan)|sec|csc|cot)(?![a-z])", text
    ):
        return text[: degrees.start()].strip(), {"C": "celsius", "F": "fahrenheit"}.get(degrees[1], "degree")
    if text.endswith((r"\$", "€", "£", "¢")):
        return text.removesuffix(r"\$").rstrip("€£¢ ").strip(), canonical(text[-1] if text[-1] != "$" else r"\$")
    for pattern in (_TEXT_UNIT, _WORDS, _NOUNS):
        if (match := pattern.search(text)) and not _is_factor(match[0], text[: match.start()]):
            value, inner = without_unit(text[: match.start()].strip())
            return scaled_up(value, scale), inner or canonical(match[0])
    return scaled_up(text, scale), ""


def _is_factor(unit: str, value: str) -> bool:
    """A lone letter is a unit behind a plain number only."""
    return len(unit.strip()) == 1 and rational(value) is None


def _without_scale(text: str) -> tuple[str, int]:
    for word, scale in _SCALES.items():
        match = re.fullmatch(rf"(.*[\d}}]) ?(?:\\text\{{ ?)?{word}(?: ?\}}| (.*)|(\\text.*))?", text)
        if match is not None and (match[2] is None or match[2].replace(" ", "").isalpha()):
            text, more = _without_scale(match[1] + (f" {match[2]}" if match[2] else match[3] or ""))
            return text, scale + more
    return text, 0


def measure_at_start(words: str) -> str:
    """What belongs to the value that these words follow: `million km` of `million km in all`; "" for nouns."""
    scales = re.match(rf"(?: (?:{'|'.join(_SCALES)})\b)*", words)
    assert scales is not None
    rest = words[scales.end() :]
    for unit in (rf" (?:\S+ ){{{more}}}\S+(?= |$)" for more in (2, 1, 0)):
        found = re.match(unit, rest)
        if found and found[0] != " in" and _WORDS.fullmatch(f"1{found[0]}", 1):
            per = re.match(r" per \w+", rest[found.end() :])
            return scales[0] + found[0] + (per[0] if per else "")
    return scales[0]


def scaled_up(value: str, scale: int) -> str:
    """The value times ten to the power `scale`."""
    return rf"{value}\cdot 10^{{{scale}}}" if scale else value


def canonical(unit: str) -> str:
    """A measure by one name (`cm^2` for square centimeters); "" for what is no measure, such as apples."""
    unit = re.sub(r"\^ ?\{([^{}]*)\}", r"^\1", re.sub(r" per (?=\w)", "/", unit))
    unit = re.sub(r"(?: |\\cdot)*\b([A-Za-z]+)\^-(\d)", lambda m: f"/{m[1]}" + f"^{m[2]}" * (m[2] != "1"), unit)
    words = re.sub(r"\\text|\\mathrm|[{}]|\\(?=[^$])|\.", " ", unit).casefold().split()
    power = "".join(word for word in words if word.startswith("^")) or re.sub(r"^[^^]*", "", "".join(words))
    names = [re.sub(r"\^.*", "", word) for word in words]
    for adjective, exponent in (("square", "^2"), ("sq", "^2"), ("cubic", "^3"), ("cu", "^3")):
        if adjective in names:
            names.remove(adjective)
            power = exponent
    known = [_known("/".join(_known(part) or part for part in name.split("/"))) for name in names if name]
    measures = [name for name in known if name]
    if {"celsius", "fahrenheit"} & set(measures):
        measures = [name for name in measures if name != "degree"]
    return f"{measures[0]}{power}" if measures else ""


def _known(name: str) -> str:
    if "/" in name:
        return {"mi/h": "mph", "km/h": "kph"}.get(name, name)
    for spelling in (name, name.removesuffix("s"), name.removesuffix("es")):
        if spelling in _CANONICAL:
            return _CANONICAL[spelling]
    return ""
