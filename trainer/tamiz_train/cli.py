"""Former home of the commands; to be deleted when `tamiz.cli` names `tamiz_train.commands`."""

from .commands.data import check as data_check
from .commands.data import show as data_show
from .commands.evaluate import evaluate
from .commands.explain import explain
from .commands.export import export
from .commands.predict import predict
from .commands.publish import publish
from .commands.train import train

__all__ = ["data_check", "data_show", "evaluate", "explain", "export", "predict", "publish", "train"]
