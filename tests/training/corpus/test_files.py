import gzip
import hashlib

import pytest

from training.corpus.files import parse_json, parse_json_lines, read_text_file


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x"])
def test_gzip_is_recognised_by_content_and_not_by_name(tmp_path, name):
    plain = read_text_file(write(tmp_path / "plain.json", '["é"]'.encode()), "a file")
    packed = read_text_file(write(tmp_path / name, gzip.compress('["é"]'.encode())), "a file")
    assert packed.text == plain.text == '["é"]'
    assert packed.digest == plain.digest == hashlib.sha256('["é"]'.encode()).hexdigest()


def test_byte_order_mark_is_no_text(tmp_path):
    file = read_text_file(write(tmp_path / "x", b"\xef\xbb\xbf[1]"), "a file")
    assert parse_json(file) == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"[1, 2, 3]" * 99, mtime=0)[:-12], "damaged or unreadable"),
        (gzip.compress(b"[1]", mtime=0)[:-1] + b"x", "damaged or unreadable"),
        (b"\x1f\x8bnot gzip at all", "damaged or unreadable"),
        (b"[1, \xff]", "not UTF-8 at byte 4; a file is needed"),
    ],
)
def test_damaged_files_are_refused_with_the_reason(tmp_path, content, message):
    path = write(tmp_path / "x.json", content)
    with pytest.raises(ValueError, match=f"x.json: {message}"):
        read_text_file(path, "a file")


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="no such file; give a thing, plain or gzipped"):
        read_text_file(tmp_path / name, "a thing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[["a"], ["b', r"line 1, column 10 \(character 9 of 11\): .*; fetch or write it anew"),
        (b'[\n["a"],\n', r"line 3, column 1 \(character 9 of 9\): it ends too early"),
        (b'["a" "b"]', r"line 1, column 6 .*delimiter"),
        (b"", "it ends too early"),
        (b"[" * 200_000, "nested too deeply"),
    ],
)
def test_broken_json_is_refused_with_its_place(tmp_path, text, message):
    file = read_text_file(write(tmp_path / "x.json", text), "a file")
    with pytest.raises(ValueError, match=message):
        parse_json(file)


def test_lines_are_objects_and_empty_lines_are_none(tmp_path):
    # A line separator of Unicode inside a text ends no line.
    content = '{"a": "x\u2028y"}\r\n\n{"a": 2}\n'.encode()
    rows = list(parse_json_lines(read_text_file(write(tmp_path / "x.jsonl", content), "a file")))
    assert [row for _, row in rows] == [{"a": "x\u2028y"}, {"a": 2}]
    assert [where.rpartition(", ")[2] for where, _ in rows] == ["line 1", "line 3"]


@pytest.mark.parametrize(
    ("line", "message"), [("[1]", "line 2: holds list, not an object"), ('{"a": ', "line 2: not valid JSON")]
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, message):
    file = read_text_file(write(tmp_path / "x.jsonl", f'{{"a": 1}}\n{line}\n'.encode()), "a file")
    with pytest.raises(ValueError, match=message):
        list(parse_json_lines(file))
