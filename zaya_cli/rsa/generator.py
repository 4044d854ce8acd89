"""Who generates for `zaya run --rsa`: the model on this machine, or a server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaya_cli.answer.answer_json import placement_of, quant_of
from zaya_cli.flags.rsa import RsaFlags
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.models import hub
from zaya_cli.models.credentials import prepare_server_keys
from zaya_cli.models.folder import DEFAULT_REPO, find_model_folder
from zaya_cli.runtime import open_runtime
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import CheckpointError, ModelNotFoundError
from zaya_core.rsa.rollouts import Generator
from zaya_core.whole_numbers import without_fraction

TOKENIZER_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class Source:
    """A generator with what the JSON says about it."""

    generator: Generator
    name: str
    folder: ModelFolder  # with the tokenizer at least
    placement: dict[str, Any]
    summary: str
    load_seconds: float
    notes: tuple[str, ...] = ()
    device: Any = None  # the model's, None for a server
    quant: str | None = None

    def peak_memory_bytes(self) -> int:
        """As for a plain run; 0 for a server, whose memory nobody knows here."""
        from zaya_core.machine.memory import peak_memory_bytes

        return 0 if self.device is None else peak_memory_bytes(self.device)


def open_source(runtime: RuntimeSettings, flags: RsaFlags, stop: tuple[str, ...]) -> Source:
    """Load the model, or only its tokenizer and find the server. Raises the errors of both."""
    return _local(runtime, flags, stop) if flags.endpoint is None else _remote(runtime, flags, flags.endpoint)


def _local(settings: RuntimeSettings, flags: RsaFlags, stop: tuple[str, ...]) -> Source:
    from zaya_core.rsa.local import EngineGenerator

    runtime = open_runtime(settings, rows=flags.parallel)
    model = runtime.engine.model
    summary = f"{model.placement_reason}; {runtime.threads} threads"
    return Source(
        EngineGenerator(runtime.engine, stop), runtime.name, runtime.folder, placement_of(runtime), summary,
        runtime.load_seconds, device=model.device, quant=quant_of(runtime),
    )  # fmt: skip


def _remote(settings: RuntimeSettings, flags: RsaFlags, url: str) -> Source:
    from zaya_core.rsa.endpoint import EndpointGenerator
    from zaya_core.text.tokenizer import load_tokenizer

    started = time.perf_counter()
    settings.expect_context()
    prepare_server_keys()
    folder = ModelFolder(tokenizer_folder(settings.model))
    context = settings.context or _longest_context(folder)
    tokenizer = load_tokenizer(folder)
    generator = EndpointGenerator(url, tokenizer, context, flags.endpoint_model, flags.parallel)
    name = generator.model
    placement = {"device": generator.url, "dtype": None, "threads": None}
    seconds = time.perf_counter() - started
    notes = (*filter(None, [tokenizer.chat_template.note]), *generator.notes)
    return Source(generator, name, folder, placement, f"{name} at {generator.url}", seconds, notes)


def tokenizer_folder(name: str | None) -> Path:
    """A folder with at least the tokenizer's files; of a repository that is not here, only those are fetched.

    Raises: ModelNotFoundError; NetworkError when the download fails.
    """
    name = name or DEFAULT_REPO
    try:
        return find_model_folder(name)
    except ModelNotFoundError:
        repo, _, revision = name.partition("@")
        if not hub.is_repo_name(repo) or "/" not in repo or hub.is_offline():
            raise
    from huggingface_hub import snapshot_download

    revision = revision or hub.DEFAULT_REVISION
    with hub.hub_errors(repo, revision):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(TOKENIZER_FILES)))


def _longest_context(folder: ModelFolder) -> int:
    try:
        value = without_fraction(folder.json_object("config.json").get("max_position_embeddings"))
    except (CheckpointError, ModelNotFoundError):
        value = None
    if not isinstance(value, int) or value < 2:
        raise CheckpointError(f"{folder}/config.json names no max_position_embeddings: give --ctx TOKENS.")
    return value
