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

MAKE_MLP = """
import keras, sys
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
for name in sys.argv[1:]:
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
MAKE_LARGE = """
import keras, sys, tensorflow as tf
count = int(sys.argv[1])
keras.utils.set_random_seed(0)
layers = [keras.layers.Dense(4096, kernel_initializer="ones", name=f"dense_{i}") for i in range(count)]
model = keras.Sequential([keras.Input((4096,)), *layers])
model.save(sys.argv[2])
tf.train.Checkpoint(model=model).write(sys.argv[3])
"""
LIST_CHECKPOINT = """
import sys, tensorflow as tf
print(len(tf.train.list_variables(sys.argv[1])))
"""
CONVERT_KERAS = """
import sys, keras
keras.models.load_model(sys.argv[1]).save(sys.argv[2])
"""


@dataclass
class Measured:
    """A process: seconds, and its own memory at the peak in bytes (mapped files, which the system may drop, aside)."""

    seconds: float
    memory: int


def main() -> None:
    arguments = parse()
    program, work = arguments.program.resolve(), arguments.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f"{'':<46}{'Modelark':>12}{'Python':>12}{'ratio':>9}")
    small(program, work)
    large(program, work, arguments.gigabytes)


def small(program: Path, work: Path) -> None:
    """The 784-128-10 model: load, run, write the output."""
    fed = work / "in.npz"
    np.savez(fed, in_0=np.random.default_rng(0).random((1, 784), dtype="float32"))
    forms = {"mlp.keras": RUN_KERAS, "mlp.h5": RUN_KERAS, "mlp": RUN_SAVED_MODEL}
    python(MAKE_MLP, *(work / name for name in forms))
    for name, script in forms.items():
        ours = [run(program, "run", work / name, "--inputs", fed, "--outputs", work / "ours.npz") for _ in range(20)]
        theirs = [python(script, work / name, fed, work / "theirs.npz") for _ in range(3)]
        with np.load(work / "ours.npz") as one, np.load(work / "theirs.npz") as other:
            np.testing.assert_allclose(one[one.files[0]], other[other.files[0]], rtol=1e-4, atol=1e-6)
        what = name if "." in name else "SavedModel"
        row(f"run 784-128-10, {what}", median(ours), median(theirs))
        memory_row(median(ours), median(theirs))


def large(program: Path, work: Path, gigabytes: int) -> None:
    """Opening, saving and converting models of 64 MB a layer."""
    h5, checkpoint = work / "large.h5", work / "large"
    python(MAKE_LARGE, 16 * gigabytes, h5, checkpoint)
    ours = [run(program, "weights", checkpoint) for _ in range(10)]
    row(f"list a checkpoint of {gigabytes} GB", median(ours), python(LIST_CHECKPOINT, checkpoint))

    raw = [raw_write(work / "raw", Path(f"{checkpoint}.data-00000-of-00001")) for _ in range(2)]
    for _ in range(2):
        saved = run(program, "convert", checkpoint, work / "saved", "--to", "checkpoint")
    row("write it as a checkpoint, beside a raw copy", saved, Measured(min(raw), 0), "raw")
    memory_row(saved, None)

    ours_keras = run(program, "convert", h5, work / "ours.keras")
    theirs_keras = python(CONVERT_KERAS, h5, work / "theirs.keras")
    row("convert .h5 to .keras", ours_keras, theirs_keras)
    memory_row(ours_keras, theirs_keras)
    for target, options in {"large-saved-model": ("--to", "saved_model"), "converted.weights.h5": ()}.items():
        ours = run(program, "convert", h5, work / target, *options)
        row(f"convert .h5 to {target}", ours, None)
        memory_row(ours, None)
    shutil.rmtree(work)


def raw_write(target: Path, source: Path) -> float:
    """Reads a file and writes its bytes elsewhere, to the disk."""
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
        raise SystemExit(f"{command[0]} {command[1]}: {said.decode()[-2000:]}")
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


def row(what: str, ours: Measured, theirs: Measured | None, other: str = "") -> None:
    beside = f"{seconds(theirs.seconds):>12}{theirs.seconds / ours.seconds:>8.1f}x" if theirs else ""
    print(f"{what:<46}{seconds(ours.seconds):>12}{beside} {other}", flush=True)


def memory_row(ours: Measured, theirs: Measured | None) -> None:
    beside = f"{theirs.memory / MEGABYTE:>9.0f} MB{theirs.memory / max(ours.memory, 1):>8.1f}x" if theirs else ""
    print(f"{'  its memory at the peak':<46}{ours.memory / MEGABYTE:>9.0f} MB{beside}", flush=True)


def seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the program, built for speed")
    parser.add_argument("--work", type=Path, required=True, help="a folder that is emptied")
    parser.add_argument("--gigabytes", type=int, default=1, help="the size of the large model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
