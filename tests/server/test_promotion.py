from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import Served
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError, errors
from tamiz_server.config import ServingSettings, read_settings
from tamiz_server.control import Control
from tamiz_server.promotion import apply_settings, describe_live, promote, rollback
from tamiz_server.pruning import prune
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout
from tamiz_server.verification import verify

SPEC = make_spec(["a", "b"])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_grey_graph(tmp_path / "graph.onnx", SPEC)


@pytest.fixture
def repository(tmp_path: Path, graph: Path) -> Repository:
    """A repository with three versions of the model ``pets``."""
    repository = Repository(tmp_path / "models")
    for _ in range(3):
        repository.publish("pets", graph, SPEC)
    return repository


def test_each_rollback_undoes_one_promotion(repository: Repository) -> None:
    promote(repository, "pets", 3)
    promote(repository, "pets", 2)
    assert repository.live_version("pets").version == 2
    rollback(repository, "pets")
    assert repository.live_version("pets").version == 3
    rollback(repository, "pets")
    assert repository.live_version("pets").version == 1
    with pytest.raises(RepositoryError, match="nothing to roll back to"):
        rollback(repository, "pets")


def test_promoting_the_live_version_again_changes_nothing(repository: Repository) -> None:
    before = (repository.path / "pets" / "config.pbtxt").read_text()
    promote(repository, "pets", 1)
    assert (repository.path / "pets" / "config.pbtxt").read_text() == before


POLICIES = ["", "version_policy { latest { num_versions: 1 } }", "version_policy { all {} }"]
POLICIES += ["version_policy { specific { versions: [1, 2] } }", "version_policy { specific { versions: 9 } }"]


def edit_policy(repository: Repository, policy: str, model: str = "pets") -> None:
    path = repository.path / model / "config.pbtxt"
    written = re.sub(r"^version_policy \{(\n(.*\n)*?\}|.*)\n", "", path.read_text(), flags=re.MULTILINE)
    path.write_text(f"{policy}\n{written}")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_promotion_makes_one_version_live_whatever_policy_an_operator_wrote(
    policy: str, repository: Repository
) -> None:
    edit_policy(repository, policy)
    promote(repository, "pets", 1)
    assert [version.version for version in repository.versions("pets") if version.live] == [1]
    assert list(repository.config("pets").version_policy.specific.versions) == [1]


@pytest.mark.parametrize("policy", [POLICIES[0], POLICIES[1], POLICIES[4]])
def test_a_rollback_is_refused_with_the_reason_if_the_promoted_version_is_not_live(
    policy: str, repository: Repository
) -> None:
    promote(repository, "pets", 2)
    edit_policy(repository, policy)
    before = (repository.path / "pets" / "config.pbtxt").read_text()
    with pytest.raises(
        RepositoryError, match="version 2, which was promoted last, is not live: config.pbtxt was edited"
    ):
        rollback(repository, "pets")
    assert (repository.path / "pets" / "config.pbtxt").read_text() == before


def test_the_live_versions_are_those_of_the_version_policy(repository: Repository) -> None:
    live = []
    for policy in POLICIES:
        edit_policy(repository, policy)
        live.append(repository.live_numbers("pets"))
    assert live == [[3], [3], [1, 2, 3], [1, 2], []]


def test_without_a_server_the_line_about_what_is_live_says_what_a_running_server_still_serves(
    repository: Repository,
) -> None:
    folder = repository.path
    promote(repository, "pets", 2)
    assert describe_live(repository, "pets", [1]) == (
        f"pets: version 2 is live in {folder}; a running server still serves version 1: pass its --url to have it load "
        "the change"
    )
    assert "a running server does not serve it yet: pass its --url" in describe_live(repository, "pets", [])
    assert describe_live(repository, "pets", [2]) == (
        f"pets: version 2 is live in {folder}; whether a running server serves it was not checked: pass its --url"
    )


def test_settings_are_applied_with_the_warm_up_of_the_largest_batch_and_nothing_else_changes(
    repository: Repository,
) -> None:
    repository.update_config("pets", lambda config: config.version_policy.specific.versions.append(3))
    repository.update_config("pets", lambda config: setattr(config.response_cache, "enable", True))
    before = repository.config("pets")
    settings = ServingSettings(max_batch_size=4, instances=5, threads=1, queue_timeout_ms=70)
    apply_settings(repository, "pets", settings)
    after = repository.config("pets")
    assert read_settings(after) == settings.model_dump()
    assert [warmup.batch_size for warmup in after.model_warmup] == [1, 4]
    assert repository.live_numbers("pets") == [1, 3]
    apply_settings(repository, "pets", ServingSettings())
    assert repository.config("pets") == before


