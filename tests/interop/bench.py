"""Whole processes of Modelark beside those of Python with TensorFlow: time, and memory at its peak."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEGABYTE = 2**20
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

MAKE = """
import keras, sys
keras.utils.set_random_seed(0)
if sys.argv[1] == "mlp":
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((784,)), dense(128, activation="relu"), dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
else:
    model = keras.applications.ResNet50(weights=None)
for name in sys.argv[2:]:
    model.save(name) if "." in name else model.export(name, verbose=False)
"""
RUN_KERAS = """
import sys, numpy as np, keras
y = keras.models.load_model(sys.argv[1]).predict(np.load(sys.argv[2])["in_0"], verbose=0)
np.savez(sys.argv[3], y)
"""
RUN_SAVED_MODEL = """
import sys, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
y = model.serve(tf.constant(np.load(sys.argv[2])["in_0"]))
np.savez(sys.argv[3], y.numpy())
"""
#: Saves a model of 200 layers in each form, flushes what it wrote, and prints how long each took.
SAVE = """
import keras, os, pathlib, sys, time, numpy as np, tensorflow as tf
folder, width = pathlib.Path(sys.argv[1]), int(sys.argv[2])
keras.utils.set_random_seed(0)
layers = [keras.layers.Dense(width, use_bias=False, name=f"dense_{i}") for i in range(200)]
model = keras.Sequential([keras.Input((width,)), *layers])
saves = {
    "checkpoint": lambda path: tf.train.Checkpoint(model=model).write(path),
    "saved_model": lambda path: model.export(path, verbose=False),
    "model.h5": model.save,
    "model.keras": model.save,
    "model.weights.h5": model.save_weights,
    "model.npz": lambda path: np.savez(path, *model.get_weights()),
}
for name, save in saves.items():
    start = time.monotonic()
    save(str(folder / name))
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDWR)
            os.fsync(file)
            os.close(file)
    print(name, time.monotonic() - start, flush=True)
np.save(folder / "one.npy", np.concatenate([w.ravel() for w in model.get_weights()]))
"""
#: Names what a file holds, without more of it than that takes.
LIST = {
    "checkpoint": "import sys, tensorflow as tf; print(len(tf.train.list_variables(sys.argv[1])))",
    "saved_model": "import sys, tensorflow as tf; print(len(tf.saved_model.load(sys.argv[1]).variables))",
    "model.h5": "import sys, h5py; h5py.File(sys.argv[1]).visit(print)",
    "model.keras": "import sys, keras; keras.models.load_model(sys.argv[1]).summary()",
    "one.npy": "import sys, numpy as np; print(np.load(sys.argv[1], mmap_mode='r').shape)",
}


#: How often each form is saved.
TURNS = 5


@dataclass
class Measured:
    """A process: seconds, and its own memory at the peak in bytes (mapped files, which the system may drop, aside)."""

    seconds: float
    memory: int = 0


class Refused(Exception):
    """A command that failed, with what it said."""


def main() -> None:
    arguments = parse()
    program, work = arguments.program.resolve(), arguments.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f"{'':<46}{'Modelark':>12}{'its memory':>12}{'Python':>12}{'its memory':>12}{'ratio':>9}")
    if not arguments.only:
        first_prediction(program, work, "mlp", (1, 784))
        first_prediction(program, work, "resnet50", (1, 224, 224, 3))
    for width, what in ((181, "25 MB"), (1152, "1 GB")):
        if arguments.only in (None, what):
            files(program, work / "files", width, what)
    shutil.rmtree(work)


def first_prediction(program: Path, work: Path, model: str, shape: tuple[int, ...]) -> None:
    """A process that loads a model, runs it, and writes the output."""
    fed = work / "in.npz"
    np.savez(fed, in_0=np.random.default_rng(0).random(shape, dtype="float32"))
    forms = {f"{model}.keras": RUN_KERAS, f"{model}.h5": RUN_KERAS, model: RUN_SAVED_MODEL}
    python(MAKE, model, *(work / name for name in forms))
    for name, script in forms.items():
        ours = [run(program, "run", work / name, "--inputs", fed, "--outputs", work / "ours.npz") for _ in range(20)]
        theirs = [python(script, work / name, fed, work / "theirs.npz") for _ in range(3)]
        with np.load(work / "ours.npz") as one, np.load(work / "theirs.npz") as other:
            np.testing.assert_allclose(one[one.files[0]], other[other.files[0]], rtol=1e-4, atol=1e-6)
        row(f"run {name}" if "." in name else f"run {name} (SavedModel)", median(ours), median(theirs))


def files(program: Path, work: Path, width: int, size: str) -> None:
    """A model of 200 tensors: saved in each form, opened, converted from each form to each."""
    work.mkdir()
    said = subprocess.run([sys.executable, "-c", SAVE, str(work), str(width)], env=ENVIRONMENT, check=True, capture_output=True)
    theirs = {name: float(seconds) for name, seconds in map(str.split, said.stdout.decode().splitlines())}
    for name, script in LIST.items():
        ours = [run(program, "weights", work / name) for _ in range(10)]
        row(f"open {name} of {size}", median(ours), python(script, work / name))

    weights = 200 * width * width * 4
    data = work / "one.npy"
    # What a write costs is up to the state of the machine's memory and disk: the best of some turns is compared.
    forms = {name: target_options(name) for name in theirs}
    print()
    for name, options in forms.items():
        turns = [
            (run(program, "convert", work / "model.keras", written(work, name), *options), raw_write(work / "raw", data))
            for _ in range(TURNS)
        ]
        more = stored(work / "ours") / weights - 1
        ours, raw = best([ours for ours, _ in turns]), min(raw for _, raw in turns)
        row(f"save {name}, {more:.2%} more than tensors", ours, Measured(theirs[name]))
        print(f"{f'  of a raw copy ({seconds(raw)})':<46}{ours.seconds / raw:>11.2f}x", flush=True)

    print(f"\n{f'convert, times a raw copy of {size}':<34}" + "".join(f"{name:>18}" for name in forms))
    refused = []
    for source in forms:
        times, raw = [], []
        for target, options in forms.items():
            try:
                ours = best([run(program, "convert", work / source, written(work, target), *options) for _ in range(3)])
            except Refused as said:
                refused.append(str(said))
                times.append(None)
            else:
                raw.append(raw_write(work / "raw", data))
                times.append(ours)
        cells = [f"{t.seconds / min(raw):.2f}x {t.memory / MEGABYTE:>4.0f} MB" if t else "refused" for t in times]
        print(f"{source:<34}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    print(*refused, sep="\n")
    shutil.rmtree(work)


def target_options(name: str) -> tuple[str, ...]:
    """What says the form where the name doesn't."""
    return () if "." in name else ("--to", name)


