import pytest

from fiftyone_colortrack.tracking.segments import plan_segments

ONE, TWO, BOTH = frozenset({1}), frozenset({2}), frozenset({1, 2})


def plan(drawn, direction="both", labeled=2, length=100, **options):
    return {
        (segment.frames.start, segment.frames.stop): set(segment.seeds)
        for segment in plan_segments(drawn, length, direction, labeled, **options)
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


def test_shots_are_planned_apart():
    """What is labeled in one shot says nothing about another; unlabeled shots are left out."""
    drawn = {10: BOTH, 40: ONE, 70: BOTH}
    segments = plan(drawn, cuts=[30, 50, 60])
    assert segments == {
        (0, 10): {10},
        (10, 11): {10},
        (11, 30): {10},
        (30, 40): {40},
        (40, 41): {40},
        (41, 50): {40},
        (60, 70): {70},
        (70, 71): {70},
        (71, 100): {70},
    }
    assert list(plan(drawn, "backward", cuts=[30, 50, 60])) == [
        (0, 10),
        (10, 11),
        (30, 40),
        (40, 41),
        (60, 70),
        (70, 71),
    ]


def test_a_gone_object_is_not_missing():
    segments = plan({10: BOTH, 40: ONE, 80: BOTH}, gone={40: TWO})
    assert segments[40, 41] == {40}
    assert segments[11, 40] == {10, 40}
    assert segments[41, 80] == {40, 80}


def test_frames_without_any_object_are_left_out():
    assert list(plan({10: ONE, 40: frozenset(), 80: ONE}, gone={40: ONE})) == [
        (0, 10),
        (10, 11),
        (11, 40),
        (40, 41),
        (80, 81),
        (81, 100),
    ]


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
def test_a_span_takes_part_of_the_plan(direction):
    whole = plan({10: ONE, 40: ONE}, direction)
    assert plan({10: ONE, 40: ONE}, direction, spans=[range(5, 21)]) == {
        (max(first, 5), min(stop, 21)): seeds
        for (first, stop), seeds in whole.items()
        if max(first, 5) < min(stop, 21)
    }
