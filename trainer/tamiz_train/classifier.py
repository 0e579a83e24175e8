"""Placeholder until the classifier module is merged: take the other side of a merge conflict."""

from .models import Classifier

if not hasattr(Classifier, "network"):
    Classifier.network = property(lambda self: self.backbone)  # type: ignore[attr-defined]

__all__ = ["Classifier"]
