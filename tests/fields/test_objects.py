import fiftyone as fo

from fiftyone_colortrack.fields import ObjectTable


def detection(label="cat", index=None, instance=None, **attributes):
    return fo.Detection(label=label, bounding_box=[0, 0, 1, 1], index=index, instance=instance, **attributes)


def match(*frames, **options):
    """Ids of the objects in each of some frames, and the completed table."""
    table = ObjectTable(**options)
    return [table.match(labels, number) for number, labels in enumerate(frames, 1)], table


def test_instance_wins_over_index():
    one, two = fo.Instance(), fo.Instance()
    ids, _ = match(
        [detection(index=1, instance=one), detection(index=2, instance=two)],
        [detection(index=1, instance=two), detection(index=2, instance=one)],
    )
    assert ids == [[1, 2], [2, 1]]


def test_index_counts_per_class():
    ids, _ = match([detection(index=1), detection("dog", index=1)], [detection("dog", index=1)])
    assert ids == [[1, 2], [2]]


def test_new_instances_with_known_indices_are_the_known_objects():
    ids, _ = match([detection(index=3, instance=fo.Instance())], [detection(index=3, instance=fo.Instance())])
    assert ids == [[1], [1]]


def test_the_only_label_of_a_class_is_the_same_object():
    ids, table = match([detection(index=4), detection("dog")], [detection("dog"), detection()])
    assert ids == [[1, 2], [2, 1]]
    assert not table.warnings


def test_labels_without_indices_are_matched_in_order_with_a_warning():
    ids, table = match([detection(), detection()], [detection(), detection(), detection()])
    assert ids == [[1, 2], [1, 2, 3]]
    assert "may be any of 2 objects" in table.warnings[0]


def test_different_indices_are_different_objects():
    ids, _ = match([detection(index=1)], [detection(index=2)])
    assert ids == [[1], [2]]


def test_missing_indices_get_the_smallest_free_ones():
    ids, table = match([detection(), detection(index=1), detection("dog")])
    assert ids == [[1, 2, 3]]
    assert [obj.index for obj in table.completed("video").values()] == [2, 1, 3]


def test_an_index_given_later_is_learned():
    _, table = match([detection()], [detection(index=7)], [detection(index=7)])
    assert [obj.index for obj in table.completed("video").values()] == [7]


def test_every_object_has_an_instance_of_its_own():
    shared = fo.Instance()
    _, table = match([detection(index=1, instance=shared), detection(index=2, instance=shared)])
    objects = table.completed("video")
    assert objects[1].instance.id == shared.id
    assert objects[2].instance.id != shared.id


def test_boxes_with_the_same_index_are_two_objects():
    ids, table = match([detection(index=1), detection(index=1)], [detection(index=1), detection(index=1)])
    assert ids == [[1, 2], [1, 2]]
    assert [obj.index for obj in table.completed("video").values()] == [1, 2]
    assert any("two objects 'cat' have index 1" in warning for warning in table.warnings)


def test_masks_with_the_same_index_are_parts_of_one_object():
    ids, table = match([detection(index=1), detection(index=1), detection(index=2)], parts=True)
    assert ids == [[1, 1, 2]]
    assert not table.warnings


def test_attributes_of_the_object_are_kept_and_those_of_the_frame_left_out():
    label = detection(index=1, color="red", keyframe=True, confidence=0.5, eval="tp", eval_iou=0.9)
    _, table = match([label], ignore=frozenset({"eval", "eval_iou"}))
    assert table.objects[1].attributes == {"color": "red"}


def test_per_point_attributes_of_key_points_are_left_out():
    label = fo.Keypoint(label="a", points=[(0, 0), (1, 1)], visible=[True, False], pose="standing")
    table = ObjectTable()
    table.match([label], 1)
    assert table.objects[1].attributes == {"pose": "standing"}


def test_an_object_gets_the_same_instance_every_time():
    (cat, dog), (again, _), (other, _) = (
        list(table.completed(video).values())
        for video in ("video", "video", "another")
        for _, table in [match([detection(index=1), detection("dog", index=1)])]
    )
    assert cat.instance.id == again.instance.id
    assert len({cat.instance.id, dog.instance.id, other.instance.id}) == 3
