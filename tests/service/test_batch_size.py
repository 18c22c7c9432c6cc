import pytest

from service.batch_size import MOST, ON_CPU, BatchError, worthwhile_batch


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        (lambda rows: rows, ON_CPU),  # a CPU: twice the rows, twice the time
        (lambda rows: 1.0, MOST),  # a device that is never full
        (lambda rows: max(1.0, rows / 64), 64),  # one that is full at 64
        (lambda rows: 1 + rows / 100, 256),
        (lambda rows: 1 + rows / 10, 64),  # 2.6, 4.2, 7.4, 13.8: the last step saves 7 %
    ],
)
def test_batches_grow_as_long_as_rows_get_cheaper(seconds, found):
    assert worthwhile_batch(seconds) == found


def test_a_device_that_has_no_room_ends_the_search():
    def seconds(rows):
        if rows > 32:
            raise BatchError("out of memory")
        return 1.0

    assert worthwhile_batch(seconds) == 32


def test_a_first_batch_that_does_not_run_is_the_callers():
    def seconds(rows):
        raise BatchError("broken")

    with pytest.raises(BatchError, match="broken"):
        worthwhile_batch(seconds)
