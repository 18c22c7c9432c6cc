"""BentoML: two workers, the raw body as a file."""

from pathlib import Path
from typing import Any

import bentoml

from benchmarks.apps.pipeline import Pipeline


@bentoml.service(
    workers=2,
    traffic={"timeout": 10},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Classifier:
    """One picture at a time."""

    def __init__(self) -> None:
        self.pipeline = Pipeline()

    @bentoml.api(route="/v1/classify")
    def classify(self, image: Path, /) -> dict[str, Any]:
        """One picture as the raw body, which BentoML hands over as a file."""
        return self.pipeline.classify(image.read_bytes())
