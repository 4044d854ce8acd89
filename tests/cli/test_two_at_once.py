"""Two of everything at once: nothing is lost, and whoever comes second is told who was first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from tests.cli.hub_cache import cache_repo, repo_folder
from tests.cli.pseudo_terminal import Terminal
from zaya_cli.chat.conversation import Conversation
from zaya_cli.chat.input_history import InputHistory
from zaya_cli.chat.session_file import SessionFolder
from zaya_cli.chat.session_keeper import SessionKeeper
from zaya_cli.failures import exit_code_of, sentence_of
from zaya_cli.flags.generation import GenerationSettings
from zaya_cli.models.folder import BUNDLED, DEFAULT_REPO
from zaya_cli.models.locks import downloading_alone, reading
from zaya_core.checkpoint.fingerprint import fingerprint
from zaya_core.engine.engine import Engine
from zaya_core.errors import NoLocksError, UsageError
from zaya_core.files.exclusive import held, lock_beside, try_lock
from zaya_core.load import load_model
from zaya_core.rsa.saved import alone_in
from zaya_core.sampling.params import SamplingParams
from zaya_core.text.tokenizer import load_tokenizer

DEMO = BUNDLED / "demo"
OURS = rf"\(process {os.getpid()}\)"
RSA = ("--rsa", "2", "--rsa-rounds", "1", "--rsa-think", "40", "--rsa-tail", "20", "--rsa-answer", "20", "--seed", "1")


@pytest.fixture(scope="module")
def engine():
    return Engine(load_model(DEMO, device="cpu"), load_tokenizer(DEMO))


@pytest.fixture
def folder(tmp_path):
    return SessionFolder(tmp_path / "sessions")


@pytest.fixture
def chat(engine, folder):
    """Begin a chat that keeps itself; a lock of one holds against another as if it were another process's."""
    told: list[str] = []

    def begin(is_automatic=True):
        conversation = Conversation(engine, GenerationSettings(), SamplingParams(seed=1))
        return SessionKeeper(conversation, folder, "demo", fingerprint(DEMO), is_automatic, told.append)

    yield begin
    assert not told


def say(keeper, *questions):
    for question in questions:
        keeper.conversation.keep_answer(question, "", f"the answer to {question}")
        keeper.keep()


def leave(keeper):
    keeper.close()
    keeper.let_go()


def questions(folder, name):
    return [exchange.question for exchange in folder.load(name).session.exchanges]


def at_once(count, do):
    """`do(0)`, `do(1)` ... each in a thread, let go together."""
    barrier = Barrier(count)

    def one(number):
        barrier.wait()
        return do(number)

    with ThreadPoolExecutor(count) as threads:
        return [future.exception() or future.result() for future in [threads.submit(one, n) for n in range(count)]]


def test_chats_begun_in_the_same_second_have_names_of_their_own(chat, folder):
    keepers = at_once(8, lambda number: chat())
    for number, keeper in enumerate(keepers):
        say(keeper, f"question {number}")
    assert len({keeper.automatic for keeper in keepers}) == 8
    assert [questions(folder, keeper.automatic) for keeper in keepers] == [[f"question {n}"] for n in range(8)]


def test_a_chat_that_never_had_a_message_leaves_nothing(chat, folder):
    for keeper in (chat(), chat()):
        keeper.begin_anew()  # /clear
        leave(keeper)
    assert list(folder.folder.iterdir()) == []


def test_a_cleared_chat_leaves_what_was_said_and_no_empty_session(chat, folder):
    keeper = chat()
    say(keeper, "one")
    first = keeper.automatic
    keeper.begin_anew()
    keeper.keep()
    assert keeper.conversation.exchanges == []
    leave(keeper)
    assert folder.names() == [first]


def test_a_chat_of_which_all_was_taken_back_leaves_nothing(chat, folder):
    keeper = chat()
    say(keeper, "one")
    keeper.conversation.undo()
    keeper.keep()
    leave(keeper)
    assert list(folder.folder.iterdir()) == []


