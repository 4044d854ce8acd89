"""`zaya pull` with the real huggingface_hub against a Hub on loopback that fails in every way that is known."""

from __future__ import annotations

import os
import re
import resource
import signal
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download, snapshot_download

from tests.cli.hub_cache import repo_folder
from tests.cli.loopback_hub import COMMIT, REPO, wait_until
from zaya_cli.commands import pull
from zaya_cli.commands.pulling import plan
from zaya_cli.machine.hardware import Memory
from zaya_cli.models.folder import BUNDLED
from zaya_cli.models.hub import UNWANTED, WANTED
from zaya_core.errors import NoLocksError

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
MEGABYTE = 1 << 20


@pytest.fixture
def files():
    contents = {FIRST: os.urandom(3 * MEGABYTE + 5), SECOND: os.urandom(2 * MEGABYTE)}
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        contents[name] = (BUNDLED / "demo" / name).read_bytes()
    return {**contents, "pytorch_model.bin": b"pickle", "figures/plot.json": b"{}"}


def partial_of(hub, name):
    return repo_folder() / "blobs" / f"{hub.checksum(name)}.zaya.incomplete"


def arrived_of(hub, name):
    partial = partial_of(hub, name)
    return (partial if partial.exists() else repo_folder() / "blobs" / hub.checksum(name)).read_bytes()


def wanted(files):
    return {name: content for name, content in files.items() if name not in ("pytorch_model.bin", "figures/plot.json")}


