"""Recipe 10: every option of every class of layers, each value at least once, with others drawn beside it.

A class's layers stand side by side in one model, which Keras saves as `.keras` and `.h5`. The program runs both, and writes each as the
other, and as the other Keras's: that gives the same numbers, and configs that are equal key for key.
"""

from __future__ import annotations

import functools
import inspect
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from checks import OURS, Check
from world import ModelarkError, World, major

from . import option_values
from .option_values import Given

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
HALF = {"rtol": 2e-2, "atol": 2e-2}
SEED = 41
TRIES = 3


def checks(world: World) -> Iterator[Check]:
    for name in classes(world.keras):
        yield Check(10, OURS, f"options of {name}", functools.partial(options, world, name))


def classes(keras: Any) -> list[str]:
    """The classes of layers, without aliases, that can be called by themselves."""
    found = {n: getattr(keras.layers, n) for n in dir(keras.layers)}
    found |= {n: getattr(keras.layers.experimental, n) for n in ("RandomFourierFeatures",) if hasattr(keras.layers, "experimental")}
    layers = {n: c for n, c in found.items() if inspect.isclass(c) and issubclass(c, keras.layers.Layer)}
    return sorted(n for n, c in layers.items() if (c.__name__ == n or c.__name__ not in layers) and n not in option_values.NOT_CALLED)


def class_of(keras: Any, name: str) -> Any:
    return getattr(keras.layers, name, None) or getattr(keras.layers.experimental, name)


