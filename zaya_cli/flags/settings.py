"""What a `ZAYA_*` variable or `config.toml` can set instead of a flag, read from the commands' own flags.

A flag wins over its variable, that over the file, that over the model's generation_config.json, that over the built-in
default. The key in the file is the variable's name without `ZAYA_`, in lower case.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaya_cli.flags.typed import NEEDED, typed
from zaya_cli.models.credentials import API_KEY_VARIABLE
from zaya_cli.user_files import CONFIG_VARIABLE
from zaya_core.errors import MissingFileError, UsageError
from zaya_core.files.bounded_file import read_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PREFIX = "ZAYA_"
_OTHER_VARIABLES = frozenset(
    {CONFIG_VARIABLE, API_KEY_VARIABLE, "ZAYA_DEBUG", "ZAYA_KERNELS", "ZAYA_TEST_MODEL", "ZAYA_FUZZ_SECONDS"}
)
_MOST_BYTES = 1_000_000  # bytes


@dataclass(frozen=True)
class Setting:
    """One setting. `uses`: (command, parameter) of every flag that it stands in for."""

    key: str
    variable: str
    flag: str
    kind: type
    choices: tuple[str, ...]
    default: Any
    uses: tuple[tuple[str, str], ...]

    def check(self, value: Any, source: str) -> Any:
        """The value itself. Raises UsageError that names `source` where it has the wrong type or is not offered."""
        types = (int, float) if self.kind is float else (self.kind,)
        is_flag_for_number = isinstance(value, bool) and self.kind is not bool
        if self.choices and value not in self.choices:
            raise UsageError(f"{source}: {self.key} is {value!r}; it must be one of {', '.join(self.choices)}.")
        if not isinstance(value, types) or is_flag_for_number or (isinstance(value, str) and "\0" in value):
            raise UsageError(f"{source}: {self.key} is {value!r}; {NEEDED[self.kind]} is needed.")
        return value

    def parse(self, text: str) -> Any:
        """The value of the environment variable. Raises UsageError."""
        try:
            value = typed(self.kind, text)
        except ValueError:
            raise UsageError(f"{self.variable} is {text!r}; {NEEDED[self.kind]} is needed.") from None
        return self.check(value, self.variable)


def settings_of(commands: Mapping[str, Any]) -> dict[str, Setting]:
    """All settings by key, from the flags of Typer's command objects that have a `ZAYA_*` variable."""
    found: dict[str, Setting] = {}
    for command, details in commands.items():
        for parameter in details.params:
            variable = parameter.envvar
            if not isinstance(variable, str) or not variable.startswith(_PREFIX):
                continue
            key = variable.removeprefix(_PREFIX).lower()
            uses = ((command, parameter.name), *(found[key].uses if key in found else ()))
            found[key] = _setting(key, variable, parameter, tuple(sorted(uses)))
    return dict(sorted(found.items()))


def _setting(key: str, variable: str, parameter: Any, uses: tuple[tuple[str, str], ...]) -> Setting:
    described = parameter.type_descriptor
    choices = tuple(map(str, described.choices or ()))
    kind = str if choices else described.annotation
    return Setting(key, variable, parameter.opts[0], kind, choices, parameter.default, uses)


def read_config_file(path: Path, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The checked values of `config.toml`; {} if there is no such file.

    Raises UsageError that names the file, and the line or the key, for anything that cannot be used.
    """
    try:
        values = tomllib.loads(read_file(path, _MOST_BYTES).decode("utf-8"))
    except MissingFileError:
        if os.environ.get(CONFIG_VARIABLE):
            raise UsageError(f"{CONFIG_VARIABLE} names {path}, which does not exist: make it, or unset it.") from None
        return {}
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{path} is not valid TOML ({what}): correct it, or move it away.") from None
    for key in values:
        if key not in settings:
            raise UsageError(f"{path} sets {key!r}, which is no setting{_nearest(key, settings)}.")
    return {key: settings[key].check(value, str(path)) for key, value in values.items()}


def unknown_variables(settings: Mapping[str, Setting]) -> list[str]:
    """A sentence for each `ZAYA_` variable that sets nothing, which is most likely a misspelled one."""
    known = {setting.variable for setting in settings.values()} | _OTHER_VARIABLES
    names = sorted(name for name in os.environ if name.upper().startswith(_PREFIX) and name not in known)
    return [f"{name} sets nothing{_nearest_variable(name, known)}." for name in names]


def set_aside_unusable(settings: Mapping[str, Setting], command: str) -> list[str]:
    """A sentence for each variable of a command's flags that holds no value for them, which it then does without."""
    wrong = []
    for setting in settings.values():
        text = os.environ.get(setting.variable)
        if text and command in dict(setting.uses):
            try:
                setting.parse(text)
            except UsageError as error:
                wrong.append(str(error))
                del os.environ[setting.variable]
    return wrong


def _nearest_variable(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.upper(), known, 1)
    return f" (did you mean {close[0]}?)" if close else "; `zaya config show` lists all settings"


def _nearest(key: str, keys: Iterable[str]) -> str:
    close = difflib.get_close_matches(key.replace("-", "_").lower(), keys, 1)
    return f" (did you mean {close[0]!r}?)" if close else "; `zaya config show` lists all"


def defaults_by_command(values: Mapping[str, Any], settings: Mapping[str, Setting]) -> dict[str, dict[str, Any]]:
    """The values as defaults of each command's parameters, in the form that Typer takes."""
    defaults: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        for command, parameter in settings[key].uses:
            defaults.setdefault(command, {})[parameter] = value
    return defaults
