"""--shorter-side and --at-least."""

import pytest

from enlca.inference.target_size import Size, plan_resize


@pytest.mark.parametrize(
    ("size", "given", "made"),
    [
        (Size(shorter=1080), (400, 300), (1440, 1080)),
        (Size(shorter=1080), (300, 400), (1080, 1440)),
        (Size(shorter=100), (400, 300), (133, 100)),
        (Size(at_least=(1920, 1080)), (400, 300), (1920, 1440)),
        (Size(at_least=(1920, 1080)), (300, 400), (1920, 2560)),
        (Size(at_least=(1920, 1080)), (2000, 1000), (2160, 1080)),
        (Size(at_least=(1920, 1080)), (1920, 1080), (1920, 1080)),
        (Size(at_least=(1920, 1080)), (5000, 4000), (5000, 4000)),
    ],
)
def test_the_aspect_ratio_is_kept(size, given, made):
    assert size.of(*given) == made


def test_names_say_the_size():
    assert Size(shorter=1080).name == "s1080"
    assert Size(at_least=(1920, 1080)).name == "min1920x1080"


def test_a_picture_that_is_large_enough_needs_no_network():
    assert plan_resize(Size(at_least=(9, 9)), [4], 10, 12).scale is None
    assert plan_resize(Size(at_least=(25, 9)), [2, 4], 10, 12).scale == 4


def test_exactly_one_kind_of_size_is_given():
    for wrong in ({}, {"shorter": 9, "width": 9}, {"shorter": 0}, {"at_least": (9, 0)}):
        with pytest.raises(ValueError, match="size"):
            Size(**wrong)
