import numpy as np
import pytest
import torch

from tests.training.small import numbered_pictures
from training.data import DataError, Pictures
from training.split import Split, hold_out


def numbered(labels):
    images = torch.arange(len(labels)).to(torch.uint8)[:, None, None, None]
    return Split(images.expand(-1, 2, 2, 3), torch.tensor(labels))


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def test_a_sample_of_shuffled_pictures_is_the_first_ones():
    assert numbers(numbered([1, 0] * 50).sample(20, seed=0)) == list(range(20))


def test_a_sample_of_pictures_that_come_class_by_class_is_drawn_from_all():
    ordered = numbered([0] * 40 + [1] * 30 + [2] * 30)
    found = numbers(ordered.sample(20, seed=0))
    assert len(set(found)) == 20
    assert {ordered.labels[number].item() for number in found} == {0, 1, 2}
    assert found == numbers(ordered.sample(20, seed=0))
    assert found != numbers(ordered.sample(20, seed=1))


def test_few_pictures_are_all_in_the_sample_as_they_come():
    assert numbers(numbered([0, 0, 1, 1]).sample(20, seed=0)) == [0, 1, 2, 3]


def test_held_out_pictures_are_not_trained_on_and_follow_the_seed() -> None:
    def drawn(seed: int) -> list[set[int]]:
        return [set(numbers(part.images)) for part in hold_out(numbered_pictures(100), 20, seed)]

    kept, held = drawn(1)
    assert [len(kept), len(held)] == [80, 20]
    assert not kept & held
    assert held == drawn(1)[1]
    assert held != drawn(2)[1]


@pytest.mark.parametrize("seed", range(5))
def test_no_class_is_held_out_whole(seed: int) -> None:
    rare = Pictures(
        numbered_pictures(40).images, np.array([0] * 2 + [1] * 37 + [2]), ("pair", "many", "single")
    )
    train, held = hold_out(rare, 30, seed)
    assert (len(train), len(held)) == (10, 30)
    assert set(train.labels.tolist()) == {0, 1, 2}
    assert len(hold_out(rare, 40, seed)[1]) == 37, "each class keeps one"


def test_pictures_to_spare_are_drawn_as_if_every_class_had_many() -> None:
    plenty = numbered_pictures(200)
    order = np.random.default_rng(3).permutation(200)
    train, held = hold_out(plenty, 20, seed=3)
    assert held.images.numpy().tobytes() == plenty.images[np.sort(order[:20])].tobytes()
    assert train.images.numpy().tobytes() == plenty.images[np.sort(order[20:])].tobytes()


def test_single_pictures_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="give more pictures"):
        hold_out(numbered_pictures(3, classes=3), 1, seed=0)
