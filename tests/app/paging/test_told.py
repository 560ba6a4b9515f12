"""What somebody was told of, read back: a file that cannot be read counts for nothing, and is said."""

import pytest

from app.core.telling import Told
from app.paging.told import ToldFile


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff", b'{"\xff":{}}', b'{"a":' + b"[" * 100_000, b"null"])
def test_a_damaged_file_ends_no_pager(tmp_path, caplog, damaged):
    path = tmp_path / "told.json"
    path.write_bytes(damaged)
    found = ToldFile(path)
    assert found.told == {}
    assert "cannot be read" in caplog.text
    found.told["a"] = Told(1.0)
    found.keep({"a"})
    assert ToldFile(path).told == found.told
