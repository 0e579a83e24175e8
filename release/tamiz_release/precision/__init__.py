"""Precisions: the graph of a model in INT8 or FP16, which is faster where the hardware computes these faster.

A lower precision can cost accuracy, and can even be slower: which nodes of the graph stay in FP32 decides both. So
every graph is the result of a search that measures, in `search`, `rescue` and `measurement`; `export` writes it into
the folder of a run, with a report.
"""
