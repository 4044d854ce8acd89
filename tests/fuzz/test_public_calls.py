r"""Public calls with arguments of other shapes, dtypes, sizes, strides, devices or types: refused with nothing changed,
or answered as the same numbers in their proper form are. Never anything else, a crash least of all.

By hand under the sanitizers, from a checkout (each instruction set by ZAYA_KERNELS=native:NAME):

    g++ -O1 -g -std=c++17 -fvisibility=hidden -ffp-contract=off -fsanitize=address,undefined -shared -fPIC -pthread \
        -I. $(find quant zaya_core -name '*.cpp') -o quant/kernels/_native$(python -c \
        "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
        UBSAN_OPTIONS=halt_on_error=1 ZAYA_FUZZ_SECONDS=600 python -m pytest -n 0 -s tests/fuzz/test_public_calls.py
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest
import torch

from quant.assemble import packed_matrix, packed_stack, quantize_matrix
from quant.dense import DenseMatrix, DenseStack
from quant.kernels.native import supported_instruction_sets
from tests.fuzz.budget import rounds
from tests.fuzz.spoiled import DTYPES, NO_NUMBERS, spoiled
from zaya_cli.models.folder import BUNDLED
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockTable
from zaya_core.cache.cache import Cache
from zaya_core.cache.parking import ParkedCache
from zaya_core.cache.step import CacheStep
from zaya_core.config.kv_format import KVFormat
from zaya_core.errors import UsageError
from zaya_core.kernels.decode import AttentionKind, Places
from zaya_core.kernels.key_values import KeyValues
from zaya_core.kernels.native import NativeSteps
from zaya_core.kernels.prompt_attention import attend_prompt, can_attend
from zaya_core.kernels.resolve import resolve_sampling
from zaya_core.load import load_model
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.sampling.logits import largest, penalise_repetition
from zaya_core.sampling.params import RandomKey, SamplingParams

REFUSED = (ValueError, IndexError, UsageError)
SETS = supported_instruction_sets()
N, K = 40, 128
SAMPLING = resolve_sampling(torch.device("cpu"))


KINDS: dict[str, tuple[str, KVFormat]] = {
    "bf16": ("bfloat16", "auto"),
    "codes": ("bfloat16", "int8"),
    "floats": ("float32", "auto"),
}


@cache
def model_of(kind):
    dtype, kv = KINDS[kind]
    return load_model(BUNDLED / "demo", device="cpu", dtype=dtype, kv=kv)


def any_model(random):
    return model_of(random.choice(list(KINDS)))


def is_whole(value, least, most=float("inf")):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_tensor(value, *dtypes):
    """One on the CPU that some code could read."""
    strided = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return strided and not value.is_meta and value.dtype in dtypes


def proper(value):
    """The same numbers, one after the other in new memory."""
    return value.contiguous().clone() if isinstance(value, torch.Tensor) else value


def is_alike(value, model):
    """Of the same shape and dtype, on the CPU."""
    if not isinstance(model, torch.Tensor):
        return type(value) is type(model)
    return is_tensor(value, model.dtype) and value.shape == model.shape


def same_bits(ours, theirs):
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(ours, theirs, strict=True))


def answer(call):
    """What a call gives; None where it refuses."""
    try:
        return call()
    except REFUSED:
        return None


# ---------------------------------------------------------------------------------------------- the model and its cache


def state(cache):
    """All that a cache holds."""
    rows = zip(cache.tables, cache.row_lengths, strict=True)
    stored = [tensor for table, length in rows for tensor in table.read(length).values()]
    return [torch.tensor(cache.row_lengths), *cache.cca, *stored]


def is_unchanged(cache, before):
    return same_bits(state(cache), before)


@cache
def beginning(model_kind, past):
    """A row that has read so many tokens."""
    model = model_of(model_kind)
    cache = model.new_cache()
    model(torch.randint(3, 700, (1, past)), cache)
    return cache.snapshot()


def filled_cache(random, model, rows):
    past = random.choice((0, 3, 5, BLOCK - 2, BLOCK))
    if not past:
        return model.new_cache(rows)
    kind = next(kind for kind in KINDS if model_of(kind) is model)
    return Cache.from_snapshot(beginning(kind, past)).fork(rows)


def any_cache(random, model, rows):
    """Seldom one that fits."""
    other = model_of(random.choice(list(KINDS)))
    return random.choice(
        (
            lambda: None, lambda: model, lambda: other.new_cache(rows), lambda: filled_cache(random, model, rows),
            lambda: model.new_cache(random.randint(1, 4)), lambda: model.new_cache(rows).snapshot(),
        )
    )()  # fmt: skip


def any_lengths(random, rows, columns):
    lengths = [random.randint(0, columns) for _ in range(random.choice((rows, rows, rows, rows + 1, rows - 1)))]
    if lengths and random.random() < 0.5:
        lengths[random.randrange(len(lengths))] = random.choice(NO_NUMBERS)
        return lengths
    return random.choice(
        (lengths, tuple(lengths), torch.tensor(lengths), torch.tensor(lengths).to(random.choice(DTYPES)))
    )


def lengths_fit(lengths, rows, columns, least):
    if lengths is None:
        return True
    if isinstance(lengths, torch.Tensor):
        if lengths.dtype.is_floating_point or lengths.dtype == torch.bool or lengths.dim() != 1:
            return False
        lengths = lengths.tolist()
    return len(lengths) == rows and all(is_whole(x, least, columns) for x in lengths) and any(lengths)


def model_call(random):
    """`model(ids, cache, lengths, last_only)`."""
    model, rows, columns = any_model(random), random.randint(1, 3), random.choice((1, 1, 2, 5))
    ids, lengths, last_only = torch.randint(3, 700, (rows, columns)), None, random.random() < 0.3
    cache = filled_cache(random, model, rows)
    if random.random() < 0.4:
        ids = spoiled(random, ids)
    if random.random() < 0.3:
        cache = any_cache(random, model, rows)
    if random.random() < 0.5:
        lengths = any_lengths(random, rows, columns)
    is_right = is_tensor(ids, torch.int64, torch.int32) and ids.dim() == 2 and ids.numel() > 0
    is_right = is_right and int(ids.min()) >= 0 and int(ids.max()) < model.config.vocab_size
    fits = (
        is_right
        and (cache is None or isinstance(cache, Cache))
        and (cache is None or (cache.pool.layout is model.layout and cache.batch_size == len(ids)))
    )
    is_right = is_right and fits and lengths_fit(lengths, ids.shape[0], ids.shape[1], int(last_only))
    before = state(cache) if isinstance(cache, Cache) else None
    fork = cache.select(range(cache.batch_size)) if is_right and cache is not None else None
    logits = answer(lambda: model(ids, cache, lengths, last_only))
    assert (logits is not None) == is_right
    if logits is None:
        assert before is None or is_unchanged(cache, before)
        return
    given = None if lengths is None else [int(length) for length in lengths]
    expected, new = model(proper(ids).long(), fork, given, last_only), given or [ids.shape[1]] * len(ids)
    real = [1] * len(ids) if last_only else new
    assert same_bits(*([row[:count] for row, count in zip(one, real, strict=True)] for one in (logits, expected)))
    if before is not None:
        assert cache.row_lengths == [past + more for past, more in zip(before[0].tolist(), new, strict=True)]


def cache_call(random):
    """Selecting, forking, joining, restoring, reading, parking."""
    model, other = any_model(random), any_model(random)
    cache, stranger = (
        filled_cache(random, model, random.randint(1, 3)),
        filled_cache(random, other, random.randint(1, 3)),
    )
    before, rows = state(cache), cache.batch_size
    number = random.choice((*NO_NUMBERS, 0, 1, 2, rows, 300))
    several = [random.randrange(rows) for _ in range(random.randint(0, 3))]
    several = [*several, number] if random.random() < 0.4 else several
    some_length = number if is_whole(number, 0) and number < 1000 else -1
    calls = {
        "select": (lambda: cache.select(several), bool(several) and all(is_whole(x, 0, rows - 1) for x in several)),
        "fork": (lambda: cache.fork(some_length), rows == 1 and some_length >= 1),
        "fork of no number": (lambda: cache.fork(random.choice((True, 0, -1, 1.0, None))), False),
        "new_cache": (lambda: model.new_cache(some_length), some_length >= 1),
        "new_cache of no number": (lambda: model.new_cache(random.choice((True, 0, -1, 1.0, None))), False),
        "join": (lambda: Cache.join([cache.select([0]), stranger]), model is other),
        "join twice": (lambda: Cache.join([cache, cache]), False),
        "join none": (lambda: Cache.join([]), False),
        "restore": (
            lambda: cache.select([0]).restore(stranger.snapshot()),
            model is other and stranger.batch_size == 1,
        ),
        "begin": (lambda: CacheStep.begin(cache, number), is_whole(number, 1)),
        "read": (lambda: cache.tables[0].read(some_length), 0 <= some_length <= len(cache.tables[0].blocks) * BLOCK),
        "park": (lambda: ParkedCache.of(cache.select([0])).back_in(other.states), model is other),
        "repeat": (lambda: cache.select([0]).repeat_to(some_length), repeats(cache.row_lengths[0], some_length)),
    }
    name = random.choice(sorted(calls))
    call, is_right = calls[name]
    done = answer(lambda: [call()])
    assert (done is not None) == is_right, name
    assert is_unchanged(cache, before), name
    if name == "select" and done:
        assert same_bits([done[0].cca.conv_tail], [cache.cca.conv_tail[:, several]])


def repeats(stored, length):
    return length >= 0 and (stored >= length or stored >= BLOCK)


def written_call(random):
    """Keys and values put into a pool's blocks."""
    model = any_model(random)
    cache = filled_cache(random, model, 1)
    tensors = cache.tables[0].read(cache.row_lengths[0])
    name = random.choice(sorted(tensors))
    spoilt = {**tensors, name: spoiled(random, tensors[name])}
    used = model.states.pool.blocks_in_use
    table = answer(lambda: BlockTable.written(model.states.pool, spoilt))
    if table is None:
        assert model.states.pool.blocks_in_use == used
    else:
        assert is_alike(spoilt[name], tensors[name])
        assert same_bits(table.read(cache.row_lengths[0]).values(), spoilt.values())


