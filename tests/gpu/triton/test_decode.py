"""A decode step as a program: replayed on whatever its tensors hold, it computes what the reference does."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("triton")
pytest.importorskip("transformers")
from quant.assemble import packed_stack
from quant.int8 import quantize_int8
from quant.kernels.triton.launch import IS_INTERPRETED
from quant.kernels.triton.program import Program
from quant.kernels.triton.weights import card_matrix
from tests.core.kernel_choice import chosen_kernels
from tests.core.model_parts import parts_of
from tests.core.quantized_models import quantized_folder, source_folder
from tests.gpu.triton.place import PLACE
from tests.gpu.triton.sanitizer import sanitized
from zaya_core.cache.cache import Cache
from zaya_core.kernels.resolve import resolve_steps
from zaya_core.kernels.triton.decode import DecodeStep
from zaya_core.kernels.triton.steps import TritonSteps
from zaya_core.load import assemble
from zaya_core.model.steps import Declined
from zaya_core.quantize.job import QuantizeSettings

ALIKE = 1e-4 if IS_INTERPRETED else 0.3  # a card multiplies rounded numbers
VOCABULARY, BLOCKS = 176, 60
MERGED = 6  # of the arguments of `merge_and_norm`


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The float32 reference, and the same weights by kernels: int4 experts, int8 attention and head, 2 layers."""
    root = tmp_path_factory.mktemp("decode")
    source = source_folder(root / "source", num_hidden_layers=2, vocab_size=VOCABULARY)
    folder = quantized_folder(source, root / "packed", QuantizeSettings("int4", "int8"))
    with chosen_kernels("reference"):
        yield pair_of(folder)


def pair_of(folder, kv="auto"):
    parts = parts_of(folder, kv=kv)
    reference = assemble(parts, resolve_steps(parts), "")
    parts = parts_of(folder, kv=kv, device=str(PLACE))
    ours = assemble(parts, TritonSteps(parts, "", graphs=not IS_INTERPRETED), "")
    states = ours.steps.states(max_rows=20, max_blocks=BLOCKS)  # as an Engine has them: they never move
    states.pool.reserve(BLOCKS)
    return SimpleNamespace(reference=reference, ours=ours, states=states)


class Both:
    """Rows of both models that get the same tokens. State: `expected` and `found`, their caches."""

    def __init__(self, pair, expected=None, found=None):
        self.pair, self.expected, self.found = pair, expected, found

    @classmethod
    def of(cls, pair, *lengths):
        """One row of each length."""
        rows = [cls(pair, pair.reference.new_cache(), Cache.empty(pair.states)) for _ in lengths]
        for row, length in zip(rows, lengths, strict=True):
            row.pass_of(torch.randint(3, VOCABULARY, (1, length)), is_prompt=True)
        return cls.joined(rows)

    @classmethod
    def joined(cls, rows):
        """Those of several, which are used up."""
        expected, found = (Cache.join([getattr(row, name) for row in rows]) for name in ("expected", "found"))
        return cls(rows[0].pair, expected, found)

    def changed(self, change):
        """What `change` makes of each cache."""
        return Both(self.pair, change(self.expected), change(self.found))

    def pass_of(self, ids, is_prompt=False):
        expected = self.pair.reference(ids, self.expected, last_only=True, is_prompt=is_prompt)
        found = self.pair.ours(ids, self.found, last_only=True, is_prompt=is_prompt).cpu()
        assert (found - expected).abs().max() <= ALIKE
        if IS_INTERPRETED:
            assert torch.equal(found.argmax(-1), expected.argmax(-1))

    def steps(self, count):
        for _ in range(count):
            self.pass_of(torch.randint(3, VOCABULARY, (len(self.found.tables), 1)))


def test_a_replay_follows_rows_that_leave_join_fork_and_go_back(pair):
    """Over the end of a block of 256 positions, by one program for each number of rows, whose tensors stay."""
    rows = Both.of(pair, 254, 7)
    rows.steps(1)
    at = addresses(step_of(pair, 2))
    rows.steps(2)
    start = rows.expected.snapshot(), rows.found.snapshot()
    rows = Both.joined([rows.changed(lambda cache: cache.select([0])), Both.of(pair, 40)])
    rows.steps(2)
    rows = rows.changed(lambda cache: cache.select([1])).changed(lambda cache: cache.fork(2))
    rows.steps(1)
    for cache, snapshot in zip((rows.expected, rows.found), start, strict=True):
        cache.restore(snapshot)
    rows.steps(1)
    assert addresses(step_of(pair, 2)) == at


def addresses(step):
    """Of all that its launches read and write."""
    return [one.data_ptr() for launch in step.program.launches for one in tensors_of(launch)]


def step_of(pair, rows) -> DecodeStep:
    return pair.ours.steps._steps[pair.states]._steps[rows]


def test_rows_are_padded_and_more_than_sixteen_take_turns(pair):
    rows = Both.of(pair, 3)
    rows = rows.changed(lambda cache: cache.fork(19))
    rows.steps(1)
    assert {4, 16} <= pair.ours.steps._steps[pair.states]._steps.keys()


