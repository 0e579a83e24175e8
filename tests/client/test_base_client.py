from __future__ import annotations

import copy
import pickle

import pytest

from tamiz import AsyncClient, Client, UsageError


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_that_is_pickled_or_copied_says_to_create_one_in_each_process(kind: type, duplicate: object) -> None:
    client = kind(model="pets")
    assert callable(duplicate)
    with pytest.raises(UsageError, match=f"{kind.__name__} cannot be pickled or copied: .*create one in each process"):
        duplicate(client)
