"""Studies as tuning would write them, made up so that every figure that is told of them can be worked out by hand."""

from __future__ import annotations

from typing import Any

from kdzoo.recipe import Recipe
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.space import Range
from kdzoo.study import Study, StudyPlan, Trial

RECIPE = Recipe(name="quick", epochs=8, batch_size=64)
SPACE = {
    "soft.temperature": Range(low=1.0, high=16.0, log=True),
    "soft.alpha": Range(low=0.0, high=1.0),
}


def done(*curve: float, seconds: float = 2.0) -> dict[str, Any]:
    return {"state": "done", "curve": curve, "seconds": seconds}


def make_plan(**changes: Any) -> StudyPlan:
    params = {"alpha": 0.5, "temperature": changes.pop("temperature", 4.0)}
    values: dict[str, Any] = {
        "data": DataRef(
            name="digits", fingerprint="f00d", num_classes=10, channels=1, img_size=(8, 8), fit=1078, tune=359, test=360
        ),
        "teacher": TeacherRef(model=ModelRef(name="resnet20"), weights="trained", recipe=RECIPE, seed=0),
        "student": ModelRef(name="resnet8"),
        "strategy": StrategyRef(name="soft", distribution="kdzoo", revision="1", params=params),
        "recipe": RECIPE,
        "trial_recipe": RECIPE.model_copy(update={"epochs": 3}),
        "space": SPACE,
        "trials": 10,
    }
    return StudyPlan(**(values | changes))


def make_study(*trials: dict[str, Any], **changes: Any) -> Study:
    """A study with some trials: fields of each, its values if it is not one of a fixed grid."""
    plan = make_plan(**changes)
    made = []
    for number, fields in enumerate(trials):
        grid = {
            "soft.temperature": [1.0, 8.0, 2.0, 16.0, 3.0, 12.0][number % 6],
            "soft.alpha": [0.1, 0.9, 0.6, 0.3, 0.8, 0.2, 0.7][number % 7],
        }
        values = plan.defaults() if number == 0 else {name: grid[name] for name in plan.space if name in grid}
        values = fields.get("values", values)
        made.append(Trial(cell=plan.trial(values).id, **({"values": values} | fields)))
    return Study(id=plan.id, plan=plan, trials=tuple(made))
