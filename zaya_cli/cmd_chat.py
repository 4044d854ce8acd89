"""`zaya chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from zaya_cli.conversation import Conversation
from zaya_cli.failures import INTERRUPTED, Interrupted, sentence_of
from zaya_cli.generation import GenerationSettings
from zaya_cli.interrupt import stopping
from zaya_cli.output import Color, stderr_console
from zaya_cli.render import AnswerView, stats_line
from zaya_cli.runtime import Runtime, RuntimeSettings, open_runtime
from zaya_core.events import Finished

_SECONDS_BETWEEN_INTERRUPTS = 2.0
_HELP = """\
/help    this list
/clear   forget the conversation
/exit    leave (also Ctrl-D)
Ctrl-C stops an answer and keeps what there is of it. //text sends a message that begins with a slash."""


@dataclass(frozen=True)
class ChatSettings:
    """All that `zaya chat` was asked for."""

    system: str | None
    runtime: RuntimeSettings
    generation: GenerationSettings
    stats: bool
    color: Color


def chat(settings: ChatSettings) -> None:
    """Ask and answer until the person leaves. An error never ends the conversation."""
    console = stderr_console(settings.color)
    runtime = open_runtime(settings.runtime)
    sampling = settings.generation.sampling(runtime.folder)
    conversation = Conversation(runtime.engine, settings.generation, sampling, settings.system)
    context = f"context {runtime.engine.context:,}"
    console.print(f"{runtime.name} · {runtime.engine.model.device} · {context} · /help for help", style="dim")
    read = _reader()
    while (text := _next_message(read, console)) is not None:
        if text.startswith("/") and not text.startswith("//"):
            if not _obey(text, conversation, console):
                return
        elif text.strip():
            _answer(text[1:] if text.startswith("//") else text, conversation, settings, runtime, console)


def _reader() -> Callable[[], str]:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return lambda: _line_of(sys.stdin.readline())
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output import create_output

    session: PromptSession[str] = PromptSession(output=create_output(stdout=sys.stderr))
    return lambda: session.prompt(">>> ")


def _line_of(line: str) -> str:
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _next_message(read: Callable[[], str], console: Console) -> str | None:
    """The next line; None at the end of input. Ctrl-C twice within two seconds raises Interrupted."""
    last_interrupt = -_SECONDS_BETWEEN_INTERRUPTS
    while True:
        try:
            return read()
        except EOFError:
            return None
        except KeyboardInterrupt:
            if time.monotonic() - last_interrupt < _SECONDS_BETWEEN_INTERRUPTS:
                raise Interrupted(INTERRUPTED) from None
            last_interrupt = time.monotonic()
            console.print("Ctrl-C again, or Ctrl-D, leaves.", style="dim")


def _obey(command: str, conversation: Conversation, console: Console) -> bool:
    """Carry out a slash command. False: leave."""
    command = command.strip()
    if command == "/exit":
        return False
    if command == "/clear":
        conversation.clear()
        console.print("The conversation is forgotten.", style="dim")
    elif command == "/help":
        console.print(_HELP)
    else:
        console.print(f"{command.split()[0]} is not a command; /help lists them.")
    return True


def _answer(text: str, conversation: Conversation, settings: ChatSettings, runtime: Runtime, console: Console) -> None:
    view = AnswerView(console, settings.generation.thinking, quiet=False)
    try:
        with stopping(on_first=conversation.stop) as stop:
            for event in conversation.answer(text):
                view.show(event)
                if isinstance(event, Finished) and settings.stats:
                    console.print(
                        stats_line(event.stats, conversation.sampling.seed, runtime.load_seconds), style="dim"
                    )
                if isinstance(event, Finished) and event.reason == "length":
                    console.print("The answer was cut at its length limit (--max-tokens, --ctx).", style="dim")
        if stop.exit_code is not None:
            console.print("[stopped]", style="dim")
            if stop.exit_code != INTERRUPTED:
                raise Interrupted(stop.exit_code)
    except Interrupted:
        raise
    except Exception as error:  # whatever it is, the conversation goes on
        console.print(f"zaya: {sentence_of(error)}")
