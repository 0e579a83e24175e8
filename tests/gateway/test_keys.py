from __future__ import annotations

import pytest

from tamiz_gateway import Settings
from tamiz_gateway.keys import Role, check_key
from tamiz_gateway.problems import Problem

CLASSIFY, ADMIN = "classify-key", "admin-key-1"
BOTH = {"classify_key": CLASSIFY, "admin_key": ADMIN}
C, A = Role.CLASSIFY, Role.ADMIN


@pytest.mark.parametrize(
    ("keys", "role", "authorization", "status"),
    [
        ({}, C, "", 200),
        ({}, A, "", 200),
        ({"admin_key": ADMIN}, C, "", 200),
        ({"admin_key": ADMIN}, A, "", 401),
        ({"admin_key": ADMIN}, A, f"Bearer {ADMIN}", 200),
        (BOTH, C, "", 401),
        (BOTH, C, "Bearer wrong", 401),
        (BOTH, C, f"Basic {CLASSIFY}", 401),
        (BOTH, C, CLASSIFY, 401),
        (BOTH, C, f"Bearer {CLASSIFY}", 200),
        (BOTH, C, f"bearer  {CLASSIFY} ", 200),
        (BOTH, C, f"Bearer {ADMIN}", 200),
        (BOTH, A, f"Bearer {CLASSIFY}", 403),
        (BOTH, A, f"Bearer {ADMIN}", 200),
        (BOTH, A, "Bearer é", 401),
        ({"classify_key": CLASSIFY}, A, "", 401),
        ({"classify_key": CLASSIFY}, A, "Bearer ", 401),
        ({"classify_key": CLASSIFY}, A, f"Bearer {CLASSIFY}", 403),
    ],
)
def test_a_role_needs_its_key(keys: dict[str, str], role: Role, authorization: str, status: int) -> None:
    settings = Settings(model="pets", **keys)
    if status == 200:
        check_key(settings, role, authorization)
        return
    with pytest.raises(Problem) as caught:
        check_key(settings, role, authorization)
    assert caught.value.status_code == status
    assert ("www-authenticate" in (caught.value.headers or {})) == (status == 401)
