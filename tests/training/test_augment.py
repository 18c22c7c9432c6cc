import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.augment import augment, cutout, normalise, shrink

IMAGES = torch.randint(0, 256, (6, 8, 10, 3), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)


@given(st.integers(0, 1000), st.integers(0, 4))
def test_is_a_crop_of_the_mirrored_and_reflected_picture(seed, translate):
    flipped = torch.arange(6) % 2 == 0
    seen = augment(IMAGES, flipped, torch.Generator().manual_seed(seed), translate=translate)
    for picture, mirror, result in zip(IMAGES.numpy(), flipped, seen.numpy(), strict=True):
        source = picture[:, ::-1] if mirror else picture
        border = ((translate, translate), (translate, translate), (0, 0))
        padded = np.pad(source, border, mode="reflect")
        crops = np.lib.stride_tricks.sliding_window_view(padded, (8, 10, 3))
        assert (crops == result).all((-1, -2, -3)).any()


def test_shifts_differ_between_pictures():
    same = IMAGES[:1].expand(32, -1, -1, -1)
    seen = augment(
        same, torch.zeros(32, dtype=torch.bool), torch.Generator().manual_seed(0), translate=2
    )
    assert len({picture.numpy().tobytes() for picture in seen}) > 8


def test_cutout_blanks_one_square_and_nothing_else():
    images = torch.ones(20, 3, 9, 9)
    seen = cutout(images, torch.Generator().manual_seed(0), size=4)
    assert ((seen == 0).flatten(1).sum(1) == 3 * 16).all()
    assert torch.equal(images, torch.ones(20, 3, 9, 9))
    assert cutout(images, torch.Generator(), size=0) is images


def test_normalise_gives_channels_first_and_the_written_formula():
    seen = normalise(IMAGES, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = (IMAGES[2, 3, 4, 1].item() / 255 - 0.2) / 0.6
    assert seen.shape == (6, 3, 8, 10)
    assert (
        seen[2, 1, 3, 4].item() == np.float32(expected).item()
        or abs(seen[2, 1, 3, 4] - expected) < 1e-6
    )


def test_shrinking_averages_and_keeps_the_memory_order():
    images = torch.zeros(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    images[:, :, :, 4:] = 1
    small = shrink(images, 4)
    assert small.shape == (2, 3, 4, 4)
    assert small.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(small.mean(dim=(2, 3)), torch.tensor(0.5))
    assert (small[..., 0] < 0.01).all()
    assert (small[..., 3] > 0.99).all()
    assert shrink(images, 8) is images