def signature(keras: Any, name: str) -> list[str]:
    """The names of a class's options: its own, and those of every layer."""
    own = inspect.signature(class_of(keras, name).__init__).parameters.values()
    names = [p.name for p in own if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if any(p.kind == p.VAR_KEYWORD for p in own):
        names += ["trainable", "dtype"]
    return [n for n in dict.fromkeys(names) if n not in option_values.LEFT]


def pools(keras: Any, name: str, given: Given) -> dict[str, list[Any]]:
    """The values of each of a class's options."""
    found = option_values.pools(keras, name, option_values.rank_of(name)) | given.pools
    missing = [o for o in signature(keras, name) if o not in found and o not in given.base]
    assert not missing, f"nothing to vary {missing} over"
    return {o: found.get(o, [given.base.get(o)]) for o in signature(keras, name)}


class Class:
    """A class's layers, as many as it takes to use every value of every option, and what Keras refuses of them."""

    def __init__(self, keras: Any, name: str) -> None:
        self.keras, self.name, self.rng = keras, name, np.random.default_rng(SEED)
        self.refused: list[str] = []
        self.drawn: list[dict[str, int]] = []
        sizes = {o: len(v) for o, v in pools(keras, name, self.given()).items()}
        wanted = [(o, i) for o, n in sizes.items() for i in range(n)] or [("trainable", 0)]
        self.options = len(sizes)
        while wanted:
            target = wanted[0]
            made = self.draw(target, wanted)
            self.drawn += [made] if made is not None else []
            if made is None:
                self.refused.append("{}={}".format(*target))
            wanted = [w for w in wanted[1:] if made is None or made.get(w[0]) != w[1]]

    def given(self) -> Given:
        return option_values.given(self.keras, self.name, np.random.default_rng(SEED))

    def draw(self, target: tuple[str, int], wanted: list[tuple[str, int]]) -> dict[str, int] | None:
        """A choice of values with this one in it that Keras takes."""
        others = list(dict(wanted[1:]))
        for some in [0.5, 0.25, 0.1][:TRIES] + [0.0]:
            choice = dict([target])
            for option in others:
                if option != target[0] and self.rng.random() < some and not {option, *choice} >= option_values.apart(self.name):
                    choice[option] = next(i for o, i in wanted if o == option)
            if self.takes(choice):
                return choice
        return None

    def takes(self, choice: dict[str, int]) -> bool:
        """Whether Keras makes and calls such a layer; what it refuses isn't for anyone to take."""
        given = self.given()
        inputs = [self.keras.ops.convert_to_tensor(a) if major(self.keras) == 3 else a for a in given.inputs]
        try:
            call(self.layer(choice, "trial"), inputs, given)
            return True
        except Exception:  # noqa: BLE001
            self.keras.backend.clear_session()
            return False

    def refused_by(self, keras: Any, choice: dict[str, int]) -> bool:
        """Whether the other Keras makes no such layer itself, by the options that both have."""
        twin = object.__new__(Class)
        twin.keras, twin.name = keras, self.name
        made = ("initializer", "regularizer", "constraint", "activation")
        return not twin.takes({o: i for o, i in choice.items() if o in signature(keras, self.name) and not o.endswith(made)})

    def layer(self, choice: dict[str, int], label: str) -> Any:
        given = self.given()
        values = pools(self.keras, self.name, given)
        chosen = given.base | {o: values[o][i] for o, i in choice.items()}
        layer = class_of(self.keras, self.name)(**chosen, **({} if "name" in chosen else {"name": label}))
        if self.name == "StackedRNNCells" or self.name.endswith("Cell"):
            layer = self.keras.layers.RNN(layer, name=f"{label}_rnn")
        return layer

    def model(self, choices: list[dict[str, int]]) -> tuple[Any, list[np.ndarray], list[np.ndarray]]:
        """The model of these layers, its inputs and its outputs."""
        self.keras.backend.clear_session()
        self.keras.utils.set_random_seed(SEED)
        given = self.given()
        dtype = lambda a: "string" if a.dtype.kind == "U" else str(a.dtype)  # noqa: E731
        inputs = [self.keras.Input(a.shape[1:], batch_size=a.shape[0], dtype=dtype(a), name=f"in_{i}") for i, a in enumerate(given.inputs)]
        made = [self.layer(choice, f"one_{i}") for i, choice in enumerate(choices)]
        model = self.keras.Model(inputs, [y for layer in made for y in listed(call(layer, inputs, given))], name="side_by_side")
        spread(model, self.rng)
        outputs = called(model, given.inputs)
        forget(model)
        return model, given.inputs, outputs


def call(layer: Any, inputs: list[Any], given: Given) -> Any:
    if given.several:
        return layer(*inputs)
    return layer(inputs if len(inputs) > 1 else inputs[0])


def listed(y: Any) -> list[Any]:
    if isinstance(y, dict):
        return list(y.values())
    return [one for one in (y if isinstance(y, (list, tuple)) else [y]) if one is not None]


def called(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    import tensorflow as tf

    given = [tf.constant(a) for a in inputs]
    outputs = listed(model(given if len(given) > 1 else given[0], training=False))
    return [np.asarray(tf.sparse.to_dense(y) if isinstance(y, tf.SparseTensor) else y) for y in outputs]


def spread(model: Any, rng: np.random.Generator) -> None:
    """Gives floating weights values of their own."""
    for variable in model.weights:
        name = getattr(variable, "path", variable.name)
        if "float" not in str(variable.dtype) or any(w in name for w in ("mean:", "variance", "seed", "boundaries")) and "moving" not in name:
            continue
        values = rng.normal(0.0, 0.4, tuple(variable.shape))
        variable.assign((0.5 + np.abs(values) if any(w in name for w in ("variance", "stddev")) else values).astype("float32"))


def forget(model: Any) -> None:
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_states() if hasattr(layer, "reset_states") else layer.reset_state()


def options(world: World, name: str) -> str:
    """All layers at once; where a file isn't read at all, each layer by itself."""
    made = Class(world.keras, name)
    assert made.drawn, f"Keras takes no {name}: {made.refused}"
    said: list[str] = []
    wrong: list[str] = []
    for judge in (here, elsewhere):
        more, bad = judge(world, made, made.drawn)
        if any(w.startswith(FAILED) for w in (*more, *bad)):
            more, bad = [], []
            for choice in made.drawn:
                one, two = judge(world, made, [choice])
                more += [f"{shown(made, choice)}: {o}" for o in one]
                bad += [f"{shown(made, choice)}: {t}" for t in two]
        said += more
        wrong += bad
    with (world.work / "options.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} {kind} {one}\n" for kind, all_ in (("WRONG", wrong), ("told", said), ("refused", made.refused)) for one in all_)
    assert not wrong, f"{len(wrong)} wrong: " + " | ".join(wrong)
    told = f"; {len(said)} otherwise: {' | '.join(dict.fromkeys(said))}" if said else ""
    refused = f"; Keras refuses {' '.join(made.refused)}" if made.refused else ""
    return f"{len(made.drawn)} layers, {made.options} options{refused}{told}"


def shown(made: Class, choice: dict[str, int]) -> str:
    values = pools(made.keras, made.name, made.given())
    plain = lambda v: v if isinstance(v, (int, float, str, list, tuple, type(None))) else type(v).__name__  # noqa: E731
    return " ".join(f"{o}={plain(values[o][i])}" for o, i in choice.items())


def here(world: World, made: Class, choices: list[dict[str, int]]) -> tuple[list[str], list[str]]:
    """What is told to be otherwise, and what is wrong with a model of these layers in this Keras's forms."""
    model, inputs, expected = made.model(choices)
    folder = world.scratch(f"options-{made.name}")
    folder.mkdir(parents=True)
    said: list[str] = []
    wrong: list[str] = []
    own: dict[str, list[str]] = {}
    for form in ("keras", "h5"):
        source = folder / f"model.{form}"
        try:
            model.save(str(source))
            own[form] = loads(world, world.keras, source, inputs, expected, model)
        except Exception as error:  # noqa: BLE001: whatever Keras has to say of its own file
            own[form] = [failed(error)]
            source.unlink(missing_ok=True)
        said += [f"Keras's own .{form}: {w}" for w in own[form]]
    for form, other in (("keras", "h5"), ("h5", "keras")):
        source, target = folder / f"model.{form}", folder / f"of_{form}.{other}"
        if not source.exists():
            continue
        wrong += [f"run .{form}: {w}" for w in ran(world, source, inputs, expected)]
        try:
            world.convert(source, target)
        except ModelarkError as error:
            wrong.append(failed(error))
            continue
        # What no Keras reads of its own isn't to be written better.
        if not own[other]:
            wrong += [f"{target.name}: {w}" for w in loads(world, world.keras, target, inputs, expected, model)]
            wrong += [f"{target.name} has {w}" for w in written(folder / f"model.{other}", target)]
    failures = [w for w in wrong if FAILED in w]
    return said, failures[:1] if failures else wrong


FAILED = "failed: "


def failed(error: Exception) -> str:
    return f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())[-400:]}"


