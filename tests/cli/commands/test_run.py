"""`zaya run`, `chat` and `info` as scripts and people use them: streams, exit codes, JSON, signals."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from zaya_core.text.tokenizer import load_tokenizer

QUICK = ("-n", "12", "--seed", "3")


def subprocess_of(*arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "zaya_cli.app", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **settings,
    )


def test_stdout_is_the_answer_and_nothing_else(zaya, folder):
    plain = zaya("run", "-p", "hello", "-m", folder, *QUICK, "--thinking", "off")
    as_json = json.loads(zaya("run", "-p", "hello", "-m", folder, *QUICK, "--thinking", "off", "--format", "json").out)
    assert plain.code == 0
    assert plain.out == as_json["text"] + "\n"
    assert "length limit" in plain.err


def test_the_built_in_template_is_named_once_where_it_is_used(zaya, folder, tmp_path):
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text("hello")
    two = ("run", "1.txt", "2.txt", "-n", "1", "--thinking", "off")
    assert "built-in" not in zaya(*two, "-m", folder).err
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    assert zaya(*two, "-m", bare).err.count("built-in") == 1


def test_json_has_the_promised_fields(zaya, folder):
    value = json.loads(zaya("run", "-p", "hello", "-m", folder, *QUICK, "--format", "json", "--logprobs", "2").out)
    assert set(value) == {
        *("text", "thinking", "finish_reason", "usage", "timings", "seed", "model", "quant", "logprobs"),
        *("device", "dtype", "threads"),
    }
    assert value["finish_reason"] == "length"
    assert value["seed"] == 3
    assert value["usage"]["completion_tokens"] == len(value["logprobs"]) == 12
    assert len(value["logprobs"][0]["top_logprobs"]) == 2
    assert value["timings"]["decode_tokens_per_second"] > 0


def test_jsonl_events_join_to_the_final_text(zaya, folder):
    lines = zaya("run", "-p", "hello", "-m", folder, *QUICK, "--format", "jsonl").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "prefill"
    assert events[-1]["event"] == "finished"
    for kind, key in (("thinking", "thinking"), ("answer", "text")):
        assert "".join(event["text"] for event in events if event["event"] == kind) == events[-1][key]


def test_several_files_are_answered_in_order(zaya, folder, tmp_path):
    names = []
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"question {number}\n")
        names.append(f"{number}.txt")
    values = json.loads(zaya("run", *names, "-m", folder, *QUICK, "--format", "json").out)
    assert [value["prompt_file"] for value in values] == names
    result = zaya("run", *names, "-m", folder, *QUICK, "--thinking", "off")
    assert [line for line in result.err.splitlines() if line.startswith("== ")] == [f"== {name}" for name in names]
    alone = [zaya("run", name, "-m", folder, *QUICK, "--thinking", "off").out for name in names[:1]]
    assert result.out.startswith(alone[0] + "\n")


@pytest.mark.parametrize(
    ("arguments", "piped", "text"),
    [
        (["-p", "hello"], "", "hello"),
        ([], "hello\n", "hello"),
        (["-p", "-"], "hello", "hello"),
        (["-p", "first"], "second\n", "first\n\nsecond"),
        (["a.txt", "-p", "first"], "", "first\n\nfrom a file"),
        (["-"], "piped", "piped"),
    ],
)
def test_where_the_prompt_comes_from(zaya, folder, tmp_path, arguments, piped, text):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffrom a file\r\n")
    value = json.loads(zaya("run", *arguments, "-m", folder, *QUICK, "--format", "json", piped=piped).out)
    ids = load_tokenizer(folder).render_chat([{"role": "user", "content": text}])
    assert value["usage"]["prompt_tokens"] == len(ids)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run"], 2, "empty"),
        (["run", "-p", "  "], 2, "empty"),
        (["run", "nothing.txt"], 3, "does not exist"),
        (["run", "binary.txt"], 2, "not UTF-8"),
        (["run", "-p", "x", "-m", "nowhere"], 3, "no folder nowhere"),
        (["run", "-p", "x", "-m", "some/repository"], 3, "zaya pull some/repository"),
        (["run", "-p", "x", "-m", "FOLDER", "--dtype", "float16"], 2, "float16"),
        (["run", "-p", "x", "-m", "FOLDER", "--device", "tpu"], 2, "not offered"),
        (["run", "-p", "x", "-m", "FOLDER", "--device", "cuda"], 4, "sees no GPU"),
        (["run", "-p", "x", "-m", "FOLDER", "-t", "-1"], 2, "temperature"),
        (["run", "-p", "x", "-m", "FOLDER", "--top-p", "-1"], 2, "top_p"),
        (["run", "-p", "x", "-m", "FOLDER", "-n", "0"], 2, "max_tokens"),
        (["run", "-p", "x", "-m", "FOLDER", "--threads", "0"], 2, "--threads"),
        (["run", "-p", "x" * 2000, "-m", "FOLDER"], 6, "300"),
        (["info", "nowhere"], 3, "no folder"),
    ],
)
def test_every_error_is_one_sentence_with_its_exit_code(zaya, folder, tmp_path, arguments, code, words):
    if code == 4:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    result = zaya(*[str(folder) if argument == "FOLDER" else argument for argument in arguments])
    assert (result.code, result.out) == (code, "")
    assert re.fullmatch(r"zaya: [^\n]+[.]\n", result.err), result.err
    assert words in result.err


def test_an_error_in_json_is_an_object_and_still_an_exit_code(zaya):
    result = zaya("run", "-p", "x", "-m", "nowhere", "--format", "json")
    assert result.code == 3
    assert json.loads(result.out)["error"]["exit_code"] == 3


def test_unknown_flags_and_malformed_environment_are_usage_errors(zaya, folder, monkeypatch):
    assert zaya("run", "-p", "x", "--no-such-flag").code == 2
    monkeypatch.setenv("ZAYA_TEMPERATURE", "warm")
    assert zaya("run", "-p", "x", "-m", folder).code == 2


def test_environment_variables_stand_in_for_flags(zaya, folder, monkeypatch):
    monkeypatch.setenv("ZAYA_MODEL", str(folder))
    monkeypatch.setenv("ZAYA_MAX_TOKENS", "3")
    value = json.loads(zaya("run", "-p", "x", "--format", "json").out)
    assert value["usage"]["completion_tokens"] == 3


def test_thinking_goes_to_stderr_only_when_asked_for_in_a_pipe(zaya, folder):
    budget = ("--thinking-budget", "6", "-n", "16", "--seed", "1")
    value = json.loads(zaya("run", "-p", "x", "-m", folder, *budget, "--format", "json").out)
    assert value["thinking"]
    assert value["text"]
    for mode, expected in (("show", ""), ("hide", ""), ("stderr", value["thinking"])):
        result = zaya("run", "-p", "x", "-m", folder, *budget, "--thinking", mode, "-q")
        assert result.out == value["text"].rstrip("\n") + "\n"
        assert result.err.startswith(expected)
        assert "\x1b" not in result.err


def test_stats_name_the_seed_and_who_computes(zaya, folder):
    err = zaya("run", "-p", "x", "-m", folder, *QUICK, "--stats").err
    assert "seed 3" in err
    assert err.rstrip().endswith("which it does not read)") or "torch (" in err  # a model in float32


def test_the_same_seed_repeats_and_a_random_one_is_reported(zaya, folder):
    value = json.loads(zaya("run", "-p", "x", "-m", folder, "-n", "12", "--format", "json").out)
    again = json.loads(
        zaya("run", "-p", "x", "-m", folder, "-n", "12", "--seed", value["seed"], "--format", "json").out
    )
    assert (again["text"], again["thinking"]) == (value["text"], value["thinking"])


def test_info_weighs_the_parts(zaya, folder):
    value = json.loads(zaya("info", folder, "--format", "json").out)
    assert value["layout"] == "native"
    assert value["parameters"] == sum(part["parameters"] for part in value["parts"].values())
    assert value["kv_bytes_per_token"] == 2 * 3 * 2 * 8 * 4
    assert "experts" in zaya("info", folder).out


@pytest.mark.processes
def test_help_and_version_do_not_import_torch():
    for argument in ("--help", "--version", "run --help"):
        script = (
            f"import sys; sys.argv = ['zaya', *{argument.split()!r}]\n"
            "from zaya_cli.app import main\n"
            "try: main()\nexcept SystemExit as e: assert not e.code\n"
            "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.processes
def test_ctrl_c_keeps_what_was_printed_and_exits_130(endless_folder):
    process = subprocess_of("run", "-p", "x", "-m", endless_folder, "--thinking", "off")
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 10)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert first
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in errors


@pytest.mark.processes
def test_a_reader_that_leaves_ends_the_command_quietly(folder):
    process = subprocess_of("run", "-p", "x", "-m", folder, "--thinking", "off", "-n", "250", "--seed", "1")
    assert process.stdout is not None
    assert process.stderr is not None
    os.read(process.stdout.fileno(), 5)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 1
    assert b"Traceback" not in errors
    assert b"BrokenPipe" not in errors


def test_chat_reuses_the_state_of_earlier_turns(folder, zaya):
    result = zaya(
        "chat", "-m", folder, "-n", "8", "--seed", "1", "--stats", piped="hello\nand now?\n/nonsense\n/exit\n"
    )
    assert result.code == 0
    reused = [int(count) for count in re.findall(r"\((\d+) reused", result.err)]
    tokenizer = load_tokenizer(folder)
    history = tokenizer.render_chat([{"role": "user", "content": "hello"}], add_generation_prompt=False)
    assert reused == [0, len(history)]
    assert "/nonsense is not a command" in result.err


@pytest.mark.processes
def test_chat_in_a_terminal_stops_an_answer_with_ctrl_c_and_goes_on(endless_folder):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm", "ZAYA_MODEL": str(endless_folder)}
        os.execv(sys.executable, [sys.executable, "-m", "zaya_cli.app", "chat", "--thinking", "off", "--seed", "1"])
    screen = Screen(terminal)
    screen.wait_for(">>>")
    os.write(terminal, b"hello\r")
    screen.wait_for("the the the")
    os.write(terminal, b"\x03")
    screen.wait_for("[stopped]")
    screen.wait_for(">>>")
    os.write(terminal, b"\x04")
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


class Screen:
    """What a pseudo-terminal has printed and nobody has looked at yet."""

    def __init__(self, terminal):
        self.terminal = terminal
        self.unread = ""

    def wait_for(self, text, seconds=60.0):
        deadline = time.monotonic() + seconds
        while text not in self.unread:
            assert time.monotonic() < deadline, self.unread
            if select.select([self.terminal], [], [], 0.2)[0]:
                chunk = os.read(self.terminal, 4096).decode(errors="replace")
                self.unread += chunk
                if "\x1b[6n" in chunk:  # prompt_toolkit asks where the cursor is
                    os.write(self.terminal, b"\x1b[1;1R")
        self.unread = self.unread.partition(text)[2]


def test_a_bundled_model_is_found_by_name_beside_a_folder_of_that_name(zaya, tmp_path):
    (tmp_path / "demo").mkdir()
    from zaya_cli.models.folder import BUNDLED

    if not (BUNDLED / "demo").is_dir():
        pytest.skip("no bundled model in this tree")
    value = json.loads(zaya("run", "-p", "What is 2 + 3?", "-m", "demo", "-t", "0", "--format", "json").out)
    assert value["finish_reason"] == "stop"
    assert "boxed" in value["text"]


@pytest.mark.parametrize("name", ["./missing", "../missing", "a/--b", "foo/bar.git"])
def test_a_mistyped_folder_is_not_found(zaya, name):
    result = zaya("run", "-p", "x", "-m", name)
    assert result.code == 3
    assert "Unexpected" not in result.err


def test_running_out_of_memory_is_exit_code_4():
    from zaya_cli.failures import exit_code_of, sentence_of

    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 5 bytes")):
        assert exit_code_of(error) == 4
        assert sentence_of(error).startswith("Out of memory")


@pytest.mark.parametrize(
    ("color", "environment", "is_terminal", "expected"),
    [
        ("auto", {}, True, True),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("never", {}, True, False),
        ("auto", {}, False, False),
        ("always", {}, False, False),
        ("always", {}, True, True),
    ],
)
def test_lines_are_rewritten_only_where_escape_codes_are_wanted(monkeypatch, color, environment, is_terminal, expected):

    from zaya_cli.terminal.output import draws, stderr_console

    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    assert draws(stderr_console(color)) is expected


def test_a_prompt_that_fails_does_not_stop_the_others_and_the_exit_code_tells(zaya, folder, tmp_path, monkeypatch):
    from zaya_core.model.model import ZayaModel

    call = ZayaModel.__call__
    long = len(load_tokenizer(folder).render_chat([{"role": "user", "content": "the cat " * 30}]))

    def fail_on_the_long_one(self, ids, *arguments, **settings):
        if ids.shape[1] == long:
            raise MemoryError
        return call(self, ids, *arguments, **settings)

    names = ["a.txt", "b.txt", "c.txt"]
    for name, text in zip(names, ("question", "the cat " * 30, "another"), strict=True):
        (tmp_path / name).write_text(text)
    expected = json.loads(zaya("run", "a.txt", "c.txt", "-m", folder, *QUICK, "--format", "json").out)
    monkeypatch.setattr(ZayaModel, "__call__", fail_on_the_long_one)
    result = zaya("run", *names, "-m", folder, *QUICK, "--format", "json")
    values = json.loads(result.out)
    assert result.code == 4
    assert values[1] == {
        "error": {"message": values[1]["error"]["message"], "type": "MemoryError", "exit_code": 4},
        "prompt_file": "b.txt",
    }
    assert values[0]["text"] == expected[0]["text"]
    assert result.err.splitlines()[-1].startswith("zaya: b.txt: Out of memory")
    lines = [
        json.loads(line) for line in zaya("run", *names, "-m", folder, *QUICK, "--format", "jsonl").out.splitlines()
    ]
    ends = [(line["event"], line["prompt"]) for line in lines if line["event"] in ("finished", "failed")]
    assert sorted(ends, key=lambda end: end[1]) == [("finished", 0), ("failed", 1), ("finished", 2)]
    result = zaya("run", *names, "-m", folder, *QUICK)
    assert result.code == 4
    assert [line for line in result.err.splitlines() if line.startswith("== ")] == [f"== {name}" for name in names]
    only = zaya("run", "b.txt", "-m", folder, *QUICK, "--format", "json")
    assert (only.code, json.loads(only.out)["error"]["type"]) == (4, "MemoryError")
