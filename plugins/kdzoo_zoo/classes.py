"""What strategies that compare answers class by class ask of a pair."""

from __future__ import annotations

from kdzoo import PairError, Setup


def check_classes(name: str, setup: Setup, remedy: str = "") -> None:
    """Refuse two networks that do not speak of the same classes.

    Args:
        name: the strategy's.
        setup: of the pair.
        remedy: another way out than another teacher, such as a parameter to set.

    Raises:
        PairError: the numbers of classes differ.
    """
    own, theirs = setup.student.num_classes, setup.teacher.num_classes
    if own != theirs:
        otherwise = f"{remedy}, or " if remedy else ""
        raise PairError(
            f"{name} compares answers class by class, but the student has {own} classes and the teacher {theirs}: "
            f"{otherwise}use a teacher trained on the dataset's classes"
        )