def ran(world: World, source: Path, inputs: list[np.ndarray], expected: list[np.ndarray]) -> list[str]:
    try:
        return differences(list(world.run(source, {f"in_{i}": a for i, a in enumerate(inputs)}).values()), expected)
    except ModelarkError as error:
        return [failed(error)]


def loads(world: World, keras: Any, path: Path, inputs: Any, expected: Any, model: Any) -> list[str]:
    """What is wrong with a file as Keras loads it: outputs, and configs."""
    try:
        again = keras.models.load_model(str(path), compile=False)
        wrong = differences(called(again, inputs), expected)
        forget(again)
    except Exception as error:  # noqa: BLE001
        return [failed(error)]
    for one, other in zip(model.layers, again.layers):
        wrong += unequal(one.name, config_of(keras, one), config_of(keras, other))
    return wrong


def config_of(keras: Any, layer: Any) -> Any:
    return plain(json.loads(json.dumps(keras.saving.serialize_keras_object(layer)["config"], default=str)))


def unequal(place: str, one: Any, other: Any, shared: bool = False) -> list[str]:
    """Where two configs differ; only in the keys that both have, if so."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() & other.keys() if shared else one.keys() | other.keys()
        return [w for k in sorted(keys) for w in unequal(f"{place}.{k}", one.get(k, "(none)"), other.get(k, "(none)"), shared)]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [w for i, (a, b) in enumerate(zip(one, other)) for w in unequal(f"{place}[{i}]", a, b, shared)]
    same = one == other or (isinstance(one, float) and isinstance(other, float) and abs(one - other) <= 1e-6 * abs(one))
    return [] if same else [f"{place}: {str(other)[:80]} instead of {str(one)[:80]}"]


def written(theirs: Path, ours: Path) -> list[str]:
    """Where the config that was written differs from the one that Keras writes."""
    if not theirs.exists():
        return []
    one, other = (parts(p) for p in (theirs, ours))
    return [w for name in sorted(one.keys() | other.keys()) for w in unequal(name, one.get(name), other.get(name))]


def parts(path: Path) -> dict[str, Any]:
    """The configs of a file's layers by their names."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            config = json.loads(file.attrs["model_config"])
    else:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
    return {node["config"]["name"]: plain(node["config"]) for node in config["config"]["layers"]}