def test_a_conversation_that_another_process_is_in_goes_on_as_a_copy(chat, folder):
    first = chat()
    say(first, "5+5")
    second = chat()
    said = second.load(None)
    assert f"Another zaya is in it (process {os.getpid()}): this is a copy." in said
    say(first, "2*2")
    say(second, "7*7")
    assert second.automatic != first.automatic
    assert questions(folder, first.automatic) == ["5+5", "2*2"]
    assert questions(folder, second.automatic) == ["5+5", "7*7"]


def test_two_that_resume_at_once_are_one_in_the_session_and_one_in_a_copy(chat, folder):
    earlier = chat()
    say(earlier, "5+5")
    leave(earlier)
    pair = [chat(), chat()]
    said = at_once(2, lambda number: pair[number].load(earlier.name))
    assert sorted("copy" in one for one in said) == [False, True]
    say(pair[0], "2*2")
    say(pair[1], "7*7")
    assert {pair[0].automatic, pair[1].automatic} == set(folder.names())
    assert questions(folder, pair[0].automatic) == ["5+5", "2*2"]
    assert questions(folder, pair[1].automatic) == ["5+5", "7*7"]


def test_a_session_whose_holder_has_left_is_gone_on_with(chat, folder):
    first = chat()
    say(first, "5+5")
    name = first.automatic
    leave(first)
    second = chat()
    assert "copy" not in second.load(None)
    say(second, "2*2")
    assert folder.names() == [name]
    assert questions(folder, name) == ["5+5", "2*2"]


def test_of_two_saves_under_one_name_one_is_refused_and_none_is_lost(chat, folder):
    pair = [chat(), chat()]
    for number, keeper in enumerate(pair):
        say(keeper, f"question {number}")
    results = at_once(2, lambda number: pair[number].save("name"))
    (refused,) = (number for number, result in enumerate(results) if isinstance(result, UsageError))
    assert "Another zaya is in the session name" in str(results[refused])
    assert questions(folder, "name") == [f"question {1 - refused}"]
    assert questions(folder, pair[refused].automatic) == [f"question {refused}"]
    say(pair[1 - refused], "more")
    pair[1 - refused].save(None)
    leave(pair[1 - refused])
    with pytest.raises(UsageError, match="There is a session name already"):
        pair[refused].save("name")
    assert questions(folder, "name") == [f"question {1 - refused}", "more"]


def test_a_saved_session_that_another_process_is_in_is_loaded_as_a_copy_that_save_does_not_put_back(chat, folder):
    first = chat(is_automatic=False)
    say(first, "one")
    first.save("name")
    second = chat(is_automatic=False)
    assert "this is a copy" in second.load("name")
    say(second, "two")
    second.save(None)
    with pytest.raises(UsageError, match=f"Another zaya is in the session name {OURS}"):
        second.save("name")
    assert questions(folder, "name") == ["one"]
    assert questions(folder, second.name) == ["one", "two"]


def test_the_session_itself_can_be_loaded_again(chat, folder):
    keeper = chat()
    say(keeper, "one")
    assert "copy" not in keeper.load(keeper.automatic)
    say(keeper, "two")
    assert questions(folder, keeper.automatic) == ["one", "two"]
    assert len(folder.names()) == 1


def test_a_session_that_cannot_be_read_keeps_nobody_out(chat, folder):
    earlier = chat()
    say(earlier, "one")
    leave(earlier)
    folder.path("broken").write_text("{")
    keeper = chat()
    with pytest.raises(UsageError, match="damaged"):
        keeper.load("broken")
    assert folder.take("broken") is not None


def test_old_sessions_go_unless_a_living_process_is_in_them(chat, folder):
    old = chat()
    say(old, "old")
    kept = old.automatic
    folder.state_path(kept).write_text("computed")
    for number in range(60):
        name = f"chat-20200101-0000{number:02}"
        shutil.copy(folder.path(kept), folder.path(name))
        folder.state_path(name).write_text("computed")
    os.utime(folder.path(kept), (1, 1))
    (folder.folder / ".chat-20190101-000000.lock").touch()  # of one that was killed without a word
    new = chat()
    say(new, "new")
    leave(new)
    assert questions(folder, kept) == ["old"]
    assert len(folder.names()) == 51
    assert [path.stem for path in folder.folder.glob("*.safetensors")] == [kept]
    assert not (folder.folder / ".chat-20190101-000000.lock").exists()


