import struct
import zlib

import cv2
import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields import SeedRules, check_seed_field, labeled_frames, open_video, seed_fields
from fiftyone_colortrack.fields import read_seeds as read
from fiftyone_colortrack.fields.shapes import regions, relative_box
from fiftyone_colortrack.video import ImageSequence, VideoFile, write_video

NAN = float("nan")


def masks(id_map, **attributes):
    """Detections of a map, with the ids as indices."""
    return fo.Detections(
        detections=[
            fo.Detection(
                label=f"square{id}",
                index=id,
                bounding_box=relative_box(region, id_map.shape),
                mask=region.mask,
                **attributes,
            )
            for id, region in regions(id_map)
        ]
    )


def read_seeds(sample, path, which="first", **rules):
    return read(sample, path, SeedRules(which, **rules))


def box(label="cat", corners=(0.25, 0.25, 0.5, 0.5), **attributes):
    return fo.Detection(label=label, bounding_box=list(corners), **attributes)


@pytest.fixture
def sample(dataset, squares_file):
    dataset.add_sample(fo.Sample(filepath=str(squares_file)))
    return dataset.first()


def label_frames(sample, field, labels):
    for number, label in labels.items():
        sample.frames[number][field] = label
    sample.save()
    sample.dataset.add_dynamic_frame_fields()


def test_masks(sample, squares):
    label_frames(sample, "seed", {3: masks(squares[1][2]), 5: masks(squares[1][4])})
    video = read_seeds(sample, "frames.seed")
    assert (video.kind, [seed.frame for seed in video.seeds]) == ("masks", [2])
    np.testing.assert_array_equal(video.seeds[0].labels, squares[1][2])
    assert [obj.label for obj in video.objects.values()] == ["square1", "square2"]
    assert not video.warnings


def test_all_labeled_frames_and_keyframes(sample, squares):
    label_frames(
        sample,
        "seed",
        {2: masks(squares[1][1]), 4: fo.Detections(), 6: masks(squares[1][5], keyframe=True)},
    )
    assert [seed.frame for seed in read_seeds(sample, "seed", "all").seeds] == [1, 5]
    assert [seed.frame for seed in read_seeds(sample, "seed", "keyframes").seeds] == [5]


def test_labeled_frames_are_counted_without_loading_them(dataset, sample, squares):
    label_frames(sample, "seed", {2: masks(squares[1][1]), 4: fo.Detections()})
    label_frames(sample, "seed", {6: masks(squares[1][5], keyframe=True)})
    label_frames(sample, "classes", {3: fo.Segmentation(mask=squares[1][2])})
    dataset.add_sample(fo.Sample(filepath="nothing.mp4"))
    unlabeled = dataset.last().id
    assert labeled_frames(dataset, "seed") == {sample.id: [2, 6], unlabeled: []}
    assert labeled_frames(dataset, "seed", "first") == {sample.id: [2], unlabeled: []}
    assert labeled_frames(dataset, "seed", "keyframes") == {sample.id: [6], unlabeled: []}
    assert labeled_frames(dataset, "frames.classes") == {sample.id: [3], unlabeled: []}


def test_only_labels_of_objects_can_be_seeds(dataset, sample, squares):
    label_frames(sample, "seed", {1: masks(squares[1][0])})
    label_frames(sample, "weather", {1: fo.Classification(label="rain")})
    label_frames(sample, "joints", {1: fo.Keypoints()})
    label_frames(sample, "classes", {1: fo.Segmentation(mask=squares[1][0])})
    assert seed_fields(dataset) == {
        "seed": fo.Detections,
        "joints": fo.Keypoints,
        "classes": fo.Segmentation,
    }


def test_a_segmentation_has_one_object_per_class(dataset, sample, squares):
    label_frames(sample, "classes", {1: fo.Segmentation(mask=squares[1][0] * 7)})
    dataset.mask_targets = {"frames.classes": {7: "red", 14: "blue"}}
    video = read_seeds(sample, "classes")
    assert [(obj.label, obj.index) for obj in video.objects.values()] == [("red", 7), ("blue", 14)]
    np.testing.assert_array_equal(video.seeds[0].labels, squares[1][0])


