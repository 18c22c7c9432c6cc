"""Measure which patterns each tool folds, and write the figures into docs/fold-conformance.md.

    python benchmarks/conformance.py            # all tools that are installed
    python benchmarks/conformance.py --dry-run  # print, write nothing

Run it in an environment of its own: onnx, onnxruntime, numpy, and the peers to measure
(onnxscript, onnxoptimizer, onnxsim, onnxslim, torch, torchao). A peer that is missing is left out,
and the document says so. Each tool runs in a process of its own: a crash is its result alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnx

from benchmarks import peers
from tests.export.oracle import feeds, run_onnxruntime, run_reference, worst_error
from tests.export.patterns import Pattern, batch_norms, patterns

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "fold-conformance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
# Past this, an output is wrong and not merely rounded. Half precision rounds to 1e-3.
WRONG = 1e-3
WRONG_IN_HALF = 1e-1


@dataclass(frozen=True)
class Result:
    """What one tool made of one pattern.

    Attributes:
        left: batch norms left; -1 when the tool failed.
        verdict: "right", "left" (an exact fold undone), "wrong" (another value computed),
            "failed" or "unrefused" (broken statistics accepted).
        error: largest error of a channel in parts of its RMS.
        note: the tool's message, shortened.
    """

    left: int
    verdict: str
    error: float = 0.0
    note: str = ""


def judge_file(tool: Any, pattern: Pattern, folder: Path) -> Result:
    """Let a tool fold one pattern's file."""
    source, target = folder / f"{pattern.name}.onnx", folder / f"{pattern.name}.out.onnx"
    model = pattern.model()
    onnx.save(model, source)
    try:
        tool(source, target)
        folded = onnx.load(target)
    except Exception as error:  # noqa: BLE001 - whatever a tool throws is its result
        return Result(
            batch_norms(model), "right" if pattern.refused else "failed", note=_short(error)
        )
    if pattern.refused:
        return Result(batch_norms(folded), "unrefused")
    left = batch_norms(folded)
    off = _error(pattern, model, folded)
    half = pattern.row in ("25", "26")
    if not off < (WRONG_IN_HALF if half else WRONG):
        return Result(left, "wrong", off)
    return Result(left, "left" if left > pattern.left else "right", off)


def _error(pattern: Pattern, model: onnx.ModelProto, folded: onnx.ModelProto) -> float:
    if not pattern.runs and not pattern.reference:
        return 0.0 if batch_norms(folded) == batch_norms(model) else float("nan")
    run = run_onnxruntime if pattern.runs else run_reference
    inputs = feeds(model)
    try:
        return worst_error(run(model, inputs), run(folded, inputs))
    except Exception:  # noqa: BLE001 - a file that does not run is as wrong as can be
        return float("inf")


def judge_module(tool: Any, pattern: Pattern) -> Result | None:
    """Let a tool fold one pattern's PyTorch form; None where it has none."""
    import torch  # noqa: PLC0415 - not there unless its tools are measured

    from benchmarks.torch_patterns import MODULES  # noqa: PLC0415 - it imports torch

    if pattern.name not in MODULES:
        return None
    torch.manual_seed(0)
    module, arguments = MODULES[pattern.name]()
    with torch.no_grad():
        wanted = module(*arguments).numpy()
        try:
            left, found = tool(module, arguments)
        except Exception as error:  # noqa: BLE001 - whatever a tool throws is its result
            return Result(-1, "failed", note=_short(error))
    off = worst_error([wanted], [np.asarray(found)])
    if not off < WRONG:
        return Result(left, "wrong", off)
    return Result(left, "left" if left > pattern.left else "right", off)


def _short(error: Exception) -> str:
    """Return the message on one line, without the folders of this machine."""
    text = re.sub(r"/\S*/", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:120]}"


def run_peer(name: str) -> dict[str, Any]:
    """Return one tool's results by pattern."""
    peers.quiet()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for pattern in patterns():
            if name in peers.ON_FILES:
                result: Result | None = judge_file(peers.ON_FILES[name], pattern, Path(folder))
            else:
                result = judge_module(peers.ON_MODULES[name], pattern)
            if result is not None:
                results[pattern.name] = asdict(result)
            # A crash must not lose what came before it.
            print(json.dumps({pattern.name: results.get(pattern.name)}), flush=True)
    return results


def measure(name: str) -> dict[str, Result]:
    """Run one tool in a process of its own and return its results by pattern."""
    command = [sys.executable, __file__, "--peer", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    results = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            for pattern, entry in json.loads(line).items():
                if entry:
                    results[pattern] = Result(**entry)
    if done.returncode:
        missing = [p.name for p in patterns() if p.name not in results]
        for pattern in missing:
            results[pattern] = Result(-1, "failed", note=f"the process ended: {done.returncode}")
    return results


def tables(measured: dict[str, dict[str, Result]]) -> str:
    """Return the measured section."""
    lines = [
        (
            f"{len(patterns())} patterns, "
            f"{sum(batch_norms(p.model()) for p in patterns())} batch norms, of which "
            f"{sum(p.left for p in patterns())} must stay. Python {platform.python_version()}, "
            f"onnx {onnx.__version__}. PyTorch's tools get the patterns that a module can say."
        ),
        "",
        (
            "| tool | version | patterns | as the table asks | batch norms left over "
            "| wrong values | failed | broken statistics let through |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, results in measured.items():
        count = Counter(result.verdict for result in results.values())
        over = sum(max(results[p.name].left - p.left, 0) for p in patterns() if p.name in results)
        lines.append(
            f"| {name} | {peers.version(name)} | {len(results)} | {count['right']} | {over} "
            f"| {count['wrong']} | {count['failed']} | {count['unrefused']} |"
        )
    lines += ["", f"| row | pattern | {' | '.join(measured)} |", "|---" * (len(measured) + 2) + "|"]
    for pattern in patterns():
        cells = [_cell(results.get(pattern.name)) for results in measured.values()]
        lines.append(f"| {pattern.row} | {pattern.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    return {"right": "yes", "left": f"{result.left} left", "unrefused": "not refused"}.get(
        result.verdict, f"**{result.verdict}**"
    )


def main() -> None:
    """Measure all tools, or be the process of one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", help="measure this tool in this process; one JSON line a pattern")
    parser.add_argument("--dry-run", action="store_true", help="print instead of writing")
    args = parser.parse_args()
    if args.peer:
        run_peer(args.peer)
        return
    measured, missing = {}, []
    for name in (*peers.ON_FILES, *peers.ON_MODULES):
        if name != "flatfold" and peers.version(name) is None:
            missing.append(name)
            continue
        measured[name] = measure(name)
    section = tables(measured)
    if missing:
        section += f"\n\nNot installed, not measured: {', '.join(missing)}."
    notes = defaultdict(list)
    for name, results in measured.items():
        for pattern, result in results.items():
            if result.verdict == "failed":
                notes[f"{name}: {result.note}"].append(pattern)
    if notes:
        section += "\n\nWhat failed:\n\n" + "\n".join(
            f"- {note} ({', '.join(names)})" for note, names in notes.items()
        )
    if args.dry_run:
        print(section)
        return
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}")


if __name__ == "__main__":
    main()
