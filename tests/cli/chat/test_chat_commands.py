"""The slash commands, and the mistakes of other programs that this one does not make."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from rich.console import Console

from zaya_cli.chat.chat import Chat
from zaya_cli.chat.commands import COMMANDS, CommandCompleter
from zaya_cli.chat.line_input import PlainInput
from zaya_cli.chat.view import PlainView
from zaya_cli.flags.generation import GenerationSettings
from zaya_core.engine.events import ThinkingEnded
from zaya_core.errors import PromptTooLongError

CHAT = ("chat", "-n", "8", "--seed", "1", "--thinking-budget", "3")


@pytest.fixture
def chat(zaya, talking_folder, monkeypatch, tmp_path):
    """What `zaya chat` says on stderr when these lines are piped into it; it must end well."""
    monkeypatch.setenv("ZAYA_MODEL", str(talking_folder))

    def chat(*lines, flags=()):
        result = zaya(*CHAT, *flags, piped="".join(f"{line}\n" for line in lines))
        assert result.code == 0
        assert "Traceback" not in result.err
        return result.err

    return chat


def session(tmp_path, name):
    return json.loads((tmp_path / "data" / "zaya" / "sessions" / f"{name}.json").read_text())


def questions(tmp_path, name):
    return [exchange["question"] for exchange in session(tmp_path, name)["exchanges"]]


def test_help_lists_every_command_and_each_has_help(chat):
    said = chat("/help", "/help undo")
    assert all(f"\n{command.usage}  " in said and command.help in said for command in COMMANDS)
    assert said.count("take back the last question") == 2


def test_the_page_about_the_chat_lists_the_commands_as_they_are():
    page = (Path(__file__).parents[3] / "docs" / "chat.md").read_text().replace("\\|", "|")
    rows = [f"| `{command.usage}` | {command.help} |" for command in COMMANDS]
    assert [line for line in page.splitlines() if line.startswith("| `/")] == rows


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/clearly wrong", "/clearly is not a command; did you mean /clear?"),  # names are not matched by prefix
        ("/rege", "did you mean /regen?"),
        ("/undo twice", "/undo takes no argument."),
        ("/file", "Type /file <path>."),
        ("/stats maybe", "type /stats [on|off]"),
        ("/set", "temperature"),
        ("/set colour blue", "colour is not a setting"),
        ("/set temperature warm", "it must be a number"),
        ("/set temperature -1", "temperature is -1.0; it must be from 0"),
        ("/set max_tokens 0", "it must be 1 or more"),
        ("/regen", "no question yet"),
        ("/undo", "nothing to take back"),
        ("/continue", "no answer yet"),
        ("/copy", "no answer to copy"),
        ("/think", "no thinking to show"),
        ("/edit", "needs a terminal"),
        ("/rsa 1 + 1", "give how many candidates"),
        ("/rsa 0", "give how many candidates"),
        ("/load nothing", "There is no session nothing: none was saved yet."),
        ("/load", "No session was saved yet"),
        ("/load ../../etc/passwd", "is not a name"),
        ("/save a/b", "is not a name"),
        ("/file nowhere.txt", "nowhere.txt does not exist"),
        ("/sessions", "No session was saved yet"),
        ("/system", "System message: none"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_one_sentence_and_the_chat_goes_on(chat, tmp_path, line, answer):
    said = chat(line, "hello", "/save after")
    assert answer in said
    assert questions(tmp_path, "after") == ["hello"]


def test_rsa_answers_the_next_question_only(chat, tmp_path):
    asked = ["What is 12+7?", "And plus 4?"]
    said = chat("/rsa 2", *asked, "/rsa", "/save both", flags=("--model", "demo"))
    assert "2 candidates for the next answer" in said
    assert said.count("after round 2") == 1
    assert "Markovian RSA: off" in said
    assert questions(tmp_path, "both") == asked


def test_slashes_and_blocks(chat, tmp_path):
    chat("//etc is a folder", '"""', "two", "lines", '"""', "one \\", "message", "   ", "/save texts")
    assert questions(tmp_path, "texts") == ["/etc is a folder", "two\nlines", "one \nmessage"]


def test_a_file_goes_with_the_next_message_only_and_is_forgotten_by_clear(chat, tmp_path):
    (tmp_path / "notes.txt").write_text("the cat sat")
    said = chat("/file notes.txt", "/clear", "alone", "/file notes.txt", "with it", "without", "/save files")
    assert "tokens, goes with the next message" in said
    assert questions(tmp_path, "files") == ["alone", "notes.txt:\nthe cat sat\n\nwith it", "without"]


def test_save_and_load_carry_everything_over(chat, tmp_path):
    """`/save NAME` and `/load NAME` do what they say with an argument and without."""
    said = chat("/system be kind", "one", "two", "/save first", "/clear", "three", "/load", "four", "/save")
    assert questions(tmp_path, "first") == ["one", "two", "four"]
    assert session(tmp_path, "first")["system"] == "be kind"
    assert "first: 2 questions and answers. " in said
    assert "tokens of it are ready" in said


def test_a_saved_session_is_not_overwritten_by_another_conversation(chat, tmp_path):
    chat("one", "/save name")
    said = chat("two", "/save name")
    assert "There is a session name already" in said
    assert questions(tmp_path, "name") == ["one"]


def test_a_loaded_session_goes_on_with_its_seed_and_its_state(chat, tmp_path):
    whole = chat("one", "two", "/save whole")
    chat("one", "/save half", flags=("--seed", "1"))
    said = chat("/load half", "two", "/save", "/stats on", "/regen")
    assert session(tmp_path, "half")["exchanges"] == session(tmp_path, "whole")["exchanges"], whole + said


def test_the_state_of_other_weights_is_not_used(chat, tmp_path, talking_folder, endless_folder, monkeypatch):
    chat("one", "/save theirs")
    monkeypatch.setenv("ZAYA_MODEL", str(endless_folder))
    said = chat("/load theirs", "/continue", "two", "/save ours")
    assert "belongs to other weights" in said
    assert "another model's" in said
    assert questions(tmp_path, "ours") == ["one", "two"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"zaya_session": 2}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_session_is_said_and_left_as_it_was(chat, tmp_path, content):
    folder = tmp_path / "data" / "zaya" / "sessions"
    folder.mkdir(parents=True)
    (folder / "old.json").write_bytes(content)
    assert "is damaged or of another version" in chat("/load old", "hello")
    assert (folder / "old.json").read_bytes() == content


def test_a_damaged_state_is_read_again(chat, tmp_path):
    chat("one", "/save name")
    state = tmp_path / "data" / "zaya" / "sessions" / "name.safetensors"
    state.write_bytes(state.read_bytes()[:-7])
    said = chat("/load name", "two", "/save")
    assert "It is read again with the next question" in said
    assert questions(tmp_path, "name") == ["one", "two"]


def test_settings_count_from_the_next_answer_on(chat, tmp_path):
    said = chat("/set max_tokens 5", "one", "/set thinking_budget 0", "/stats on", "/set seed 7", "two", "/info")
    assert "The answer was cut after 5 tokens (--max-tokens); /continue goes on." in said
    assert "answer 5 tokens (1 thinking" in said
    assert "seed 7" in said


def test_a_full_context_is_said_and_nothing_is_dropped(chat, tmp_path):
    said = chat("/set max_tokens off", "one", "two", "/tokens", "/save full", flags=("--ctx", "100"))
    assert "the context of 100 tokens is full" in said
    assert "and the context holds 100 including the answer" in said
    assert questions(tmp_path, "full") == ["one"]


def test_the_seed_is_another_one_in_every_chat(zaya, talking_folder):
    seeds = {zaya("chat", "-m", talking_folder, piped="/set seed\n").err.split("seed ")[1] for _ in range(2)}
    assert len(seeds) == 2


def test_nothing_is_written_that_was_not_asked_for_when_a_program_holds_the_chat(chat, tmp_path):
    chat("one", "two")
    assert not list(tmp_path.rglob("*.json"))


def test_a_screen_that_fails_loses_no_partial_answer(chat, tmp_path, monkeypatch):
    class Failing(PlainView):
        def show(self, event):
            super().show(event)
            if isinstance(event, ThinkingEnded):
                raise OSError(5, "Input/output error")

    monkeypatch.setattr("zaya_cli.chat.chat.view_for", Failing)
    chat("one", "two", "/save partial")
    exchanges = session(tmp_path, "partial")["exchanges"]
    assert [(exchange["reason"], bool(exchange["thinking"])) for exchange in exchanges] == [("cancelled", True)] * 2


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("/un", ["undo"]),
        ("/think s", ["show", "stderr"]),
        ("/set top", ["top_p", "top_k"]),
        ("/stats ", ["on", "off"]),
        ("hello /un", []),
        ("/undo ", []),
    ],
)
def test_completion_comes_from_the_same_table(typed, expected):
    completions = CommandCompleter(None).get_completions(Document(typed), CompleteEvent())  # type: ignore[arg-type]
    assert [completion.text for completion in completions] == expected


@pytest.mark.processes
def test_a_full_disk_during_save_harms_nothing_and_the_chat_goes_on(talking_folder, tmp_path):
    """No file may grow beyond 1,500 bytes: texts still fit, what was computed does not, then not even the texts."""
    environment = {"XDG_DATA_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # they would be cut, too, and stay
    long = "the cat sat on the mat " * 10
    lines = ["one", "/save name", "/save name", long, long, "/save name", "hello", "/exit", ""]
    done = subprocess.run(
        [sys.executable, "-m", "zaya_cli.app", *CHAT, "-m", str(talking_folder)],
        input="\n".join(lines), capture_output=True, text=True, check=False, env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Saved as name: 1 question and answers") == 2
    assert "not what was computed of it" in done.stderr
    assert "File too large" in done.stderr
    folder = tmp_path / "zaya" / "sessions"
    # the older one, whole, and its lock; nothing half written
    assert sorted(path.name for path in folder.iterdir()) == [".name.lock", "name.json"]
    assert [item["question"] for item in json.loads((folder / "name.json").read_text())["exchanges"]] == ["one"]


@pytest.mark.parametrize("flags", [(), ("--no-history",)])
def test_a_chat_that_is_not_kept_writes_nothing_and_says_so(chat, tmp_path, flags):
    real = tmp_path / "data/zaya/sessions/chat-20260101-000000.safetensors"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"what another chat has computed")
    said = chat("hello", "/clear", "again", "/info", flags=flags)
    assert "A new conversation.\n" in said
    assert "session not kept" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


def test_files_of_others_in_the_folder_are_no_sessions(chat, tmp_path):
    folder = tmp_path / "data/zaya/sessions"
    chat("hello", "/save mine")
    for name in ("my notes.json", "nl\nname.json", "\x1b[2J.json", ".hidden.json"):
        (folder / name).write_text("{}")
    assert "mine" in (said := chat("/sessions", "/load"))
    assert "1 question and answers" in said
    assert "not a name" not in said


def test_a_stop_that_comes_before_an_error_does_not_stop_the_next_answer():
    conversation = SimpleNamespace(settings=GenerationSettings(), stop_requested=True, stop=lambda: None)
    keeper = SimpleNamespace(keep=lambda: None)
    parts: Any = (None, conversation, Console(file=io.StringIO()), keeper, PlainInput())
    opened = Chat(*parts)

    def too_long():
        raise PromptTooLongError("It does not fit.")
        yield

    with pytest.raises(PromptTooLongError):
        opened.answer(too_long())
    assert not conversation.stop_requested


def test_a_conversation_longer_than_the_context_says_what_to_do(chat):
    said = chat("the " * 600, "/tokens")
    assert "-" not in next(line for line in said.splitlines() if "tokens of the context are used" in line)
