"""Graphs of TensorFlow 1 in every form: builders with all their options, text, frozen graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from world import World

# A case builds its graph in a session, and gives the tensors to feed with their values, and the tensors to fetch.
Case = Callable[[Any, Any, Path], tuple[dict[Any, np.ndarray], list[Any]]]


def check(world: World, name: str, case: tuple[Case, Callable]) -> str:
    import tensorflow as tf

    from .runs import close

    build, save = case
    path = world.scratch(f"graph-{name.replace(' ', '-')}")
    path.parent.mkdir(parents=True, exist_ok=True)
    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default(), v1.Session() as session:
            feeds, fetches = build(v1, session, path.parent)
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            path, options = save(v1, session, path, feeds, fetches)
            expected = session.run(fetches, feeds)
    finally:
        v1.enable_control_flow_v2()
    given = {("in_%d" % i if "--signature" in options else t.name): v for i, (t, v) in enumerate(feeds.items())}
    outputs = world.run(path, given, *options)
    return close(list(outputs.values()), [np.asarray(e) for e in expected])


def loops(v1: Any, session: Any, folder: Path) -> tuple[dict[Any, np.ndarray], list[Any]]:
    import tensorflow as tf

    x = v1.placeholder(tf.float32, [None, 3], "x")
    rows = tf.TensorArray(tf.float32, 4, clear_after_read=False)

    def body(i: Any, state: Any, rows: Any) -> tuple[Any, Any, Any]:
        inner = v1.while_loop(lambda j, _: j < i, lambda j, s: (j + 1, s + 1.0), (0, state))[1]
        state = v1.cond(tf.reduce_sum(inner) > 3.0, lambda: inner * 0.5, lambda: inner + 1.0)
        return i + 1, state, rows.write(i, state)

    _, state, rows = v1.while_loop(lambda i, *_: i < 4, body, (0, x, rows))
    feed = np.arange(6, dtype="float32").reshape(2, 3) / 4
    return {x: feed}, [tf.identity(state, "state"), tf.identity(rows.stack(), "rows")]


def variables(v1: Any, session: Any, folder: Path) -> tuple[dict[Any, np.ndarray], list[Any]]:
    import tensorflow as tf

    x = v1.placeholder(tf.float32, [None, 6], "x")
    with v1.variable_scope("scope", partitioner=v1.fixed_size_partitioner(3)):
        kernel = v1.get_variable("kernel", [6, 4], initializer=v1.random_normal_initializer(seed=3))
    v1.disable_resource_variables()
    old = v1.get_variable("old", [4], initializer=v1.random_normal_initializer(seed=4), use_resource=False)
    new = v1.get_variable("new", [4], initializer=v1.random_normal_initializer(seed=5), use_resource=True)
    y = tf.matmul(x, tf.convert_to_tensor(kernel)) * old + new
    v1.enable_resource_variables()
    return {x: np.random.default_rng(1).standard_normal((3, 6)).astype("float32")}, [tf.identity(y, "y")]


def tables(v1: Any, session: Any, folder: Path) -> tuple[dict[Any, np.ndarray], list[Any]]:
    import tensorflow as tf

    words = folder / "words.txt"
    words.write_text("cat\ndog\nmouse\n", encoding="utf-8")
    asset = tf.constant(str(words), name="asset")
    v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
    lookup = tf.lookup
    initializer = lookup.TextFileInitializer(asset, tf.string, lookup.TextFileIndex.WHOLE_LINE, tf.int64, lookup.TextFileIndex.LINE_NUMBER)
    table = lookup.StaticHashTable(initializer, -1)
    weights = v1.get_variable("weights", [3], initializer=v1.constant_initializer([1.5, 2.5, 3.5]))
    text = v1.placeholder(tf.string, [None], "text")
    ids = table.lookup(text)
    weighed = tf.gather(weights, tf.maximum(ids, 0))
    return {text: np.array([b"dog", b"none", b"cat"])}, [tf.identity(ids, "ids"), tf.identity(weighed, "weighed")]


def references(v1: Any, session: Any, folder: Path) -> tuple[dict[Any, np.ndarray], list[Any]]:
    """A variable that is assigned to, and read by what its value was named before."""
    import tensorflow as tf

    x = v1.placeholder(tf.float32, [2], "x")
    variable = v1.get_variable("variable", initializer=np.array([1, 2], "float32"), use_resource=False)
    assigned = v1.assign(variable, variable + x, use_locking=True)
    with tf.control_dependencies([assigned]):
        added = v1.assign_add(variable, x * 2, use_locking=True)
    with tf.control_dependencies([added]):
        scattered = v1.scatter_update(variable, [0], [100.0], use_locking=True)
    with tf.control_dependencies([scattered]):
        return {x: np.array([3, 4], "float32")}, [tf.identity(variable, "y")]


def signature(v1: Any, feeds: dict[Any, Any], fetches: list[Any]) -> Any:
    info = v1.saved_model.build_tensor_info
    inputs = {f"in_{i}": info(t) for i, t in enumerate(feeds)}
    outputs = {f"out_{i}": info(t) for i, t in enumerate(fetches)}
    return v1.saved_model.build_signature_def(inputs, outputs, "tensorflow/serving/predict")


def builder(v1: Any, session: Any, path: Path, feeds: dict[Any, Any], fetches: list[Any], as_text: bool = False, legacy: bool = False) -> tuple[Path, list[str]]:
    """Two MetaGraphs; the one for serving has a signature, the assets and an op that initializes tables."""
    made = v1.saved_model.Builder(str(path))
    init = v1.tables_initializer()
    assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
    if legacy:
        # As TensorFlow 1.0 to 1.4 wrote it.
        v1.add_to_collection("legacy_init_op", init)
        init = None
    made.add_meta_graph_and_variables(session, ["train"], assets_collection=assets)
    made.add_meta_graph(["serve"], {"answer": signature(v1, feeds, fetches)}, assets, main_op=init, strip_default_attrs=True)
    made.save(as_text=as_text)
    return path, ["--tags", "serve", "--signature", "answer"]


def text(*given: Any) -> tuple[Path, list[str]]:
    return builder(*given, as_text=True)


def legacy(*given: Any) -> tuple[Path, list[str]]:
    return builder(*given, legacy=True)


def bare(v1: Any, session: Any, path: Path, feeds: dict[Any, Any], fetches: list[Any]) -> tuple[Path, list[str]]:
    """No signatures: what goes in and out is named by the caller."""
    made = v1.saved_model.Builder(str(path))
    made.add_meta_graph_and_variables(session, ["a", "b"], main_op=v1.tables_initializer())
    made.save()
    names = ",".join(t.name for t in fetches)
    return path, ["--tags", "b,a", "--input-names", ",".join(t.name for t in feeds), "--output-names", names]


def frozen(v1: Any, session: Any, path: Path, feeds: dict[Any, Any], fetches: list[Any], name: str = "graph.pb") -> tuple[Path, list[str]]:
    graph = v1.graph_util.convert_variables_to_constants(session, session.graph_def, [t.op.name for t in fetches])
    v1.train.write_graph(graph, str(path), name, as_text=name.endswith("txt"))
    return path / name, ["--output-names", ",".join(t.op.name for t in fetches)]


def frozen_text(*given: Any) -> tuple[Path, list[str]]:
    return frozen(*given, name="graph.pbtxt")


CASES = {
    "loops, builder": (loops, builder),
    "loops, frozen": (loops, frozen),
    "loops, frozen as text": (loops, frozen_text),
    "variables, builder": (variables, builder),
    "variables, text": (variables, text),
    "variables, without signatures": (variables, bare),
    "variables, frozen": (variables, frozen),
    "references, builder": (references, builder),
    "tables, builder": (tables, builder),
    "tables, legacy init op": (tables, legacy),
    "tables, text": (tables, text),
}