def test_without_locks_a_chat_goes_on_says_so_once_and_on_leaving_and_overwrites_nothing(chat, folder, monkeypatch):
    def refuse(path):
        raise NoLocksError("The file system has no locks.")

    earlier = chat()
    say(earlier, "one")
    leave(earlier)
    before = [(path.name, path.read_bytes()) for path in sorted(folder.folder.iterdir())]
    monkeypatch.setattr("zaya_cli.chat.session_file.try_lock", refuse)
    told: list[str] = []
    keeper = chat()
    keeper._complain = told.append
    assert "The file system has no locks. This is a copy." in keeper.load(None)
    say(keeper, "two", "three")
    leave(keeper)
    assert told == ["The conversation cannot be kept: The file system has no locks.", "This conversation was not kept."]
    assert [(path.name, path.read_bytes()) for path in sorted(folder.folder.iterdir())] == before


def test_what_two_chats_type_at_once_is_remembered_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("zaya_cli.chat.input_history.LARGEST", 1 << 30)
    histories = [InputHistory(tmp_path / "history") for _ in range(2)]
    typed = [[f"{number} {turn}\n" + f"{'x' * 500}\n" * 200 for turn in range(10)] for number in range(2)]

    def type_all(number):
        for text in typed[number]:
            histories[number].store_string(text)

    at_once(2, type_all)
    assert sorted(InputHistory(tmp_path / "history").load_history_strings()) == sorted(typed[0] + typed[1])


def test_who_types_while_another_chat_writes_the_history_waits_for_it(tmp_path):
    history = InputHistory(tmp_path / "history")
    with ThreadPoolExecutor(1) as thread:
        with held(lock_beside(tmp_path / "history"), "", ""):
            stored = thread.submit(history.store_string, "one")
            with pytest.raises(TimeoutError):
                stored.result(0.1)
        stored.result()
    assert history.load_history_strings() == ["one"]


def test_files_with_peoples_texts_are_theirs_alone_from_the_first_byte_on(chat, folder, tmp_path, zaya):
    keeper = chat()
    say(keeper, "one")
    for path in (folder.path("old"), tmp_path / "state/history"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(folder.path(keeper.automatic).read_bytes())
        path.chmod(0o644)
    folder.folder.chmod(0o755)
    before = os.umask(0)
    try:
        other = chat()
        other.load("old")
        say(other, "two")
        other.save(None)
        leave(other)
        InputHistory(tmp_path / "state/history").store_string("three")
        InputHistory(tmp_path / "new/deep/history").store_string("three")
        assert zaya("run", "-p", "1+1", "-m", "demo", *RSA, "--rsa-save", tmp_path / "runs/deep").code == 0
    finally:
        os.umask(before)
    private = [tmp_path / name for name in ("sessions", "state", "new", "runs")]
    found = [path for top in private for path in (top, *top.rglob("*"))]
    names = {path.name for path in found}
    assert {"history", ".history.lock", "rsa.json", ".lock", "old.json", ".old.lock"} <= names
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in found} == dict.fromkeys(names, "0o0")


def test_two_runs_do_not_save_in_one_folder(zaya, tmp_path):
    with alone_in(tmp_path / "state"):
        result = zaya("run", "-p", "1+1", "-m", "demo", *RSA, "--rsa-save", "state")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"zaya: Another zaya is saving its rollouts in state (process {os.getpid()}): wait for it, or give another "
        "folder.\n"
    )


def test_a_damaged_saved_run_is_named_and_left_as_it_is(zaya, tmp_path):
    command = ("run", "-p", "1+1", "-m", "demo", *RSA, "--rsa-save", "state")
    assert zaya(*command).code == 0
    path = tmp_path / "state/rsa.json"
    path.write_bytes(damaged := path.read_bytes().replace(b'"subset": []', b'"subset": 5'))
    result = zaya(*command)
    assert (result.code, result.out) == (2, "")
    assert "state/rsa.json is damaged" in result.err
    assert path.read_bytes() == damaged


def test_two_quantizations_do_not_write_one_folder(zaya, tmp_path):
    with held(lock_beside(tmp_path / "q"), "writing q", ""):
        result = zaya("quantize", "-m", "demo", "--format", "int8", "-o", "q")
    assert (result.code, result.out) == (2, "")
    assert f"Another zaya is writing q (process {os.getpid()}): wait for it, or give another --out." in result.err
    assert not list(tmp_path.glob("q*"))


