"""The model card: everything that an .onnx file says about itself, as one JSON text.

It travels in the model's `metadata_props` under `CARD_KEY`. Training starts it, export completes
it, service reads it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Callable

CARD_KEY = "flatfold.card"
MAX_DEPTH = 100  # levels of nesting; a card has four or so
SCHEMA = 1  # raised when an old reader could misread a new card

# Names in the exported graph: images is uint8 (batch, height, width, 3), the outputs float32.
INPUT_NAME = "images"
LOGITS_NAME = "logits"
PROBABILITIES_NAME = "probabilities"


class CardError(FlatfoldError):
    """The model's card is missing or is not one that this version reads."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a served classifier must say of itself.

    Attributes:
        name: short name, also the default model name of the service.
        labels: class names, in the order of the logits.
        height: picture height in pixels.
        width: picture width in pixels.
        architecture: the network's name.
        precision: fp32, fp16 or int8.
        temperature: divisor of the logits, already inside the graph.
        mean: per-channel RGB mean on the 0..1 scale, already inside the graph.
        std: per-channel RGB deviation on the 0..1 scale, already inside the graph.
        accuracy: measured figures, e.g. {"test_top1": 0.94, "test_images": 10000}; an export that
            measured other precisions as well adds theirs, e.g. "test_top1_int8".
        provenance: how it came to be: command, seed, epochs, versions, checkpoint hash.
        proof: the parity check made before the file was written.
        speed: measured images per second of each precision, e.g. "int8_images_per_second", and of
            the unfolded model, with the hardware that gave them.
    """

    name: str
    labels: tuple[str, ...]
    height: int
    width: int
    architecture: str = ""
    precision: str = "fp32"
    temperature: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    accuracy: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    proof: dict[str, Any] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Return the card as JSON with sorted keys, the same bytes for the same card."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card.

        Raises:
            CardError: not JSON, a newer schema, or a field missing or of the wrong type.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CardError(f"the model's {CARD_KEY} metadata is not JSON: {error}") from error
        _check_readable(data)
        if not isinstance(data, dict):
            raise CardError(f"the model's {CARD_KEY} must be an object, got {type(data).__name__}")
        schema = data.get("schema")
        if schema != SCHEMA:
            raise CardError(
                f"the model's card has schema {schema!r}, this version reads {SCHEMA}; "
                "export the model again or update flatfold"
            )
        known = {entry.name for entry in fields(cls)}
        card = {key: value for key, value in data.items() if key in known}
        if missing := _REQUIRED - card.keys():
            raise CardError(f"the model's card lacks {', '.join(map(repr, sorted(missing)))}")
        for key, value in card.items():
            kind, fits = _KINDS[key]
            if not fits(value):
                raise CardError(f"the model's card needs {key!r} as {kind}, got {value!r:.80}")
        if card["height"] < 1 or card["width"] < 1:
            raise CardError(
                f"the model's card gives the size {card['height']}x{card['width']}; "
                "both must be at least 1"
            )
        for key in ("labels", "mean", "std"):
            if key in card:
                card[key] = tuple(card[key])
        return cls(**card)


def _check_readable(value: Any, depth: int = 0) -> None:
    """Refuse what Python reads as JSON, and what others, the service's writer too, do not take.

    Raises:
        CardError: an integer beyond 64 bits, NaN or infinity, or too much nesting.
    """
    if depth > MAX_DEPTH:
        raise CardError(f"the model's card is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise CardError(f"the model's card holds an integer beyond 64 bits: {value}")
    if isinstance(value, float) and not math.isfinite(value):
        raise CardError(f"the model's card holds {value}, for which JSON has no number")
    if isinstance(value, dict | list):
        inner = (*value, *value.values()) if isinstance(value, dict) else value
        for each in inner:
            _check_readable(each, depth + 1)


_REQUIRED = {"name", "labels", "height", "width"}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """Whether JSON's value is a number; Python counts true and false among them."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_labels(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _are_three(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("name", "architecture", "precision"), ("a text", _is_text)),
    "labels": ("a list of at least one text", _are_labels),
    **dict.fromkeys(("height", "width", "schema"), ("a whole number", _is_whole)),
    "temperature": ("a number", _is_number),
    **dict.fromkeys(("mean", "std"), ("a list of three numbers", _are_three)),
    **dict.fromkeys(("accuracy", "provenance", "proof", "speed"), ("an object", _is_object)),
}
