"""What every server of the benchmark does with one picture: decode, infer, format.

Peers differ in their framework alone: the model, the decoder (flatfold's own, its JPEG shortcut
included), the runtime's options and the answer are these. The model's path comes in
`$BENCH_MODEL`, because some frameworks start workers that see no command line.
"""

from __future__ import annotations

import heapq
import json
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from flatfold.contract.card import CARD_KEY
from flatfold.contract.pictures import load_picture

MODEL_VARIABLE = "BENCH_MODEL"
TOP_K = 5


class Pipeline:
    """One onnxruntime session with one intra-op thread, and what goes before and after it."""

    def __init__(self, path: str | None = None) -> None:
        Image.init()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            path or os.environ[MODEL_VARIABLE], options, providers=["CPUExecutionProvider"]
        )
        self.card: str = self.session.get_modelmeta().custom_metadata_map[CARD_KEY]
        card = json.loads(self.card)
        self.labels: list[str] = card["labels"]
        self.size: tuple[int, int] = (card["height"], card["width"])
        self.infer(np.zeros((1, *self.size, 3), np.uint8))

    def decode(self, body: bytes, *, draft: bool = True) -> np.ndarray[Any, Any]:
        """Picture file -> uint8 (height, width, 3)."""
        return load_picture(body, *self.size, draft=draft)

    def infer(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """uint8 (n, height, width, 3) -> probabilities, float32 (n, classes)."""
        rows: np.ndarray[Any, Any] = self.session.run(["probabilities"], {"images": images})[0]
        return rows

    def format(self, row: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Probabilities of one picture -> its answer, best first."""
        scores = row.tolist()
        best = heapq.nlargest(TOP_K, range(len(scores)), key=scores.__getitem__)
        return {
            "predictions": [
                {"label": self.labels[i], "probability": round(scores[i], 6)} for i in best
            ]
        }

    def classify(self, body: bytes, *, draft: bool = True) -> dict[str, Any]:
        """All three, for one picture."""
        return self.format(self.infer(self.decode(body, draft=draft)[None])[0])

    def classify_many(self, bodies: list[bytes]) -> list[dict[str, Any]]:
        """All three, the inference as one batch."""
        images = np.stack([self.decode(body) for body in bodies])
        return [self.format(row) for row in self.infer(images)]
