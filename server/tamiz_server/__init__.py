"""Serve models with NVIDIA Triton: the model repository on disk and the embedded server."""
