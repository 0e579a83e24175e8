"""Errors of training: those of Lightning, PyTorch and loggers become errors of Tamiz, with a message of one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from tamiz.errors import RecipeError, RunError, TamizError, one_line


class DivergedError(Exception):
    """A loss is NaN or infinite, so training cannot go on; the message says which loss, and in which epoch."""


@contextmanager
def training_errors(run: Path) -> Iterator[None]:
    """Translate the errors of training, and silence warnings that do not concern the user.

    Args:
        run: the folder of the run, for messages.

    Raises:
        RecipeError: Lightning cannot do what the recipe asks for on this machine, for example use a missing device; or
            each batch has a single image, and the network has batch normalisation that needs more.
        RunError: anything else failed.
        KeyboardInterrupt: the process received SIGINT or SIGTERM.
    """
    with warnings.catch_warnings():
        # Lightning's advice on workers and logging intervals, which the recipe has decided.
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        # A label without an image in the validation split has no average precision.
        warnings.filterwarnings("ignore", message="Average precision score for one or more classes was `nan`")
        warnings.filterwarnings("ignore", message="No positive samples found in target")
        try:
            yield
        except MisconfigurationException as exc:
            raise RecipeError(f"train: {_last_line(exc)}") from exc
        except TamizError:
            raise
        except Exception as exc:
            if "Expected more than 1 value per channel" in str(exc):
                raise RecipeError(
                    "train.batch_size: the batch normalisation of the network needs two or more images in each batch "
                    "of each process; set it higher"
                ) from exc
            # For example: out of memory, a full disk, a batch that a layer or an augmentation cannot process, a
            # tracking server that no longer answers.
            raise RunError(f"training failed in {run}: {_last_line(exc)}") from exc
        except SystemExit as exc:
            # Lightning raises this for Ctrl-C, and for SIGTERM with a status of 0.
            raise KeyboardInterrupt from exc


def _last_line(exc: Exception) -> str:
    # The message of an error in a worker process is a traceback, whose last line is the error itself.
    text = str(exc).strip()
    return text.splitlines()[-1].strip() if "Traceback" in text else one_line(exc)