# ----------------------------------------------------------------------------------------------------- the native steps


@cache
def arguments(kind):
    """Of each native step, with two rows."""
    torch.manual_seed(0)
    model = model_of(kind)
    layer, config = model.steps._layers[1], model.config
    step = CacheStep.begin(filled_cache(Random(3), model, 2), 5, [5, 2])
    step.__enter__()
    inputs = ForwardPass(config, model.rotary, step).by_type
    residual = torch.randn(2, 5, config.hidden_size)
    state = torch.randn(10, layer.router_width)
    qkv = [torch.randn(2, 5, width) for width in (layer.query_width, layer.key_width, layer.key_width)]
    angles = next(iter(inputs.values())).angles
    storage = [tensors[1].clone() for tensors in model.states.pool.tensors.values()]
    steps = {
        "project": (layer.project, [residual, step.conv_tail(1), step.delayed(1), step.lengths, *angles]),
        "mix": (layer.mix, [qkv[0], residual, state]),
        "head": (model.steps._head, [residual]),
        "embedding": (model.steps._embedding, [torch.randint(3, 700, (2, 5))]),
    }
    if can_attend(layer, model.dtype):
        given = [*qkv, *storage, step.tables, step.ends - step.lengths, step.lengths]
        count = 3 + len(storage)
        steps["attend"] = (
            lambda *a: [
                attend_prompt(layer, a[:3], KeyValues(a[3:count], a[count], BLOCK), a[count + 1], a[count + 2], None),
                *a[3:count],
            ],
            given,
        )
    return steps


