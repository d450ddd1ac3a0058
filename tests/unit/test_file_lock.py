"""A lock excludes whoever else wants it, until it is given back."""

from __future__ import annotations

import pytest

from reference_system.file_lock import locked


@pytest.mark.parametrize(("held", "wanted", "excluded"), [(0, 0, True), (0, 1, True), (1, 0, True), (1, 1, False)])
def test_one_holds_a_lock_alone_or_several_share_it(tmp_path, held, wanted, excluded):
    path = tmp_path / "new folder" / "lock"
    with locked(path, shared=bool(held)):
        if excluded:
            with pytest.raises(BlockingIOError), locked(path, shared=bool(wanted), wait=False):
                pass
        else:
            with locked(path, shared=bool(wanted), wait=False):
                pass
    with locked(path, wait=False):
        assert path.exists()
