"""An aggregation prompt of somebody's own: a Jinja template in a file, in the sandbox that renders chat templates.

It sees `question` (text), `candidates` (a list of texts, one or more) and `n` (how many).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import NoReturn

from jinja2 import Environment, TemplateSyntaxError, meta, nodes
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.ext import loopcontrols

from zaya_core.errors import UsageError
from zaya_core.files.bounded_file import decoded, read_file
from zaya_core.text.template.chat_template import MAX_TEMPLATE_BYTES, compile_in_sandbox

NEEDED = ("question", "candidates")
KNOWN = (*NEEDED, "n")
_FUNCTIONS = (*DEFAULT_NAMESPACE, "raise_exception", "strftime_now")
_QUESTION, _CANDIDATE = "4f1c the question", "4f1c candidate {}"  # of a trial; no template holds them by chance
_CODE = "<template>"  # what Jinja calls the file of a template made from text


class PromptFile:
    """A prompt that renders a template; `source` is its text.

    It is tried when it is made, with one, two and `most` candidates. Raises MissingFileError; UsageError, which names
    the file and, where there is one, the line; so does calling it, with a text on which the template fails.
    """

    def __init__(self, path: Path, most: int):
        self.path = path
        self.source = decoded(read_file(path, MAX_TEMPLATE_BYTES), str(path))
        self._write = self._compiled()
        for count in sorted({1, min(2, most), most}):
            self._try([_CANDIDATE.format(number) for number in range(count)])

    def __call__(self, question: str, candidates: Sequence[str]) -> str:
        try:
            return self._write({"question": question, "candidates": list(candidates), "n": len(candidates)})
        except Exception as error:  # a template is a foreign program: whatever it raises is its own failure
            self._refuse(_line_of(error), _words(error))

    def _compiled(self) -> Callable[[Mapping[str, object]], str]:
        try:
            self._check_names(Environment(extensions=[loopcontrols]).parse(self.source))
            return compile_in_sandbox(self.source)
        except UsageError:
            raise
        except TemplateSyntaxError as error:
            self._refuse(error.lineno, _words(error))
        except Exception as error:  # Python's own, of what Jinja makes of the template
            self._refuse(_line_of(error), _words(error))

    def _check_names(self, tree: nodes.Template) -> None:
        used = meta.find_undeclared_variables(tree)
        for name in tree.find_all(nodes.Name):
            if name.name in used and name.name not in (*KNOWN, *_FUNCTIONS):
                self._refuse(name.lineno, f"{name.name} is not known here; {', '.join(KNOWN)} are")
        for needed in NEEDED:
            if needed not in used:
                self._refuse(None, f"it must show both question and candidates, and lacks {needed}")

    def _try(self, candidates: list[str]) -> None:
        shown = self(_QUESTION, candidates)
        missing = [text for text in (_QUESTION, *candidates) if text not in shown]
        if missing:
            what = "the question" if missing[0] == _QUESTION else f"candidate {candidates.index(missing[0]) + 1}"
            self._refuse(None, f"with {len(candidates)} candidates it does not show {what}")

    def _refuse(self, line: int | None, problem: str) -> NoReturn:
        where = f"{self.path}, line {line}" if line else str(self.path)
        raise UsageError(f"{where}: {problem.rstrip('.')} (a template for --rsa-prompt).") from None


def _line_of(error: Exception) -> int | None:
    """Jinja puts the template's own lines into a traceback."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == _CODE]
    return lines[-1] if lines else None


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
