"""From raw results to docs/benchmarks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.bodies import COUNT
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.results import FLOOR, middle, select, shares, values
from flatfold.contract.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Rows = list[dict[str, Any]]
HEAD = """# How fast it serves, beside its peers

Made by `make bench`; every single measurement is in the JSON lines beside this file.

- **The floor** is two processes that decode, infer and format with no HTTP, unbatched, one
  intra-op thread each: images per second of both together. The whole JPEG is decoded there.
- Every server runs the same .onnx, the same decoder (`flatfold.contract.pictures`, with libjpeg's
  scaled decoding of large JPEGs, also for the peers) and the same onnxruntime options (one
  intra-op thread a session, no spinning), in an environment of its own. `flatfold serve` runs as
  it comes.
- Load is `wrk` with one thread on the same machine, over keep-alive connections, with {count}
  bodies of random content sent in turn. Peers were given what makes them fast here: two workers,
  raw bodies in place of multipart or base64, uvloop and httptools, orjson, no access log, and
  batches where they have them, with the shortest wait that they take (`benchmarks/apps/`).
- The figure is the median over the rounds of the share of the same round's floor; below it
  the smallest and the largest share. A server with failed requests is marked (!).
- Models go by their files' names: cifar10 is the one that ships, 351 M multiply-adds a picture, in
  float32 and in int8; 64x2-128x2-256x2 is that network of docs/training.md, 65 M, after two epochs
  of training: its speed does not depend on its weights. Memory is that of all processes of a
  server, three seconds after its first answer.
"""


def write_report(path: Path, rows: Rows, facts: dict[str, str]) -> None:
    """Write the report for `rows`, or nothing at all if that fails."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(rows, facts))


def render(rows: Rows, facts: dict[str, str]) -> str:
    """Return the whole report as Markdown."""
    parts = [HEAD.format(count=COUNT), "| how it was measured | |\n|---|---|"]
    parts[-1] += "".join(f"\n| {key} | {value} |" for key, value in facts.items())
    for model in dict.fromkeys(row["model"] for row in rows):
        own = select(rows, model=model)
        parts.append(f"## {model}")
        parts.append(floor_table(own))
        for title, table in (
            ("Share of the floor", share_table(own, model)),
            ("Images per second", field_table(own, "rate", 0)),
            ("Latency, ms: median / 99th percentile (their ratio)", latency_table(own)),
            ("Ready and memory", start_table(own)),
            ("HTTP alone: requests per second", field_table(own, "rate", 0, ceilings=True)),
        ):
            if table:
                parts.append(f"### {title}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def floor_table(rows: Rows) -> str:
    """Return the floor of each kind of body: median, smallest, largest."""
    floors = select(rows, server=FLOOR)
    lines = ["| floor | images/s | smallest to largest |", "|---|---|---|"]
    for kind in dict.fromkeys(row["cell"] for row in floors):
        rates = values(select(floors, cell=kind), "rate")
        lines.append(f"| {kind} | {middle(rates):.0f} | {min(rates):.0f} to {max(rates):.0f} |")
    return "\n".join(lines)


def share_table(rows: Rows, model: str) -> str:
    """Return servers against cells, each a share of the floor with its spread."""

    def text(contender: Contender, cell: str) -> str:
        found = shares(rows, model, contender.name, cell)
        if not found:
            return ""
        mark = failed(rows, contender, cell)
        spread = f"<br>{min(found):.0%} to {max(found):.0%}" if len(found) > 1 else ""
        return f"**{middle(found):.0%}**{mark}{spread}"

    return grid(rows, text)


def latency_table(rows: Rows) -> str:
    """Return servers against cells, each the medians of p50 and p99 over the rounds."""

    def text(contender: Contender, cell: str) -> str:
        own = select(rows, server=contender.name, cell=cell)
        half, high = middle(values(own, "p50")), middle(values(own, "p99"))
        if half is None or high is None:
            return ""
        return f"{half:.1f} / {high:.1f} ({high / half:.1f})" if half else f"{half} / {high}"

    return grid(rows, text)


def field_table(rows: Rows, field: str, digits: int, *, ceilings: bool = False) -> str:
    """Return servers against cells, each the median of one field."""

    def text(contender: Contender, cell: str) -> str:
        found = middle(values(select(rows, server=contender.name, cell=cell), field))
        return "" if found is None else f"{found:.{digits}f}{failed(rows, contender, cell)}"

    return grid(rows, text, ceilings=ceilings)


def start_table(rows: Rows) -> str:
    """Return seconds to the first right answer, and memory before any load."""
    lines = [
        "| server | ready, s (spread) | resident, MB | shared pages divided, MB |",
        "|---|---|---|---|",
    ]
    for contender in servers(rows, ceilings=False):
        own = select(rows, server=contender.name, cell="ready")
        if not own:
            continue
        seconds, rss, pss = (values(own, field) for field in ("seconds", "rss", "pss"))
        lines.append(
            f"| {contender.name} | {middle(seconds):.2f} ({min(seconds):.2f} to "
            f"{max(seconds):.2f}) | {middle(rss):.0f} | {middle(pss):.0f} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def failed(rows: Rows, contender: Contender, cell: str) -> str:
    """Return a mark where requests failed."""
    return " (!)" if sum(values(select(rows, server=contender.name, cell=cell), "errors")) else ""


def servers(rows: Iterable[dict[str, Any]], *, ceilings: bool) -> list[Contender]:
    """Return the measured contenders in their own order."""
    names = {row["server"] for row in rows}
    return [c for c in CONTENDERS if c.name in names and c.ceiling == ceilings]


def grid(rows: Rows, text: Any, *, ceilings: bool = False) -> str:
    """Return a table of servers (rows) against cells (columns); empty without any server."""
    chosen = servers(rows, ceilings=ceilings)
    names = {contender.name for contender in chosen}
    measured = [row["cell"] for row in rows if row["server"] in names and ":" in row["cell"]]
    cells = sorted(dict.fromkeys(measured), key=cell_order)
    if not chosen or not cells:
        return ""
    lines = ["| server | " + " | ".join(title(cell) for cell in cells) + " |"]
    lines.append("|---" * (len(cells) + 1) + "|")
    for contender in chosen:
        entries = " | ".join(text(contender, cell) for cell in cells)
        lines.append(f"| {contender.name}: {contender.title} | {entries} |")
    return "\n".join(lines)


def cell_order(cell: str) -> tuple[int, int]:
    """Return the place of a cell among the columns."""
    kind, concurrency = cell.split(":")
    return (("png", "jpeg", "tensor").index(kind), int(concurrency))


def title(cell: str) -> str:
    """Return a cell's name for people."""
    kind, concurrency = cell.split(":")
    names = {"png": "32x32 PNG", "jpeg": "640x480 JPEG", "tensor": "raw tensor"}
    return f"{names[kind]}, {concurrency}"
