"""A damaged `rsa.json` is what was saved, or is named as damaged; never another run and never another error."""

from __future__ import annotations

import random

from tests.fuzz.budget import rounds
from tests.fuzz.damage import damaged_json
from zaya_core.errors import UsageError
from zaya_core.rsa.rollouts import Rollout
from zaya_core.rsa.saved import restore_rollouts, save_rollouts, saved_seed

IDENTITY = {"seed": 5, "messages": [{"role": "user", "content": "1+1 \udce9?"}], "settings": {"candidates": 2}}
ROLLOUTS = [
    Rollout(0, 0, (), 5, "done", "1+1=2", "\\boxed{2}", "=2", 9, 0, 4, 7, -0.1234567890123, 1.5, 0.25, 1.25),
    Rollout(1, 0, (0, 1), 5, "failed", error="No server answers."),
]


def test_a_damaged_run_is_what_was_saved_or_named_as_damaged(tmp_path):
    path = tmp_path / "rsa.json"
    save_rollouts(path, IDENTITY, ROLLOUTS)
    content = path.read_bytes()
    assert (saved_seed(path), restore_rollouts(path, IDENTITY)) == (5, ROLLOUTS)
    refused = 0
    for case in rounds(300):
        damaged = damaged_json(content, random.Random(case))
        path.write_bytes(damaged)
        try:
            assert (saved_seed(path), restore_rollouts(path, IDENTITY)) == (5, ROLLOUTS), case
            continue
        except UsageError as error:
            said = str(error)
        refused += 1
        assert said.startswith(f"{path} is damaged")
        assert path.read_bytes() == damaged
    assert refused > 200
