"""Modules without any Keras: loops, tables, strings, ragged and sparse arguments, generators, beam search, training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from world import World


def check(world: World, name: str, case: Callable[[Any], tuple[Any, str, dict[str, Any]]]) -> str:
    """Saves the module, calls one of its functions as TensorFlow loads it, and compares."""
    import tensorflow as tf

    from .runs import close

    path = world.scratch(f"module-{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.parent / "words.txt"
    text.write_text("cat\ndog\nmouse\n", encoding="utf-8")
    module, function, keywords = case(tf, str(text)) if name.startswith("tables") else case(tf)
    tf.saved_model.save(module, str(path))
    loaded = tf.saved_model.load(str(path))
    expected = [np.asarray(t) for t in tf.nest.flatten(getattr(loaded, function)(**keywords), expand_composites=True)]
    outputs = world.run(path, arrays(tf, keywords), "--function", function)
    return close(list(outputs.values()), expected)


def arrays(tf: Any, keywords: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of the arguments by the names that they have outside Python."""
    given = {}
    for name, value in keywords.items():
        if isinstance(value, tf.RaggedTensor):
            given[f"{name}/flat_values"] = value.flat_values.numpy()
            given |= {f"{name}/row_splits_{i}": splits.numpy() for i, splits in enumerate(value.nested_row_splits)}
        elif isinstance(value, tf.SparseTensor):
            for part in ("indices", "values", "dense_shape"):
                given[f"{name}/{part}"] = getattr(value, part).numpy()
        else:
            array = np.asarray(value)
            given[name] = np.array(array.tolist(), dtype=bytes) if array.dtype.kind == "O" else array
    return given


def module(tf: Any, function: Callable, **attributes: Any) -> Any:
    """A module whose `call` is this function."""
    made = tf.Module()
    for name, value in attributes.items():
        setattr(made, name, value)
    made.call = function
    return made


def loop(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([], tf.int32)])
    def call(x: Any, n: Any) -> Any:
        rows = tf.TensorArray(tf.float32, size=0, dynamic_size=True, clear_after_read=False)
        state = x
        for i in tf.range(n):
            if tf.reduce_sum(state) > 4.0:
                state = state * 0.5
            else:
                state = state + tf.cast(i, tf.float32)
            rows = rows.write(i, state)
        return rows.stack(), state, rows.size()

    return module(tf, call), "call", {"x": tf.ones([2, 3]), "n": tf.constant(6)}


def nested_loops(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def call(n: Any) -> Any:
        total, i = tf.constant(0), tf.constant(0)
        while i < n:
            for j in tf.range(i):
                if j % 2 == 0:
                    continue
                total += j * i
                if total > 100:
                    break
            i += 1
        return total

    return module(tf, call), "call", {"n": tf.constant(9)}


def tables(tf: Any, path: str) -> tuple[Any, str, dict[str, Any]]:
    lookup = tf.lookup
    static = lookup.StaticHashTable(lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([5, 7], tf.int64)), -1)
    whole, number = lookup.TextFileIndex.WHOLE_LINE, lookup.TextFileIndex.LINE_NUMBER
    words = lookup.TextFileInitializer(path, tf.string, whole, tf.int64, number)
    vocabulary = lookup.StaticVocabularyTable(words, num_oov_buckets=3)
    back = lookup.StaticHashTable(lookup.TextFileInitializer(path, tf.int64, number, tf.string, whole), "none")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def call(text: Any) -> Any:
        ids = vocabulary.lookup(text)
        return static.lookup(text), ids, back.lookup(ids), static.size(), vocabulary.size()

    made = module(tf, call, static=static, vocabulary=vocabulary, back=back)
    return made, "call", {"text": tf.constant(["a", "dog", "zebra", "mouse", ""])}


def mutable_tables(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)
    dense = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, empty_key=-1, deleted_key=-2)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def call(keys: Any) -> Any:
        table.insert(keys, tf.cast(keys, tf.float32) * 2)
        table.remove(keys[:1])
        dense.insert(keys, keys * 3)
        return table.lookup(keys), table.size(), dense.lookup(keys), dense.size()

    return module(tf, call, table=table, dense=dense), "call", {"keys": tf.constant([4, 2, 9], tf.int64)}


