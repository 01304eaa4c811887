"""Ops by chance: calls with drawn dtypes, shapes, attributes and values, by the comparison of the committed goldens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from checks import THEIRS, Check
from world import World

ROOT = Path(__file__).resolve().parents[3]
# Few calls of each op, of a few of its choices of dtypes; not the seed of any run before.
DRAWN = {"SEED": "31", "TRIES": "12", "CHOICES": "3"}

# How rare a difference has to be: 11 of 4,509 were found when this was written, all told in the result.
ONE_IN = 200


def checks(world: World) -> Iterator[Check]:
    # The other column has the same TensorFlow.
    if world.environment.name != "tf221-keras2":
        yield Check(10, THEIRS, "ops: drawn by chance", lambda: agree(world))


def agree(world: World) -> str:
    """Draws calls, which TensorFlow makes, and lets the engine make them, too."""
    folder = world.scratch("drawn-ops")
    draw = [sys.executable, str(ROOT / "tests/fixtures/ops/draw.py"), str(folder)]
    drawn = subprocess.run(draw, env={**os.environ, **DRAWN}, capture_output=True, text=True, timeout=1200, check=False)
    assert drawn.returncode == 0, drawn.stderr[-2000:]
    compare = [os.environ.get("CARGO", "cargo"), "test", "--quiet", "--package", "modelark-graph", "--test", "golden", "ops_give"]
    compared = subprocess.run(compare, cwd=ROOT, env={**os.environ, "MODELARK_GOLDENS_FOLDER": str(folder)}, capture_output=True, text=True, timeout=1200, check=False)
    differ = re.findall(r"^\w+\.bin \d+: .*$", compared.stdout + compared.stderr, re.M)
    total = int(drawn.stdout.split()[-2])
    # Chance still finds corners; more than this is something that was right before.
    told = f"{len(differ)} of {total} differ: " + " | ".join(line[:300] for line in differ[:20])
    assert compared.returncode == 0 or 0 < len(differ) * ONE_IN <= total, told or compared.stderr[-2000:]
    return told if differ else f"{total} cases"