def native_call(random):
    """One tensor of a native step."""
    call, given = (steps := arguments(random.choice(("bf16", "codes"))))[name := random.choice(sorted(steps))]
    assert answer(lambda: call(*map(proper, given))) is not None, name
    at = random.randrange(len(given))
    spoilt = [*map(proper, given)]
    spoilt[at] = one = spoiled(random, spoilt[at])
    fresh = [*map(proper, given)]
    fresh[at] = proper(one) if is_tensor(one, *DTYPES) else one
    found = answer(lambda: call(*spoilt))
    if found is None:
        return
    if not is_alike(one, given[at]):
        takes = {("head", 0): torch.float32, ("embedding", 0): torch.int64, ("mix", 0): torch.bfloat16}
        is_other_form = (name, at) in takes and is_tensor(one, takes[name, at])
        assert is_other_form or ((name, at) == ("mix", 2) and one is None), (name, at)
    again = call(*fresh)
    if isinstance(found, torch.Tensor):
        found, again = [found], [again]
    assert same_bits(found, again), (name, at)


def decode_call(random):
    """Where rows stand, as the whole step by the library is told."""
    model = model_of(random.choice(("bf16", "codes")))
    cache = filled_cache(random, model, 2)
    before = state(cache)
    with_room = CacheStep.begin(cache, 1)
    with_room.__enter__()
    inputs = ForwardPass(model.config, model.rotary, with_room).by_type
    native, names = model.steps._decoder, model.steps._kinds
    kinds = [AttentionKind(*inputs[name].table, inputs[name].first_visible) for name in names]
    places: dict[str, Any] = {
        "slots": with_room.slot_numbers,
        "tables": with_room.block_numbers,
        "ends": with_room.totals,
    }
    name = random.choice(sorted(places))
    wrong = random.choice((-1, 10**9, 2**40))
    spoilt = {**places, name: [*places[name][:1], [wrong] * len(places["tables"][0]) if name == "tables" else wrong]}
    if random.random() < 0.3:
        spoilt = {**places, name: places[name][:1]}
    cut = random.random() < 0.2
    if cut:
        spoilt, end = places, max(places["ends"]) - 1
        kinds = [
            kind._replace(cos=kind.cos[:, :end].contiguous(), sin=kind.sin[:, :end].contiguous()) for kind in kinds
        ]
    storage = model.steps._storage_of(model.states.pool)
    ids = torch.randint(3, 700, (2, 1))
    with pytest.raises(ValueError):
        native(ids, cache.cca, kinds, storage, Places(**spoilt))
    with_room._give_back()
    assert is_unchanged(cache, before)


