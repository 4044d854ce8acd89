"""A Hugging Face cache as downloads leave it: contents named by their checksum, a snapshot of links, a branch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from huggingface_hub import constants

from tests.cli.loopback_hub import REPO

COMMIT = "a" * 40


def repo_folder(repo=REPO):
    """Where the cache keeps a repository."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cache_repo(repo, config, weights=b"w" * 1000, commit=COMMIT, branch="main", unfinished=False):
    """Write a repository into the cache -> its folder."""
    folder = repo_folder(repo)
    contents = {"config.json": json.dumps(config).encode(), "model.safetensors": weights}
    for name, content in contents.items():
        checksum = hashlib.sha256(content).hexdigest()
        is_partial = unfinished and name == "model.safetensors"
        blob = folder / "blobs" / (f"{checksum}.zaya.incomplete" if is_partial else checksum)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content[: len(content) // 2] if is_partial else content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not is_partial:
            link.symlink_to(os.path.relpath(blob, link.parent))
    if branch is not None and not unfinished:
        reference = folder / "refs" / branch
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
    return folder
