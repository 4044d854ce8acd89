"""`docs/cli.md` is what the program says, and every command's help has examples and comes without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zaya_cli.reference import commands, with_reference

PAGE = Path(__file__).parents[2] / "docs/cli.md"
COMMANDS = dict(commands())


def test_the_page_is_what_the_command_writes():
    page = PAGE.read_text(encoding="utf-8")
    assert with_reference(page) == page, "run: python -m zaya_cli.reference docs/cli.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_has_examples(name):
    description, _, examples = COMMANDS[name].help.partition("[bold]Examples[/bold]")
    assert description.strip().endswith(".")
    assert examples.count("zaya") >= 1
    for line in filter(None, map(str.strip, examples.splitlines())):
        assert name in line or name in ("zaya models", "zaya config")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_explained(name):
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name


@pytest.mark.processes
def test_help_never_imports_what_is_slow():
    """Each in one process, with a finder that refuses the slow libraries."""
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "huggingface_hub", "safetensors", "tokenizers", "numpy"):
            raise AssertionError(f"{name} is imported")
sys.meta_path.insert(0, Refuse())
from zaya_cli.app import main
for line in sys.stdin:
    sys.argv = line.split()
    try:
        main()
    except SystemExit as end:
        assert not end.code, (line, end.code)
"""
    lines = [
        "zaya --help",
        "zaya --version",
        "zaya config path",
        "zaya completion bash",
        *(f"{c} --help" for c in COMMANDS),
    ]
    done = subprocess.run([sys.executable, "-c", script], input="\n".join(lines), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.processes
def test_what_needs_no_tensors_needs_no_torch():
    """Listing models, judging memory and downloading start at once, also where PyTorch is damaged."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from zaya_cli.commands import config, doctor, models, pull\n"
        "from zaya_cli.machine import hardware\n"
        "from zaya_cli.models import fit_report, inventory\n"
        "inventory.present_models(); hardware.system_memory()\n"
        "raw = {'model_type': 'zaya', 'layer_types': ['hybrid'] * 40}\n"
        "from zaya_core.config.parse import parse_config\n"
        "assert len(fit_report.fits_of(parse_config(raw), 10**11, hardware.Memory('x', 1, 1))) == 3"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.processes
def test_help_works_when_the_configuration_is_damaged(tmp_path):
    (tmp_path / "config.toml").write_text("model = ")
    environment = {**os.environ, "ZAYA_CONFIG": str(tmp_path / "config.toml")}
    command = [sys.executable, "-m", "zaya_cli.app", "run", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
