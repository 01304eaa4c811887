"""Recipe 10: every option of every optimizer, schedule, loss and metric, in the configs that models are compiled with.

Nothing is trained: what is compared is what Keras says that the loaded model was compiled with.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, Check
from world import ModelarkError, World, major

from .options import FAILED, failed, plain, unequal

GROUPS = ("losses", "metrics", "optimizers", "schedules")
# What can't be saved by its class alone, or wants functions.
LEFT = ("Loss", "LearningRateSchedule", "MeanMetricWrapper", "Metric", "MultiOptimizer", "Optimizer", "OptimizerMap")
LEFT_OPTIONS = ("args", "kwargs", "dtype", "fn", "jit_compile", "self", "exclude_layers", "layers")
BASE: dict[str, dict[str, Any]] = {
    "IoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [1]},
    "MeanIoU": {"num_classes": 3},
    "OneHotMeanIoU": {"num_classes": 3},
    "MeanRelativeError": {"normalizer": [1.0, 3.0, 2.0]},
    "PrecisionAtRecall": {"recall": 0.4},
    "RecallAtPrecision": {"precision": 0.6},
    "SensitivityAtSpecificity": {"specificity": 0.3},
    "SpecificityAtSensitivity": {"sensitivity": 0.7},
    "PiecewiseConstantDecay": {"boundaries": [10, 20], "values": [0.1, 0.05, 0.01]},
}
SEED = 5


def checks(world: World) -> Iterator[Check]:
    for group in GROUPS:
        for name in classes(world.keras, group):
            yield Check(10, OURS, f"compiled with {name} of {group}", functools.partial(compiled, world, group, name))


def module(keras: Any, group: str) -> Any:
    return keras.optimizers.schedules if group == "schedules" else getattr(keras, group)


def classes(keras: Any, group: str) -> list[str]:
    found = {n: getattr(module(keras, group), n) for n in dir(module(keras, group))}
    return sorted(n for n, c in found.items() if inspect.isclass(c) and c.__name__ == n and n not in LEFT)


def values(keras: Any, name: str, option: str, default: Any) -> list[Any]:
    """What an option is varied over: by its name where there are few choices, else by its default."""
    schedules, optimizers = keras.optimizers.schedules, keras.optimizers
    own: dict[str, list[Any]] = {
        "learning_rate": [0.02, schedules.ExponentialDecay(0.1, 7, 0.5), schedules.CosineDecay(0.1, 9)],
        "reduction": ["sum", "none"],
        "ema_overwrite_frequency": [3, None],
        "global_clipnorm": [0.5],
        "inner_optimizer": [optimizers.SGD(0.3, momentum=0.9), optimizers.Adam(0.02)],
        "gradient_accumulation_steps": [2],
        "thresholds": [[0.2, 0.7], 0.4],
        "curve": ["PR"],
        "summation_method": ["minoring", "majoring"],
        "average": ["micro", "weighted"],
        "class_aggregation": ["variance_weighted_average", None],
        "target_class_ids": [[0], [1]],
        "label_weights": [[0.2, 0.3, 0.5]],
        "ignore_class": [1, -1],
        "shape": [(3,)],
        "axis": [-1, 1],
        "num_labels": [3],
        "decay_steps": [5, 11],
        "first_decay_steps": [4, 6],
        "warmup_steps": [2, 3],
    }
    if option in own:
        return own[option]
    if option == "name":
        return ["of_its_own"]
    if isinstance(default, bool):
        return [not default, default]
    if isinstance(default, int):
        return [default + 1, default + 3]
    if isinstance(default, float):
        return [default * 0.5 + 0.05, default * 0.9 + 0.01]
    return [0.25, 0.75] if option not in ("top_k", "class_id", "k") else [1, 2]


def drawn(keras: Any, group: str, name: str) -> list[tuple[str, Any]]:
    """Instances that between them have every value of every option that Keras takes, with what each was given."""
    cls, rng = getattr(module(keras, group), name), np.random.default_rng(SEED)
    parameters = [p for p in inspect.signature(cls.__init__).parameters.values() if p.name not in LEFT_OPTIONS]
    pools = {p.name: values(keras, name, p.name, p.default) for p in parameters}
    base = BASE.get(name, {})
    wanted = [(p.name, i) for p in parameters for i in range(len(pools[p.name]))]
    needed = {p.name: pools[p.name][0] for p in parameters if p.default is p.empty and p.name not in base} | base
    made: list[tuple[str, Any]] = [("", cls(**needed))]
    while wanted:
        option, index = wanted.pop(0)
        for share in (0.6, 0.2, 0.0):
            others = {o: i for o, i in wanted if o != option and rng.random() < share}
            chosen = {o: pools[o][i] for o, i in (others | {option: index}).items()}
            try:
                made.append((" ".join(f"{o}={v}" for o, v in chosen.items()), cls(**(needed | chosen))))
            except Exception:  # noqa: BLE001: what Keras refuses isn't for anyone to take
                continue
            wanted = [w for w in wanted if others.get(w[0]) != w[1]]
            break
    return made


def model_of(keras: Any, group: str, one: Any) -> Any:
    keras.backend.clear_session()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    given = {"optimizer": "sgd", "loss": keras.losses.MeanSquaredError()}
    if group == "schedules":
        given["optimizer"] = keras.optimizers.SGD(one)
    elif group == "optimizers":
        given["optimizer"] = one
    else:
        given |= {"loss": one} if group == "losses" else {"metrics": [one]}
    model.compile(**given)
    return model


def said(keras: Any, model: Any) -> Any:
    """What a model was compiled with, as Keras writes it."""
    if model.optimizer is None:
        return None
    config = model.get_compile_config()
    metrics = flat(config.get("metrics"))
    one = {"optimizer": keras.optimizers.serialize(model.optimizer), "loss": config.get("loss"), "metrics": metrics}
    # How sums over a batch are called where nothing was asked for.
    if isinstance(metrics, list):
        one["metrics"] = [{k: v for k, v in m.items() if k != "build_config"} if isinstance(m, dict) else m for m in metrics]
    return json.loads(json.dumps(plain(one), default=str).replace('"reduction": "auto"', '"reduction": "sum_over_batch_size"'))


def flat(metrics: Any) -> list[Any]:
    """Metrics in one list: by outputs they may stand in lists."""
    return [m for one in metrics or [] for m in (flat(one) if isinstance(one, list) else [one])]


def compiled(world: World, group: str, name: str) -> str:
    logging.getLogger("absl").setLevel(logging.ERROR)
    wrong, told = [], []
    instances = drawn(world.keras, group, name)
    for label, one in instances:
        model = model_of(world.keras, group, one)
        folder = world.scratch(f"compiled-{name}")
        folder.mkdir(parents=True)
        wanted = said(world.keras, model)
        for form, other in (("keras", "h5"), ("h5", "keras")):
            source = folder / f"model.{form}"
            try:
                model.save(str(source))
            except Exception as error:  # noqa: BLE001: whatever Keras has to say
                told.append(f"Keras saves no .{form}: {failed(error)[:80]}")
                source.unlink(missing_ok=True)
        for form, other in (("keras", "h5"), ("h5", "keras")):
            source, own = folder / f"model.{form}", folder / f"model.{other}"
            if not source.exists():
                continue
            written = folder / f"of_{form}.{other}"
            try:
                world.convert(source, written)
            except ModelarkError as error:
                wrong.append(f"{label}: {failed(error)}")
                continue
            bad = differs(world.keras, written, wanted)
            # What Keras loses of its own isn't to be kept better.
            if bad and (not own.exists() or differs(world.keras, own, wanted)):
                told.append(f"Keras's own .{other}: {bad[0][:100]}")
            else:
                wrong += [f"{label}: of {form}: {b}" for b in bad]
        if world.other_keras is not None:
            more, bad = elsewhere(world, folder, wanted)
            told += more
            wrong += [f"{label}: {b}" for b in bad]
    with (world.work / "options.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"{group}.{name} {kind} {one}\n" for kind, all_ in (("WRONG", wrong), ("told", told)) for one in all_)
    assert not wrong, f"{len(wrong)} wrong: " + " | ".join(wrong)
    return f"{len(instances)} instances" + (f"; {len(told)} otherwise: {' | '.join(dict.fromkeys(told))}" if told else "")


def differs(keras: Any, path: Path, wanted: Any, shared: bool = False) -> list[str]:
    """Where what a loaded file says that it was compiled with isn't what was asked for."""
    try:
        model = keras.models.load_model(str(path))
    except Exception as error:  # noqa: BLE001
        return [failed(error)]
    return unequal("compile", wanted, said(keras, model), shared)