# ------------------------------------------------------------------------------------------------------------- matrices


@cache
def stored(kind):
    weight = torch.randn(N, K, generator=torch.Generator().manual_seed(1))
    if kind in ("bf16", "float32"):
        return {"weight": weight.to(torch.bfloat16 if kind == "bf16" else torch.float32)}
    return quantize_matrix(kind, weight)


def matrix_of(kind, tensors, bias=None):
    if "weight" in tensors:
        return DenseMatrix(tensors["weight"], bias)
    return packed_matrix(kind, tensors, (N, K), bias)


def near(ours, theirs):
    assert ours.shape == theirs.shape
    assert not ours.numel() or (ours.float() - theirs).abs().max() <= 0.03 * theirs.abs().max() + 1e-30


def product_call(random):
    """A matrix's products and rows."""
    kind = random.choice(("int4", "int8", "bf16", "float32"))
    bias = torch.randn(N).to(torch.bfloat16 if kind == "bf16" else torch.float32) if random.random() < 0.3 else None
    matrix = matrix_of(kind, stored(kind), bias)
    taken = {"bf16": (torch.bfloat16,), "float32": (torch.float32,)}.get(kind, (torch.float32, torch.bfloat16))
    if random.random() < 0.3:
        index = spoiled(random, torch.randint(0, N, (3, 4)))
        is_right = is_tensor(index, torch.int64, torch.int32) and (
            not index.numel() or 0 <= index.min() <= index.max() < N
        )
        rows = answer(lambda: matrix.rows(index))
        assert (rows is not None) == bool(is_right)
        if rows is not None:
            assert torch.equal(rows.float(), matrix.dequantize()[index.long()])
        return
    x = torch.randn(random.choice((1, 2, 17)), K).to(random.choice(taken))
    x = spoiled(random, x) if random.random() < 0.8 else x
    is_right = is_tensor(x, *taken) and x.dim() > 0 and x.shape[-1] == K
    y = answer(lambda: matrix.matmul_float32(x) if random.random() < 0.5 else matrix.matmul(x))
    assert (y is not None) == is_right
    if y is not None:
        near(y, x.float() @ matrix.dequantize().t() + (0 if bias is None else bias.float()))