def plain(config: Any) -> Any:
    """A config without the numbers that tell which objects are one, and adapters, which are added to kernels and told."""
    if isinstance(config, dict):
        return {k: plain(v) for k, v in config.items() if k not in ("shared_object_id", "lora_rank", "lora_alpha")}
    return [plain(value) for value in config] if isinstance(config, list) else config


def elsewhere(world: World, made: Class, choices: list[dict[str, int]]) -> tuple[list[str], list[str]]:
    """The other Keras's file: what is told, and what is wrong."""
    if world.other_keras is None:
        return [], []
    model, inputs, expected = made.model(choices)
    folder = world.scratch(f"options-{made.name}")
    folder.mkdir(parents=True)
    dialect = "keras2" if world.dialect == "keras3" else "keras3"
    source, target = folder / "model.keras", folder / "other.keras"
    model.save(str(source))
    try:
        told = world.modelark("convert", source, target, "--dialect", dialect)
    except ModelarkError as error:
        return [failed(error)], []
    notes = [line.strip() for line in told.splitlines() if any(f"one_{i}" in line for i in range(99))]
    try:
        again = world.other_keras.models.load_model(str(target), compile=False)
        outputs = called(again, inputs)
    except Exception as error:  # noqa: BLE001
        if len(choices) == 1 and hasattr(world.other_keras.layers, made.name) and made.refused_by(world.other_keras, choices[0]):
            return [f"as {dialect}, which refuses its own: {str(error)[-200:]}"], []
        # A class that the other lacks, or an option of one layer.
        told_of_all = len({n.split('"')[1] for n in notes}) == len(choices)
        return ([f"as {dialect} {notes[0]}"], []) if told_of_all else ([], [failed(error)])
    # Where Keras 2 counts in 64 bits, Keras 3 does in 32.
    outputs = [y.astype(e.dtype) if y.dtype.kind == e.dtype.kind == "i" else y for y, e in zip(outputs, expected)]
    wrong = differences(outputs, expected)
    by_name = {layer.name: layer for layer in again.layers}
    for layer in model.layers:
        if layer.name in by_name and type(layer).__name__ == type(by_name[layer.name]).__name__:
            one, other = config_of(world.keras, layer), config_of(world.other_keras, by_name[layer.name])
            wrong += [w for w in unequal(layer.name, one, other, shared=True) if not spelled(w)]
    if wrong and notes and len(choices) == 1:
        return [f"as {dialect} {n}" for n in notes[:2]], []
    if wrong and len(choices) > 1:
        return [], [f"{FAILED}each by itself"]
    return [], [f"as {dialect}: {w}" for w in wrong]


def spelled(difference: str) -> bool:
    """Whether the Kerases only spell it differently: where classes are, and what nothing depends on."""
    keys = ("module", "registered_name", "batch_shape", "batch_input_shape", "axis", "axis[0]")
    alike = ("swish instead of silu", "silu instead of swish")
    # Keras 2 renames what it wraps.
    renamed = ".config.name:" in difference
    return renamed or any(f".{key}:" in difference for key in keys) or ".dtype" in difference or difference.endswith(alike)


def differences(actual: list[np.ndarray], expected: list[np.ndarray]) -> list[str]:
    if len(actual) != len(expected):
        return [f"{len(actual)} outputs instead of {len(expected)}"]
    wrong = []
    for i, (a, b) in enumerate(zip(actual, expected)):
        a, b = np.asarray(a), np.asarray(b)
        if b.dtype.kind == "O":
            a, b = a.astype("S"), b.astype("S")
        if a.shape != b.shape or (a.dtype.kind != b.dtype.kind and "S" not in (a.dtype.kind, b.dtype.kind)):
            wrong.append(f"output {i} is {a.dtype}{a.shape} instead of {b.dtype}{b.shape}")
        elif b.dtype.kind == "f":
            # What was computed in half precision may come in single.
            tolerance = HALF if (b.astype("float16") == b).all() else CLOSE
            bad = ~np.isclose(a.astype("float64"), b.astype("float64"), equal_nan=True, **tolerance)
            wrong += [f"output {i}: {int(bad.sum())} of {bad.size} differ, {a[bad][0]} instead of {b[bad][0]}"] if bad.any() else []
        elif not (a.astype("S") == b.astype("S")).all() if "S" in (a.dtype.kind, b.dtype.kind) else not (a == b).all():
            wrong.append(f"output {i} differs")
    return wrong
