"""Deprecated: the commands are in `tamiz_server.commands`."""

from .commands.models import models
from .commands.promotion import promote, rollback
from .commands.serve import serve

__all__ = ["models", "promote", "rollback", "serve"]
