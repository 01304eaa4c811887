"""Recipe 1: a model with a custom layer as a SavedModel, and SavedModels at large."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, THEIRS, Check
from world import Fresh, World, all_close, same_bits
from zoo import keras_forms, saved_model_calls
from zoo.models import Built

# Which cases are saved, and in which of Keras's ways.
KERAS2 = {
    "custom": ("model_save", "saved_model", "export"),
    "mlp": ("model_save", "export"),
    "conv": ("model_save",),
    "functional": ("saved_model", "export"),
    "nested": ("saved_model",),
    "lstm": ("export",),
    "subclassed": ("model_save",),
}
KERAS3 = {
    "custom": ("saved_model", "export"),
    "mlp": ("saved_model", "export"),
    "conv": ("export",),
    "functional": ("saved_model", "export"),
    "nested": ("export",),
    "lstm": ("export",),
    "subclassed": ("export",),
}


def checks(world: World) -> Iterator[Check]:
    for dialect in ("keras2", "keras3"):
        for name, check in OUR_CHECKS.items():
            yield Check(1, OURS, f"{dialect}: {name}", functools.partial(check, world, dialect))
    if world.environment.keras_major == 3:
        for dialect in ("keras2", "keras3"):
            yield Check(1, OURS, f"{dialect}: TFSMLayer", functools.partial(tfsm_layer, world, dialect))
    forms = KERAS3 if world.environment.keras_major == 3 else KERAS2
    for case, kept in forms.items():
        for form in kept:
            yield Check(1, THEIRS, f"{case} by {form}: run", functools.partial(run_theirs, world, case, form))
            yield Check(1, THEIRS, f"{case} by {form}: weights", functools.partial(weights_theirs, world, case, form))
            again = functools.partial(rewrite_theirs, world, case, form)
            yield Check(1, THEIRS, f"{case} by {form}: written again by Modelark", again)
    for case in forms:
        yield Check(1, OURS, f"{case}: .keras to SavedModel", functools.partial(convert_fresh, world, case))


class Ours:
    """The example's SavedModel, loaded."""

    def __init__(self, world: World, dialect: str) -> None:
        import tensorflow as tf

        self.folder = world.example("custom_layer_saved_model", dialect)
        self.path = str(self.folder / "saved_model")
        self.x = np.load(self.folder / "x.npy")
        self.y = np.load(self.folder / "y.npy")
        self.loaded: Any = tf.saved_model.load(self.path)

    def call(self, x: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        return np.asarray(self.loaded(tf.constant(x)))


@functools.cache
def ours(world: World, dialect: str) -> Ours:
    return Ours(world, dialect)


def call(batch: int, world: World, dialect: str) -> str:
    it = ours(world, dialect)
    rows = np.arange(batch) % len(it.x)
    return all_close([it.call(it.x[rows])], [it.y[rows]])


def call_with_training(world: World, dialect: str) -> str:
    import tensorflow as tf

    it = ours(world, dialect)
    return all_close([it.loaded(tf.constant(it.x), training=False).numpy()], [it.y])


def signature(world: World, dialect: str) -> str:
    import tensorflow as tf

    it = ours(world, dialect)
    function = it.loaded.signatures["serving_default"]
    _, named = function.structured_input_signature
    assert len(named) == 1, f"the signature takes {named}"
    (name,) = named
    results = function(**{name: tf.constant(it.x)})
    assert len(results) == 1, f"the signature gives {list(results)}"
    return all_close([value.numpy() for value in results.values()], [it.y])


def variables(world: World, dialect: str) -> str:
    it = ours(world, dialect)
    every, trainable = list(it.loaded.variables), list(it.loaded.trainable_variables)
    assert trainable, "no trainable variables"
    assert all(any(v is w for w in every) for v in trainable), "a trainable variable isn't among the variables"
    assert all(v.trainable for v in trainable)
    assert all(v.name for v in every), f"names: {[v.name for v in every]}"
    extracted = world.extract(Path(it.path))
    held = sorted((a.shape, a.tobytes()) for a in (np.asarray(v) for v in every))
    stored = [(a.shape, a.tobytes()) for a in extracted.values()]
    missing = [shape for shape, data in held if (shape, data) not in stored]
    assert not missing, f"variables of shape {missing} hold what the program doesn't find in the file"
    return f"{len(every)} variables, {len(trainable)} trainable"


def assign(world: World, dialect: str) -> str:
    import tensorflow as tf

    it = Ours(world, dialect)
    for variable in it.loaded.trainable_variables:
        before = it.call(it.x)
        variable.assign(variable + 0.5)
        after = it.call(it.x)
        assert not np.allclose(before, after), f"assigning {variable.name} changed nothing"
        (name,) = it.loaded.signatures["serving_default"].structured_input_signature[1]
        signed = it.loaded.signatures["serving_default"](**{name: tf.constant(it.x)})
        all_close([value.numpy() for value in signed.values()], [after])
    return f"{len(it.loaded.trainable_variables)} variables"


def gradients(world: World, dialect: str) -> str:
    import tensorflow as tf

    it = ours(world, dialect)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(it.loaded(tf.constant(it.x))))
    found = tape.gradient(loss, it.loaded.trainable_variables)
    none = [v.name for v, g in zip(it.loaded.trainable_variables, found) if g is None]
    assert not none, f"no gradient for {none}"
    return f"{len(found)} gradients"


