"""The commands of the model repository and the embedded server; `tamiz.cli` lists and calls them."""
