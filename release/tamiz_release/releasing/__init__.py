"""A release in one go: export, gate, publish, canary, watch and promote, with a plan that can be shown before."""

from .canary import CanarySettings
from .plan import ReleasePlan, plan_release
from .release import ReleaseReport, carry_out
from .steps import ReleaseStep

__all__ = ["CanarySettings", "ReleasePlan", "ReleaseReport", "ReleaseStep", "carry_out", "plan_release"]
