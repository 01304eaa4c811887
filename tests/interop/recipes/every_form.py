"""Recipe 10: models of everything at once, from every form of theirs to every form, in both dialects, loaded live."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, Check
from world import FLOAT32, World, all_close, major, rebuilt, same_bits
from zoo import keras_forms

from . import everything, json_npy
from .whole_models import Whole, models

# What holds a model alone, and what holds its weights beside an architecture as JSON.
WHOLE = {"keras": "model.keras", "h5": "model.h5", "model_save": "model_save"}
BESIDE = {"npz": "weights.npz", "weights": "model.weights.h5", "checkpoint": "checkpoint/model-1", "save_weights": "save_weights/model"}
TARGETS = ("keras", "h5", "saved_model", "npz", "weights_h5", "checkpoint")
SEED = 23


def checks(world: World) -> Iterator[Check]:
    for name in (*models(world.keras), *everything.APPLICATIONS):
        for source in sources(world, name):
            for target in TARGETS:
                for dialect in dialects(world, name, source):
                    if allowed(world, name, source, target, dialect):
                        what = f"{name}: {source} to {target} of {dialect}"
                        yield Check(10, OURS, what, functools.partial(crossing, world, name, source, target, dialect))


def sources(world: World, name: str) -> list[str]:
    keras2 = world.environment.keras_major == 2
    found = ["keras", "h5", *(["model_save"] if keras2 else []), "npz", "weights", "save_weights" if keras2 else "checkpoint"]
    # An application is large, and what every form holds the smaller models show.
    return ["keras", "npz"] if name in everything.APPLICATIONS else found


def dialects(world: World, name: str, source: str) -> list[str]:
    return [world.dialect, other_dialect(world)] if world.other_keras is not None else [world.dialect]


def other_dialect(world: World) -> str:
    return "keras2" if world.dialect == "keras3" else "keras3"


# Models whose weights aren't all numbers that can be spoilt before others are read.
LEARNS = ("learned", "words", "float8", "int4", "int8")
# Models of what the other generation lacks, and of dtypes that NumPy lacks.
QUANTIZED = ("float8", "int4", "int8")


def allowed(world: World, name: str, source: str, target: str, dialect: str) -> bool:
    """Whether the source has the model whole, and the target has a place for it."""
    keras3 = world.environment.keras_major == 3
    if name in everything.APPLICATIONS:
        elsewhere = source == "keras" and target in ("keras", "h5", "saved_model")
        # What recipe 10 takes through those forms already, and ops that Keras 2 lacks.
        return not elsewhere and not (name in everything.OPS_AS_LAYERS and dialect == "keras2")
    if name in QUANTIZED:
        # Keras 3 doesn't find the weights in its own `.h5`.
        return dialect == world.dialect and "npz" not in (source, target) and "h5" not in (source, target)
    if keras3 and name in ("operators", "steps", "tower") and source == target == "h5" and dialect == world.dialect:
        # It stays as it is, and Keras 3 doesn't load what it wrote itself.
        return False
    if name == "learned" and not keras3 and source == target == "keras" and dialect == world.dialect:
        # It stays as it is, and Keras 2 doesn't make ranges again of what it wrote itself.
        return False
    if name == "learned":
        # Only whole models keep what was learned.
        return source in ("keras", "model_save") and target in ("keras", "saved_model")
    if name == "tower" and target == "checkpoint" and not keras3 and dialect == "keras3":
        # Keras 3 counts the ops that it makes of masks, which the layers' file doesn't have.
        return False
    if name == "steps" and "checkpoint" in (source, target) and (keras3 or dialect == "keras3"):
        # Keras 3 doesn't track the weights of stacked cells.
        return False
    return True


class Made:
    """A model with what it gives, and the files that Keras made of it."""

    def __init__(self, world: World, name: str) -> None:
        world.keras.backend.clear_session()
        world.keras.utils.set_random_seed(SEED)
        rng = np.random.default_rng(SEED)
        self.name, self.folder = name, world.work / "every-form" / name
        # What was made of which architecture, by Keras and text.
        self.empty: dict[tuple[Any, str], Any] = {}
        if name in everything.APPLICATIONS:
            it = everything.built(world, name)
            self.whole = Whole(it.model, [it.x], everything.CLOSE)
            # The next one wants the memory.
            everything.built.cache_clear()
        else:
            self.whole = models(world.keras)[name](world.keras, rng)
            spread(self.whole.model, rng)
        self.expected = called(self.whole.model, self.whole.inputs)
        if name == "stateful":
            forget(self.whole.model)

    def form(self, form: str) -> list[Path | str]:
        """The arguments that name the model in this form."""
        if form in WHOLE:
            return [self.file(form, WHOLE[form])]
        return [self.file("json", "model.json"), "--weights", self.file(form, BESIDE[form])]

    def file(self, form: str, name: str) -> Path:
        path = self.folder / name
        if not any(path.parent.glob(path.name + "*")):
            path.parent.mkdir(parents=True, exist_ok=True)
            model = self.whole.model
            if form == "npz":
                np.savez(path, *model.get_weights())
            else:
                keras_forms.write(model, form, str(path).removesuffix("-1") if form == "checkpoint" else str(path))
        return path


@functools.lru_cache(maxsize=1)
def made(world: World, name: str) -> Made:
    return Made(world, name)


def spread(model: Any, rng: np.random.Generator) -> None:
    """Gives the weights that are floats values other than those they start from."""
    learned = {id(w) for layer in model.layers if type(layer).__name__ == "Normalization" for w in layer.weights}
    scales = any(w in model.name for w in ("float8", "int4", "int8"))
    for variable in model.weights:
        floating = str(getattr(variable, "dtype", "")).startswith(("float", "<dtype: 'float"))
        # Keras 2 gives the weights of words a length when it learns the words, as do tables of words.
        if scales or id(variable) in learned or not floating or None in tuple(variable.shape):
            continue
        name = getattr(variable, "path", variable.name)
        values = rng.normal(0.0, 0.4, tuple(variable.shape))
        variable.assign(0.5 + np.abs(values) if "variance" in name else values)


def forget(model: Any) -> None:
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_states() if hasattr(layer, "reset_states") else layer.reset_state()


def crossing(world: World, name: str, source: str, target: str, dialect: str) -> str:
    it = made(world, name)
    folder = world.scratch(f"every-form-{name}")
    convert = functools.partial(take, world, it.form(source), dialect)
    keras = world.keras if dialect == world.dialect else world.other_keras
    if target == "saved_model":
        path = convert(folder / "saved", "--to", "saved_model")
        return saved_model(world, it, keras, path, source == "model_save" and dialect == world.dialect)
    if target in ("keras", "h5"):
        path = convert(folder / f"model.{target}")
        model = keras.models.load_model(str(path), custom_objects=custom(it, keras), compile=False)
        rebuilt(model, keras)
    else:
        text = convert(folder / "model.json").read_text(encoding="utf-8")
        model = empty(it, keras, text)
        load_weights(model, keras, target, convert, folder)
    outputs = called(model, it.whole.inputs)
    if dialect != world.dialect:
        # Where Keras 2 counts in 64 bits, Keras 3 does in 32, and neither lets the other's be asked for.
        outputs = [y.astype(e.dtype) if y.dtype.kind == e.dtype.kind == "i" else y for y, e in zip(outputs, it.expected)]
    seen = agrees(it, outputs)
    # Quantized layers list their weights in another order before they are saved than after, tables none of them.
    if keras is world.keras and name not in QUANTIZED and name != "learned":
        seen += f"; {same_bits(model.get_weights(), it.whole.model.get_weights())}"
    return seen


def empty(it: Made, keras: Any, text: str) -> Any:
    """A model of this architecture whose weights are yet to come; built once where that takes long."""
    if it.name in LEARNS:
        return of_json(it, keras, text)
    if (keras, text) not in it.empty:
        it.empty[keras, text] = of_json(it, keras, text)
    model = it.empty[keras, text]
    forget(model)
    for variable in model.weights:
        if "float" in str(variable.dtype):
            variable.assign(np.full(tuple(variable.shape), 0.123, "float32"))
    return model


def of_json(it: Made, keras: Any, text: str) -> Any:
    model = keras.models.model_from_json(text, custom_objects=custom(it, keras))
    if not model.built:
        model.build([None if d is None else int(d) for d in np.shape(it.whole.inputs[0])])
    return model


def take(world: World, source: list[Path | str], dialect: str, target: Path, *options: str) -> Path:
    path, *more = source
    return world.convert(path, target, *more, "--dialect", dialect, *options)


def load_weights(model: Any, keras: Any, target: str, convert: Any, folder: Path) -> None:
    """Lets Keras put the weights in place that Modelark wrote, each form in its own way."""
    import tensorflow as tf

    if target == "npz":
        model.set_weights(json_npy.arrays_of(convert(folder / "weights.npz")))
    elif target == "weights_h5":
        model.load_weights(str(convert(folder / "model.weights.h5")))
    else:
        options = ("--to", "checkpoint", "--without-training")
        if major(keras) == 2:
            model.load_weights(str(convert(folder / "model", *options))).expect_partial()
        else:
            prefix = convert(folder / "model", *options, "--save-counter")
            # What a model made of JSON is compiled with wants restoring, too.
            tf.train.Checkpoint(model).restore(str(prefix)).expect_partial()


def saved_model(world: World, it: Made, keras: Any, path: Path, as_it_was: bool) -> str:
    """TensorFlow calls it, by object and by signature; Keras 3 as a layer; Keras 2 makes its layers of it again."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    inputs = tf.nest.map_structure(tf.constant, it.whole.inputs)
    one = inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else inputs
    seen = agrees(it, flat(loaded(one)))
    if it.whole.model.name == "stateful":
        loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    names = signature.structured_input_signature[1]
    assert len(names) == len(tf.nest.flatten(inputs)), f"the signature takes {sorted(names)}"
    if major(world.keras) == 3 or world.other_keras is not None:
        keras3 = world.keras if major(world.keras) == 3 else world.other_keras
        if not as_it_was:
            # Keras 2's own has no such endpoint, and its functions are kept.
            agrees(it, flat(keras3.layers.TFSMLayer(str(path))(one)))
        if len(names) == 1:
            # A signature of several inputs takes them by name alone, which a layer doesn't do.
            results = keras3.layers.TFSMLayer(str(path), call_endpoint="serving_default")(one)
            assert len(results) == len(it.expected), f"the signature gives {sorted(results)}"
            if len(results) == 1 and it.whole.model.name != "stateful":
                agrees(it, list(results.values()))
        seen += "; as a layer"
    if major(keras) == 2:
        model = keras.models.load_model(str(path), custom_objects=custom(it, keras), compile=False)
        rebuilt(model, keras)
        seen += f"; rebuilt: {agrees(it, called(model, it.whole.inputs))}"
    return seen


def custom(it: Made, keras: Any) -> Any:
    # The classes that applications bring lie elsewhere in each version.
    return everything.classes_of(keras) if it.name in everything.APPLICATIONS else None


def called(model: Any, inputs: Any) -> list[np.ndarray]:
    import tensorflow as tf

    given = tf.nest.map_structure(tf.constant, inputs)
    one = given[0] if isinstance(given, list) and len(given) == 1 else given
    return flat(model(one, training=False))


def flat(outputs: Any) -> list[np.ndarray]:
    import tensorflow as tf

    return [np.asarray(y) for y in tf.nest.flatten(outputs)]


def agrees(it: Made, outputs: list[np.ndarray]) -> str:
    return all_close([wide(y) for y in outputs], [wide(y) for y in it.expected], **(it.whole.tolerance or FLOAT32))


def wide(y: np.ndarray) -> np.ndarray:
    return y.astype("float32") if y.dtype.name in ("bfloat16", "float16") else y
