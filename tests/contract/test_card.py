import json

import pytest

from flatfold.contract.card import SCHEMA, Card, CardError


def card(**changes):
    return Card(**{"name": "zoo", "labels": ("cat", "dog"), "height": 32, "width": 48, **changes})


def test_reads_back_what_it_wrote():
    original = card(accuracy={"test_top1": 0.94}, mean=(0.1, 0.2, 0.3), temperature=1.7)
    assert Card.from_json(original.to_json()) == original


def test_same_card_same_bytes():
    assert card().to_json() == card().to_json()


def test_ignores_fields_of_a_later_minor_version():
    text = json.dumps({**json.loads(card().to_json()), "colour_of_the_box": "red"})
    assert Card.from_json(text) == card()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "object"),
        (json.dumps({"schema": SCHEMA + 1}), "schema"),
        (json.dumps({"schema": SCHEMA}), "lacks 'height', 'labels', 'name', 'width'"),
        (json.dumps({**json.loads(card().to_json()), "labels": []}), "labels"),
        (card(provenance={"seed": [2**64]}).to_json(), "64 bits: 18446744073709551616"),
        ("""{"schema": 1, "accuracy": {"test_top1": [NaN]}}""", "holds nan, for which JSON"),
        (card(provenance={"seed": -(2**63) - 1}).to_json(), "64 bits"),
        ("""{"schema": 1, "x": """ + "[" * 200 + "]" * 200 + "}", "nested deeper than 100"),
        (json.dumps({**json.loads(card().to_json()), "labels": [1]}), "labels"),
        (json.dumps({**json.loads(card().to_json()), "height": 0}), "0x48"),
        (json.dumps({**json.loads(card().to_json()), "width": "32"}), "width"),
        (json.dumps({**json.loads(card().to_json()), "height": True}), "height"),
    ],
)
def test_refuses_what_is_no_card(text, message):
    with pytest.raises(CardError, match=message):
        Card.from_json(text)


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("architecture", None, "a text"),
        ("precision", 8, "a text"),
        ("temperature", "hot", "a number"),
        ("mean", None, "a list of three numbers"),
        ("mean", [0.5, 0.5], "a list of three numbers"),
        ("std", [1, 1, True], "a list of three numbers"),
        ("accuracy", [], "an object"),
        ("speed", "fast", "an object"),
    ],
)
def test_refuses_a_field_of_another_kind(field, value, kind):
    text = json.dumps({**json.loads(card().to_json()), field: value})
    with pytest.raises(CardError, match=f"needs '{field}' as {kind}, got "):
        Card.from_json(text)


def test_refuses_to_write_nan():
    with pytest.raises(ValueError, match="JSON"):
        card(accuracy={"test_top1": float("nan")}).to_json()


def test_reads_all_that_every_json_reader_takes():
    original = card(name="\U0001f431", provenance={"a": [2**64 - 1, -(2**63), [[None, 1e308]]]})
    assert Card.from_json(original.to_json()) == original
