"""The commands of the release package, one module each, imported when it is called; see `tamiz.command_table`."""