@pytest.mark.parametrize("name", ["mine", "mine.unfinished", "mine.originals"])
@pytest.mark.parametrize("holder", ["mine", "mine.originals"])
def test_what_is_being_quantized_is_not_removed(zaya, tmp_path, name, holder):
    folder = tmp_path / "data/zaya/models" / name
    (folder / "files/blobs").mkdir(parents=True)
    shutil.copy(DEMO / "config.json", folder / ("config.json" if name == "mine" else "config.json.unfinished"))
    with held(lock_beside(folder.with_name(holder)), "", ""):
        result = zaya("models", "rm", name, "--yes")
    assert result.code == 2
    assert f"Another zaya is downloading or quantizing {name} (process {os.getpid()})" in result.err
    assert list(folder.iterdir())
    assert zaya("models", "rm", name, "--yes").code == 0
    assert [path.name for path in folder.parent.iterdir()] in ([], [f".{holder}.lock"])


@pytest.mark.parametrize("use", ["pull", "quantize"])
def test_what_is_being_downloaded_or_read_for_hours_is_not_removed(zaya, use):
    repo = cache_repo(DEFAULT_REPO, json.loads((DEMO / "config.json").read_text()))
    (snapshot,) = (repo / "snapshots").iterdir()
    with downloading_alone(DEFAULT_REPO) if use == "pull" else reading(snapshot):
        result = zaya("models", "rm", DEFAULT_REPO, "--yes")
        assert repo.exists()
    assert result.code == 2
    assert f"Another zaya is downloading or quantizing {DEFAULT_REPO} (process {os.getpid()})" in result.err
    assert zaya("models", "rm", DEFAULT_REPO, "--yes").code == 0
    assert not repo_folder(DEFAULT_REPO).exists()


def test_a_file_that_goes_while_it_is_wanted_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        (tmp_path / "tokenizer.json").read_bytes()
    name = f"{tmp_path}/tokenizer.json"
    said = f"{name} does not exist; another program may have removed it meanwhile: check the path."
    assert sentence_of(raised.value) == said
    assert exit_code_of(raised.value) == 3


def test_a_model_that_is_removed_while_it_is_opened_is_one_sentence(zaya, tmp_path):
    """At each file that is opened of it; later, its mapped files stay as long as they are in use."""
    model = tmp_path / "model"
    left = None  # files to be opened before it goes; None while nothing is watched

    def watch(event, arguments):
        nonlocal left
        if left is not None and event == "open" and str(arguments[0]).startswith(f"{model}/"):
            left -= 1
            if left == 0:
                left = None
                shutil.rmtree(model)

    sys.addaudithook(watch)  # there is no way to take it away again
    codes: list[int] = []
    for number in range(1, 40):
        shutil.copytree(DEMO, model)
        left = number
        result = zaya("run", "-p", "1+1", "-m", model, "-n", "3")
        if left is not None:
            break
        codes.append(result.code)
        assert "Unexpected" not in result.err, (number, result.err)
        assert (result.code == 0) == bool(result.out)
    left = None
    assert result.code == 0
    assert {3} <= set(codes) <= {0, 3, 5}


