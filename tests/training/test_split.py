import torch

from training.split import Split


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
