"""What whole-model files have in common: a model of layers, compiled or not, loaded by one of the Kerases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from world import Fresh, all_close, custom_objects, iterations, major, optimizer_arrays, predictions, rebuilt, same_bits

# Models of Keras's own layers.
CASES = ("mlp", "deferred", "functional", "conv", "conv_groups", "lstm", "nested", "activations")


def load(path: Path, keras: Any) -> Any:
    """`load_model`; the result is a real model of the given Keras."""
    model = keras.models.load_model(str(path), custom_objects=custom_objects(keras))
    rebuilt(model, keras)
    return model


def gives(model: Any, x: np.ndarray, y: np.ndarray) -> str:
    """An example's model must give what Modelark gave."""
    return all_close(predictions(model, [x]), [y])


def is_compiled(model: Any, state: bool = True) -> str:
    """Compile config and, where Keras restores it at all, optimizer state arrived."""
    assert getattr(model, "optimizer", None) is not None, "the model isn't compiled"
    if not state:
        return f"{type(model.optimizer).__name__}; loss {model.loss}"
    steps = iterations(model)
    assert steps > 0, "the optimizer has taken no step"
    if not restores_slots(model):
        return f"{type(model.optimizer).__name__} at step {steps}; loss {model.loss}"
    slots = [a for a in optimizer_arrays(model) if a.ndim]
    assert slots, "the optimizer has no slots"
    assert any(np.any(slot) for slot in slots), "the optimizer's slots are all zero"
    return f"{type(model.optimizer).__name__} at step {steps} with {len(slots)} slots; loss {model.loss}"


def restores_slots(model: Any) -> bool:
    """Keras 3 restores no slots from an `.h5`, of its own or ours: it builds the optimizer for no variables at all."""
    return bool(model.optimizer._trainable_variables) if hasattr(model.optimizer, "_trainable_variables") else True


def trains_on(model: Any, inputs: list[np.ndarray], targets: list[np.ndarray]) -> str:
    """`fit` takes a step from where the optimizer was."""
    if not restores_slots(model):
        model.compile(optimizer=type(model.optimizer).from_config(model.optimizer.get_config()), loss=model.loss)
    before, start = [np.array(w) for w in model.get_weights()], iterations(model)
    batch = len(inputs[0])
    x = inputs if len(inputs) > 1 else inputs[0]
    y = targets if len(targets) > 1 else targets[0]
    history = model.fit(x, y, batch_size=batch, epochs=2, verbose=0, shuffle=False)
    losses = history.history["loss"]
    assert np.all(np.isfinite(losses)), f"losses {losses}"
    assert iterations(model) == start + 2, f"{iterations(model)} steps after {start} and 2"
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights())), "no weight changed"
    return f"losses {', '.join(f'{loss:.4g}' for loss in losses)}"


def is_the_same(fresh: Fresh, path: Path, keras: Any, state: bool = True) -> str:
    """A file that Modelark made from one of Keras's: weights bit for bit, outputs, and the optimizer where it can be."""
    model = load(path, keras)
    same_bits(model.get_weights(), fresh.model.get_weights())
    seen = all_close(predictions(model, fresh.inputs), fresh.outputs)
    original = getattr(fresh.model, "optimizer", None)
    if original is None:
        return seen
    assert getattr(model, "optimizer", None) is not None, "the model isn't compiled"
    assert type(model.optimizer).__name__ == type(original).__name__, type(model.optimizer).__name__
    rate, wanted = (float(np.asarray(o.learning_rate)) for o in (model.optimizer, original))
    assert np.isclose(rate, wanted), f"learning rate {rate} instead of {wanted}"
    if not state:
        return f"{seen}; compiled"
    assert iterations(model) == iterations(fresh.model), f"step {iterations(model)} instead of {iterations(fresh.model)}"
    ours, theirs = optimizer_arrays(model), optimizer_arrays(fresh.model)
    if not restores_slots(model):
        return f"{seen}; optimizer without slots"
    if major(keras) == fresh.world.environment.keras_major:
        return f"{seen}; optimizer {same_bits(ours, theirs)}"
    # The generations order an optimizer's variables differently, and differ in which they have; those that were ever
    # changed hold the same values.
    held, wanted = ([(a.shape, a.tobytes()) for a in arrays if a.ndim and np.any(a)] for arrays in (ours, theirs))
    if getattr(model.optimizer, "momentum", None) == 0:
        # Keras 2 keeps a momentum that isn't used, Keras 3 none.
        assert not held or sorted(held) == sorted(wanted), "the slots differ"
        return f"{seen}; optimizer without momentum"
    assert sorted(held) == sorted(wanted), "the slots differ"
    return f"{seen}; optimizer {len(held)} slots bit for bit"
