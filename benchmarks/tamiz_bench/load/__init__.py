"""Load on a served model."""
