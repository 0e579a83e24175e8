"""The command of the gateway; `tamiz.cli` lists and calls it."""
