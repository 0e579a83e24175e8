"""Ray Data: classify a data set that is larger than one client machine can handle.

Ray spreads the images and Tamiz does the rest, so there is nothing of Ray in here; the extra ``ray`` installs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .bulk.results import to_record
from .client import Client
from .errors import UsageError, suggest


class Classify:
    """For ``Dataset.map_batches``: adds the columns ``label``, ``score``, ``version`` and ``error``.

    A model of several labels adds ``labels`` too, those over their thresholds, the likeliest first, joined by bars.
    All other columns stay. An image that cannot be read has ``""`` for its labels, NaN for its score, 0 for its
    version; one that was read ``""`` for its error: whole columns of one type, whatever is in a block.

    Args:
        column: with the images: ``bytes`` of files, ``image`` for uint8 arrays, or paths that every worker can read.
        client: arguments of `tamiz.Client`.

    Example::

        images = ray.data.read_binary_files("s3://bucket/scans", include_paths=True)
        images.map_batches(
            Classify, fn_constructor_kwargs={"url": "grpc://a:8001,b:8001", "model": "clothing"},
            compute=ray.data.ActorPoolStrategy(size=4), num_cpus=0.5, batch_size=256,
        ).drop_columns(["bytes"]).write_parquet("s3://bucket/labels")
    """

    def __init__(self, *, column: str = "bytes", **client: Any) -> None:
        self.column = column
        self.client = Client(**client)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Classify one batch of rows.

        Raises:
            UsageError: there is no such column.
            ServerError: the servers did not answer in ``timeout_s``. Ray then ends the job, unless its
                ``DataContext`` says otherwise (``actor_task_retry_on_errors``, ``max_errored_blocks``).
        """
        if self.column not in batch:
            raise UsageError(f"column: {self.column!r}{suggest(self.column, batch)}")
        outcomes = self.client.classify_many(iter(batch[self.column]), on_error="return")
        multilabel = self.client.spec.task == "multilabel"
        records = [to_record("", outcome, multilabel=multilabel) for outcome in outcomes]

        def texts(name: str) -> npt.NDArray[np.str_]:
            return np.array([record[name] or "" for record in records], np.str_)

        done = {
            **batch,
            "label": texts("label"),
            "score": np.array([record["score"] for record in records], np.float32),
            "version": np.array([record["version"] or 0 for record in records], np.int64),
            "error": texts("error"),
        }
        if multilabel:
            joined = ["|".join(scored["label"] for scored in record.get("labels", ())) for record in records]
            done["labels"] = np.array(joined, np.str_)
        return done
