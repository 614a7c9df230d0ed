"""The protocol that both ends agree on."""

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.protocol import check_device


@pytest.mark.parametrize("name", ["a", "door-1", "A.b_c-9", "x" * 64])
def test_check_device_takes_names(name: str) -> None:
    check_device(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "ä", "a\n", "*"])
def test_check_device_refuses_the_rest(name: str) -> None:
    with pytest.raises(EdgeError, match="cannot name a device; use 1 to 64"):
        check_device(name)
