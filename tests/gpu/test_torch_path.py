"""A model on a card, by torch: the CPU's numbers, no mix of devices, few launches, and hardly a wait for the card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.core.cache.test_parking import run
from tests.core.kernel_choice import chosen_kernels
from tests.core.quantized_models import quantized_folder, source_folder
from tests.gpu.simulated_card import Card, simulated_cards
from zaya_core.cache import step
from zaya_core.cache.parking import ParkedCache
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Finished, Parked, TokenEvent, Unparked
from zaya_core.engine.request import Request
from zaya_core.load import load_model
from zaya_core.measure.card_traffic import CardTraffic
from zaya_core.model import attention
from zaya_core.quantize.job import QuantizeSettings
from zaya_core.sampling.draw import Drawn, RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.sampling.sorted import draw_sorted
from zaya_core.text.tokenizer import load_tokenizer

# Projections end with a tile, as those of ZAYA1-8B do.
SIZES: dict[str, Any] = {"head_dim": 32, "max_position_embeddings": 600, "num_hidden_layers": 2}
# Of a layer: with plain attention and norms in parts, of which torch on a card has fused ones.
MOST_LAUNCHES, MOST_LAUNCHES_OF_4 = 100, 150
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return source_folder(tmp_path_factory.mktemp("card") / "model", **SIZES)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def on_both(folder, tokenizer):
    """Runs requests on the CPU by torch, and on the card, in float32: (events, what was generated) of both."""

    def compute(wanted, kv="auto", **engine):
        with chosen_kernels("torch"):
            expected = run(Engine(load_model(folder, "cpu", "float32", kv), tokenizer, **engine), wanted)
        return expected, run(Engine(load_model(folder, "cuda", "float32", kv), tokenizer, **engine), wanted)

    return compute


def requests(count, length=14, **more):
    ids = [[40 + (7 * row + 3 * at) % 60 for at in range(length)] for row in range(count)]
    return [Request(one, GREEDY, max_tokens=6, candidate=row, **more) for row, one in enumerate(ids)]


FLOWS = {
    "one row": (requests(1), {}),
    "a prompt in chunks": (requests(1), {"chunk": 5}),
    "four rows": (requests(4), {}),
    "a fork": (requests(1, 40) * 3, {}),
    "rows of several lengths": (requests(1, 3) + requests(1, 9) + requests(1, 14), {"chunk": 4}),
    "kept states": (requests(2, snapshot_at=(8,), keep_state=True), {"chunk": 6}),
    "log-probabilities": (requests(2, top_logprobs=5), {}),
    "a budget of thought": (requests(2, thinking_budget=3), {}),
    "a penalty": ([replace(one, sampling=replace(GREEDY, repetition_penalty=1.3)) for one in requests(2)], {}),
}
CASES = [*((flow, "auto") for flow in FLOWS), ("four rows", "int8"), ("kept states", "int8")]


@pytest.mark.parametrize(("flow", "kv"), CASES)
def test_an_engine_on_a_card_generates_what_it_does_on_a_cpu(card, on_both, flow, kv):
    wanted, engine = FLOWS[flow]
    (_, expected), (_, found) = on_both(wanted, kv, **engine)
    assert found == expected


@pytest.mark.parametrize(("flow", "kv"), CASES)
def test_a_step_of_an_engine_asks_a_bounded_number_of_times(folder, tokenizer, flow, kv):
    """The most is a prompt's last chunk: a pass and two choices of tokens. Forks and kept states cost no wait."""
    wanted, settings = FLOWS[flow]
    with simulated_cards(Card()):
        model = load_model(folder, "cuda", "bfloat16", kv)
        engine = Engine(model, tokenizer, **settings)
        for request in wanted:
            engine.submit(request)
        layers = model.config.num_hidden_layers
        while not engine.is_idle:
            with CardTraffic() as traffic:
                engine.step()
            assert traffic.synchronisations.total() <= layers + 2, traffic.synchronisations
            assert traffic.launches.total() <= layers * MOST_LAUNCHES_OF_4 + 150


