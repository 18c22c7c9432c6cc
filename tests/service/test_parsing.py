import gc

import orjson
import pytest

from service.parsing import parse_json


def test_many_small_arrays_come_without_a_search_for_garbage():
    searches = []
    watch = lambda phase, _: searches.append(phase)  # noqa: E731 - removed again below
    text = b"[" + b"[1]," * 100_000 + b"[1]]"
    gc.collect()
    gc.callbacks.append(watch)
    try:
        # Nothing is made between the parsing and the look at the list, so nothing is collected.
        found = parse_json(text), len(searches)
    finally:
        gc.callbacks.remove(watch)
    assert len(found[0]) == 100_001
    assert found[1] <= 2  # the one that was due before, or right after


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("text", [b"[1]", b"["])
def test_the_garbage_collector_is_left_as_it_was(text, on):
    was = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        try:
            assert parse_json(text) == [1]
        except orjson.JSONDecodeError:
            assert text == b"["
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()