def test_an_unknown_version_cannot_be_promoted(repository: Repository) -> None:
    with pytest.raises(RepositoryError, match="pets has no version 9; its versions are 1, 2, 3"):
        promote(repository, "pets", 9)


def test_a_missing_repository_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    missing = Repository(tmp_path / "missing")
    with pytest.raises(RepositoryError, match="no model repository"):
        promote(missing, "pets", 1)
    assert not missing.path.exists()


def test_a_rollback_skips_deleted_versions_except_the_one_it_would_make_live(repository: Repository) -> None:
    promote(repository, "pets", 2)
    promote(repository, "pets", 3)
    shutil.rmtree(repository.path / "pets" / "2")
    with pytest.raises(RepositoryError, match="version 2 cannot go live: it is no longer on disk"):
        rollback(repository, "pets")
    assert repository.live_version("pets").version == 3
    promote(repository, "pets", 1)
    rollback(repository, "pets")
    assert repository.live_version("pets").version == 3


def test_a_rollback_never_leads_from_a_version_to_itself(repository: Repository) -> None:
    for version in (2, 1, 2, 3):
        promote(repository, "pets", version)
    shutil.rmtree(repository.path / "pets" / "1")
    rollback(repository, "pets")
    assert repository.live_version("pets").version == 2
    with pytest.raises(RepositoryError, match="nothing to roll back to"):
        rollback(repository, "pets")


@pytest.mark.parametrize("put_into_service", [promote, partial(start_rollout, canary=0.1)])
def test_a_version_that_was_put_back_from_a_backup_goes_into_service_with_its_spec(
    put_into_service: Callable[..., None], repository: Repository
) -> None:
    folder = repository.path / "pets"
    shutil.copytree(folder / "2", folder.parent.parent / "backup")
    published = repository.config("pets").parameters
    assert prune(repository, "pets", 1) == [2]
    shutil.copytree(folder.parent.parent / "backup", folder / "2")
    put_into_service(repository, "pets", 2)
    for name in ("tamiz.spec.2", "tamiz.summary.2"):
        assert repository.config("pets").parameters[name] == published[name]
    assert verify(repository).findings == ()


def test_a_damaged_version_does_not_prevent_the_promotion_of_others(repository: Repository, graph: Path) -> None:
    promote(repository, "pets", 2)
    (repository.path / "pets" / "2" / "spec.json").write_text("damaged")
    rollback(repository, "pets")
    assert repository.live_version("pets").version == 1
    with pytest.raises(RepositoryError, match="version 2 is damaged"):
        promote(repository, "pets", 2)
    assert repository.publish("pets", graph, SPEC) == 4


class ChangesThenFails(Control):
    """A control whose server does not answer, after another process has changed the repository."""

    def __init__(self, change: Callable[[], object]) -> None:
        super().__init__("grpc://127.0.0.1:9")
        self.change = change

    def load(self, model: str) -> None:
        self.change()
        raise errors.UnavailableError("no server answers")


def test_a_promotion_is_undone_and_what_others_changed_meanwhile_is_kept(repository: Repository, graph: Path) -> None:
    before = repository.config("pets")

    def change() -> None:
        repository.publish("pets", graph, SPEC)
        repository.update_config("pets", lambda config: setattr(config, "max_batch_size", 3))

    with pytest.raises(errors.UnavailableError, match="no server answers$"), ChangesThenFails(change) as control:
        promote(repository, "pets", 2, control=control)
    assert repository.live_version("pets").version == 1
    assert repository.version_numbers("pets") == [1, 2, 3, 4]
    config = repository.config("pets")
    assert config.max_batch_size == 3
    assert verify(repository).findings == ()
    assert [entry.what for entry in repository.history("pets")] == ["publish"] * 4
    config.max_batch_size = before.max_batch_size
    for name in ("tamiz.spec.4", "tamiz.summary.4"):
        del config.parameters[name]
    config.parameters["tamiz.last_version"].string_value = "3"
    assert config == before


