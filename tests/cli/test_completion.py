"""Shell completion: the scripts, and what they ask the program for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zaya_cli.completion import complete_model


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_script_asks_the_program(zaya, shell):
    result = zaya("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert f"complete_{shell}" in result.out


def test_another_shell_is_a_usage_error(zaya):
    assert zaya("completion", "tcsh").code == 2


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("zaya do", ["doctor"]),
        ("zaya models ve", ["verify"]),
        ("zaya run --thin", ["--thinking", "--thinking-budget"]),
        ("zaya run --thinking st", ["stderr"]),
        ("zaya run --model de", ["demo"]),
    ],
)
def test_commands_flags_choices_and_models_are_completed(words, expected):
    environment = {
        **os.environ, "_ZAYA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)
    }  # fmt: skip
    script = "import sys; sys.argv = ['zaya']; from zaya_cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == expected


def test_names_of_models_begin_as_asked():
    assert complete_model("dem") == ["demo"]
    assert complete_model("nothing") == []