def in_a_session(world: World, dialect: str) -> str:
    import tensorflow as tf

    it = ours(world, dialect)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        meta = v1.saved_model.load(session, ["serve"], it.path)
        definition = meta.signature_def["serving_default"]
        (x,) = [info.name for info in definition.inputs.values()]
        names = [info.name for info in definition.outputs.values()]
        return all_close(session.run(names, {x: it.x}), [it.y])


def shown_by_cli(world: World, dialect: str) -> str:
    it = ours(world, dialect)
    program = Path(sys.executable).with_name("saved_model_cli")
    start = [str(program)] if program.is_file() else [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    command = [*start, "show", "--dir", it.path, "--all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    for wanted in ("signature_def['serving_default']", "tensorflow/serving/predict", "DT_FLOAT", "__call__"):
        assert wanted in done.stdout, f"no {wanted} in:\n{done.stdout[-1500:]}"
    return None


def saved_again(world: World, dialect: str) -> str:
    import tensorflow as tf

    it = Ours(world, dialect)
    path = world.scratch(f"saved-again-{dialect}")
    tf.saved_model.save(it.loaded, str(path), signatures=dict(it.loaded.signatures))
    again = tf.saved_model.load(str(path))
    all_close([again(tf.constant(it.x)).numpy()], [it.y])
    outputs = world.run(path, {"in_0": it.x})
    return all_close(list(outputs.values()), [it.y])


def frozen(world: World, dialect: str) -> str:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    it = ours(world, dialect)
    function = convert_variables_to_constants_v2(it.loaded.signatures["serving_default"])
    return all_close([np.asarray(function(tf.constant(it.x))[0])], [it.y])


def run_by_modelark(world: World, dialect: str) -> str:
    it = ours(world, dialect)
    return all_close(list(world.run(Path(it.path), {"in_0": it.x}).values()), [it.y])


def tfsm_layer(world: World, dialect: str) -> str:
    it = ours(world, dialect)
    keras = world.keras
    layer = keras.layers.TFSMLayer(it.path, call_endpoint="serving_default")
    x = keras.Input(it.x.shape[1:], dtype=str(it.x.dtype))
    model = keras.Model(x, layer(x))
    outputs = model.predict(it.x, verbose=0)
    return all_close(list(outputs.values()) if isinstance(outputs, dict) else [outputs], [it.y])


OUR_CHECKS = {
    "call of batch 1": functools.partial(call, 1),
    "call of batch 7": functools.partial(call, 7),
    "call with training=False": call_with_training,
    "signature serving_default": signature,
    "variables and trainable_variables": variables,
    "assign": assign,
    "gradients": gradients,
    "tf.compat.v1.saved_model.load": in_a_session,
    "saved_model_cli show --all": shown_by_cli,
    "saved again by TensorFlow": saved_again,
    "frozen by TensorFlow": frozen,
    "run by Modelark": run_by_modelark,
}


def run_theirs(world: World, case: str, form: str) -> str:
    fresh = world.fresh(case)
    path = fresh.form(form)
    outputs = world.run(path, named_feed(path, fresh))
    return by_value(outputs, fresh)


def named_feed(path: Path, fresh: Fresh) -> dict[str, np.ndarray]:
    """The model's inputs under the names that its signature has for them."""
    import tensorflow as tf

    specs = tf.saved_model.load(str(path)).signatures["serving_default"].structured_input_signature[1]
    built = Built(fresh.model, fresh.inputs)
    return saved_model_calls.assign(specs, fresh.inputs, keras_forms.input_names(built))


def by_value(outputs: dict[str, np.ndarray], fresh: Fresh) -> str:
    """A signature gives its outputs sorted by name, a call in the model's order: pairs each with one that fits."""
    try:
        return fresh.agrees(outputs)
    except AssertionError:
        if len(fresh.outputs) == 1:
            raise
    return all_close(list(outputs.values())[::-1], fresh.outputs)


def weights_theirs(world: World, case: str, form: str) -> str:
    fresh = world.fresh(case)
    stored = [(a.shape, a.tobytes()) for a in world.extract(fresh.form(form)).values()]
    for variable in fresh.model.weights:
        array = np.asarray(variable)
        assert (array.shape, array.tobytes()) in stored, f"{variable.name} isn't among what was read"
    return f"{len(fresh.model.weights)} weights"


def rewrite_theirs(world: World, case: str, form: str) -> str:
    """Read and written once more without layers: TensorFlow must not see a difference."""
    import tensorflow as tf

    fresh = world.fresh(case)
    source = fresh.form(form)
    path = world.scratch(f"rewritten-{case}-{form}")
    world.convert(source, path, "--to", "saved_model")
    before, after = tf.saved_model.load(str(source)), tf.saved_model.load(str(path))
    assert sorted(before.signatures) == sorted(after.signatures), sorted(after.signatures)
    for name in before.signatures:
        named = before.signatures[name].structured_input_signature[1]
        taken = feed(named, fresh)
        if taken is None:
            continue
        expected, actual = before.signatures[name](**taken), after.signatures[name](**taken)
        assert sorted(expected) == sorted(actual), sorted(actual)
        all_close([actual[k].numpy() for k in sorted(actual)], [expected[k].numpy() for k in sorted(expected)])
    same_bits(held(after), held(before))
    shutil.rmtree(path)
    return f"{len(before.signatures)} signatures"


def held(loaded: Any) -> list[np.ndarray]:
    variables = getattr(loaded, "variables", ())
    return [np.asarray(v) for v in (variables() if callable(variables) else variables)]


def feed(named: dict[str, Any], fresh: Fresh) -> dict[str, Any] | None:
    """The model's inputs for a signature's arguments, by dtype and shape."""
    import tensorflow as tf

    left = list(fresh.inputs)
    taken = {}
    for name, spec in named.items():
        fits = [i for i, a in enumerate(left) if a.dtype == spec.dtype.as_numpy_dtype and spec.shape.is_compatible_with(a.shape)]
        if not fits:
            return None
        taken[name] = tf.constant(left.pop(fits[0]))
    return taken


def convert_fresh(world: World, case: str) -> str:
    """Traces the layers of a `.keras` file; TensorFlow runs the functions without the classes."""
    import tensorflow as tf

    fresh = world.fresh(case)
    if case in ("custom", "subclassed"):
        return refuses_unknown_class(world, fresh)
    path = world.convert(fresh.form("keras"), world.scratch(f"converted-{case}"), "--to", "saved_model")
    loaded = tf.saved_model.load(str(path))
    inputs = [tf.constant(a) for a in fresh.inputs]
    outputs = loaded(inputs if len(inputs) > 1 else inputs[0])
    return all_close([o.numpy() for o in tf.nest.flatten(outputs)], fresh.outputs)


def refuses_unknown_class(world: World, fresh: Fresh) -> str:
    """A class that only Python has can't be traced; the error names it."""
    try:
        world.convert(fresh.form("keras"), world.scratch(f"converted-{fresh.case}"), "--to", "saved_model")
    except Exception as error:  # noqa: BLE001: its text is what is looked at
        wanted = "GatedDense" if fresh.case == "custom" else "Tower"
        assert wanted in str(error), f"the error doesn't name {wanted}: {error}"
        return f"refused: {str(error)[-160:]}"
    raise AssertionError("a class that isn't known was converted")
