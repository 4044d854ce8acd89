"""Penalties by count are OpenAI's: what was generated loses `frequency` for each time and `presence` once."""

from __future__ import annotations

import pytest
import torch

from zaya_core.errors import UsageError
from zaya_core.sampling.additions import Additions
from zaya_core.sampling.draw import RowDraw, adjusted
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.sampling.seen import SeenIds

SIZE = 40


def row_of(params, bias, generated, seen=(), allowed=None):
    additions, ids = Additions(params, bias), SeenIds(params.repetition_penalty)
    ids.add(*seen)
    additions.count(*generated)
    return RowDraw(params, RandomKey(0), 0, seen=ids.tensor, bias=additions.by_id, allowed=allowed)


@pytest.mark.parametrize(("presence", "frequency"), [(0.5, 0.25), (-1.5, 0.3), (2.0, -2.0), (0.0, 0.1), (1.1, 0.0)])
def test_the_definition_written_out(presence, frequency):
    params = SamplingParams(presence_penalty=presence, frequency_penalty=frequency, repetition_penalty=1.3)
    bias = {3: 0.7, 9: -4.2, 11: 100.0, 12: 0.0}
    generated, seen = [3, 3, 3, 5, 9, 5, 0], [3, 5, 20, 11]
    allowed = torch.arange(SIZE) != 11
    logits = torch.randn(SIZE)
    found = adjusted(logits, row_of(params, bias, generated, seen, allowed))
    for id_ in range(SIZE):
        logit = logits[id_]
        if id_ in seen:  # first the repetition penalty
            logit = logit / 1.3 if logit > 0 else logit * 1.3
        count = generated.count(id_)
        added = bias.get(id_, 0.0) - (frequency * count + presence * (count > 0))
        expected = -torch.inf if id_ == 11 else float(logit + torch.tensor(added))  # last the mask
        assert float(found[id_]) == expected, id_


def test_nothing_is_changed_where_nothing_is_asked_for():
    logits = torch.randn(SIZE)
    assert adjusted(logits, row_of(SamplingParams(), {}, [1, 2, 2])) is logits
    assert adjusted(logits, row_of(SamplingParams(), {4: 0.0}, [1])) is logits
    assert adjusted(logits, row_of(SamplingParams(presence_penalty=1.0), {}, [])) is logits


def test_spared_ids_keep_their_bias_and_no_penalty():
    additions = Additions(SamplingParams(presence_penalty=2.0), {7: 1.5}, spared={7, 8})
    additions.count(7, 8, 9, 9)
    assert additions.by_id == {7: 1.5, 9: -2.0}


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("value", [2.01, -2.5, float("nan"), float("inf"), None, "1", True])
def test_a_penalty_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        SamplingParams(**{name: value})
