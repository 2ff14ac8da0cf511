"""Images that patches do not fill are refused: the network would not see the rest of them."""

from collections.abc import Callable

import pytest
import timm
import torch

from kdzoo.errors import UsageError
from kdzoo.models.zoo import create_model
from kdzoo.refs import DataRef, ModelRef

MakeRef = Callable[..., DataRef]

VIT = "vit_tiny_patch16_224:depth=1:embed_dim=48"
MIXER = "mixer_s16_224"
SWIN = "swin_tiny_patch4_window7_224"


@pytest.mark.parametrize(
    ("name", "size", "unseen", "sizes"),
    [
        (VIT, 28, 67, "32 or 16"),
        (VIT, 40, 36, "48 or 32"),
        (MIXER, 28, 67, "32 or 16"),
        (SWIN, 30, 13, "32 or 28"),
        (f"{VIT}:img_size=28", 32, 67, "32 or 16"),  # the size to which the images are brought, not theirs
    ],
)
def test_images_that_patches_do_not_fill(data_ref: MakeRef, name: str, size: int, unseen: int, sizes: str) -> None:
    with pytest.raises(UsageError, match=f"never see {unseen} % of each image; bring the images to {sizes} ") as caught:
        create_model(ModelRef.parse(name), data_ref(3, size), [0.5] * 3, [0.5] * 3)
    assert str(caught.value).startswith("model ")


def test_what_timm_does_with_such_images() -> None:
    """The share in the sentence is that of the pixels without any influence."""
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=48, img_size=28, num_classes=4).eval()
    image = torch.rand(1, 3, 28, 28, requires_grad=True)
    model(image).square().sum().backward()
    assert image.grad is not None
    unseen = (image.grad.abs().sum(dim=(0, 1)) == 0).double().mean().item()
    assert unseen == pytest.approx(1 - 16 * 16 / 28**2)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (VIT, 32),
        (f"{VIT}:patch_size=7", 28),
        (f"{VIT}:img_size=32", 28),
        (f"{VIT}:dynamic_img_size=true:dynamic_img_pad=true", 28),  # padded before it is cut
        ("swin_tiny_patch4_window7_224", 28),
        ("test_resnet", 27),  # kernels that overlap
    ],
)
def test_images_that_are_seen_whole(data_ref: MakeRef, name: str, size: int) -> None:
    create_model(ModelRef.parse(name), data_ref(3, size), [0.5] * 3, [0.5] * 3)