def test_a_full_pool_parks_rows_on_a_card_and_they_go_on(card, folder, tokenizer):
    wanted = [replace(one, max_tokens=12, ignore_stop_ids=True) for one in requests(2, 250)]
    model = load_model(folder, "cuda", "float32")
    _, expected = run(Engine(model, tokenizer), wanted)
    engine = Engine(model, tokenizer, max_blocks=4)
    ids = [engine.submit(one) for one in wanted]
    events = [event for _ in range(4) for event in engine.step()]
    others = [engine.states.pool.allocate() for _ in range(2)]  # both rows will need one more than there are
    events += engine.events(ids)
    found = [[one.token_id for one in events if isinstance(one, TokenEvent) and one.request_id == id_] for id_ in ids]
    assert found == expected
    assert any(isinstance(event, Parked) for event in events) and any(isinstance(event, Unparked) for event in events)
    engine.states.pool.release(others)


def test_a_row_is_cancelled_on_a_card(card, folder, tokenizer):
    engine = Engine(load_model(folder, "cuda"), tokenizer)
    first = engine.submit(requests(1)[0])
    engine.cancel(first)
    assert [event.reason for event in engine.events([first]) if isinstance(event, Finished)] == ["cancelled"]


def test_tokens_are_drawn_on_a_card_and_a_seed_repeats_them(card, folder, tokenizer):
    sampled = [replace(one, sampling=SamplingParams(seed=3), top_logprobs=3) for one in requests(3)]
    model = load_model(folder, "cuda", "float32")
    (_, first), (_, again) = run(Engine(model, tokenizer), sampled), run(Engine(model, tokenizer), sampled)
    assert first == again
    assert len({*map(tuple, first)}) == 3


# --- how often the card is asked, and waited for ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("int4", "int8"), ("int4", "int4"), ("int8", "int8"), None], ids=str)
def of_one_and_three_layers(request, tmp_path_factory):
    """Folders of a model in a format; None: as floats."""
    root, found = tmp_path_factory.mktemp("layers"), []
    for layers in (1, 3):
        source = source_folder(root / f"{layers}", **{**SIZES, "num_hidden_layers": layers})
        if request.param is not None:
            source = quantized_folder(source, root / f"{layers}.packed", QuantizeSettings(*request.param))
        found.append(source)
    return found


def traffic_of_a_step(folder, rows):
    model = load_model(folder, "cuda", "bfloat16")
    cache = model.new_cache(rows)
    model(torch.randint(3, 200, (rows, 7)), cache)
    with CardTraffic() as traffic:
        model(torch.full((rows, 1), 9), cache)
    return traffic


@pytest.mark.parametrize("rows", [1, 4])
def test_a_layer_launches_little_and_waits_once_and_a_step_copies_twice(of_one_and_three_layers, rows):
    with simulated_cards(Card()):
        one, three = (traffic_of_a_step(folder, rows) for folder in of_one_and_three_layers)
    assert (three.launches.total() - one.launches.total()) / 2 <= (MOST_LAUNCHES if rows == 1 else MOST_LAUNCHES_OF_4)
    assert (one.synchronisations.total(), three.synchronisations.total()) == (1, 3)
    to_card = [sum(count for (_, way), count in each.copies.items() if way == "to card") for each in (one, three)]
    assert to_card == [2, 2]  # ids, and all numbers of the pass


ASKED = {
    "greedy": RowDraw(GREEDY, RandomKey(1), 0),
    "sampled": RowDraw(SamplingParams(), RandomKey(1), 0),
    "with all cuts": RowDraw(SamplingParams(top_k=20, top_p=0.5, min_p=0.1), RandomKey(1), 0, top_logprobs=9),
    "forced": RowDraw(SamplingParams(), RandomKey(1), 0, forced=5),
    "penalised": RowDraw(SamplingParams(repetition_penalty=1.2), RandomKey(1), 0, seen=torch.tensor([4, 7])),
    "biased and masked": RowDraw(SamplingParams(), RandomKey(1), 0, bias={3: 2.0}, allowed=torch.arange(704) < 60),
}


@pytest.mark.parametrize("asked", ASKED)
def test_tokens_are_chosen_with_one_wait_whatever_is_asked_for(card, asked):
    logits = torch.randn(3, 704).to("cuda")
    with CardTraffic() as traffic:
        drawn = draw_sorted(logits, [ASKED[asked], ASKED["sampled"], ASKED["greedy"]])
    assert traffic.synchronisations.total() == 1
    assert not [one for one in drawn if isinstance(one, Exception)]


@pytest.mark.parametrize("asked", ASKED)
def test_choosing_tokens_takes_no_more_memory_than_is_counted(asked):
    """`OnCard` counts ten times the logits."""
    with simulated_cards(Card()) as (card,):
        logits = torch.randn(8, 704).to("cuda")
        others, card.peak = card.held - logits.nbytes, card.held
        draw_sorted(logits, [ASKED[asked]] * 8)
        assert card.peak - others <= 10 * logits.nbytes