def elsewhere(world: World, folder: Path, wanted: Any) -> tuple[list[str], list[str]]:
    dialect = "keras2" if major(world.keras) == 3 else "keras3"
    source = next(p for p in (folder / "model.keras", folder / "model.h5") if p.exists())
    try:
        notes = world.modelark("convert", source, folder / "other.keras", "--dialect", dialect)
    except ModelarkError as error:
        return [failed(error)], []
    bad = [b for b in differs(world.other_keras, folder / "other.keras", wanted, True) if not spelled(b)]
    lines = [line.strip() for line in notes.splitlines() if any(w in line for w in ("optimizer", "loss", "metric", "compile"))]
    # What is told by its name isn't wrong.
    left = any("left out" in line for line in lines)
    told = [b for b in bad if (FAILED in b or left) and lines or b.split(":")[0].split(".")[-1].split("[")[0] in " ".join(lines)]
    return [f"as {dialect}: {b[:120]} ({' '.join(lines)[:200]})" for b in told], [f"as {dialect}: {b}" for b in bad if b not in told]


def spelled(difference: str) -> bool:
    """Whether the Kerases only spell it differently."""
    if FAILED in difference:
        return False
    return any(f".{key}:" in difference for key in ("module", "registered_name", "name", "jit_compile", "is_legacy_optimizer"))
