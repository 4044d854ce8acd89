"""The slash commands of the chat: one table for carrying out, `/help` and completion."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from zaya_cli.answer.prompts import read_text_file
from zaya_cli.chat.answer_settings import NAMES, change, shown
from zaya_cli.chat.chat import Chat, Leave
from zaya_cli.chat.pasted_path import pasted_path
from zaya_cli.flags.generation import ThinkingMode
from zaya_cli.flags.typed import typed
from zaya_cli.terminal.visible import one_line
from zaya_core.errors import UsageError


@dataclass(frozen=True)
class Command:
    """`argument`: "" for none, `[x]` for one that may be left out, `<x>` for one that must be there; `|` separates
    the only values that it may have."""

    name: str
    argument: str
    help: str
    run: Callable[[Chat, str], None]
    choices: Callable[[Chat], Iterable[str]] | None = None

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.argument}".strip()

    @property
    def values(self) -> list[str]:
        """The values that the argument may have, none if any text will do."""
        return self.argument.strip("[]<>").split("|") if "|" in self.argument else []


def obey(chat: Chat, line: str) -> None:
    """Carry out a line that begins with a slash. Raises UsageError, and what the command raises."""
    name, _, argument = line[1:].strip().partition(" ")
    argument = argument.strip()
    command = _BY_NAME.get(name)
    if command is None:
        close = difflib.get_close_matches(name, _BY_NAME, n=1)
        hint = f"did you mean /{close[0]}? " if close else ""
        raise UsageError(f"/{name} is not a command; {hint}/help lists them, //{name} sends it as text.")
    if argument and not command.argument:
        raise UsageError(f"/{name} takes no argument.")
    if not argument and command.argument.startswith("<"):
        raise UsageError(f"Type {command.usage}.")
    if argument and command.values and argument not in command.values:
        raise UsageError(f"/{name} {argument}: type {command.usage}.")
    command.run(chat, argument)


class CommandCompleter(Completer):
    """Names of commands behind a slash at the very beginning, then their arguments."""

    def __init__(self, chat: Chat):
        self._repl = chat

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        if not space:
            for command in COMMANDS:
                if command.name.startswith(name):
                    yield Completion(command.name, -len(name), display=command.usage, display_meta=command.help)
        elif name in _BY_NAME:
            yield from self._arguments(_BY_NAME[name], argument, event)

    def _arguments(self, command: Command, argument: str, event: CompleteEvent) -> Iterable[Completion]:
        if command.argument == "<path>":
            for found in PathCompleter(expanduser=True).get_completions(Document(argument), event):
                yield Completion(found.text, found.start_position, display=one_line(found.display_text))
        else:
            values = command.values or (command.choices(self._repl) if command.choices else ())
            fitting = (value for value in values if value.startswith(argument))
            yield from (Completion(value, -len(argument), display=one_line(value)) for value in fitting)


def _help(chat: Chat, argument: str) -> None:
    if argument:
        command = _BY_NAME.get(argument.removeprefix("/"))
        if command is None:
            raise UsageError(f"/{argument} is not a command; /help lists them.")
        chat.console.print(f"{command.usage}  {command.help}")
        return
    width = max(len(command.usage) for command in COMMANDS)
    for command in COMMANDS:
        chat.console.print(f"{command.usage:<{width}}  {command.help}")
    chat.console.print(_KEYS)


def _exit(chat: Chat, argument: str) -> None:
    raise Leave


def _clear(chat: Chat, argument: str) -> None:
    is_kept = chat.keeper.begin_anew()
    chat.staged.clear()
    chat.say("A new conversation. The old one is kept: /sessions." if is_kept else "A new conversation.")


def _system(chat: Chat, argument: str) -> None:
    if argument:
        chat.conversation.system = None if argument == "off" else argument
    chat.say(f"System message: {chat.conversation.system or 'none'}")


def _set(chat: Chat, argument: str) -> None:
    name, _, text = argument.partition(" ")
    if not name:
        for known in NAMES:
            chat.console.print(f"{known} {shown(chat.conversation, known)}")
        return
    if name not in NAMES:
        raise UsageError(f"{name} is not a setting; there are {', '.join(NAMES)}.")
    if text:
        change(chat.conversation, name, text.strip())
    chat.say(f"{name} {shown(chat.conversation, name)}")


def _stats(chat: Chat, argument: str) -> None:
    chat.shows_stats = argument == "on" if argument else not chat.shows_stats
    chat.say(f"Statistics are {'on' if chat.shows_stats else 'off'}.")


def _think(chat: Chat, argument: str) -> None:
    if argument:
        mode: Any = argument
        chat.conversation.settings = replace(chat.conversation.settings, thinking=mode)
        chat.say(f"Thinking: {argument}")
        return
    thinking = next((exchange.thinking for exchange in reversed(chat.conversation.exchanges)), "")
    if not thinking:
        raise UsageError("There is no thinking to show.")
    chat.say(thinking)


def _regenerate(chat: Chat, argument: str) -> None:
    chat.answer(chat.conversation.ask_again())


def _undo(chat: Chat, argument: str) -> None:
    question = chat.conversation.undo()
    chat.say(f"Taken back: {question.splitlines()[0][:60] if question.strip() else question}")


def _continue(chat: Chat, argument: str) -> None:
    chat.answer(chat.conversation.go_on())


def _edit(chat: Chat, argument: str) -> None:
    conversation = chat.conversation
    last = conversation.unanswered or (conversation.exchanges[-1].question if conversation.exchanges else "")
    try:
        text = chat.input.edit(last).strip()
    except (EOFError, KeyboardInterrupt):  # out of the line that the editor left behind
        text = ""
    if not text or text == last:
        chat.say("Nothing was changed.")
    elif last:
        chat.answer(conversation.ask_again(text))
    else:
        chat.ask(text)


def _file(chat: Chat, argument: str) -> None:
    path = pasted_path(argument)
    text = read_text_file(path)
    chat.staged[str(path)] = f"{path.name}:\n{text}"
    tokens = len(chat.runtime.engine.tokenizer.encode(text))
    chat.say(f"{one_line(path.name)}, {tokens:,} tokens, goes with the next message (/clear forgets it).")


def _save(chat: Chat, argument: str) -> None:
    path = _file_of(argument)
    chat.say(chat.keeper.save(argument or None) if path is None else chat.keeper.export(path))


def _load(chat: Chat, argument: str) -> None:
    path = _file_of(argument)
    chat.say(chat.keeper.load(argument or None) if path is None else chat.keeper.load_file(path))
    chat.staged.clear()
    if chat.conversation.exchanges:
        chat.show_exchange(chat.conversation.exchanges[-1])


def _file_of(argument: str) -> Path | None:
    """The file that is meant; None for a bare name, which is a session's. Raises UsageError for another ending."""
    separators = ("/", os.sep, os.altsep or "/")
    if not argument.startswith("~") and not any(separator in argument for separator in separators):
        return None
    path = pasted_path(argument)
    if "\0" in str(path):
        raise UsageError(f"{argument!r} is not the name of a file.")
    if path.suffix.lower() != ".json":
        raise UsageError(f"{argument!r} is not a name, and as a file it must end in .json.")
    return path


