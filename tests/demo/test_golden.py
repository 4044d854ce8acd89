"""What the bundled model is judged by is what its float32 reference computes."""

from __future__ import annotations

import json

import pytest

from demo.evaluate import BUNDLED
from demo.golden import OUT, known_numbers
from zaya_core.checkpoint.folder import ModelFolder


def test_the_stored_numbers_are_those_of_the_float32_reference():
    made = json.loads(json.dumps(vars(known_numbers(ModelFolder(BUNDLED)))))
    stored = json.loads(OUT.read_text(encoding="utf-8"))
    assert made.pop("log_probabilities_at") == [
        pytest.approx(row, abs=1e-3) for row in stored.pop("log_probabilities_at")
    ]
    assert made.pop("ranges") == {name: pytest.approx(range_) for name, range_ in stored.pop("ranges").items()}
    for one in (made, stored):  # the last of those kept may change places
        one["likeliest_at"] = [row[:4] for row in one["likeliest_at"]]
    assert made == stored
