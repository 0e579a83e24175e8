"""The commands of the release package, one module each; `tamiz.cli` lists them and imports one when it is called."""
