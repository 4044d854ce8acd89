"""Markdown of answers for the terminal: what is complete, and how a model's text differs from a document."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from rich.markdown import Markdown

_FORMULAS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("\\boxed{", "}"))


def rendered(text: str) -> Markdown:
    """The text as a renderable. Formulas and tags stay as they are written, and lines end where they end in it."""
    renderable = Markdown("", code_theme="ansi_dark", hyperlinks=False)
    renderable.parsed = _PARSER.parse(text)
    for token in (child for block in renderable.parsed for child in block.children or ()):
        if token.type == "softbreak":
            token.type = "hardbreak"
    return renderable


def complete_length(text: str) -> int:
    """How much of a text that is still growing can be rendered once and for all: all but its last block."""
    whole_lines = text[: text.rfind("\n") + 1]  # half a line can still become anything
    starts = [token.map[0] for token in _PARSER.parse(whole_lines) if token.level == 0 and token.map is not None]
    if len(starts) < 2:
        return 0
    return sum(len(line) for line in whole_lines.splitlines(keepends=True)[: starts[-1]])


def _formula(state: StateInline, silent: bool) -> bool:
    """An inline rule: a formula is text, out of which markdown takes no `*`, `_` or backslash."""
    for opening, closing in _FORMULAS:
        if state.src.startswith(opening, state.pos):
            end = state.src.find(closing, state.pos + len(opening), state.posMax)
            if end < 0:
                return False
            end += len(closing)
            if not silent:
                state.push("text", "", 0).content = state.src[state.pos : end]
            state.pos = end
            return True
    return False


def _build_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.inline.ruler.before("escape", "formula", _formula)
    return parser


_PARSER = _build_parser()