@pytest.mark.skipif(not IS_INTERPRETED, reason="the interpreter is watched")
def test_no_launch_of_a_step_reads_or_writes_where_it_must_not(pair):
    rows = Both.of(pair, 255, 9, 2)
    stacks = [stack for layer in pair.ours.steps._model.layers for stack in (layer.gate_up_proj, layer.down_proj)]
    tables = [tensor for stack in stacks for one in stack.matrices for tensor in (one.codes, one.scales)]
    with sanitized(*tables):
        rows.steps(2)


def test_a_layer_of_a_step_is_at_most_eleven_launches(pair):
    Both.of(pair, 2).steps(1)
    launches = [launch.name for launch in step_of(pair, 1).program.launches]
    apart = len(pair.ours.steps._model.layers[0].qkv) - 1  # projections that are one matrix on a card
    assert (len(launches) - 4) / 2 - apart <= 10, launches
    assert launches.count("choose_expert") == 2


@pytest.fixture(scope="module")
def walk(pair):
    """A row before the end of a block, the tokens that it goes on with, and the logits of each by the reference."""
    row = Both.of(pair, 254)
    start = row.found.snapshot()
    ids = torch.randint(3, VOCABULARY, (4, 1, 1))
    expected = [pair.reference(one, row.expected) for one in ids]
    pair.ours(ids[0], row.found)
    return SimpleNamespace(start=start, ids=ids, expected=expected)


@torch.inference_mode()
def is_noticed(pair, walk, place, argument):
    """Whether logits are others when one launch goes on with what one of its tensors held after the first step."""
    cache = Cache.from_snapshot(walk.start)
    pair.ours(walk.ids[0], cache)
    step = step_of(pair, 1)
    whole = step.program
    step.inputs.table[:, 1:] = BLOCKS - 1  # not what an earlier row had there, which may be the very block that comes
    launches = list(whole.launches)
    launches[place] = frozen(launches[place], argument)
    step.program = Program(launches, PLACE)
    try:
        for ids, expected in zip(walk.ids[1:], walk.expected[1:], strict=True):
            cache = cache.select([0])  # its state goes to other slots
            if float((pair.ours(ids, cache).cpu() - expected).abs().max()) > 10 * ALIKE:
                return True
        return False
    finally:
        step.program = whole


def frozen(launch, argument):
    """The launch with a copy of one of its tensors, wherever it is given: some stand for others that there are not."""
    tensors, at = tensors_of(launch), tensors_of(launch)[argument].data_ptr()
    copy = tensors[argument].clone()
    others = [copy if one.data_ptr() == at else one for one in tensors]
    return replace(launch, arguments=(*others, *launch.arguments[len(tensors) :]))


def changing(pair, walk):
    """(place, argument) of all tensors that differ between two steps.

    But scratch, which is written before it is read, positions where they only tell rows that fill a batch up, the
    merged residual before the first layer, where nothing is merged, and behind the last one, and its router's state.
    """
    cache, held = Cache.from_snapshot(walk.start), []
    for ids in (walk.ids[0], walk.ids[3]):
        pair.ours(ids, cache)
        step = step_of(pair, 1)
        held.append([[one.clone() for one in tensors_of(launch)] for launch in step.program.launches])
    scratch, positions = step.buffers.scratch.data_ptr(), step.inputs.positions.data_ptr()
    last_state = step.buffers.router_state[1].data_ptr()  # of two layers
    for place, (launch, *both) in enumerate(zip(step.program.launches, *held, strict=True)):
        harmless = {scratch, last_state, *([positions] if launch.name in ("embed_rows", "choose_expert") else [])}
        for argument, (one, first, last) in enumerate(zip(tensors_of(launch), *both, strict=True)):
            is_end = launch.options.get("MERGE") is False or place == len(step.program.launches) - 2
            if not (is_end and argument == MERGED) and not torch.equal(first, last) and one.data_ptr() not in harmless:
                yield place, argument


def tensors_of(launch):
    """Arguments that are tensors come first."""
    return list(takewhile(lambda one: isinstance(one, torch.Tensor), launch.arguments))


def test_what_is_frozen_in_a_program_is_noticed_for_each_of_its_inputs(pair, walk):
    step = step_of(pair, 1)
    readers = {"ids": "embed_rows", "positions": "cca_of_token", "slot_in": "cca_of_token", "slot_out": "cca_of_token"}
    for name, kernel in {**readers, "table": "attend_split"}.items():
        at = getattr(step.inputs, name).data_ptr()
        place = next(place for place, launch in enumerate(step.program.launches) if launch.name == kernel)
        tensors = tensors_of(step.program.launches[place])
        argument = next(argument for argument, one in enumerate(tensors) if one.data_ptr() == at)
        assert is_noticed(pair, walk, place, argument), name