def program(*arguments, home):
    """`zaya ARGUMENTS` as a process of its own."""
    homes = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("STATE", "DATA", "CONFIG")}
    return subprocess.Popen(
        [sys.executable, "-m", "zaya_cli.app", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=home,
        env={**os.environ, **homes, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def ended(*processes):
    """(exit code, stdout, stderr) of each."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def is_held(path):
    """Whether somebody holds the lock, which must not be taken from him by looking."""
    if not path.exists():
        return False
    lock = try_lock(path)
    if lock is not None:
        lock.release()
    return lock is None


CHAT = ("chat", "--model", "demo", "--seed", "1", "-n", "8", "--thinking", "off")


@pytest.mark.processes
def test_two_chats_on_terminals_and_two_that_resume(tmp_path):
    """The second of each pair goes on when the first was killed, too."""
    folder = SessionFolder(tmp_path / "data/zaya/sessions")
    with ExitStack() as stack:
        pair = [stack.enter_context(Terminal(*CHAT, home=tmp_path, columns=200)) for _ in range(2)]
        for number, terminal in enumerate(pair):
            terminal.wait_for_prompt()
            terminal.ask(f"1+{number}")
        assert sorted(questions(folder, name) for name in folder.names()) == [["1+0"], ["1+1"]]
        newest = next(name for name in folder.names() if questions(folder, name) == ["1+1"])
        third = stack.enter_context(Terminal(*CHAT, "--resume", home=tmp_path, columns=200))
        third.wait_for_prompt()
        assert f"Another zaya is in it (process {pair[1].child.pid}): this is a copy." in third.text
        third.ask("7*7")
        pair[1].ask("2*2")
        assert questions(folder, newest) == ["1+1", "2*2"]
        assert sorted(questions(folder, name) for name in folder.names())[1:] == [["1+1", "2*2"], ["1+1", "7*7"]]
        pair[1].kill()
        pair[1].wait_for_end()
        third.ask(f"/load {newest}")
        third.ask("3*3")
        assert questions(folder, newest) == ["1+1", "2*2", "3*3"]
        assert third.text.count("this is a copy") == 1


@pytest.mark.processes
def test_the_editor_gets_a_file_that_is_private_also_under_an_open_umask(tmp_path):
    editor = tmp_path / "editor"
    editor.write_text(
        f"#!{sys.executable}\nimport os, pathlib, sys\n"
        f"pathlib.Path({str(tmp_path / 'mode')!r}).write_text(oct(os.stat(sys.argv[1]).st_mode))"
    )
    editor.chmod(0o700)
    before = os.umask(0)
    try:
        terminal = Terminal(*CHAT, home=tmp_path, EDITOR=str(editor))
    finally:
        os.umask(before)
    with terminal:
        terminal.wait_for_prompt()
        terminal.ask("1+1")
        terminal.ask("/edit")
        terminal.wait_until((tmp_path / "mode").exists)
    assert (tmp_path / "mode").read_text() == "0o100600"


@pytest.mark.processes
def test_two_runs_with_one_place_for_their_state_as_processes(tmp_path):
    command = ("run", "-p", "1+1", "-m", "demo", *RSA, "--rsa-save", "state")
    pair = [program(*command, home=tmp_path) for _ in range(2)]
    results = sorted(ended(*pair))
    assert results[0][0] == 0, results
    assert results[0][1]
    assert results[1][0] in (0, 2)  # 0: it began when the other one had ended
    assert results[1][0] == 0 or "Another zaya is saving its rollouts in state (process" in results[1][2]
    ((code, text, said),) = ended(program(*command, home=tmp_path))
    assert (code, text) == (0, results[0][1])
    assert "4 rollouts are there from an earlier run" in said


@pytest.mark.processes
def test_two_quantizations_of_one_model_as_processes(tmp_path, zaya):
    command = ("quantize", "-m", "demo", "--format", "int8", "-o", "q")
    (one, _, _), (other, _, said) = sorted(ended(*(program(*command, home=tmp_path) for _ in range(2))))
    assert (one, other) == (0, 2)
    assert "Another zaya is writing q (process" in said or "q exists already" in said
    assert sorted(path.name for path in tmp_path.glob("*q*")) == [".q.lock", "q"]
    assert zaya("run", "-p", "1+1", "-m", "q", "-n", "3").code == 0


@pytest.mark.processes
def test_a_model_that_runs_answers_to_the_end_when_it_is_removed(tmp_path, zaya):
    folder = tmp_path / "data/zaya/models/mine"
    shutil.copytree(DEMO, folder)
    expected = zaya("run", "-p", "1+1", "-m", "mine", "-n", "200", "--seed", "1", "--thinking", "off").out
    with Terminal("chat", "-m", "mine", "--seed", "1", "-n", "200", "--thinking", "off", home=tmp_path) as terminal:
        terminal.wait_for_prompt()
        assert zaya("models", "rm", "mine", "--yes").code == 0
        assert not folder.exists()
        terminal.ask("1+1")
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0
    sessions = SessionFolder(tmp_path / "data/zaya/sessions")
    (exchange,) = sessions.load(sessions.names()[0]).session.exchanges
    assert exchange.answer.strip() == expected.strip()
