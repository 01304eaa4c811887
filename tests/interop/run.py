"""Runs the checks of every recipe under the TensorFlow that runs this, with one of its Kerases.

Each check is a line of JSON in `--results`; `cargo xtask interop` makes a table of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Nothing here is to write beside the sources.
sys.dont_write_bytecode = True

from checks import run_all  # noqa: E402
from recipes import RECIPES, WIDE  # noqa: E402
from world import World  # noqa: E402
from zoo import environment  # noqa: E402


def main() -> int:
    arguments = parse()
    here = environment.current(arguments.keras2)
    work = arguments.work.resolve() / here.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    world = World(here, arguments.program.resolve(), arguments.examples.resolve(), work)
    recipes = RECIPES + WIDE if arguments.wide else RECIPES
    checks = [check for recipe in recipes for check in recipe(world)]
    if arguments.only:
        checks = [c for c in checks if any(word in f"recipe {c.recipe} {c.direction} {c.name}" for word in arguments.only)]
    failed = run_all(checks, here.name, arguments.results)
    print(f"{here.name}: {len(checks) - failed} of {len(checks)} checks passed", flush=True)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the built `modelark`")
    parser.add_argument("--examples", type=Path, required=True, help="what the examples wrote: NAME-DIALECT folders")
    parser.add_argument("--work", type=Path, required=True, help="a folder for models and results")
    parser.add_argument("--results", type=Path, required=True, help="where the lines of JSON go")
    parser.add_argument("--keras2", action="store_true", help="Keras 2's API (tf_keras) where Keras is 3")
    parser.add_argument("--wide", action="store_true", help="hundreds of models and ops more")
    parser.add_argument("--only", action="append", metavar="TEXT", help="checks whose name has this; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
