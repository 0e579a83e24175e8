"""The commands of the model repository and the embedded server; `tamiz.command_table` lists them."""
