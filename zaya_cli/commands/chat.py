"""`zaya chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass

from rich.console import Console

from zaya_cli.chat.commands import CommandCompleter, header
from zaya_cli.chat.conversation import Conversation
from zaya_cli.chat.input_history import InputHistory
from zaya_cli.chat.line_input import PlainInput, TerminalInput
from zaya_cli.chat.repl import Repl
from zaya_cli.chat.session_file import SessionFolder
from zaya_cli.chat.session_keeper import SessionKeeper
from zaya_cli.failures import sentence_of
from zaya_cli.flags.generation import GenerationSettings
from zaya_cli.runtime import Runtime, RuntimeSettings, open_runtime
from zaya_cli.terminal.echo import without_echo
from zaya_cli.terminal.output import Color, stderr_console
from zaya_cli.user_files import history_file, sessions_folder
from zaya_core.errors import ZayaError


@dataclass(frozen=True)
class ChatSettings:
    """All that `zaya chat` was asked for. keeps_history: whether anything is written without being asked for."""

    system: str | None
    runtime: RuntimeSettings
    generation: GenerationSettings
    stats: bool
    color: Color
    resume: bool = False
    keeps_history: bool = True


def chat(settings: ChatSettings) -> None:
    """Ask and answer until the person leaves. An error never ends the conversation."""
    console = stderr_console(settings.color)
    status = console.status("loading the model") if console.is_terminal else nullcontext()
    with without_echo() if _can_edit_lines(console) else nullcontext(), status:
        runtime = open_runtime(settings.runtime)
    repl = _build(settings, runtime, console)
    for line in header(repl):
        repl.say(line)
    repl.say("/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.")
    if settings.resume:
        _resume(repl)
    repl.run()


def _build(settings: ChatSettings, runtime: Runtime, console: Console) -> Repl:
    """Nothing is kept by itself for a chat that a program holds; a person can be drawn a line editor for."""
    is_person = _has_person()
    sampling = settings.generation.sampling(runtime.folder)
    conversation = Conversation(runtime.engine, settings.generation, sampling, settings.system)
    keeper = SessionKeeper(
        conversation, SessionFolder(sessions_folder()), runtime.name, runtime.folder,
        is_person and settings.keeps_history, lambda text: console.print(f"zaya: {text}"),
    )  # fmt: skip
    repl = Repl(runtime, conversation, console, keeper, PlainInput(), settings.stats)
    if _can_edit_lines(console):
        repl.input = _line_editor(settings, repl)
    return repl


def _has_person() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _can_edit_lines(console: Console) -> bool:
    return _has_person() and not console.is_dumb_terminal


def _line_editor(settings: ChatSettings, repl: Repl) -> TerminalInput:
    history = InputHistory(history_file()) if settings.keeps_history else None
    if history is not None and history.failure is not None:
        repl.say(f"{history_file()} cannot be used ({history.failure}): what is typed is not remembered.")
    has_color = settings.color != "never" and not repl.console.no_color
    return TerminalInput(history, CommandCompleter(repl), repl.context_note, has_color)


def _resume(repl: Repl) -> None:
    """Go on with the last conversation; one that cannot be read is left as it is, and a new one begins."""
    try:
        repl.say(repl.keeper.load(None))
    except ZayaError as error:
        repl.console.print(f"zaya: {sentence_of(error)}")
    else:
        for exchange in repl.conversation.exchanges[-1:]:
            repl.show_exchange(exchange)
