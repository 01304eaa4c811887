"""Ops one by one: functions of a single op or a small idiom, many in one SavedModel, run by the program.

The inputs are random and drawn anew from a seed that the committed goldens don't have; the outputs are TensorFlow's own
of the same functions.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from checks import THEIRS, Check
from world import World

SEED = 29
# Functions in one SavedModel: enough to make few of them, few enough to find what breaks one.
TOGETHER = 30


@dataclass(frozen=True)
class Case:
    """A function of tensors, and what it is called with."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[np.ndarray, ...] = ()
    rtol: float = 1e-4


def checks(world: World) -> Iterator[Check]:
    families = list(all_families())
    for family, cases in families:
        for start in range(0, len(cases), TOGETHER):
            part = cases[start : start + TOGETHER]
            yield Check(10, THEIRS, f"ops: {family} {start}", functools.partial(agree, world, f"{family}-{start}", part))


def agree(world: World, name: str, cases: list[Case]) -> str:
    """Saves the functions as signatures of one model, and runs each."""
    import tensorflow as tf

    module, signatures, expected = tf.Module(), {}, {}
    for i, case in enumerate(cases):
        specs = [tf.TensorSpec(x.shape, tf.as_dtype(x.dtype), name=f"in_{k}") for k, x in enumerate(case.inputs)]
        if not specs:
            specs = [tf.TensorSpec((), tf.float32, name="in_0")]
        concrete = tf.function(flat(case.function, bool(case.inputs)), input_signature=specs).get_concrete_function()
        given = case.inputs or (np.float32(0),)
        expected[i] = {k: v.numpy() for k, v in concrete(*map(tf.constant, given)).items()}
        signatures[f"case_{i}"] = concrete
        setattr(module, f"keep_{i}", concrete)
    module.kept = list(KEPT.values())
    path = world.scratch(f"ops-{name}")
    tf.saved_model.save(module, str(path), signatures=signatures)
    wrong = []
    for i, case in enumerate(cases):
        given = case.inputs or (np.float32(0),)
        try:
            got = world.run(path, {f"in_{k}": x for k, x in enumerate(given)}, "--signature", f"case_{i}")
            same(got, expected[i], case.rtol)
        except Exception as error:  # noqa: BLE001: the others are to be told too
            wrong.append(f"{case.name}{[x.shape for x in case.inputs]}: {str(error).strip()[-300:]}")
    assert not wrong, f"{len(wrong)} of {len(cases)} cases differ: " + " | ".join(wrong)
    return f"{len(cases)} cases"


def flat(function: Callable[..., Any], fed: bool) -> Callable[..., dict[str, Any]]:
    """The function with its results by name; narrow floats are widened, which NumPy's files can't hold."""
    import tensorflow as tf

    def named(*inputs: Any) -> dict[str, Any]:
        results = tf.nest.flatten(function(*inputs) if fed else function(), expand_composites=True)
        widened = [tf.cast(r, tf.float32) if r.dtype == tf.bfloat16 else r for r in map(tf.convert_to_tensor, results)]
        return {f"out_{k}": tf.identity(r) for k, r in enumerate(widened)}

    return named


def same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], rtol: float) -> None:
    """Raises unless every output agrees: floats nearly, all else exactly."""
    assert sorted(got) == sorted(wanted), f"outputs {sorted(got)}, not {sorted(wanted)}"
    for key, want in wanted.items():
        have, want = np.asarray(got[key]), np.asarray(want)
        if want.dtype.kind == "S":
            want = want.astype(object)
        if want.dtype == object:
            want = np.array(want.tolist(), dtype="S") if want.size else want.astype("S1")
        assert have.shape == want.shape, f"{key} has shape {have.shape}, not {want.shape}"
        assert have.dtype.kind == want.dtype.kind, f"{key} is {have.dtype}, not {want.dtype}"
        if want.dtype.kind in "fc":
            half = want.dtype == np.float16
            np.testing.assert_allclose(have, want, rtol=5e-3 if half else rtol, atol=5e-3 if half else 1e-5, err_msg=key)
        else:
            np.testing.assert_array_equal(have, want, err_msg=key)


# Variables and tables that functions use, by name: made once, saved with the model.
KEPT: dict[str, Any] = {}


def kept(name: str, make: Callable[[], Any]) -> Any:
    """The resource of this name, made outside of any function on first use."""
    import tensorflow as tf

    if name not in KEPT:
        with tf.init_scope():
            KEPT[name] = make()
    return KEPT[name]


class Draw:
    """Random inputs."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.RandomState(seed)

    def f(self, *shape: int, dtype: Any = np.float32, scale: float = 1.5) -> np.ndarray:
        return np.asarray(self.rng.randn(*shape) * scale).astype(dtype)

    def pos(self, *shape: int, dtype: Any = np.float32) -> np.ndarray:
        return np.asarray(self.rng.rand(*shape) * 2 + 0.1).astype(dtype)

    def unit(self, *shape: int, dtype: Any = np.float32) -> np.ndarray:
        return np.asarray(self.rng.rand(*shape) * 1.8 - 0.9).astype(dtype)

    def i(self, *shape: int, low: int = -5, high: int = 9, dtype: Any = np.int32) -> np.ndarray:
        return np.asarray(self.rng.randint(low, high, shape)).astype(dtype)

    def b(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.rand(*shape) > 0.5)

    def c(self, *shape: int, dtype: Any = np.complex64) -> np.ndarray:
        return np.asarray(self.rng.randn(*shape) + 1j * self.rng.randn(*shape)).astype(dtype)


def raw(op: str, *inputs: Any, rtol: float = 1e-4, **attrs: Any) -> Case:
    """One op. An array is fed; a list is an argument of several tensors; anything else is a constant."""
    import tensorflow as tf

    # Python's names of inputs, which aren't always the op's.
    names = list(inspect.signature(getattr(tf.raw_ops, op)).parameters)
    fed: list[np.ndarray] = []
    slots: list[Any] = []
    for x in inputs:
        if isinstance(x, list) and all(isinstance(item, np.ndarray) for item in x):
            slots.append(list(range(len(fed), len(fed) + len(x))))
            fed.extend(x)
        elif isinstance(x, (np.ndarray, np.generic)) and np.asarray(x).dtype.kind not in "SUO":
            slots.append(len(fed))
            fed.append(np.asarray(x))
        else:
            slots.append(("constant", x))

    def function(*xs: Any) -> Any:
        def value(slot: Any) -> Any:
            if isinstance(slot, tuple):
                return slot[1]
            return [xs[k] for k in slot] if isinstance(slot, list) else xs[slot]

        return getattr(tf.raw_ops, op)(**dict(zip(names, map(value, slots))), **attrs)

    shown = ",".join(f"{k}={v}" for k, v in attrs.items())
    return Case(f"{op}({shown})", function, tuple(fed), rtol)


def all_families() -> Iterator[tuple[str, list[Case]]]:
    """Every family with its cases."""
    from . import op_cases

    for number, family in enumerate(op_cases.FAMILIES):
        yield family.__name__, list(family(Draw(SEED + number)))