def _names(chat: Chat) -> list[str]:
    return chat.keeper.folder.names()


def _sessions(chat: Chat, argument: str) -> None:
    names = chat.keeper.folder.names()
    for name in names:
        mark = " (this one)" if name in (chat.keeper.name, chat.keeper.automatic) else ""
        chat.console.print(one_line(name) + mark)
    if not names:
        chat.say("No session was saved yet.")


def _copy(chat: Chat, argument: str) -> None:
    from zaya_cli.chat.clipboard import copy

    if not chat.conversation.exchanges:
        raise UsageError("There is no answer to copy yet.")
    chat.say(f"The last answer was sent to {copy(chat.conversation.exchanges[-1].answer)}.")


def _tokens(chat: Chat, argument: str) -> None:
    used, context = chat.conversation.tokens_in_use(), chat.runtime.engine.context
    encode = chat.runtime.engine.tokenizer.encode
    for exchange in chat.conversation.exchanges:
        texts = {"question": exchange.question, "thinking": exchange.thinking, "answer": exchange.answer}
        counts = ", ".join(f"{kind} {len(encode(text)):,}" for kind, text in texts.items())
        chat.console.print(f"{counts}: {exchange.question.splitlines()[0][:40] if exchange.question.strip() else ''}")
    left = f"{context - used:,} are left" if used <= context else "more than there are: /undo or /clear makes room"
    chat.console.print(f"{used:,} of {context:,} tokens of the context are used, {left}.")


