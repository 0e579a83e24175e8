"""Ray Data: classify a data set that is larger than one client machine can handle.

Ray spreads the images and Tamiz does the rest, so there is nothing of Ray in here; the extra ``ray`` installs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .client import Client
from .results import to_record


class Classify:
    """For ``Dataset.map_batches``: adds the columns ``label``, ``score``, ``version`` and ``error``.

    A model of several labels adds ``labels`` too, those over their thresholds, the likeliest first.

    Args:
        column: with the images: ``bytes`` of files, ``image`` for uint8 arrays, or paths that every worker can read.
        client: arguments of `tamiz.Client`.

    Example::

        images = ray.data.read_binary_files("s3://bucket/scans", include_paths=True)
        images.map_batches(
            Classify, fn_constructor_kwargs={"url": "grpc://a:8001,b:8001", "model": "clothing"},
            concurrency=4, batch_size=256,
        ).write_parquet("s3://bucket/labels")
    """

    def __init__(self, *, column: str = "bytes", **client: Any) -> None:
        self.column = column
        self.client = Client(**client)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Classify one batch of rows; a row whose image cannot be read has its ``error``, and no label.

        Raises:
            ServerError: the servers did not answer in ``timeout_s``. Ray then ends the job, unless its
                ``DataContext`` says otherwise (``actor_task_retry_on_errors``, ``max_errored_blocks``).
        """
        outcomes = self.client.classify_many(iter(batch[self.column]), on_error="return")
        multilabel = self.client.spec.task == "multilabel"
        records = [to_record("", outcome, multilabel=multilabel) for outcome in outcomes]
        columns = {name: [record[name] for record in records] for name in ("label", "score", "version", "error")}
        done = {
            **batch,
            "label": np.array(columns["label"], object),
            # Whole columns of one type, as Arrow wants them.
            "score": np.array(columns["score"], np.float32),
            "version": np.array([version or 0 for version in columns["version"]], np.int64),
            "error": np.array(columns["error"], object),
        }
        if multilabel:
            done["labels"] = np.empty(len(records), object)
            for row, record in enumerate(records):
                done["labels"][row] = [scored["label"] for scored in record.get("labels", ())]
        return done
