"""Models of Keras in Modelark and in other engines, in turns: how long a call takes, and how many times as long as the best."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
#: Seconds that an engine runs in one turn.
TURN = 0.3


@dataclass
class Row:
    """A model, and an input of it."""

    model: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.model}, batch {self.batch}"


#: Engines that are built here.
RUST = {"rten", "tract"}
#: Each model with its batches.
ROWS = [
    *(Row("mlp", n) for n in (1, 256)),
    *(Row("resnet50", n) for n in (1, 8)),
    Row("mobilenetv2", 1),
    *(Row("lstm", n) for n in (1, 32)),
    *(Row("encoder", n) for n in (1, 8)),
    *(Row("dense4096", n) for n in (1, 32)),
    Row("unet", 1),
]


class Engine:
    """A process that holds a model and calls it as often as it is told."""

    def __init__(self, command: list[object], threads: int):
        many = {name: str(threads) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MODELARK_PEER_THREADS")}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        cores = sorted(os.sched_getaffinity(0))[:threads]
        self.process = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **quiet, **many}, stderr=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, cores), **pipes)  # fmt: skip
        self.once = self.answer()[0]
        self.turns: list[float] = []

    def answer(self) -> list[float]:
        line = self.process.stdout.readline()
        if not line.strip():
            raise RuntimeError(self.process.stderr.read()[-500:].strip())
        return [float(word) * 1e-9 for word in line.split()]

    def calls(self, count: int) -> list[float]:
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.answer()

    def turn(self) -> None:
        self.turns.append(statistics.median(self.calls(max(3, min(20_000, int(TURN / self.once))))))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    arguments = parse()
    work = arguments.work.resolve()
    rows = [row for row in ROWS if not arguments.only or any(text in row.name for text in arguments.only)]
    make(work, sorted({row.model for row in rows}))
    if set(arguments.peers) & RUST:
        build(work.parent / "peers")
    for threads in arguments.threads:
        print(f"{f'{threads} threads, ms':<24}", end="")
        columns = [*arguments.forms, *arguments.peers]
        print("".join(f"{name:>14}" for name in columns) + f"{'of the best':>14}", flush=True)
        for row in rows:
            table_row(work, row, arguments, threads)


def table_row(work: Path, row: Row, arguments: argparse.Namespace, threads: int) -> None:
    """Runs all engines in turns, compares what they gave, and prints their medians."""
    folder = work / row.model
    given = folder / f"x{row.batch}.npy"
    np.save(given, example(row))
    engines: dict[str, Engine | None] = {}
    for name in [*arguments.forms, *arguments.peers]:
        program = [arguments.program, folder / name] if name in arguments.forms else peer(name, folder)
        try:
            engines[name] = Engine([*program, given, folder / f"{name}.npy"], threads)
        except RuntimeError as error:
            print(f"{name} doesn't run {row.name}: {error}", file=sys.stderr)
            engines[name] = None
    running = {name: engine for name, engine in engines.items() if engine}
    for engine in running.values():
        engine.once = min(engine.calls(3))
    for _ in range(arguments.rounds):
        for engine in running.values():
            engine.turn()
    for engine in running.values():
        engine.close()
    differ(folder, list(running))
    choose = min if arguments.lowest else statistics.median
    times = {name: choose(engine.turns) * 1000 for name, engine in running.items()}
    ours, others = times.get(arguments.forms[0]), [times[name] for name in arguments.peers if name in times]
    ratio = f"{ours / min(others):>13.2f}x" if ours and others else ""
    cells = "".join(f"{times[name]:>14.3f}" if name in times else f"{'-':>14}" for name in engines)
    print(f"{row.name:<24}{cells}{ratio}", flush=True)


def differ(folder: Path, names: list[str]) -> None:
    """Refuses engines that don't agree."""
    outputs = {name: np.load(folder / f"{name}.npy") for name in names}
    first = next(iter(outputs.values()))
    for name, output in outputs.items():
        error = np.abs(output - first).max() / max(np.abs(first).max(), 1e-30)
        if output.shape != first.shape or not error < 1e-3:
            raise SystemExit(f"{folder.name}: {name} differs from {names[0]} by {error} of the largest element")


def peer(name: str, folder: Path) -> list[object]:
    """The command that starts an engine on a model."""
    if name in RUST:
        return [folder.parent.parent / "peers" / "release" / name, folder / "model.onnx"]
    model = folder / ("saved_model" if name == "tensorflow" else "model.onnx")
    return [sys.executable, HERE / "peer.py", name, model]


def example(row: Row) -> np.ndarray:
    shapes = {
        "mlp": (784,),
        "resnet50": (224, 224, 3),
        "mobilenetv2": (224, 224, 3),
        "encoder": (128, 512),
        "dense4096": (4096,),
        "unet": (256, 256, 3),
    }
    numbers = np.random.default_rng(row.batch)
    if row.model == "lstm":
        return numbers.integers(0, 10_000, (row.batch, 200)).astype("int32")
    return numbers.standard_normal((row.batch, *shapes[row.model])).astype("float32")


def make(work: Path, names: list[str]) -> None:
    """Makes what isn't made yet, of each model a SavedModel, a `.keras`, an `.h5` and an ONNX."""
    for name in names:
        if (work / name / "model.onnx").exists():
            continue
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir(parents=True)
        subprocess.run([sys.executable, HERE / "peer.py", "make", work / name], check=True)


def build(target: Path) -> None:
    """Builds the engines that are written in Rust."""
    manifest = HERE / "peers" / "Cargo.toml"
    command = ["cargo", "build", "--quiet", "--release", "--manifest-path", manifest, "--target-dir", target]
    subprocess.run(command, check=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the program that calls a model when told to")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the models, kept for the next time")
    parser.add_argument("--peers", nargs="*", default=["onnxruntime", "openvino", "rten", "tract", "tensorflow"])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each engine")
    parser.add_argument("--only", nargs="*", help="rows whose name contains one of these")
    forms = ["saved_model", "model.keras", "model.h5"]
    parser.add_argument("--forms", nargs="+", default=forms[:1], choices=forms, help="what Modelark takes the models from")
    parser.add_argument("--lowest", action="store_true", help="the best turn of each instead of the median, on a busy machine")
    return parser.parse_args()


if __name__ == "__main__":
    main()
