"""Each random view, operation by operation; above all, label and image must not part."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pals_jax.data.augment import (
    Augmentation,
    adjust_colour,
    adjust_light,
    augment,
    choose_crop,
    crop,
    distort,
    resize,
)

PLAIN = Augmentation(
    crop=(8, 8),
    ignore=255,
    scale=(1.0, 1.0),
    flip=False,
    photometric=False,
    max_class_share=1.0,
    fill=(1, 2, 3),
)


def grid(height, width):
    """An image whose first two channels, and a label that, say where each pixel came from."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    return image, (rows * width + columns).astype(np.uint16)


# --- resize ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_doubling_repeats_labels_and_interpolates_at_quarters(dtype):
    image = np.repeat(np.uint8([[0, 100]])[..., None], 3, axis=-1)
    image, label = resize(image, np.array([[3, 7]], dtype), 1, 4)
    np.testing.assert_array_equal(image[0, :, 0], [0, 25, 75, 100])
    np.testing.assert_array_equal(label, [[3, 3, 7, 7]])
    assert label.dtype == dtype


@pytest.mark.parametrize(("size", "out"), [(100, 57), (100, 83), (64, 128), (60, 91), (90, 45)])
def test_labels_are_taken_at_the_nearest_pixel_centre(size, out):
    _, label = resize(
        np.zeros((1, size, 3), np.uint8), np.arange(size, dtype=np.uint16)[None], 1, out
    )
    position = (np.arange(out) + 0.5) * size / out - 0.5
    assert np.abs(label[0] - position).max() <= 0.5 + 1e-9

    plain = cv2.resize(
        np.arange(size, dtype=np.uint16)[None], (out, 1), interpolation=cv2.INTER_NEAREST
    )
    if size % out and out % size:
        assert np.abs(plain[0] - position).max() > 0.75  # the trap that this test is about


@pytest.mark.parametrize("factor", [0.5, 0.71, 1.0, 1.37, 2.0])
def test_image_and_label_stay_on_each_other(factor):
    image, label = grid(60, 90)
    height, width = round(60 * factor), round(90 * factor)
    # Floating point, so that the image's positions are not rounded to whole levels.
    image, label = resize(image.astype(np.float32), label, height, width)
    rows, columns = label // 90, label % 90
    for channel, index in ((0, rows), (1, columns)):
        gap = (image[..., channel] - index)[3:-3, 3:-3]
        assert np.abs(gap).max() <= 0.5 + 1e-3
        assert abs(gap.mean()) < 0.05 or factor == 0.5  # there every pixel is a tie


# --- crop ------------------------------------------------------------------------------------


def test_a_crop_inside_copies_the_window():
    image, label = grid(20, 30)
    out_image, out_label = crop(image, label, 5, 7, PLAIN)
    np.testing.assert_array_equal(out_image, image[5:13, 7:15])
    np.testing.assert_array_equal(out_label, label[5:13, 7:15])


def test_outside_the_image_is_fill_and_ignore():
    image, label = grid(3, 4)
    out_image, out_label = crop(image, label, -2, -1, PLAIN)
    np.testing.assert_array_equal(out_image[2:5, 1:5], image)
    np.testing.assert_array_equal(out_label[2:5, 1:5], label)
    outside = np.ones((8, 8), bool)
    outside[2:5, 1:5] = False
    assert (out_image[outside] == (1, 2, 3)).all()
    assert (out_label[outside] == 255).all()


def test_one_side_may_be_padded_and_the_other_cropped():
    image, label = grid(3, 30)
    out_image, out_label = crop(image, label, -4, 20, PLAIN)
    np.testing.assert_array_equal(out_image[4:7], image[:, 20:28])
    np.testing.assert_array_equal(out_label[4:7], label[:, 20:28])


@pytest.mark.parametrize(("height", "rows"), [(10, {0, 1, 2}), (8, {0}), (5, {-3, -2, -1, 0})])
def test_every_corner_that_keeps_the_most_of_the_image_is_drawn(height, rows):
    rng, label = np.random.default_rng(0), np.zeros((height, 8), np.uint8)
    assert {choose_crop(label, rng, PLAIN)[0] for _ in range(200)} == rows


def test_a_crop_with_too_much_of_one_class_is_drawn_again():
    label = np.zeros((8, 80), np.uint8)
    label[:, 40:] = 1
    label[:, ::3] = 255  # ignored pixels belong to no class
    half = replace(PLAIN, max_class_share=0.75)

    def share(options, seed):
        _, left = choose_crop(label, np.random.default_rng(seed), options)
        window = label[:, left : left + 8]
        counts = np.bincount(window[window != 255])
        return counts.max() / counts.sum()

    plain, chosen = (np.mean([share(o, s) <= 0.75 for s in range(500)]) for o in (PLAIN, half))
    # 5 of the 73 windows qualify (3/5 or 4/6 at most); ten tries find one unless all ten miss.
    accepted = (
        sum(
            max(np.mean(w := label[0, i : i + 8][label[0, i : i + 8] != 255]), 1 - np.mean(w))
            <= 0.75
            for i in range(73)
        )
        / 73
    )
    assert plain == pytest.approx(accepted, abs=0.06)
    assert chosen == pytest.approx(1 - (1 - accepted) ** 10, abs=0.08)