def written(work: Path, name: str) -> Path:
    """Where a form is written, from nothing: what was there goes first, for it's no part of a save."""
    path = work / "ours" / name
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    return path


def stored(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def raw_write(target: Path, source: Path) -> float:
    """Reads a file and writes its bytes elsewhere, to the disk."""
    target.unlink(missing_ok=True)
    start = time.monotonic()
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 4 * MEGABYTE)
        writer.flush()
        os.fsync(writer.fileno())
    return time.monotonic() - start


def python(script: str, *args: object) -> Measured:
    return run(sys.executable, "-c", script, *args)


def run(*command: object) -> Measured:
    """Runs a command to its end."""
    start = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    peak = [0]
    watcher = threading.Thread(target=watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    _, said = process.communicate()
    seconds = time.monotonic() - start
    if process.returncode != 0:
        raise Refused(said.decode()[-2000:].strip())
    watcher.join()
    return Measured(seconds, peak[0])


def watch(pid: int, peak: list[int]) -> None:
    """Looks at the process's anonymous memory until it is gone."""
    while True:
        try:
            text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            return
        found = [line for line in text.splitlines() if line.startswith("RssAnon")]
        if not found:
            return
        peak[0] = max(peak[0], int(found[0].split()[1]) * 1024)
        time.sleep(0.002)


def median(measured: list[Measured]) -> Measured:
    return Measured(statistics.median(m.seconds for m in measured), max(m.memory for m in measured))


def best(measured: list[Measured]) -> Measured:
    return Measured(min(m.seconds for m in measured), max(m.memory for m in measured))


def row(what: str, ours: Measured, theirs: Measured) -> None:
    own = [seconds(ours.seconds), memory(ours), seconds(theirs.seconds), memory(theirs)]
    print(f"{what:<46}" + "".join(f"{cell:>12}" for cell in own) + f"{theirs.seconds / ours.seconds:>8.1f}x", flush=True)


def memory(measured: Measured) -> str:
    return f"{measured.memory / MEGABYTE:.0f} MB" if measured.memory else ""


def seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the program, built for speed")
    parser.add_argument("--only", choices=["25 MB", "1 GB"], help="files of this size alone")
    parser.add_argument("--work", type=Path, required=True, help="a folder that is emptied")
    return parser.parse_args()


if __name__ == "__main__":
    main()
