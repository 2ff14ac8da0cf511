"""What keeps the rows of boards apart: one key for board, cache, check and whoever else puts seeds together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

NO_CONTEXT = frozenset({"seed", "student", "teacher", "strategy", "tuned_from", "hops", "peer"})
"""The fields of a cell in which rows may differ that are compared; every other one, also of a later version, is part of
their context."""

NO_TEACHER = "null"
"""The part of a key for the teacher of a cell that has none."""


class PairKey(NamedTuple):
    """A pair in one context, as one version of the evaluation measured it: what a :class:`RowKey` has in common with
    the rows that it is compared with."""

    context: str
    evaluation: int
    student: str
    teacher: str


class RowKey(NamedTuple):
    """Which row of a board a cell belongs to: the canonical text of the cell without its seed, in parts.

    Attributes:
        context: what rows share that may be compared: every field of a cell that is in no other part, so that a field
            which a later version adds keeps rows apart too. The recipe is that before tuning.
        evaluation: version of the evaluation that measured it.
        student: the student.
        teacher: the teacher; :data:`NO_TEACHER` for none.
        setting: the strategy with its parameters, the networks that it trains beside the student, and what
            tuning changed in the recipe.
    """

    context: str
    evaluation: int
    student: str
    teacher: str
    setting: str

    @classmethod
    def of_texts(cls, texts: Mapping[str, str], changes: str, evaluation: int) -> RowKey:
        """The key of a cell.

        Args:
            texts: canonical JSON of each field of its identity.
            changes: of what tuning changed in its recipe, likewise.
            evaluation: version of the evaluation that measured it.
        """
        context = {name: text for name, text in texts.items() if name not in NO_CONTEXT}
        context["recipe"] = texts.get("tuned_from", texts["recipe"])
        setting = {"changes": changes, "strategy": texts["strategy"]}
        setting |= {name: texts[name] for name in ("hops", "peer") if name in texts}
        return cls(canonical_object(context), evaluation, texts["student"], texts["teacher"], canonical_object(setting))

    @property
    def pair(self) -> PairKey:
        """The row's pair in its context."""
        return PairKey(*self[:-1])

    @property
    def changes(self) -> dict[str, Any]:
        """What tuning changed in the recipe, as :attr:`kdzoo.cell.Cell.recipe_changes`."""
        changes: dict[str, Any] = from_json(self.setting)["changes"]
        return changes


def canonical_object(texts: Mapping[str, str]) -> str:
    """The canonical JSON of an object, of the canonical JSON of its values."""
    return "{" + ",".join(f'"{name}":{texts[name]}' for name in sorted(texts)) + "}"
