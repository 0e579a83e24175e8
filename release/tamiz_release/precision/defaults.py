"""Defaults of the search for a graph of lower precision, for commands that must not load the quantizer."""

BUDGET_S = 300.0
"""Default time budget of the search, in seconds."""

MAX_LOSS_POINTS = 0.5
"""Default of the largest accuracy (mAP, if multilabel) that an INT8 graph may lose, in points."""
