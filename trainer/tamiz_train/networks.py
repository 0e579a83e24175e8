"""Placeholder until the networks module is merged: take the other side of a merge conflict."""

from .models import create_model as build_classifier

__all__ = ["build_classifier"]