def test_a_promotion_after_which_somebody_promoted_another_version_is_not_undone_and_says_so(
    repository: Repository,
) -> None:
    message = "no server answers; the change could not be undone: version_policy, .* of pets changed again meanwhile"
    with (
        pytest.raises(RepositoryError, match=message),
        ChangesThenFails(lambda: promote(repository, "pets", 3)) as control,
    ):
        promote(repository, "pets", 2, control=control)
    assert repository.live_version("pets").version == 3
    assert [entry.after for entry in repository.history("pets") if entry.what == "promote"] == [2, 3]


def test_a_promotion_reaches_a_server_that_followed_an_operators_policy(served: Served) -> None:
    name = served.new_name()
    for labels in (["a", "b"], ["c", "d"]):
        served.publish(name, make_spec(labels))
    edit_policy(served.repository, "# the newest\n" + POLICIES[1], name)
    served.control.load(name)
    with (
        pytest.raises(errors.SpecError, match="make a version live with `tamiz promote`"),
        served.client(name) as client,
    ):
        client.refresh()
    promote(served.repository, name, 1, control=served.control)
    ready = [state.version for state in served.control.models() if (state.model, state.state) == (name, "READY")]
    assert ready == [1]
    assert "# the newest" in (served.repository.path / name / "config.pbtxt").read_text()
    with served.client(name) as client:
        assert client.classify(np.zeros((28, 28), np.uint8)).label == "a"


def test_a_promotion_that_the_server_cannot_load_is_undone_and_the_old_version_stays_live(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    (served.repository.path / name / "2" / "model.onnx").write_bytes(b"broken")
    with pytest.raises(errors.RepositoryError, match="the server could not load the change; the change was undone"):
        promote(served.repository, name, 2, control=served.control)
    assert served.repository.live_version(name).version == 1
    with served.client(name) as client:
        assert client.live_version == 1


def test_a_promotion_is_undone_if_the_server_cannot_be_reached(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    with Control("grpc://127.0.0.1:9", "key") as control, pytest.raises(errors.UnavailableError):
        promote(served.repository, name, 2, control=control)
    assert served.repository.live_version(name).version == 1


def test_a_promotion_in_a_repository_that_the_server_does_not_serve_is_undone(served: Served, tmp_path: Path) -> None:
    name, spec = served.new_name(), make_spec(["a", "b"])
    served.publish(name, spec)
    other = Repository(tmp_path / "other")
    for _ in range(2):
        other.publish(name, served.folder / f"{name}.onnx", spec)
    with pytest.raises(
        RepositoryError,
        match=f"does not serve {other.path}: after the change, the server has version 1 of {name}, on disk it is 2",
    ):
        promote(other, name, 2, control=served.control)
    assert other.live_version(name).version == 1


def test_an_interrupted_promotion_is_undone_on_the_server_too(served: Served) -> None:
    class Interrupting(Control):
        interrupted = False

        def load(self, model: str) -> None:
            super().load(model)
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt

    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    served.publish(name, make_spec(["c", "d"]))
    with pytest.raises(KeyboardInterrupt), Interrupting(served.triton.url, served.triton.key) as control:
        promote(served.repository, name, 2, control=control)
    assert served.repository.live_version(name).version == 1
    with served.client(name) as client:
        assert client.classify(np.zeros((28, 28), np.uint8)).label == "a"


def test_the_line_about_what_is_live_says_what_the_server_was_found_to_serve(served: Served) -> None:
    name = served.new_name()
    for _ in range(2):
        served.publish(name, make_spec(["a", "b"]))
    promote(served.repository, name, 2)
    on_disk = f"{name}: version 2 is live in {served.repository.path}"
    line = describe_live(served.repository, name, [1], control=served.control)
    assert line == f"{on_disk}; {served.triton.url} serves version 1"
    promote(served.repository, name, 2, control=served.control)
    line = describe_live(served.repository, name, [2], control=served.control)
    assert line == f"{on_disk} and in {served.triton.url}"


def test_the_running_server_follows_applied_settings(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))
    apply_settings(served.repository, name, ServingSettings(max_batch_size=3), control=served.control)
    assert served.control.config(name).max_batch_size == 3
    with served.client(name) as client:
        assert client.max_batch_size == 3