@pytest.mark.parametrize("value", [0, 255])
def test_where_no_crop_passes_the_last_one_stands(value):
    label = np.full((20, 20), value, np.uint8)
    top, left = choose_crop(label, np.random.default_rng(0), replace(PLAIN, max_class_share=0.75))
    assert 0 <= top <= 12
    assert 0 <= left <= 12


# --- colour ----------------------------------------------------------------------------------


def test_light_by_hand():
    image = np.uint8([[[0, 100, 250]]])
    np.testing.assert_array_equal(adjust_light(image, 10, 1.5), [[[15, 165, 255]]])
    np.testing.assert_array_equal(adjust_light(image, -32, 0.5), [[[0, 34, 109]]])
    np.testing.assert_array_equal(adjust_light(image, 0, 1), image)


def test_colour_by_hand():
    red, muted = np.uint8([[[200, 0, 0]]]), np.uint8([[[200, 100, 100]]])
    np.testing.assert_array_equal(adjust_colour(red, 1, 120), [[[0, 200, 0]]])
    np.testing.assert_array_equal(adjust_colour(red, 1, -120), [[[0, 0, 200]]])
    np.testing.assert_array_equal(adjust_colour(red, 0, 0), [[[200, 200, 200]]])
    np.testing.assert_allclose(adjust_colour(muted, 1.5, 0), [[[200, 50, 50]]], atol=1)
    np.testing.assert_allclose(adjust_colour(muted, 0.5, 0), [[[200, 150, 150]]], atol=1)


def test_no_change_of_colour_is_exact():
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(adjust_colour(noise, 1.0, 0.0), noise)


def test_distortion_leaves_one_in_sixteen_images_alone():
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    untouched = np.mean([np.array_equal(distort(noise, rng), noise) for _ in range(2000)])
    assert untouched == pytest.approx(1 / 16, abs=0.02)


# --- all of it -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_every_view_keeps_image_and_label_together(seed):
    blocks = np.random.default_rng(seed).integers(0, 5, (6, 9), dtype=np.uint8)
    label = np.kron(blocks, np.ones((11, 10), np.uint8))
    image = np.repeat(label[..., None] * 50, 3, axis=-1)
    options = replace(PLAIN, crop=(64, 64), scale=(0.5, 2.0), flip=True)
    view = augment(
        {"image": image, "label": label, "id": "a"}, np.random.default_rng(seed), options
    )
    padding = view["label"] == 255
    assert (view["image"][padding] == options.fill).all()
    # Away from the edges between blocks, bilinear and nearest must agree exactly.
    plain = (
        cv2.morphologyEx(view["label"].astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5))) == 0
    )
    inside = (plain & ~padding)[3:-3, 3:-3]
    assert inside.mean() > 0.1
    image, label = view["image"][3:-3, 3:-3, 0], view["label"][3:-3, 3:-3]
    np.testing.assert_array_equal(image[inside], label[inside] * 50)


def test_both_mirror_images_occur_and_nothing_else():
    image, label = grid(8, 8)
    views = {
        augment(
            {"image": image, "label": label}, np.random.default_rng(s), replace(PLAIN, flip=True)
        )["label"].tobytes()
        for s in range(40)
    }
    assert views == {a.astype(np.int32).tobytes() for a in (label, label[:, ::-1])}


def test_a_view_depends_on_the_generator_only():
    image, label = grid(40, 50)
    example = {"image": image, "label": label, "id": "a"}
    options = Augmentation(crop=(24, 32), ignore=65535)
    first, again, other = (augment(example, np.random.default_rng(s), options) for s in (5, 5, 6))
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["label"], again["label"])
    assert not np.array_equal(first["label"], other["label"])
    assert (first["image"].shape, first["image"].dtype) == ((24, 32, 3), np.uint8)
    assert (first["label"].shape, first["label"].dtype) == ((24, 32), np.int32)
    assert first["id"] == "a"
    np.testing.assert_array_equal(example["image"], grid(40, 50)[0])  # the input is left alone


def test_scale_is_drawn_from_its_whole_range():
    image, label = grid(100, 100)
    options = replace(PLAIN, crop=(300, 300), scale=(0.5, 2.0), ignore=65535)
    sides = [
        (
            augment({"image": image, "label": label}, np.random.default_rng(s), options)["label"]
            != 65535
        )
        .any(axis=0)
        .sum()
        for s in range(200)
    ]
    assert min(sides) < 55
    assert max(sides) > 195
    assert np.mean(sides) == pytest.approx(125, abs=10)


def test_a_one_pixel_image_survives():
    tiny = {"image": np.zeros((1, 1, 3), np.uint8), "label": np.zeros((1, 1), np.uint8)}
    view = augment(tiny, np.random.default_rng(0), Augmentation(crop=(4, 4), ignore=255))
    assert (view["label"] == 255).sum() >= 12
