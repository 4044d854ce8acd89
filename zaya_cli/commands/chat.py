"""`zaya chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from rich.console import Console

from zaya_cli.chat import repl
from zaya_cli.chat.chat import Chat
from zaya_cli.chat.commands import CommandCompleter
from zaya_cli.chat.conversation import Conversation
from zaya_cli.chat.input_history import InputHistory
from zaya_cli.chat.line_input import PlainInput, TerminalInput
from zaya_cli.chat.session_file import SessionFolder
from zaya_cli.chat.session_keeper import SessionKeeper
from zaya_cli.failures import sentence_of
from zaya_cli.flags.chat import ChatSettings
from zaya_cli.runtime import Runtime, open_runtime
from zaya_cli.terminal.echo import without_echo
from zaya_cli.terminal.output import stderr_console
from zaya_cli.user_files import history_file, sessions_folder
from zaya_core.errors import ZayaError


def chat(settings: ChatSettings) -> None:
    """Ask and answer until the person leaves. An error never ends the conversation."""
    console = stderr_console(settings.color)
    status = console.status("loading the model") if console.is_terminal else nullcontext()
    with without_echo() if _can_edit_lines(console) else nullcontext(), status:
        runtime = open_runtime(settings.runtime)
    opened = _build(settings, runtime, console)
    for line in opened.header():
        opened.say(line)
    opened.say("/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.")
    if settings.resume:
        _resume(opened)
    repl.run(opened)


def _build(settings: ChatSettings, runtime: Runtime, console: Console) -> Chat:
    """Nothing is kept by itself for a chat that a program holds; a person can be drawn a line editor for."""
    is_person = _has_person()
    sampling = settings.generation.sampling(runtime.folder)
    conversation = Conversation(runtime.engine, settings.generation, sampling, settings.system)
    keeper = SessionKeeper(
        conversation, SessionFolder(sessions_folder()), runtime.name, runtime.found.folder.fingerprint,
        is_person and settings.keeps_history, lambda text: console.print(f"zaya: {text}"),
    )  # fmt: skip
    opened = Chat(runtime, conversation, console, keeper, PlainInput(), settings.stats)
    if _can_edit_lines(console):
        opened.input = _line_editor(settings, opened)
    return opened


def _has_person() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _can_edit_lines(console: Console) -> bool:
    return _has_person() and not console.is_dumb_terminal


def _line_editor(settings: ChatSettings, opened: Chat) -> TerminalInput:
    history = InputHistory(history_file()) if settings.keeps_history else None
    if history is not None and history.failure is not None:
        opened.say(f"{history_file()} cannot be used ({history.failure}): what is typed is not remembered.")
    has_color = settings.color != "never" and not opened.console.no_color
    return TerminalInput(history, CommandCompleter(opened), opened.context_note, has_color)


def _resume(opened: Chat) -> None:
    """Go on with the last conversation; one that cannot be read is left as it is, and a new one begins."""
    try:
        opened.say(opened.keeper.load(None))
    except ZayaError as error:
        opened.console.print(f"zaya: {sentence_of(error)}")
    else:
        for exchange in opened.conversation.exchanges[-1:]:
            opened.show_exchange(exchange)