def strings(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def call(text: Any) -> Any:
        lower = tf.strings.lower(text)
        clean = tf.strings.regex_replace(lower, r"[^a-z0-9 ]", "")
        words = tf.strings.split(clean)
        joined = tf.strings.reduce_join(words, axis=-1, separator="-")
        number = tf.strings.to_number(tf.strings.regex_replace("0" + clean, r"[^0-9]", ""), tf.int32)
        parts = tf.strings.substr(clean, 0, 2), tf.strings.length(text), tf.strings.to_hash_bucket_fast(text, 100)
        return joined, words.flat_values, words.row_splits, number, *parts, tf.strings.as_string(number)

    return module(tf, call), "call", {"text": tf.constant(["Hello, World 42", "a", "x9 y 8!", "  two  words "])}


def ragged(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None, None], tf.float32, 2), tf.TensorSpec([], tf.float32)])
    def call(rows: Any, scale: Any) -> Any:
        return {"scaled": rows * scale, "sums": tf.reduce_sum(rows, axis=2), "dense": rows.to_tensor(-1.0)}

    rows = tf.ragged.constant([[[1.0, 2.0], []], [[3.0]], []], ragged_rank=2)
    return module(tf, call), "call", {"rows": rows, "scale": tf.constant(2.0)}


def sparse(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    @tf.function(input_signature=[tf.SparseTensorSpec([None, 4], tf.float32), tf.TensorSpec([4, 2], tf.float32)])
    def call(left: Any, right: Any) -> Any:
        return tf.sparse.sparse_dense_matmul(left, right), tf.sparse.to_dense(left), tf.sparse.reduce_sum(left, axis=1)

    left = tf.SparseTensor([[0, 1], [2, 3]], [3.0, 4.0], [3, 4])
    return module(tf, call), "call", {"left": left, "right": tf.reshape(tf.range(8.0), [4, 2])}


def generator(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    source = tf.random.Generator.from_seed(7)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def call(n: Any) -> Any:
        return source.uniform([n, 2]), source.normal([3]), source.uniform([4], 0, 10, tf.int32), source.truncated_normal([2])

    return module(tf, call, source=source), "call", {"n": tf.constant(3)}


def stateless(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    @tf.function(input_signature=[tf.TensorSpec([2], tf.int32)])
    def call(seed: Any) -> Any:
        random = tf.random
        whole = random.stateless_uniform([3], seed, 0, 100, tf.int32)
        return random.stateless_uniform([2, 3], seed), random.stateless_normal([5], seed), whole, random.stateless_categorical([[0.1, 2.0, 0.3]], 6, seed)

    return module(tf, call), "call", {"seed": tf.constant([3, 9])}


def beam_search(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    table = tf.Variable(np.random.default_rng(2).standard_normal((6, 6)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def call(start: Any) -> Any:
        width, batch = 3, tf.shape(start)[0]
        sequences = tf.tile(start[:, None, None], [1, width, 1])
        scores = tf.tile(tf.constant([[0.0] + [-1e9] * (width - 1)]), [batch, 1])
        for i in tf.range(4):
            tf.autograph.experimental.set_loop_options(shape_invariants=[(sequences, tf.TensorShape([None, 3, None])), (scores, tf.TensorShape([None, None]))])
            # Each step weighs otherwise, so that no two beams are worth the same.
            steps = tf.nn.log_softmax(tf.gather(table, sequences[:, :, -1]) * (1.0 + 0.3 * tf.cast(i, tf.float32)))
            scores, flat = tf.math.top_k(tf.reshape(scores[:, :, None] + steps, [batch, -1]), width)
            beams, words = flat // 6, flat % 6
            sequences = tf.concat([tf.gather(sequences, beams, batch_dims=1), words[:, :, None]], axis=-1)
        return sequences, scores

    return module(tf, call, table=table), "call", {"start": tf.constant([1, 4])}


def training(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    rng = np.random.default_rng(4)
    kernel = tf.Variable(rng.standard_normal((3, 2)).astype("float32"))
    bias = tf.Variable(tf.zeros([2]))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None], tf.int32)])
    def call(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = tf.nn.tanh(x) @ kernel + bias
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        for variable, gradient in zip((kernel, bias), tape.gradient(loss, (kernel, bias))):
            variable.assign_sub(0.5 * gradient)
        return loss, kernel.read_value(), bias.read_value()

    x = tf.constant(rng.standard_normal((5, 3)).astype("float32"))
    return module(tf, call, kernel=kernel, bias=bias), "call", {"x": x, "y": tf.constant([0, 1, 1, 0, 1])}


def traces(tf: Any) -> tuple[Any, str, dict[str, Any]]:
    @tf.function
    def call(x: Any, scale: Any = 2, training: bool = False) -> Any:
        return x * tf.cast(scale, x.dtype) + (1 if training else 0)

    call(tf.zeros([2], tf.float32), 2, training=True)
    call(tf.zeros([2], tf.int32))
    call.get_concrete_function(tf.TensorSpec([None, None], tf.float64))
    return module(tf, call), "call", {"x": tf.constant([[1.5, 2.5]], tf.float64)}


CASES = {
    "loop": loop,
    "nested loops": nested_loops,
    "tables": tables,
    "mutable tables": mutable_tables,
    "strings": strings,
    "ragged": ragged,
    "sparse": sparse,
    "generator": generator,
    "stateless": stateless,
    "beam search": beam_search,
    "training": training,
    "traces": traces,
}