def assert_complete(files):
    folder = Path(snapshot_download(REPO, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    assert folder.name == COMMIT
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted(files)
    assert not list(repo_folder().glob("blobs/*.incomplete"))
    return folder


def test_a_pull_leaves_what_huggingface_hub_would_and_prints_the_folder(zaya, hub, files):
    result = zaya("pull", REPO)
    assert result.code == 0, result.err
    assert result.out == f"{assert_complete(files)}\n"
    assert "100 %" in result.err
    assert "fits" in result.err


def test_a_second_pull_fetches_nothing(zaya, hub):
    zaya("pull", REPO)
    hub.requests.clear()
    result = zaya("pull", REPO)
    assert result.code == 0
    assert "0 bytes to download" in result.err
    assert not hub.contents_requested()


def test_the_token_goes_to_the_hub_and_nowhere_else(zaya, hub):
    zaya("pull", REPO)
    tokens = {request.authorization for request in hub.contents_requested()}
    assert tokens == {None}
    assert any(request.authorization == "Bearer hf_secret" for request in hub.requests)


@pytest.mark.parametrize(
    ("held", "after", "kept"),
    [
        (f"/{REPO}/resolve/{COMMIT}/{FIRST}", 0, 0),
        (f"/content/{FIRST}", 0, 0),
        (f"/content/{FIRST}", MEGABYTE + 7, MEGABYTE),
        (f"/content/{FIRST}", 3 * MEGABYTE + 4, 3 * MEGABYTE),
        (f"/{REPO}/resolve/{COMMIT}/chat_template.jinja", 0, 0),
    ],
    ids=["before the answer", "before the first byte", "within", "before the last byte", "in a small file"],
)
def test_a_pull_killed_at_any_point_goes_on_without_fetching_a_byte_twice(zaya, hub, files, start, held, after, kept):
    hub.faults.held, hub.faults.held_after = held, after
    process = start()
    assert hub.is_holding.wait(300)
    others = [hub.checksum(name) for name in wanted(files) if not held.endswith(name)]
    wait_until(lambda: all((repo_folder() / "blobs" / checksum).exists() for checksum in others))
    partial = partial_of(hub, FIRST)
    wait_until(lambda: not kept or (partial.exists() and partial.stat().st_size >= kept))
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.faults.held = None
    hub.faults.release.set()
    here = partial.stat().st_size if partial.exists() else 0
    hub.requests.clear()
    assert zaya("pull", REPO).code == 0
    assert_complete(files)
    ranges = [request.range for request in hub.contents_requested()]
    first_was_finished = held.endswith("chat_template.jinja")
    assert ranges == ([] if first_was_finished else [f"bytes={here}-" if here else None])


def test_an_unfinished_pull_is_listed_with_what_to_type(zaya, hub):
    hub.faults.drops = {FIRST: [MEGABYTE] + [0] * 100}
    assert zaya("pull", REPO).code == 7
    assert f"`zaya pull {REPO}` goes on" in zaya("models").out
    assert zaya("run", "-p", "x", "-m", REPO).code == 3
    assert zaya("models", "rm", REPO, "--yes").code == 0
    assert not repo_folder().exists()


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_pull_killed_while_the_snapshot_is_made_fetches_nothing_again(zaya, hub, files, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(pull, "link_snapshot", interrupted)
        assert zaya("pull", REPO).code == 130
    hub.requests.clear()
    assert zaya("pull", REPO).code == 0
    assert not hub.contents_requested()
    assert_complete(files)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_error_of_the_server_is_tried_again(zaya, hub, files, status):
    hub.faults.statuses = [status] * 4
    assert zaya("pull", REPO).code == 0
    assert_complete(files)


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_a_dropped_connection_goes_on_with_the_missing_range(zaya, hub, files, ignores_ranges):
    hub.faults.drops = {FIRST: [0, 2 * MEGABYTE + 9, MEGABYTE // 2]}
    hub.faults.ignores_ranges = ignores_ranges
    result = zaya("pull", REPO)
    assert result.code == 0, result.err
    assert_complete(files)
    asked = [request.range for request in hub.contents_requested() if request.path.endswith(FIRST)]
    second = None if ignores_ranges else f"bytes={2 * MEGABYTE}-"
    assert asked[:3] == [None, None, f"bytes={2 * MEGABYTE}-"]
    assert len(asked) == 4
    assert ignores_ranges or asked[3] == second


def test_a_connection_that_never_gives_a_byte_ends_with_7_and_keeps_the_rest(zaya, hub, files):
    hub.faults.drops = {FIRST: [MEGABYTE] * 2 + [0] * 100}
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (7, "")
    assert "goes on from there" in result.err.splitlines()[-1]
    hub.faults.drops = {}
    hub.sent = 0
    assert zaya("pull", REPO).code == 0
    assert_complete(files)
    assert hub.sent < len(files[FIRST]) + len(files[SECOND]) + len(files["tokenizer.json"])


def test_a_wrong_checksum_is_fetched_again_and_given_up_the_second_time(zaya, hub, files):
    hub.faults.corrupts = 1
    assert zaya("pull", REPO).code == 0
    assert_complete(files)


def test_a_content_that_never_has_its_checksum_is_not_kept(zaya, hub):
    hub.faults.corrupts = 1000
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (7, "")
    assert "checksum" in result.err
    assert not (repo_folder() / "blobs" / hub.checksum(FIRST)).exists()
    assert not list(repo_folder().glob(f"snapshots/*/{FIRST}"))


@pytest.mark.parametrize(
    ("status", "error_code", "code", "words"),
    [
        (401, None, 7, "hf auth login"),
        (403, "GatedRepo", 7, "accept its terms"),
        (404, "RepoNotFound", 3, "check the name"),
        (500, None, 7, "error 500"),
    ],
)
def test_a_refusal_is_one_sentence_and_an_exit_code(zaya, hub, status, error_code, code, words):
    hub.faults.api_status, hub.faults.error_code = status, error_code
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (code, "")
    assert re.fullmatch(r"zaya: [^\n]+[.]\n", result.err), result.err
    assert words in result.err
    assert "hf_secret" not in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pull", "No/such"], 3, "no repository No/such"),
        (["pull", REPO, "--revision", "nope"], 3, "no revision nope"),
        (["pull", "not a name"], 2, "OWNER/NAME"),
    ],
)
def test_a_wrong_name_is_one_sentence(zaya, hub, arguments, code, words):
    result = zaya(*arguments)
    assert (result.code, result.out) == (code, "")
    assert re.fullmatch(r"zaya: [^\n]+[.]\n", result.err), result.err
    assert words in result.err


def test_a_hub_that_cannot_be_reached_is_7(zaya, hub):
    hub.server.shutdown()
    hub.server.server_close()
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (7, "")
    assert "cannot be reached" in result.err


def test_offline_takes_what_is_complete_and_nothing_else(zaya, hub, files, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (3, "")
    assert "HF_HUB_OFFLINE" in result.err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert zaya("pull", REPO).code == 0
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert zaya("pull", REPO).out == f"{assert_complete(files)}\n"
    assert not hub.requests


def test_a_disk_without_room_is_said_before_anything_is_fetched(zaya, hub, monkeypatch):
    monkeypatch.setattr(plan, "free_disk", lambda folder: 1000)
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (4, "")
    assert "needs 5.2" in result.err.splitlines()[-1]
    assert not hub.contents_requested()


def test_a_disk_that_fills_up_keeps_what_arrived(zaya, hub, files, start):
    """A limit on the size of files, which the system reports in the same way."""
    limit = 2 * MEGABYTE + MEGABYTE // 2
    process = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (4, ""), err
    assert err.splitlines()[-1].startswith("zaya: The disk")
    assert "Traceback" not in err
    assert partial_of(hub, FIRST).stat().st_size == limit
    assert zaya("pull", REPO).code == 0
    assert_complete(files)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_pull_and_keeps_what_arrived(zaya, hub, files, start, number, code):
    hub.faults.held, hub.faults.held_after = f"/content/{FIRST}", 2 * MEGABYTE
    process = start()
    assert hub.is_holding.wait(300)
    wait_until(lambda: partial_of(hub, FIRST).exists() and partial_of(hub, FIRST).stat().st_size == 2 * MEGABYTE)
    process.send_signal(number)
    hub.faults.release.set()
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (code, ""), err
    assert "Traceback" not in err
    kept = arrived_of(hub, FIRST)
    assert len(kept) >= 2 * MEGABYTE  # what comes between the signal and the end is kept too
    assert files[FIRST].startswith(kept)
    hub.requests.clear()
    assert zaya("pull", REPO).code == 0
    assert_complete(files)
    assert {request.range for request in hub.contents_requested() if request.path == f"/content/{FIRST}"} <= {
        f"bytes={len(kept)}-"
    }


def test_two_pulls_at_once_fetch_each_file_once(hub, files, start):
    hub.faults.held, hub.faults.held_after = f"/content/{FIRST}", MEGABYTE
    one, other = start(), start()
    assert hub.is_holding.wait(300)
    hub.faults.release.set()
    assert {process.communicate(timeout=300)[0] for process in (one, other)} == {f"{assert_complete(files)}\n"}
    assert sorted(request.path for request in hub.contents_requested()) == sorted(
        f"/content/{name}" for name in (FIRST, SECOND, "tokenizer.json")
    )


def test_a_cache_without_locks_is_said_and_used(zaya, hub, files, monkeypatch):
    def refuse(path):
        raise NoLocksError("There are no locks.")

    monkeypatch.setattr("zaya_cli.models.locks.try_lock", refuse)
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (0, f"{assert_complete(files)}\n")
    assert "zaya: There are no locks." in result.err
    assert zaya("models", "rm", REPO, "--yes").code == 0


def test_a_second_pull_waits_and_says_so_and_what_is_being_pulled_is_not_removed(zaya, hub, files, start):
    hub.faults.held, hub.faults.held_after = f"/content/{FIRST}", MEGABYTE
    first = start()
    assert hub.is_holding.wait(300)
    holder = f"(process {first.pid})"
    assert f"Another zaya is downloading or quantizing {REPO} {holder}" in zaya("models", "rm", REPO, "--yes").err
    second = start()
    while (line := second.stderr.readline()) and "Another" not in line:
        pass
    assert line == f"Another zaya is downloading {REPO} {holder}: this one waits for it.\n"
    hub.faults.release.set()
    assert [process.communicate(timeout=300)[0] for process in (first, second)] == [f"{assert_complete(files)}\n"] * 2
    assert zaya("models", "rm", REPO, "--yes").code == 0


def test_without_symbolic_links_a_file_is_stored_once(zaya, hub, files, monkeypatch):
    monkeypatch.setattr(file_download, "are_symlinks_supported", lambda folder: False)
    assert zaya("pull", REPO).code == 0
    folder = assert_complete(files)
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert not list(repo_folder().glob("blobs/*"))


def test_a_dry_run_lists_and_judges_on_stdout_and_writes_nothing(zaya, hub, tmp_path):
    result = zaya("pull", REPO, "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert FIRST in result.out
    assert "pytorch_model.bin" not in result.out
    assert "fits" in result.out
    assert not (tmp_path / "home").exists()
    assert not hub.contents_requested()


def test_quiet_leaves_only_the_folder(zaya, hub, files):
    result = zaya("pull", REPO, "--quiet")
    assert (result.out, result.err) == (f"{assert_complete(files)}\n", "")


def test_what_fits_in_no_format_is_refused_before_the_download_unless_forced(zaya, hub, files, monkeypatch):
    monkeypatch.setattr(plan, "memory_of", lambda device: Memory("main memory", 600_000_000, 500_000_000))
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (4, "")
    assert "does not fit" in result.err
    assert "there are 0.60 GB" in result.err
    assert not hub.contents_requested()
    assert zaya("pull", REPO, "--force").code == 0
    assert_complete(files)


def test_another_model_is_refused_before_the_download(zaya, hub):
    hub.files["config.json"] = b'{"model_type": "llama"}'
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (5, "")
    assert "llama" in result.err
    assert not hub.contents_requested()


@pytest.mark.parametrize("lacking", ["config.json", FIRST])
def test_a_repository_without_usable_weights_is_said(zaya, hub, lacking):
    for name in (FIRST, SECOND) if lacking == FIRST else (lacking,):
        del hub.files[name]
    result = zaya("pull", REPO)
    assert (result.code, result.out) == (3, "")
    assert "safetensors" in result.err
