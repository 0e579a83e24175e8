"""Triton's log: why a server failed, in one line."""

from __future__ import annotations

import re
from pathlib import Path

# What the dynamic loader, the shell that starts a stub, the C++ library and the interpreter say; Triton's own lines
# begin otherwise.
_STUB_FAILURE = re.compile(
    r"error while loading shared libraries: .*"
    r"|^bash: .*"
    r"|^terminate called .*(?:\n\s*what\(\): .*)?"
    r"|^Fatal Python error: .*",
    re.MULTILINE,
)

_RESTART = "\n======== Triton is started again ========\n"

# A log may have many gigabytes, and is read many times while a server starts; a start writes less than this.
_READ_BYTES = 1 << 20

_REASONS = (
    # The most specific pattern comes first.
    _STUB_FAILURE,
    re.compile(r"failed to load '.*' version \d+: .*"),
    re.compile(r".*Address already in use.*"),
    re.compile(r"(?<=\] \").*already in use"),
    re.compile(r"(?<=creating server: ).*"),
    re.compile(r"(?<=\] \").*[Ff]ailed.*(?=\")"),
)

_REMEDIES = {
    # A server in another control mode refuses to load models.
    "explicit model load": "start Triton with --model-control-mode=explicit",
    "unable to find backend library": "serve it by a Triton that has this backend, such as its official image",
    "no GPUs are available": "serve it on a machine with a GPU, or promote a version without an accelerator for GPUs",
}


def failure_reason(log: Path) -> str:
    """Why Triton failed to start or to load a model; the last line of the log if no line gives a reason."""
    text = read_log(log)
    found = next((found for pattern in _REASONS if (found := pattern.search(text))), None)
    return _one_line(found[0]) if found else last_line(log)


def load_failure(log: Path, model: str) -> str | None:
    """Why Triton did not load a model while it started; None if the log has no message about that."""
    name, text = re.escape(model), read_log(log)
    patterns = (
        # Triton writes line ends within a message as a backslash and an n.
        rf"failed to load '{name}' version \d+: .*?(?=\\n|\"?$)",
        rf"(?<=failed to load model '{name}': ).*?(?=\"?$)",
        rf"(?<=Poll failed for model directory '{name}': ).*?(?=\"?$)",
    )
    found = next((found for pattern in patterns if (found := re.search(pattern, text, re.MULTILINE))), None)
    return _one_line(found[0]) if found else None


def stub_failure(log: Path) -> str | None:
    """Why a stub process of the Python backend could not start; None if the log has no message about that."""
    found = _STUB_FAILURE.search(read_log(log))
    return _one_line(found[0]) if found else None


def add_remedy(reason: str) -> str:
    """The reason for which Triton did not load a model, with what to do where Triton does not say it."""
    return "; ".join([reason, *(remedy for part, remedy in _REMEDIES.items() if part in reason)])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def last_line(log: Path) -> str:
    """The last line of the log that is not empty."""
    lines = read_log(log).strip().splitlines()
    return lines[-1].strip() if lines else "the log is empty"


def read_log(log: Path) -> str:
    """The end of the log, of what was written since the server's latest start; empty if the file does not exist."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _READ_BYTES))
        return file.read().decode("utf-8", errors="replace").rpartition(_RESTART)[2]


def mark_restart(log: Path) -> None:
    """Append a line to a log, so that messages from before a server's restart are not taken for later ones.

    Raises:
        OSError: the log cannot be written.
    """
    with log.open("a", encoding="utf-8") as file:
        file.write(_RESTART)
