import msgspec
import pytest

from reference_system.errors import StateError
from reference_system.replaced_files import drafts_of, read_record, replace_file, replacing


class Note(msgspec.Struct):
    text: str


def fail(path):
    with replacing(path) as draft:
        draft.write_bytes(b"half of th")
        raise OSError("no space left")


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_gets_its_new_content_and_nothing_stays_beside_it(tmp_path, durable):
    path = tmp_path / "made" / "note.json"
    replace_file(path, b"old", durable=durable)
    replace_file(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_until_the_writer_is_done_the_old_content_is_found(tmp_path):
    path = tmp_path / "note.json"
    replace_file(path, b"old")
    with replacing(path) as draft:
        draft.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.glob("*.json")) == [path], "a draft must not look like a finished file"
    assert path.read_bytes() == b"new"


def test_a_writer_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "note.json"
    replace_file(path, b"old")
    with pytest.raises(OSError, match="no space left"):
        fail(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_share_a_draft(tmp_path):
    path = tmp_path / "note.json"
    with replacing(path) as one, replacing(path) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"


def test_the_drafts_of_a_file_are_known_and_those_of_no_other(tmp_path):
    path = tmp_path / "note.json"
    for name in ("note.json", ".note.json", ".note.json.bak", ".note.json.0123abcd.x", "xnote.json.0123abcd"):
        (tmp_path / name).touch()
    with replacing(tmp_path / "other.json") as other, replacing(path) as draft:
        other.touch()
        assert drafts_of(path) == []
        draft.touch()
        assert drafts_of(path) == [draft]
    assert drafts_of(path) == []


def test_a_record_is_read_or_is_not_there(tmp_path):
    path = tmp_path / "note.json"
    assert read_record(path, Note) is None
    replace_file(path, msgspec.json.encode(Note(text="here")))
    assert read_record(path, Note) == Note(text="here")


@pytest.mark.parametrize("content", [b"", b'{"text": "he', b'{"text": 1}', b"\xff\xfe"])
def test_a_damaged_record_is_an_error_with_the_command_that_mends_it(tmp_path, content):
    path = tmp_path / "note.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"note\.json cannot be read") as raised:
        read_record(path, Note)
    assert raised.value.next_command == f"rm {path}"
    with pytest.raises(StateError) as raised:
        read_record(path, Note, next_command="make clean")
    assert raised.value.next_command == "make clean"
