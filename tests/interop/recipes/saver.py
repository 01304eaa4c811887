"""Recipe 3: variables saved by name, no Keras at all."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from checks import OURS, THEIRS, Check
from world import UNREADABLE, World, same_bits
from zoo import checkpoints, tf1
from zoo.recorder import Recorder

from .weights import agree


def checks(world: World) -> Iterator[Check]:
    if world.environment.name.endswith("keras2"):
        return  # The same TensorFlow as without; no Keras takes part.
    yield Check(3, OURS, "the state file", functools.partial(state, world))
    yield Check(3, OURS, "max_to_keep removed older saves", functools.partial(kept, world))
    yield Check(3, OURS, "Saver.restore in a session", functools.partial(restore, world))
    yield Check(3, OURS, "Saver.restore of some by a map of names", functools.partial(restore_some, world))
    yield Check(3, OURS, "tf.train.load_checkpoint", functools.partial(read_ours, world))
    yield Check(3, OURS, "saved on by TensorFlow's Saver", functools.partial(save_on, world))
    yield Check(3, THEIRS, "V2, sharded, partitioned, V1, renamed", functools.partial(read_savers, world))
    yield Check(3, THEIRS, "tf.train.Checkpoint: containers, dtypes, slices", functools.partial(read_checkpoints, world))


def folder(world: World) -> Path:
    return world.example("saver", "keras3") / "saver"


def latest(world: World) -> str:
    import tensorflow as tf

    found = tf.train.latest_checkpoint(str(folder(world)))
    assert found, f"no latest checkpoint in {sorted(p.name for p in folder(world).iterdir())}"
    return found


def state(world: World) -> str:
    import tensorflow as tf

    found = tf.train.get_checkpoint_state(str(folder(world)))
    assert found is not None, "no state"
    paths = list(found.all_model_checkpoint_paths)
    assert found.model_checkpoint_path == paths[-1], paths
    missing = [p for p in paths if not tf.io.gfile.exists(f"{p}.index")]
    assert not missing, f"listed but not there: {missing}"
    return f"{[Path(p).name for p in paths]}"


def kept(world: World) -> str:
    import tensorflow as tf

    listed = {Path(p).name for p in tf.train.get_checkpoint_state(str(folder(world))).all_model_checkpoint_paths}
    there = {path.name.removesuffix(".index") for path in folder(world).glob("*.index")}
    assert listed == there, f"{there} are there, {listed} are listed"
    return f"{len(there)} saves"


def named_variables(prefix: str) -> dict[str, np.ndarray]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(prefix)
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


def restore(world: World) -> str:
    import tensorflow as tf

    v1 = tf.compat.v1
    prefix = latest(world)
    listed = named_variables(prefix)
    assert len(listed) > 1, f"only {list(listed)}"
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {n: v1.get_variable(n, shape=a.shape, dtype=a.dtype, use_resource=True) for n, a in listed.items()}
        v1.train.Saver(list(variables.values())).restore(session, prefix)
        values = session.run(list(variables.values()))
    extracted = world.extract(Path(prefix))
    return same_bits(values, [extracted[name] for name in variables])


def restore_some(world: World) -> str:
    import tensorflow as tf

    v1 = tf.compat.v1
    prefix = latest(world)
    name, array = next(iter(named_variables(prefix).items()))
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("another/name", shape=array.shape, dtype=array.dtype, use_resource=False)
        v1.train.Saver({name: variable}).restore(session, prefix)
        return same_bits([session.run(variable)], [world.extract(Path(prefix))[name]])


def read_ours(world: World) -> str:
    return agree(named_variables(latest(world)), world.extract(Path(latest(world))))


def save_on(world: World) -> str:
    """TensorFlow keeps on saving where Modelark stopped, and Modelark reads that."""
    import tensorflow as tf

    v1 = tf.compat.v1
    copy = world.scratch("saver-on")
    shutil.copytree(folder(world), copy)
    prefix = tf.train.latest_checkpoint(str(copy))
    assert prefix is not None and Path(prefix).is_relative_to(copy), f"the state file leads to {prefix}"
    listed = named_variables(prefix)
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {n: v1.get_variable(n, shape=a.shape, dtype=a.dtype, use_resource=True) for n, a in listed.items()}
        saver = v1.train.Saver(list(variables.values()))
        saver.recover_last_checkpoints(v1.train.get_checkpoint_state(str(copy)).all_model_checkpoint_paths)
        saver.restore(session, prefix)
        written = saver.save(session, str(copy / "model"), global_step=99)
    return agree(listed, world.extract(Path(written)))


def read_savers(world: World) -> str:
    return read_recorded(world, "saver", tf1.record_saver)


def read_checkpoints(world: World) -> str:
    return read_recorded(world, "checkpoints", checkpoints.record)


def read_recorded(world: World, case: str, record: object) -> str:
    """Lets TensorFlow write a case of the zoo afresh, and reads each of its files by its own list of values."""
    recorder = Recorder(world.work / "fresh" / case, case, "", {})
    record(recorder)
    expected = recorder.arrays["expected"]
    prefixes = [n for n in recorder.meta["files"] if (recorder.folder / f"{n}.index").is_file() or (recorder.folder / n).is_file()]
    assert prefixes, "nothing was written"
    tensors = 0
    for prefix in prefixes:
        read = world.extract(recorder.folder / prefix)
        own = {k.partition(":")[2]: a for k, a in expected.items() if k.startswith(f"{prefix}:")}
        wanted = {k: a for k, a in own.items() if k in read} or {k: expected[k] for k in read if k in expected}
        assert wanted, f"{prefix}: nothing to compare with among {sorted(expected)[:5]}"
        if own:
            own = {name: array for name, array in own.items() if not any(word in name for word in UNREADABLE)}
            missing = sorted(set(own) - set(read))
            assert not missing, f"{prefix}: not read: {missing[:5]}"
        for name, array in wanted.items():
            tensors += 1
            assert read[name].shape == array.shape, f"{prefix}: {name} is {read[name].shape}"
            assert equal(name, read[name], array), f"{prefix}: {name} differs"
    return f"{tensors} tensors of {len(prefixes)} files"


def equal(name: str, one: np.ndarray, other: np.ndarray) -> bool:
    """The same bits; fixed-width strings by value, since their width is a matter of the file."""
    if "int4" in name:
        # One byte each, of which the lower half counts.
        return [b & 15 for b in one.tobytes()] == [b & 15 for b in other.tobytes()]
    if other.dtype.kind == "S":
        return bool(np.all(one == other))
    return one.tobytes() == other.tobytes()
