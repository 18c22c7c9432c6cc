"""`flatfold inspect model.onnx`: its card, its layers, its batch norms, its hash."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from export.layers import Layer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=Path, help="an .onnx file")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what the file says of itself and what is in it."""
    import hashlib  # noqa: PLC0415 (with the imports below, only when inspecting)

    from export.graph_shapes import bodies  # noqa: PLC0415
    from export.layers import layers  # noqa: PLC0415
    from export.loading import open_model  # noqa: PLC0415
    from flatfold.contract.card import CARD_KEY, Card  # noqa: PLC0415

    model, _ = open_model(args.model)
    text = next((entry.value for entry in model.metadata_props if entry.key == CARD_KEY), None)
    table = layers(model)
    facts: dict[str, Any] = {
        "file": str(args.model),
        "bytes": args.model.stat().st_size,
        "sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "batch_norms": sum(
            node.op_type == "BatchNormalization" for body, _ in bodies(model) for node in body.node
        ),
        "parameters": sum(layer.parameters for layer in table),
        "macs": sum(layer.macs for layer in table),
        "card": json.loads(Card.from_json(text).to_json()) if text else None,
    }
    if args.json:
        print(json.dumps({**facts, "layers": [asdict(layer) for layer in table]}))
        return 0
    _print_card(facts)
    _print_layers(table)
    print(f"{facts['parameters']:,} parameters, {facts['macs']:,} multiply-adds a picture")
    print(f"{facts['batch_norms']} batch norms left, opset {facts['opset']}")
    print(f"{facts['bytes']:,} bytes, sha256 {facts['sha256']}")
    return 0


def _print_card(facts: dict[str, Any]) -> None:
    card = facts["card"]
    if card is None:
        print(f"{facts['file']}: no card")
        return
    print(f"{card['name']}: {', '.join(filter(None, (card['architecture'], card['precision'])))}")
    print(f"labels: {', '.join(card['labels'])}")
    print(f"pictures: {card['height']}x{card['width']}")
    for part in ("accuracy", "speed", "proof", "provenance"):
        for key, value in card[part].items():
            if not isinstance(value, dict):
                print(f"{part}: {key} {value}")


def _print_layers(table: list[Layer]) -> None:
    width = max((len(layer.name) for layer in table), default=4)
    kind = max((len(layer.operator) for layer in table), default=8)
    head = f"{'layer':{width}}  {'operator':{kind}}  {'output':>14}"
    print(f"\n{head}  {'parameters':>10}  {'MACs':>12}")
    for layer in table:
        shape = "x".join("?" if size < 0 else str(size) for size in layer.output)
        row = f"{layer.name:{width}}  {layer.operator:{kind}}  {shape:>14}"
        print(f"{row}  {layer.parameters:>10,}  {layer.macs:>12,}")
    print()