def stack_call(random):
    """Products by several experts."""
    kind = random.choice(("int4", "int8", "bf16"))
    stack = (
        DenseStack([stored(kind)["weight"]] * 3) if kind == "bf16" else packed_stack(kind, [stored(kind)] * 3, (N, K))
    )
    groups = [(expert, random.randint(0, 4)) for expert in sorted(random.sample(range(3), random.randint(1, 3)))]
    x = torch.randn(sum(count for _, count in groups), K).bfloat16()
    if random.random() < 0.6:
        wrong = random.choice((-1, 3, 10**6))
        at = random.randrange(len(groups))
        groups[at] = random.choice(((wrong, groups[at][1]), (groups[at][0], groups[at][1] + wrong)))
    x = spoiled(random, x) if random.random() < 0.3 else x
    fits = all(0 <= expert < 3 and count >= 0 for expert, count in groups)
    taken = (torch.bfloat16,) if kind == "bf16" else (torch.bfloat16, torch.float32)
    is_right = fits and is_tensor(x, *taken) and x.dim() == 2 and x.shape == (sum(count for _, count in groups), K)
    y = answer(lambda: stack.matmul_experts(x, groups))
    assert (y is not None) == is_right
    if y is not None:
        near(y, x.float() @ stack.matrices[0].dequantize().t())


def construction_call(random):
    """Matrices made from tensors that are not theirs."""
    kind = random.choice(("int4", "int8", "bf16"))
    tensors = stored(kind)
    name = random.choice(sorted(tensors))
    spoilt = {**tensors, name: spoiled(random, tensors[name])}
    matrix = answer(lambda: matrix_of(kind, spoilt))
    if matrix is None:
        return
    if kind != "bf16":
        assert is_alike(spoilt[name], tensors[name])
        assert spoilt[name].is_contiguous()
    x = torch.randn(3, matrix.shape[1]).to(getattr(matrix, "weight", torch.empty(0)).dtype)
    y = answer(lambda: matrix.matmul(x))
    if y is not None and not y.is_meta:
        near(y, x.float() @ matrix.dequantize().t())