def _info(chat: Chat, argument: str) -> None:
    for line in chat.header():
        chat.console.print(line)
    sampling = chat.conversation.sampling
    settings = ", ".join(f"{name} {shown(chat.conversation, name)}" for name in NAMES)
    chat.console.print(f"{settings}, thinking {chat.conversation.settings.thinking}")
    chat.console.print(f"session {chat.keeper.name or chat.keeper.automatic or 'not kept'}, seed {sampling.seed}")
    chat.console.print(f"system message: {chat.conversation.system or 'none'}")


def _rsa(chat: Chat, argument: str) -> None:
    if argument:
        chat.candidates = None if argument == "off" else _candidates(chat, argument)
    chat.say("Markovian RSA: " + (f"{chat.candidates} candidates for the next answer" if chat.candidates else "off"))


def _candidates(chat: Chat, text: str) -> int:
    """How many are meant. Raises UsageError."""
    try:
        count: int = typed(int, text)
    except ValueError:
        count = 0
    if count < 1:
        raise UsageError(f"/rsa {text}: give how many candidates think about the next question, such as 8, or off.")
    if chat.conversation.sampling.temperature == 0:
        raise UsageError("/rsa needs a temperature above 0, or all candidates think the same: /set temperature 1.")
    return count


COMMANDS: tuple[Command, ...] = (
    Command("help", "[command]", "this list, or one line of it", _help, lambda _: _BY_NAME),
    Command("regen", "", "another answer to the last question", _regenerate),
    Command("continue", "", "go on with an answer that was stopped or cut", _continue),
    Command("undo", "", "take back the last question and its answer", _undo),
    Command("edit", "", "change the last question in your editor and ask it instead", _edit),
    Command("file", "<path>", "send a text file with the next message", _file),
    Command("copy", "", "copy the last answer to the clipboard", _copy),
    Command("think", f"[{'|'.join(get_args(ThinkingMode))}]", "how thinking is shown; alone: the last one", _think),
    Command("rsa", "[N, off]", "N candidates and rounds of aggregation for the next answer", _rsa),
    Command("system", "[text]", "show or set the system message; off removes it", _system),
    Command("set", "[name value]", "show or change sampling, lengths and the seed", _set, lambda _: NAMES),
    Command("stats", "[on|off]", "tokens, speed, memory and seed after each answer", _stats),
    Command("tokens", "", "how much of the context is used, and by what", _tokens),
    Command("info", "", "model, device, settings and session", _info),
    Command("save", "[name]", "save the conversation, also in a file: PATH.json", _save),
    Command("load", "[name]", "go on with a saved one, also from a file: PATH.json", _load, _names),
    Command("sessions", "", "list what is saved, the newest first", _sessions),
    Command("clear", "", "begin a new conversation", _clear),
    Command("exit", "", "leave (also Ctrl-D)", _exit),
)
_BY_NAME: dict[str, Command] = {command.name: command for command in COMMANDS}
_KEYS = (
    'Alt-Enter or \\ at the end adds a line, """ opens and closes a block, pasted text is one message.\n'
    "Ctrl-G opens your editor, Ctrl-R searches what you typed before, Ctrl-C stops an answer and keeps it.\n"
    "//text sends a message that begins with a slash."
)
