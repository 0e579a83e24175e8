"""Train image classifiers, evaluate them, and export them to what Triton serves."""