@pytest.mark.parametrize("palette", [False, True])
def test_masks_on_disk(sample, squares, tmp_path, palette):
    path = str(tmp_path / "mask.png")
    image = Image.fromarray(squares[1][0].astype(np.uint8))
    if palette:
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    image.save(path)
    label_frames(sample, "classes", {1: fo.Segmentation(mask_path=path)})
    np.testing.assert_array_equal(read_seeds(sample, "classes").seeds[0].labels, squares[1][0])


@pytest.mark.parametrize("field", ["classes", "boxes"])
def test_a_huge_mask_is_refused_by_its_header(sample, tmp_path, field):
    path = tmp_path / "huge.png"
    Image.new("1", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    mask = {"mask_path": str(path)}
    box = fo.Detection(label="x", bounding_box=[0.1, 0.1, 0.5, 0.5], **mask)
    label = fo.Segmentation(**mask) if field == "classes" else fo.Detections(detections=[box])
    label_frames(sample, field, {1: label})
    with pytest.raises(ColorTrackError, match=r"huge.png"):
        read_seeds(sample, field)


def test_a_missing_mask_file_is_named(sample, tmp_path):
    path = str(tmp_path / "missing.png")
    label_frames(sample, "classes", {2: fo.Segmentation(mask_path=path)})
    with pytest.raises(ColorTrackError, match=r"squares.mp4, frame 2: .*missing.png"):
        read_seeds(sample, "classes")


def test_boxes(sample):
    label_frames(sample, "seed", {1: fo.Detections(detections=[box(), box("dog", (0.75, 0.5, 0.5, 1))])})
    video = read_seeds(sample, "seed")
    assert video.kind == "boxes"
    np.testing.assert_allclose(video.seeds[0].labels[1], [24, 16, 72, 48])
    np.testing.assert_allclose(video.seeds[0].labels[2], [72, 32, 96, 64])


def test_boxes_can_be_read_as_filled_masks(sample):
    label_frames(sample, "seed", {1: fo.Detections(detections=[box()])})
    video = read_seeds(sample, "seed", fill_boxes=True)
    assert video.kind == "masks"
    assert (video.seeds[0].labels[16:48, 24:72] == 1).all()
    assert video.seeds[0].labels.sum() == 32 * 48


def test_boxes_among_masks_are_filled_with_a_warning(sample, squares):
    labels = masks(squares[1][0])
    labels.detections[1].mask = None
    label_frames(sample, "seed", {1: labels})
    video = read_seeds(sample, "seed")
    assert video.kind == "masks"
    np.testing.assert_array_equal(video.seeds[0].labels, squares[1][0])
    assert video.warnings == ["1 of 2 labels have no mask, so their boxes are tracked as filled masks"]


def test_key_points(sample):
    points = fo.Keypoint(label="person", points=[(0.5, 0.5), (NAN, NAN), (0.25, 1.5)])
    single = fo.Keypoint(label="dot", points=[(0.25, 0.25)])
    label_frames(sample, "joints", {1: fo.Keypoints(keypoints=[points, single])})
    video = read_seeds(sample, "joints")
    assert video.kind == "points"
    np.testing.assert_array_equal(video.seeds[0].labels[1], [[48, 32], [NAN, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(video.seeds[0].labels[2], [[24, 16]])


def test_key_points_need_the_same_points_everywhere(sample):
    one = fo.Keypoints(keypoints=[fo.Keypoint(label="person", points=[(0.5, 0.5)])])
    two = fo.Keypoints(keypoints=[fo.Keypoint(label="person", points=[(0.5, 0.5), (0.1, 0.1)])])
    label_frames(sample, "joints", {1: one, 4: two})
    with pytest.raises(ColorTrackError, match="has 1 points in frame 1, but 2 in frame 4"):
        read_seeds(sample, "joints", "all")


def test_invisible_labels_are_left_out_with_a_warning(sample):
    outside, inside = box(corners=(2, 2, 1, 1)), box("dog")
    label_frames(
        sample, "seed", {1: fo.Detections(detections=[outside]), 2: fo.Detections(detections=[inside])}
    )
    video = read_seeds(sample, "seed")
    assert [seed.frame for seed in video.seeds] == [1]
    assert "frame 1: 1 of 1 labels are empty or outside the image" in video.warnings[0]


@pytest.mark.parametrize(
    ("labels", "which", "reason"),
    [
        ({}, "first", "no labels in any frame"),
        ({1: fo.Detections()}, "all", "no labels in any frame"),
        ({1: fo.Detections(detections=[box()])}, "keyframes", "no keyframes in any frame"),
        ({1: fo.Detections(detections=[box(corners=(2, 0, 1, 1))])}, "first", "outside the image"),
        ({90: fo.Detections(detections=[box()])}, "first", "the video ends with frame 8"),
    ],
)
def test_nothing_to_track(sample, labels, which, reason):
    sample.dataset.add_frame_field("seed", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    label_frames(sample, "seed", labels)
    with pytest.raises(ColorTrackError, match=reason) as error:
        read_seeds(sample, "seed", which)
    assert "squares.mp4" in str(error.value)


def test_only_the_labels_of_a_filtered_view_are_read(dataset, sample):
    label_frames(sample, "seed", {1: fo.Detections(detections=[box(), box("dog")])})
    view = dataset.filter_labels("frames.seed", fo.ViewField("label") == "dog")
    assert [obj.label for obj in read_seeds(view.first(), "seed").objects.values()] == ["dog"]


def test_traces_of_evaluations_are_not_attributes_of_objects(dataset, sample):
    label_frames(sample, "seed", {1: fo.Detections(detections=[box()])})
    dataset.clone_frame_field("seed", "prediction")
    dataset.evaluate_detections("frames.prediction", gt_field="frames.seed", eval_key="score")
    sample.reload()
    assert sample.frames[1].seed.detections[0]["score"] == "tp"
    assert read_seeds(sample, "seed").objects[1].attributes == {}


def write_images(folder, images):
    paths = [folder / f"{i:03d}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image[..., ::-1])
    return paths


def test_original_images_are_read_where_every_frame_has_one(sample, squares, tmp_path):
    paths = write_images(tmp_path, squares[0])
    for number, path in enumerate(paths, 1):
        sample.frames[number]["filepath"] = str(path)
    sample.save()
    frames, canvas = open_video(sample)
    assert isinstance(frames, ImageSequence)
    assert canvas == (64, 96)
    np.testing.assert_array_equal(next(frames.read(range(3, 4))), squares[0][3])
    sample.frames[4]["filepath"] = None
    sample.save()
    assert isinstance(open_video(sample)[0], VideoFile)


def test_labels_refer_to_the_picture_that_the_encoder_padded(dataset, squares, tmp_path):
    images, id_map = squares[0][:, :63, :95], squares[1][0]
    write_video(tmp_path / "odd.mp4", images, 10)
    paths = write_images(tmp_path, images)
    sample = fo.Sample(filepath=str(tmp_path / "odd.mp4"))
    for number, path in enumerate(paths, 1):
        sample.frames[number] = fo.Frame(filepath=str(path))
    sample.frames[1]["seed"] = masks(id_map)
    dataset.add_sample(sample)
    video = read_seeds(sample, "seed")
    assert video.canvas == (64, 96)
    np.testing.assert_array_equal(video.seeds[0].labels, id_map[:63, :95])


@pytest.mark.parametrize(
    "mask",
    [
        np.full((16, 16), 255, np.uint8),
        np.full((16, 16), 7, np.int32),
        np.full((16, 16), 0.9, np.float32),
        np.full((16, 16), 200.0),
    ],
    ids=lambda mask: f"{mask.dtype} {mask.max():g}",
)
def test_masks_of_any_values(sample, mask):
    mask = np.pad(mask, ((0, 0), (0, 8)))  # the right third is background
    if mask.dtype.kind == "f":
        mask[:, -4:] = 0.2 * mask.max()  # a little probable
    label_frames(sample, "seed", {1: fo.Detections(detections=[box(corners=(0, 0, 0.25, 0.25), mask=mask)])})
    labels = read_seeds(sample, "seed").seeds[0].labels
    assert labels[:16, :16].all()
    assert labels.sum() == 16 * 16


def test_masks_of_detections_on_disk(sample, tmp_path):
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((16, 24), 255, np.uint8))
    detection = box(corners=(0, 0, 0.25, 0.25), mask_path=str(tmp_path / "mask.png"))
    label_frames(sample, "seed", {1: fo.Detections(detections=[detection])})
    video = read_seeds(sample, "seed")
    assert (video.kind, video.seeds[0].labels.sum()) == ("masks", 16 * 24)


def test_closed_polylines_are_masks(sample):
    triangle = [[(0.25, 0.25), (0.75, 0.25), (0.25, 0.75)], []]
    polygon = fo.Polyline(label="sail", points=triangle, closed=True, filled=True)
    label_frames(sample, "seed", {1: fo.Polylines(polylines=[polygon])})
    video = read_seeds(sample, "seed")
    assert video.kind == "masks"
    assert video.seeds[0].labels.sum() == pytest.approx(48 * 32 / 2, rel=0.1)
    assert not video.seeds[0].labels[48:].any()


def test_open_polylines_are_points(sample):
    line = fo.Polyline(label="road", points=[[(0.25, 0.25), (0.5, 0.5)], [(0.75, 0.75)]])
    label_frames(sample, "seed", {1: fo.Polylines(polylines=[line])})
    video = read_seeds(sample, "seed")
    assert video.kind == "points"
    np.testing.assert_array_equal(video.seeds[0].labels[1], [[24, 16], [48, 32], [72, 48]])
    closed = fo.Polyline(label="sail", points=[[(0, 0), (1, 0), (1, 1)]], closed=True)
    label_frames(sample, "seed", {1: fo.Polylines(polylines=[line, closed])})
    with pytest.raises(ColorTrackError, match="1 of 2 polylines are open"):
        read_seeds(sample, "seed")


@pytest.mark.parametrize(
    ("label", "way"),
    [
        (fo.Detection(label="cat", bounding_box=[0, 0, 1, 1]), "fo.Detections"),
        (fo.Heatmap(map=np.ones((4, 4))), "fo.Segmentation"),
        (fo.Classification(label="rain"), "draw boxes or masks"),
    ],
)
def test_what_cannot_be_a_seed_is_named_with_the_way_to_convert_it(dataset, sample, label, way):
    label_frames(sample, "other", {1: label})
    with pytest.raises(ColorTrackError, match=way) as error:
        check_seed_field(dataset, "other")
    assert type(label).__name__ in str(error.value)


def test_a_missing_image_falls_back_to_the_video(sample, squares, tmp_path):
    paths = write_images(tmp_path, squares[0])
    for number, path in enumerate(paths, 1):
        sample.frames[number]["filepath"] = str(path)
    label_frames(sample, "seed", {1: masks(squares[1][0])})
    paths[3].unlink()
    video = read_seeds(sample, "seed")
    assert isinstance(video.frames, VideoFile)
    assert str(paths[3]) in video.warnings[0]


def test_images_of_another_size_are_passed_over(sample, squares, tmp_path):
    paths = write_images(tmp_path, squares[0][:, ::2, ::2])
    for number, path in enumerate(paths, 1):
        sample.frames[number]["filepath"] = str(path)
    sample.save()
    frames, canvas = open_video(sample)
    assert isinstance(frames, VideoFile)
    assert canvas == (64, 96)
