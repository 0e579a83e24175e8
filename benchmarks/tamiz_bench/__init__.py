"""Measure a served model against the limit of the hardware that it runs on."""
