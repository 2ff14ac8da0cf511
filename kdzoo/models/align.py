"""Which stages of two networks face each other."""

from __future__ import annotations

from kdzoo.outputs import Signature


def pair_stages(student: Signature, teacher: Signature) -> tuple[tuple[int, int], ...]:
    """Pair stages by position from the deepest; the longer network's first stages stay alone.

    Returns:
        (student stage, teacher stage) indices, from the input to the deepest.
    """
    surplus = len(student.stages) - len(teacher.stages)
    students = range(max(surplus, 0), len(student.stages))
    teachers = range(max(-surplus, 0), len(teacher.stages))
    return tuple(zip(students, teachers, strict=True))
