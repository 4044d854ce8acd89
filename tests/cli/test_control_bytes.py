"""What models, servers, files and names say is shown: it steers no terminal, and it is not changed in a pipe."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import random
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from safetensors.torch import load_file, save_file

import zaya_cli
from tests.cli.conftest import biased_folder
from tests.cli.pseudo_terminal import Terminal
from tests.core.rsa.faulty_server import Behaviour, served
from tests.fuzz.budget import rounds
from zaya_cli.completion import complete_model
from zaya_cli.models.folder import BUNDLED
from zaya_cli.terminal import markdown
from zaya_cli.terminal.output import VisibleConsole
from zaya_cli.terminal.visible import escaped, one_line, visible

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HOSTILE = "a\x1b]0;pwned\x07\x1b[?1000h\x1b]52;c;cHdu\x07\x9b31m\u202eb\u2066\r\x08\x7f\u2028c"
SHOWN = "a␛]0;pwned␇␛[?1000h␛]52;c;cHdu␇<U+009B>31m<U+202E>b<U+2066>␍␈␡<U+2028>c"
OWN = re.compile(r"\x1b\[[\d;]*m|\r?\x1b\[2K|\r\n")  # colours, the counter, and what a terminal makes of a newline
ASK = ["run", "-p", "1+1", "--device", "cpu", "-n", "2", "-m"]


def steers(character):
    is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDI
    return is_control and character not in "\n\t"


def assert_steers_nothing(text):
    rest = OWN.sub("", text)
    assert not list(filter(steers, rest)), ascii(rest)


PIECES = [
    *("\x1b", "\x1b[2J", "\x9b", "\r", "\u202e", "\u2028", "\udc9b", "\x7f", "\x00", "&#x202e;", "&#13;", "<U+202E>"),
    *("`", "```\n", "**", "[b](http://x)", "![b](x)", "[bold]", "[link=x]y[/link]"),
    *("# ", "| a | b |\n|--|--|\n", ":smile:"),
    *("\n", "\t", "\xe9", "\u6f22", "\U0001f469\u200d\U0001f467", "word "),
]


def random_text(case):
    draw = random.Random(case)
    return "".join(draw.choice(PIECES) for _ in range(draw.randrange(30)))


# --- the functions ----------------------------------------------------------------------------------------------------


def test_every_character_that_steers_is_shown_and_no_other_is_touched():
    for code in range(1 << 16):
        character = chr(code)
        if steers(character):
            assert visible(character) != character
        elif not 0x2066 <= code <= 0x206F:
            assert visible(character) == character
    assert visible(HOSTILE) == SHOWN
    assert visible("caf\udce9") == "caf<0xE9>"
    assert one_line("a\nb\tc") == "a␊b␉c"


def test_a_sequence_split_across_pieces_is_shown_as_if_it_were_whole():
    for at in range(len(HOSTILE)):
        assert visible(HOSTILE[:at]) + visible(HOSTILE[at:]) == SHOWN


def test_json_is_the_same_value_without_what_steers():
    for case in rounds(200):
        value = [random_text(case), {HOSTILE: HOSTILE}]
        text = escaped(json.dumps(value, ensure_ascii=False))
        assert json.loads(text) == value
        assert_steers_nothing(text)


def test_nothing_that_a_console_draws_steers():
    """Strings, texts, tables and markdown, whose entities become characters only when it is drawn."""
    for case in rounds(60):
        text, stream = random_text(case), io.StringIO()
        console = VisibleConsole(file=stream, force_terminal=True, color_system="standard", width=40)
        table = Table()
        table.add_column(text)
        table.add_row(text)
        table.add_row(Text(text))
        for renderable in (text, Text(text), table, markdown.rendered(text)):
            console.print(renderable)
        assert_steers_nothing(stream.getvalue())


def test_markup_and_names_of_emoji_in_a_text_mean_nothing(on_terminal, tmp_path):
    name = "[bold]x[link=http:y]:smile:"
    (tmp_path / name).write_text("1+1")
    text = on_terminal(*ASK, "demo", name, name, NO_COLOR="1")
    assert f"== {name}" in text


# --- on a terminal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def on_terminal(zaya, monkeypatch):
    """Run `zaya ARGUMENTS` in this process with its output on a pseudo-terminal: what came."""

    def run(*arguments, **environment):
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "200", **environment}.items():
            monkeypatch.setenv(name, value)
        master, slave = pty.openpty()
        chunks = []
        reader = threading.Thread(target=lambda: chunks.extend(read_all(master)))
        reader.start()
        with open(slave, "w", encoding="utf-8") as stream, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            patched.setattr(sys, "stderr", stream)
            zaya(*arguments)
        reader.join()
        return b"".join(chunks).decode()

    return run


def read_all(master):
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux's end of a terminal
            return
        if not chunk:
            return
        yield chunk


def test_the_progress_of_a_model_check_wipes_itself_away(on_terminal, monkeypatch):
    monkeypatch.setattr("zaya_core.measure.checkup.speed._BLOCK_BYTES", 1 << 20)
    text = on_terminal("doctor", "-m", "demo", "--device", "cpu")
    assert "\x1b[2Kloading the model ...\r\x1b[2K" in text
    assert all(line.startswith(("\x1b[2K", "  ", "! ", "\r", "No problems")) for line in text.split("\n") if line)
    assert_steers_nothing(text)
    assert "\x1b" not in on_terminal("doctor", "-m", "demo", "--device", "cpu", NO_COLOR="1")


@pytest.fixture(scope="module")
def steering_folder(tmp_path_factory):
    """A model that says control bytes, also those that are whole only with the next token, and few words."""
    said = {"<0x1B>", "<0x07>", "<0x0D>", "<0x08>", "<0xC2>", "<0x9B>", "<0x5B>", "<0x5D>", "<0x0A>", "\u2581the"}
    return biased_folder(tmp_path_factory.mktemp("steering"), lambda piece: 0.0 if piece in said else -1e4)


LONG_ENOUGH = ["-n", "60", "--thinking-budget", "30", "-t", "100", "--top-p", "1", "--seed", "1"]
SAYS = ["run", "-p", "x", "--device", "cpu", *LONG_ENOUGH, "-m"]


@pytest.mark.parametrize(
    ("more", "environment"),
    [
        ([], {}),
        ([], {"NO_COLOR": "1"}),
        ([], {"TERM": "dumb"}),
        (["--format", "json"], {}),
        (["--format", "jsonl"], {"NO_COLOR": "1"}),
    ],
    ids=str,
)
def test_an_answer_on_a_terminal_steers_nothing(on_terminal, steering_folder, more, environment):
    text = on_terminal(*SAYS, steering_folder, *more, **environment)
    assert "the" in text
    assert more or text.count("␛") > 3
    assert_steers_nothing(text)


def test_an_answer_and_a_thought_in_a_pipe_are_the_models_own(zaya, steering_folder):
    value = json.loads(zaya(*SAYS, steering_folder, "--format", "json").out)
    plain = zaya(*SAYS, steering_folder, "--thinking", "stderr")
    assert plain.out.rstrip("\n") == value["text"].rstrip("\n")
    assert value["thinking"].strip("\n") in plain.err
    assert "\x1b" in value["text"]
    assert "\x1b" in value["thinking"]
    lines = zaya(*SAYS, steering_folder, "--format", "jsonl").out
    assert_steers_nothing(lines)
    events = [json.loads(line) for line in lines.splitlines()]
    assert "".join(event["text"] for event in events if event["event"] == "thinking") == value["thinking"]
    assert "".join(event["text"] for event in events if event["event"] == "answer") == value["text"]


@pytest.mark.processes
def test_a_loaded_session_steers_nothing(tmp_path):
    """As `/load`, `--resume`, `/sessions`, `/think` and the history of what was typed show it."""
    folder = tmp_path / "data/zaya/sessions"
    folder.mkdir(parents=True)
    texts = {"question": HOSTILE, "thinking": HOSTILE, "answer": f"# {HOSTILE}\n\n`{HOSTILE}` &#x202e; [l]({HOSTILE})"}
    exchange = {**texts, "reason": "stop", "tokens": [], "candidate": 0}
    session = {"zaya_session": 1, "model": HOSTILE, "weights": "", "system": HOSTILE, "seed": 1, "asked": 1}
    content = json.dumps({**session, "exchanges": [exchange], "known_ids": []})
    for name in ("kept", f"x{HOSTILE}"):
        (folder / f"{name}.json").write_text(content)
    history = tmp_path / "state/zaya/history"
    history.parent.mkdir(parents=True)
    history.write_text("\n# once\n+half \u202eof \u2028it \x1b[2J\n")
    with Terminal("chat", "-m", "demo", "--resume", home=tmp_path, columns=180, lines=30) as terminal:
        terminal.wait_for_prompt()
        terminal.press("\x1b[A")
        terminal.wait_for("half <U+202E>of <U+2028>it ^[[2J")
        terminal.press("\x03")
        terminal.wait_for_prompt()
        for command in ("/load kept", "/sessions", "/think", "/undo"):
            terminal.ask(command)
        terminal.press("/load \t\t")
        terminal.wait_until(lambda: any(line.strip() == "kept" for line in terminal.screen.display))  # the menu
        terminal.press("\x03")
        terminal.wait_for_prompt()
        assert one_line(f"x{HOSTILE}") not in terminal.text  # what is no name is no session
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0
    assert terminal.text.count(SHOWN) > 3
    for code in ("\x1b]", "\x1b[?1000h", "\x07", "\x9b", "\u202e", "\u2066", "\u2028"):
        assert code.encode() not in terminal.raw


# --- sentences and lists ----------------------------------------------------------------------------------------------

COMMANDS = [
    [*ASK, HOSTILE],
    [*ASK, "demo", HOSTILE],
    [*ASK, "demo", "--stop", HOSTILE, "--top-p", "7"],
    [*ASK, "demo", "--thinking", HOSTILE],
    [*ASK, "demo", f"--{HOSTILE}"],
    [*ASK, "demo", "--endpoint", HOSTILE, "--rsa", "2"],
    [HOSTILE],
    ["pull", HOSTILE],
    ["pull", "--revision", HOSTILE],
    ["quantize", "-m", HOSTILE],
    ["quantize", "-m", "demo", "--calibrate", HOSTILE],
    ["models", "rm", HOSTILE],
    ["models", "verify", HOSTILE],
    ["models", "list"],
    ["models", "list", "--format", "json"],
    ["doctor", "--no-self-test", "--device", "cpu"],
    ["doctor", "--no-self-test", "--device", "cpu", "--format", "json"],
    ["doctor", "-m", HOSTILE],
    ["doctor", "-m", HOSTILE, "--format", "json"],
    ["config", "show"],
    ["config", "show", "--format", "json"],
    ["bench", "-m", HOSTILE],
    ["info", HOSTILE],
    ["completion", HOSTILE],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda value: ascii(value)[:50])
def test_what_was_typed_and_found_is_named_visibly_also_in_pipes(zaya, tmp_path, monkeypatch, arguments):
    for name in ("ZAYA_MODEL", "ZAYA_UNKNOWN", "HF_SOMETHING"):
        monkeypatch.setenv(name, HOSTILE)
    monkeypatch.setenv("ZAYA_DEBUG", "1")
    model = tmp_path / "data/zaya/models" / HOSTILE
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"model_type": HOSTILE}))
    result = zaya(*arguments)
    assert_steers_nothing(result.out + result.err)
    assert complete_model("") == ["demo"]


@pytest.mark.parametrize("value", [f'"{HOSTILE}" = 1', f'temperature = "{HOSTILE}"', f"seed = {HOSTILE}"], ids=ascii)
def test_a_settings_file_is_named_visibly(zaya, tmp_path, monkeypatch, value):
    path = tmp_path / f"{HOSTILE}.toml"
    path.write_text(value)
    monkeypatch.setenv("ZAYA_CONFIG", str(path))
    result = zaya(*ASK, "demo")
    assert result.code == 2
    assert_steers_nothing(result.err)


def test_commands_of_a_chat_are_named_visibly(zaya, tmp_path):
    (tmp_path / HOSTILE.replace("\r", "")).write_text("x")
    words = HOSTILE.replace("\r", "")
    lines = [f"/{words}", f"/load {words}", f"/set {words} 1", f"/set seed {words}", f"/file {words}"]
    lines += [f"/system {words}", "/info", f"/rsa {words}", ""]
    result = zaya("chat", "-m", "demo", "-n", "2", piped="\n".join(lines))
    assert result.code == 0
    assert result.err.count("␛") > 10
    assert_steers_nothing(result.err)


def change_json(name, change):
    def apply(folder):
        path = folder / name
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return apply


def rename_a_tensor(folder):
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    first = sorted(tensors)[0]
    save_file({HOSTILE if name == first else name: tensor for name, tensor in tensors.items()}, path)


FOLDERS = {
    "model type": change_json("config.json", lambda value: value.update(model_type=HOSTILE)),
    "unknown setting": change_json("config.json", lambda value: value.update({HOSTILE: 1})),
    "strange value": change_json("config.json", lambda value: value.update(head_dim=HOSTILE)),
    "tokenizer's model": change_json("tokenizer.json", lambda value: value["model"].update(type=HOSTILE)),
    "tokenizer's class": change_json("tokenizer.json", lambda value: value.update(normalizer={"type": HOSTILE})),
    "tensor": rename_a_tensor,
    "template": lambda folder: (folder / "chat_template.jinja").write_text(f"{{{{ raise_exception({HOSTILE!r}) }}}}"),
    "template's syntax": lambda folder: (folder / "chat_template.jinja").write_text(f"{{% {HOSTILE} %}}"),
    "template's name": lambda folder: (folder / "chat_template.jinja").write_text(f"{{{{ x['{HOSTILE}'].y }}}}"),
}


@pytest.mark.parametrize("change", FOLDERS.values(), ids=FOLDERS)
def test_what_a_model_folder_says_is_shown_visibly(zaya, tmp_path, change):
    folder = tmp_path / f"m{HOSTILE}"
    shutil.copytree(BUNDLED / "demo", folder)
    change(folder)
    result = zaya(*ASK, folder)
    assert result.err
    assert_steers_nothing(result.err)
    assert_steers_nothing(zaya("info", folder).err)


def test_what_a_server_says_is_shown_visibly(zaya, on_terminal):
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    rsa = "--rsa 2 --rsa-rounds 1 --rsa-think 20 --rsa-tail 9 --rsa-answer 9 --rsa-parallel 1 --seed 1 --stats"
    behaviour = Behaviour(
        has_completions=False,
        chat_message={"content": f"{HOSTILE} \\boxed{{{HOSTILE}}}", "reasoning_content": HOSTILE},
        fault=lambda number: HOSTILE if number == 4 else None,
    )
    ask = ["run", "-p", "x", "-m", "demo", *rsa.split(), "--endpoint-model", HOSTILE, "--endpoint"]
    with served(behaviour) as url:
        piped = zaya(*ask, url, "--thinking", "hide")
        behaviour.seen.clear()
        text = on_terminal(*ask, url, NO_PROXY="*")
    assert piped.out == f"{HOSTILE} \\boxed{{{HOSTILE}}}\n"
    assert_steers_nothing(piped.err)
    assert SHOWN in text
    own = re.compile(r"\x1b\[\?25[lh]|\x1b\[\d*[AK]|\r")  # the table that is drawn again and again
    assert_steers_nothing(own.sub("", text))


@pytest.mark.processes
def test_a_name_that_is_no_utf_8_goes_through_a_pipe_as_it_is(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9\x9b.toml"
    environment = {**os.environb, b"ZAYA_CONFIG": name, b"PYTHONPATH": os.fsencode(os.pathsep.join(sys.path))}
    command = [sys.executable, "-m", "zaya_cli.app", "config", "path"]
    assert subprocess.run(command, env=environment, capture_output=True).stdout == name + b"\n"


def test_only_what_makes_text_visible_writes_to_the_terminal():
    """The others send codes and figures of their own."""
    root = Path(zaya_cli.__file__).parent
    terminal = {root / "terminal" / name for name in ("output.py", "echo.py", "progress.py")}
    chat = {root / "chat" / name for name in ("clipboard.py", "line_input.py")}
    writers = {*terminal, *chat, root / "answer" / "render.py"}
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "typer.echo", "traceback.print_exc"), path
                assert called != "Console" or ast.unparse(node) == "Console(quiet=True)", path
                assert called not in ("sys.stdout.write", "sys.stderr.write") or path in writers, path
