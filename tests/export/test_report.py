from __future__ import annotations

import json

from export.report import FoldReport, Merge, Verdict


def test_the_report_reads_well():
    report = FoldReport(
        verdicts=(
            Verdict("bn1", "folded", "backward into Conv", "folded backward into Conv"),
            Verdict("bn2", "kept", reason="relu (Relu) cannot", blocker="relu"),
        ),
        merges=(Merge("conv", ("conv", "identity of x")),),
        absorbed=("mul",),
    )
    assert [verdict.node for verdict in report.folded] == ["bn1"]
    assert report.summary().splitlines() == [
        "1 of 2 batch norms folded",
        "1 constant Add/Sub/Mul/Div nodes folded",
        "merged conv + identity of x into conv",
        "kept bn2: relu (Relu) cannot",
    ]
    entries = json.loads(report.to_json())
    assert (entries["folded"], entries["kept"]) == (1, 1)
    assert entries["verdicts"][1]["blocker"] == "relu"
