from fiftyone_colortrack.fields import labeled_frames
from fiftyone_colortrack.plugin.reading import reader


def test_it_reads_again_when_something_has_changed_and_only_then(videos):
    calls = []

    def read(view, field):
        calls.append(field)
        return labeled_frames(view, field)

    first, last = videos.values("id")
    assert reader(videos)(read, "seed") == {first: [1], last: []}
    assert reader(videos)(read, "seed") == {first: [1], last: []}
    assert calls == ["seed"]
    assert reader(videos[:1])(read, "seed") == {first: [1]}

    sample = videos.first()
    sample.frames[3]["seed"] = sample.frames[1].seed.copy()
    sample.save()
    assert reader(videos)(read, "seed") == {first: [1, 3], last: []}

    videos.delete_labels(ids=[label.id for label in sample.frames[3].seed.detections])
    assert reader(videos)(read, "seed") == {first: [1], last: []}

    videos.delete_frames([sample.frames[1].id])
    assert reader(videos)(read, "seed") == {first: [], last: []}

    videos.delete_samples([first])
    assert reader(videos)(read, "seed") == {last: []}
