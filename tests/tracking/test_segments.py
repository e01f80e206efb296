import pytest

from fiftyone_colortrack.tracking.segments import plan_segments

ONE, TWO, BOTH = frozenset({1}), frozenset({2}), frozenset({1, 2})


def plan(drawn, direction="both", labeled=2, length=100):
    return {
        (segment.frames.start, segment.frames.stop): set(segment.seeds)
        for segment in plan_segments(drawn, length, direction, labeled)
    }


def test_whole_frames_are_a_border():
    assert plan({10: BOTH, 40: BOTH, 41: BOTH, 80: BOTH}) == {
        (0, 10): {10},
        (10, 11): {10},
        (11, 40): {10, 40},
        (40, 41): {40},
        (41, 42): {41},
        (42, 80): {41, 80},
        (80, 81): {80},
        (81, 100): {41, 80},
    }


def test_a_frame_that_leaves_out_objects_follows_from_those_before():
    segments = plan({10: BOTH, 40: ONE, 80: BOTH})
    assert segments[40, 41] == {10, 40}
    assert segments[11, 40] == {10, 40}
    assert segments[41, 80] == {10, 40, 80}
    assert segments[81, 100] == {10, 40, 80}
    assert segments[80, 81] == {80}


def test_a_new_object_is_missing_nowhere_before():
    segments = plan({10: ONE, 40: TWO, 80: ONE})
    assert segments[0, 10] == {10}
    assert segments[40, 41] == {10, 40}
    assert segments[80, 81] == {10, 40, 80}
    assert plan({10: ONE, 40: BOTH})[40, 41] == {40}


@pytest.mark.parametrize(("labeled", "seeds"), [(0, {70}), (1, {70}), (2, {50, 70}), (3, {30, 50, 70})])
def test_as_many_labeled_frames_as_stay_in_memory(labeled, seeds):
    segments = plan(dict.fromkeys((10, 30, 50, 70), ONE), labeled=labeled)
    assert segments[71, 100] == seeds
    assert segments[51, 70] == {50, 70} | (seeds if labeled == 3 else set())


def test_directions():
    drawn = {10: ONE, 40: ONE}
    forward, backward = plan(drawn, "forward"), plan(drawn, "backward")
    assert list(forward) == [(10, 11), (11, 40), (40, 41), (41, 100)]
    assert list(backward) == [(0, 10), (10, 11), (11, 40), (40, 41)]
    assert backward[0, 10] == {10, 40}
    assert forward[41, 100] == {10, 40}
