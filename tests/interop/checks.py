"""What a check is, and how a list of them is run: each passes or fails by itself, one line of JSON each."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Who wrote the file that a check is about.
OURS = "modelark-wrote"
THEIRS = "tensorflow-wrote"


@dataclass(frozen=True)
class Check:
    """One claim about a recipe. `run` raises when it doesn't hold, and may return what it saw."""

    recipe: int
    direction: str
    name: str
    run: Callable[[], Any]


def run_all(checks: Iterable[Check], environment: str, out: Path) -> int:
    """Runs every check, appends a line for each to `out`, and returns how many failed."""
    failed = 0
    with out.open("w", encoding="utf-8") as file:
        for check in checks:
            start = time.monotonic()
            detail, passed = "", True
            try:
                seen = check.run()
                detail = "" if seen is None else str(seen)
            except Exception as error:  # noqa: BLE001: whatever goes wrong is what the check reports
                passed, detail = False, describe(error)
                failed += 1
            line = {
                "environment": environment,
                "recipe": check.recipe,
                "direction": check.direction,
                "name": check.name,
                "passed": passed,
                "detail": detail,
                "seconds": round(time.monotonic() - start, 2),
            }
            file.write(json.dumps(line) + "\n")
            file.flush()
            if not passed:
                print(f"FAILED recipe {check.recipe} {check.direction}: {check.name}\n    {detail}", flush=True)
    return failed


def describe(error: Exception) -> str:
    """The error, and the line of a check that it came from."""
    here = Path(__file__).parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(here)]
    place = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:600]}{place}"
