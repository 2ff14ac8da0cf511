from __future__ import annotations

import pytest
import torch
from feature_loops import assert_equals_naive, assert_sound, maps

from kdzoo_zoo.functional import function_consistency_loss


def naive(student_maps, teacher_map, final):
    total = torch.zeros((), dtype=torch.float64)
    for student in student_maps:
        squares = [(s - t) ** 2 for s, t in zip(student.flatten(), teacher_map.flatten(), strict=True)]
        total = total + sum(squares) / len(squares)
        if final:
            gaps = []
            for own, theirs in zip(student.flatten(0, 1), teacher_map.flatten(0, 1), strict=True):
                means = [sum(max(x, 0 * x) for x in each.flatten()) / each.numel() for each in (own, theirs)]
                gaps.append((means[0] - means[1]) ** 2)
            total = total + sum(gaps) / len(gaps)
    return total


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 2, 4)])
def test_equals_the_naive_loop(final, count, shape):
    students = [maps(*shape) for _ in range(count)]
    arguments = {"student_maps": students, "teacher_map": maps(*shape), "final": final}
    assert_equals_naive(function_consistency_loss, naive, **arguments)


def test_equals_the_value_computed_by_hand_and_is_sound():
    # Mean of 1 and 9; means of the ReLU (1 + 0) / 2 against 0.
    student, teacher = torch.tensor([[[[1.0, -3.0]]]]), torch.zeros(1, 1, 1, 2)
    assert function_consistency_loss([student], teacher, final=True).item() == 5.25
    pair = {"student_maps": [maps(2, 3, 4, 4)], "teacher_map": maps(2, 3, 4, 4)}
    assert_sound(lambda **maps: function_consistency_loss(**maps, final=True), **pair)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="no map"):
        function_consistency_loss([], torch.zeros(1, 1, 1, 1), final=False)
    with pytest.raises(ValueError, match="maps"):
        function_consistency_loss([torch.zeros(1, 2, 1, 1)], torch.zeros(1, 1, 1, 1), final=False)
