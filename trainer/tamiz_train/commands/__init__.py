"""The commands of the trainer, one module each; `tamiz.command_table` lists them and imports one when it is called.

A command imports what needs PyTorch only after it has checked its arguments, so that a mistake is reported at once.
"""