def test_a_forced_id_that_is_none_ends_its_own_row_only(card):
    """As an index it would end every later call of a real card."""
    logits = torch.randn(2, 704).to("cuda")
    error, drawn = draw_sorted(logits, [replace(ASKED["forced"], forced=5000), ASKED["greedy"]])
    assert isinstance(error, ValueError) and isinstance(drawn, Drawn)
    assert drawn.token_id == int(logits[1].argmax())


def test_a_row_is_parked_in_few_copies(card, folder):
    model = load_model(folder, "cuda")
    cache = model.new_cache()
    model(torch.randint(3, 200, (1, 300)), cache)
    with CardTraffic() as traffic:
        back = ParkedCache.of(cache).back_in(model.states)
    assert traffic.synchronisations.total() == 4  # keys, values, and both of CCA's states
    step = torch.tensor([[9]])
    assert torch.equal(model(step, back).cpu(), model(step, cache).cpu())


def test_a_snapshot_owns_its_state(card, folder):
    """A device may update the state of running rows where it is."""
    model = load_model(folder, "cuda")
    cache = model.new_cache()
    model(torch.randint(3, 200, (1, 5)), cache)
    snapshot = cache.snapshot()
    kept = [tensor.cpu() for tensor in snapshot.cca]
    cache.cca.conv_tail.zero_()
    cache.restore(snapshot)
    cache.cca.delayed.zero_()
    assert all(map(torch.equal, (tensor.cpu() for tensor in snapshot.cca), kept))


@pytest.mark.parametrize("first", [0, 300])
def test_attention_never_keeps_the_scores_of_a_whole_chunk(monkeypatch, folder, first):
    """The plain one would, which torch takes without a word where no fused one fits."""
    ids = torch.randint(3, 200, (1, 700), generator=torch.Generator().manual_seed(0))
    logits, peaks = [], []
    for scores in (1 << 17, 1 << 25):
        monkeypatch.setattr(attention, "SCORES", scores)
        with simulated_cards(Card()) as (card,):
            model = load_model(folder, "cuda", "float32")
            cache = model.new_cache()
            cache.pool.reserve(3)
            if first:
                model(ids[:, :first], cache)
            before = card.held
            logits.append(model(ids[:, first:], cache, last_only=True).cpu())
            peaks.append(card.peak - before)
    whole = 4 * model.config.num_attention_heads * (700 - first) * 700  # bytes
    assert peaks[0] < peaks[1] - whole
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
    expected = load_model(folder, "cpu", "float32")(ids, last_only=True)
    torch.testing.assert_close(logits[0], expected, atol=1e-3, rtol=1e-3)


def test_rows_without_a_token_are_attended_to_in_a_part_of_their_own(monkeypatch, card, folder):
    monkeypatch.setattr(step, "GATHERED", 8)
    model = load_model(folder, "cuda", "float32")
    ids = torch.randint(3, 200, (3, 9))
    found = model(ids, model.new_cache(3), lengths=[9, 0, 0])[0].cpu()
    torch.testing.assert_close(found, model(ids[:1])[0].cpu(), atol=1e-5, rtol=1e-5)


def test_a_long_row_beside_short_ones_costs_what_it_holds(monkeypatch, folder, tokenizer):
    """Gathered together, all rows would be as long as the longest."""
    wanted = requests(1, 600 - 20) + requests(6, 9)
    found, peaks = [], []
    for gathered in (1 << 8, 1 << 30):
        monkeypatch.setattr(step, "GATHERED", gathered)
        with simulated_cards(Card()) as (card,):
            engine = Engine(load_model(folder, "cuda", "float32"), tokenizer, max_blocks=12)
            ids = [engine.submit(one) for one in wanted]
            events = [event for _ in range(8) for event in engine.step()]  # all are running
            held, card.peak = card.held, card.held
            events += engine.events(ids)
            peaks.append(card.peak - held)
            found.append([(event.request_id, event.token_id) for event in events if isinstance(event, TokenEvent)])
    assert found[0] == found[1]
    of_a_row = 2 * 4 * engine.model.layout.num_key_value_heads * engine.model.layout.head_dim * 600
    assert peaks[0] < peaks[1] - 4 * of_a_row