def test_what_is_frozen_in_a_program_is_noticed_for_each_kind_of_what_it_hands_on(pair, walk):
    """Residual stream, keys and values or state, the router's state, a branch: the last that changes of each kernel."""
    launches = step_of(pair, 1).program.launches
    last = {launches[place].name: (place, argument) for place, argument in changing(pair, walk)}
    assert len(last) >= 11
    for name in ("merge_norm_down", "cca_of_token", "choose_expert", "down_row"):
        assert is_noticed(pair, walk, *last[name]), name


@pytest.mark.long
def test_whatever_tensor_of_a_program_is_frozen_it_is_noticed(pair, walk):
    launches = step_of(pair, 1).program.launches
    for place, argument in changing(pair, walk):
        assert is_noticed(pair, walk, place, argument), (place, launches[place].name, argument)


# Of each kind what it is tested with: the layout, sizes that differ, how keys and values are kept.
MODELS = {
    "one_sliding_layer": ("native", {}, "int8"),
    "whole_head_rotated": ("original", {}, "auto"),  # here the skip class can win
    "attention_bias": ("native", {}, "auto"),
    "untied_head_with_bias": ("native", {}, "auto"),
    "many_experts_wide_router": ("native", {"router_hidden_size": 48, "hidden_size": 320}, "auto"),
}
LONG = [pytest.param(name, marks=pytest.mark.long) for name in [*MODELS][2:]]


@pytest.mark.parametrize("name", [*[*MODELS][:2], *LONG])
def test_models_of_each_kind_are_computed_as_the_reference_does(tmp_path, name):
    layout, sizes, kv = MODELS[name]
    source = source_folder(tmp_path / "source", layout, name, **{"vocab_size": VOCABULARY, **sizes})
    folder = quantized_folder(source, tmp_path / "packed", QuantizeSettings("int4", "int8"))
    with chosen_kernels("reference"):
        rows = Both.of(pair_of(folder, kv), 11, 2)
        rows.steps(2)
        rows.changed(lambda cache: cache.select([0])).steps(2)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_models_in_floats_are_computed_as_the_reference_does(tmp_path, stored):
    source = source_folder(tmp_path / "source", num_hidden_layers=1, vocab_size=VOCABULARY)
    tensors = load_file(source / "model.safetensors")
    save_file({name: one.to(stored) for name, one in tensors.items()}, source / "model.safetensors")
    with chosen_kernels("reference"):
        rows = Both.of(pair_of(source), 20, 2)
        rows.steps(1)
        rows.changed(lambda cache: cache.select([0])).steps(1)


HEADS = {"num_attention_heads": 8, "hidden_size": 192}


@pytest.mark.parametrize(
    ("variant", "sizes", "why"),
    [
        ("longer_convolutions", {}, "convolutions over 2 and 2"),
        ("base", {"head_dim": 24, **HEADS}, "must be a power of two"),
        ("base", {"head_dim": 8}, "heads have 8"),
    ],
)
def test_what_kernels_do_not_compute_is_declined_with_the_reason(tmp_path, variant, sizes, why):
    folder = source_folder(tmp_path / "source", "native", variant, **sizes)
    with pytest.raises(Declined, match=why):
        TritonSteps(parts_of(folder, device=str(PLACE)), "", graphs=False)


def stack_of_halves(parts, monkeypatch):
    """Experts of 64 columns whose gates are a tile and a half."""
    layer, codes = parts.layer, torch.zeros(48, 64)
    tensors = quantize_int8(codes)

    def halved(number):
        one = layer(number)
        one.experts.gate_up_proj = packed_stack("int8", [tensors] * 4, (48, 64))
        return one

    monkeypatch.setattr(parts, "layer", halved)


def head_at_an_odd_address(parts, monkeypatch):
    """As a mapped file may have it."""

    def refused(format, codes, scales, shape, bias=None):
        if shape[0] == VOCABULARY:
            raise ValueError("codes must begin at a multiple of 16 bytes")
        return card_matrix(format, codes, scales, shape, bias)

    monkeypatch.setattr("zaya_core.kernels.triton.matrices.card_matrix", refused)


@pytest.mark.parametrize(
    ("spoil", "why"), [(stack_of_halves, "gates are whole tiles"), (head_at_an_odd_address, "a multiple of 16")]
)
def test_weights_that_kernels_cannot_read_are_declined_when_they_are_loaded(tmp_path, spoil, why, monkeypatch):
    source = source_folder(tmp_path / "source", num_hidden_layers=1, vocab_size=VOCABULARY)
    parts = parts_of(quantized_folder(source, tmp_path / "packed", QuantizeSettings("int4", "int8")), device=str(PLACE))
    spoil(parts, monkeypatch)
    with pytest.raises(Declined, match=why):
        TritonSteps(parts, "", graphs=False)


def test_what_launches_read_begins_where_none_is_compiled_anew(pair):
    """Each layer's choices of one row, as all else: at a multiple of 16 bytes."""
    Both.of(pair, 2).steps(1)
    assert not [
        launch.name for launch in step_of(pair, 1).program.launches for one in tensors_of(launch) if one.data_ptr() % 16
    ]