def native_product_call(random):
    """The library's products themselves, on each instruction set."""
    if not SETS:
        return
    kind, products = random.choice(("int4", "int8", "bf16")), random.choice(list(SETS.values()))
    tensors, dense = stored(kind), kind == "bf16"
    count = random.randint(1, 3)
    given: dict[str, Any] = {
        "x": torch.randn(5, K), "weights": [tensors["weight" if dense else "codes"]] * count,
        "scales": [] if dense else [tensors["scales"]] * count, "counts": [5] + [0] * (count - 1), "n": N,
    }  # fmt: skip
    is_right = products.has_bf16 or not dense
    which = random.choice(("x", "weights", "scales", "counts", "n", "none"))
    if which == "x":
        given["x"] = spoiled(random, given["x"])
        is_right &= is_tensor(given["x"], torch.float32, torch.bfloat16) and given["x"].shape == (5, K)
    elif which in ("weights", "scales") and given[which]:
        proper_one, given[which] = given[which][0], list(given[which])
        given[which][-1] = one = spoiled(random, proper_one)
        is_right &= is_alike(one, proper_one) and one.is_contiguous()
    elif which == "counts":
        given["counts"] = random.choice(
            ([6] + [0] * (count - 1), [4] + [0] * (count - 1), [-1, *[6] * (count - 1)], [5] * (count + 1))
        )
        is_right = False
    elif which == "n":
        given["n"], is_right = random.choice((0, -1, N + 16, N - 16, 10**9)), False
    y = answer(lambda: products.matmul(kind, *given.values()))
    assert (y is not None) == is_right, which
    if y is not None and which in ("x", "none"):
        near(y, given["x"].float() @ matrix_of(kind, tensors).dequantize().t())


# ------------------------------------------------------------------------------------------------------------- sampling


def sampling_call(random):
    """A row of logits, and keys of random numbers."""
    logits = torch.randn(random.choice((1, 2, 31, 96, 5000)))
    row = spoiled(random, logits) if random.random() < 0.8 else logits
    is_right = is_tensor(row, torch.float32) and row.dim() == 1 and row.numel() > 0
    params = SamplingParams(
        temperature=random.choice((1e-320, 0.6, 1e6)),
        top_k=random.choice((0, 1, 3, 10**9, 2**63, 2**64)),
        top_p=random.choice((1e-50, 0.5, 1.0)),
    )
    count = random.choice((-1, 0, 1, 3, 10**6, True, 2.0))
    seen = spoiled(random, torch.randint(0, len(logits), (2,)))
    calls = {
        "normalise": (lambda one: SAMPLING.normalise(one), is_right),
        "draw": (lambda one: SAMPLING.draw(one, params, RandomKey(1), 0), is_right),
        "largest": (lambda one: largest(one, count), is_right and is_whole(count, 0, row.numel())),
        "penalise": (
            lambda one: penalise_repetition(one, seen, 1.5),
            is_right
            and is_tensor(seen, torch.int64, torch.int32)
            and seen.dim() == 1
            and (not seen.numel() or 0 <= seen.min() <= seen.max() < len(row)),
        ),
    }
    name = random.choice(sorted(calls))
    call, is_right = calls[name]
    found = answer(lambda: [call(row)])
    assert (found is not None) == bool(is_right), name
    if found is not None:
        assert str(found) == str([call(proper(row))])
    if name == "draw" and found and params.top_k == 1:
        assert found == [int(row.argmax())]


def key_call(random):
    parts = [random.choice((*NO_NUMBERS, 0, 1, 2**64 - 1)) for _ in range(4)]
    number = answer(lambda: RandomKey(*parts[:3]).uniform(parts[3]))
    assert (number is not None) == all(is_whole(part, 0, 2**64 - 1) for part in parts)


CALLS = {  # how often each
    model_call: 12, cache_call: 12, written_call: 2, native_call: 15, decode_call: 3, product_call: 12, stack_call: 6,
    construction_call: 6, native_product_call: 10, sampling_call: 15, key_call: 6,
}  # fmt: skip


def test_a_call_is_refused_with_nothing_changed_or_right():
    calls = dict(CALLS)
    if not isinstance(model_of("bf16").steps, NativeSteps):  # no native products of bf16 weights on this machine
        del calls[native_call], calls[decode_call]
    for number in rounds(600):
        torch.manual_seed(number)
        random = Random(number)
        (call,) = random.choices(list(calls), list(calls.values()))
        try:
            call(random)
        except Exception as error:
            raise AssertionError(f"case {number}, {call.__name__}: {type(error).__name__} {error}") from error
