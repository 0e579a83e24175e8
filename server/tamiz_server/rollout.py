"""The rollout of a candidate beside the live version: as a canary, which answers, or as a shadow, which is compared.

`tamiz_server.promotion.promote` ends it with the candidate as the live version, `rollback` without the candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format

from tamiz.arguments import check_flag, check_instance, check_number, check_whole
from tamiz.errors import RepositoryError, UsageError
from tamiz.routing import Rollout
from tamiz.spec import ModelSpec

from .accelerators import fit_accelerators
from .change import change_model
from .config import ModelConfig
from .control import Control
from .history import HistoryEntry, check_reason, make_entry
from .promotion import require_promoted_live, require_version
from .repository import Repository
from .states import State, live_without_candidate, rollout_on_disk, write_rollout
from .version import keep_specs, read_version


def start_rollout(
    repository: Repository,
    model: str,
    version: int,
    *,
    canary: float = 0.0,
    sticky: bool = False,
    shadow: float = 0.0,
    control: Control | None = None,
    reason: str = "",
    replace: bool = True,
) -> None:
    """Load a version beside the live one, and have clients send it a share of their calls.

    Unless told otherwise, a rollout that is in force is replaced, so that a share can be raised. Clients notice within
    a few seconds.

    With a control, the change happens on disk and in the running server, or in neither, as for
    `tamiz_server.promotion.promote`.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        version: the version of the candidate.
        canary: share of the calls that the candidate answers, from 0 to 1.
        sticky: have the content of an image decide which version answers it, so that it has the same answer in each
            call; otherwise each call is decided at random.
        shadow: share of the other calls that are sent to the candidate as well, from 0 to 1; its answers are compared
            and discarded.
        control: the control of a running server, which loads the candidate; None changes the disk only.
        reason: why, for the history.
        replace: whether a rollout that is in force is replaced; otherwise it stays, and is an error.

    Raises:
        RepositoryError: there is no such model or version; the version is live; ``replace`` is false and the model has
            a canary or shadow; the version cannot be live together with the
            live version, since its input, its number of labels or its accelerators differ; or the repository cannot be
            changed. Or the server cannot load the candidate; the repository is then as it was before.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
        UsageError: an argument is wrong, or both shares are 0.
    """
    check_instance("repository", repository, Repository)
    check_instance("control", control, Control, optional=True)
    check_whole("version", version)
    for name, share in (("canary", canary), ("shadow", shadow)):
        check_number(name, share, "a share of the calls from 0 to 1", above=-1e-9, below=1 + 1e-9)
    check_flag("sticky", sticky)
    check_flag("replace", replace)
    check_reason(reason)
    rollout = Rollout(int(version), min(max(float(canary), 0.0), 1.0), sticky, min(max(float(shadow), 0.0), 1.0))
    if not rollout.canary and not rollout.shadow:
        raise UsageError("canary and shadow are both 0; give the share of the calls for one of them")
    if sticky and not rollout.canary:
        raise UsageError("sticky: True (bool); give it with a canary, whose images it decides")
    shares = {name: share for name, share in (("canary", rollout.canary), ("shadow", rollout.shadow)) if share}

    def update(config: ModelConfig) -> HistoryEntry:
        numbers = repository.version_numbers(model)
        require_version(model, version, numbers)
        live = require_promoted_live(model, config, live_without_candidate(config, numbers))
        if version == live:
            raise RepositoryError(f"model {model}: version {version} is live already; roll out another version")
        if not replace:
            require_no_rollout(model, rollout_on_disk(config, numbers))
        other = read_version(repository.path / model, version, State.ARCHIVED)
        try:
            require_fit(repository, model, live, version, other.spec, other.manifest.get("accelerators"))
        except RepositoryError as exc:
            raise RepositoryError(f"{exc}; make it live with `tamiz promote` instead") from exc
        keep_specs(config, repository.path / model, version, numbers)
        write_rollout(config, rollout, live)
        details = shares | ({"sticky": "image"} if sticky else {})
        return make_entry(" and ".join(shares), live, version, reason, details)

    change_model(repository, model, update, control)


def require_no_rollout(model: str, rollout: Rollout | None) -> None:
    """Raise a RepositoryError if a model has a canary or shadow."""
    if rollout is not None:
        kind = "canary" if rollout.canary else "shadow"
        raise RepositoryError(
            f"model {model}: version {rollout.version} is a {kind}, which this would end; end it first, with `tamiz "
            f"rollback {model}` or `tamiz promote {model} {rollout.version}`"
        )


def require_fit(
    repository: Repository,
    model: str,
    live: int,
    version: int,
    spec: ModelSpec,
    accelerators: Mapping[str, Any] | None = None,
) -> None:
    """Check that a version can be loaded beside the live one: Triton has one configuration for both.

    Args:
        repository: the repository.
        model: name of the model.
        live: the live version.
        version: number of the other version, which need not be published yet.
        spec: its spec.
        accelerators: its accelerators; None or empty for none.

    Raises:
        RepositoryError: it cannot, or the live version is damaged.
    """
    beside = read_version(repository.path / model, live, State.LIVE)
    largest = repository.config(model).max_batch_size
    pairs = {
        "input": (list(beside.spec.preprocessing.shape), list(spec.preprocessing.shape)),
        "number of labels": (len(beside.spec.labels), len(spec.labels)),
        "accelerators": tuple(
            text_format.MessageToString(fit_accelerators(each or {}, largest), as_one_line=True) or "none"
            for each in (beside.manifest.get("accelerators"), accelerators)
        ),
    }
    differences = [f"{what} {theirs} instead of {ours}" for what, (ours, theirs) in pairs.items() if ours != theirs]
    if differences:
        raise RepositoryError(
            f"model {model}: version {version} cannot be loaded beside version {live}, because Triton has one "
            f"configuration for both: {', '.join(differences)}"
        )
