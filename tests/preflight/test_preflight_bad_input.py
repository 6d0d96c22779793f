"""Bad input of `lab.py preflight`: one line on standard error that names it, nothing else, and status 2."""

import json

import pytest
from clean_rows import clean_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from preflight_typed import preflight, refused, written

GOOD = "".join(json.dumps(row) + "\n" for row in clean_rows(12))


@pytest.fixture
def data(tmp_path):
    return written(tmp_path / "good.jsonl", clean_rows(12))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.jsonl", b"\n \n", "a.jsonl has no rows"),
        ("a.jsonl", bytes(range(256)), "a.jsonl is a binary file (byte 0 is zero)"),
        ("a.jsonl", GOOD.encode() + b'{"text": "caf\xe9"}\n', "line 13: byte {end} of the file (0xe9)"),
        ("a.csv", b"prompt,completion\na,caf\xe9\n", "line 2: byte 24 of the file (0xe9)"),
        ("a.jsonl", GOOD.encode() + b'{"prompt": \n', "a.jsonl, line 13: not JSON at character 13"),
        ("a.jsonl", b"[1, 2]\n3\n", "a.jsonl, line 1: a list and no object"),
        ("a.json", b"[]", "a.json has no rows"),
        ("a.csv", b"prompt,completion\n", "a.csv has no rows"),
        ("a.parquet", b"PAR1PAR1", "a.parquet is a damaged Parquet file"),
        ("a.jsonl", b'{"height": 1, "width": 2}\n', "the columns height, width, which no known form has"),
        ("a.jsonl", b'{"messages": "hello"}\n', "messages holds no list of messages"),
        ("a.jsonl", b'{"prompt": 7, "completion": {}}\n' * 3, "line 1: prompt is a number and no text"),
    ],
)
def test_data_that_cannot_be_read(name, content, words, capsys, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    err = refused(capsys, path)
    assert words.format(end=f"{len(GOOD) + 14:,}") in err and name in err


def test_no_row_that_can_be_read_is_bad_input_however_many_there_are(capsys, tmp_path):
    path = written(tmp_path / "a.jsonl", [{"prompt": ["x"], "completion": 7}] * 300)
    assert "no row can be read as prompt + completion; line 1: " in refused(capsys, path)


def test_data_that_are_not_there_and_a_folder(capsys, tmp_path, data):
    assert "There is no file" in refused(capsys, tmp_path / "godd.jsonl")
    assert "Nearest: good.jsonl" in refused(capsys, tmp_path / "godd.jsonl")
    assert "is a folder: name one file in it, such as good.jsonl" in refused(capsys, tmp_path)
    assert "DATA" in refused(capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--eval", "absent.jsonl"), "There is no file absent.jsonl"),
        (("--eval", ""), "is a folder"),
        (("--config", "absent.yaml"), "Cannot read absent.yaml: No such file"),
        (("--config", ""), "is a folder"),
        (
            ("--model", "nowhere/nothing"),
            "--model 'nowhere/nothing': There is no folder",
        ),
        (("--model", "no name at all"), "neither a folder nor a name on the hub"),
        (("--model", ""), "--model ''"),
        (("--prompt-column", "promt", "--completion-column", "completion"), "no column 'promt'"),
        (("--prompt-column", "prompt"), "both --prompt-column and --completion-column, or neither"),
        (("--completion-column", "completion"), "both --prompt-column and --completion-column, or neither"),
        (("--prompt-column", "prompt", "--completion-column", "prompt"), "name two columns"),
        (("--gpu", "l5"), "There is no card 'l5'"),
        (("--rate", "-1"), "rate (money an hour) is -1.0"),
        (("--rate", "nan"), "rate (money an hour) is nan"),
        (("--rate", "cheap"), "--rate: 'cheap' is no number"),
        (("--fixx", "a"), "there is no option --fixx; the nearest: --fix"),
    ],
)
def test_options_that_cannot_be(options, words, capsys, data):
    assert words in refused(capsys, data, *options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learningrate: 0.1\n", "'learningrate', which TRL 1.16 does not know"),
        ("learning_rate: fast\n", "learning_rate is 'fast'"),
        ("a: b: c\n", "line 1 is not YAML"),
        ("model_name_or_path: own/nothing\nuse_peft: true\n", "model_name_or_path 'own/nothing'"),
    ],
)
def test_settings_that_cannot_be(text, words, capsys, tmp_path, data):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert words in refused(capsys, data, "--config", path)


def test_a_model_s_folder_without_a_tokenizer_or_with_a_broken_one(capsys, tmp_path, data):
    assert "holds no tokenizer" in refused(capsys, data, "--model", tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": ')
    assert f"--model '{tmp_path}'" in refused(capsys, data, "--model", tmp_path)
    assert "neither a folder" in refused(capsys, data, "--model", data)


@pytest.mark.parametrize(("option", "name"), [("--html", "out.html"), ("--fix", "out.jsonl")])
def test_where_nothing_can_be_written(option, name, capsys, tmp_path, data):
    before = data.read_bytes()
    config, folder = tmp_path / "recipe.yaml", tmp_path / name
    config.write_text("seed: 1\n")
    assert "There is no folder" in refused(capsys, data, option, tmp_path / "absent" / name)
    assert "is a folder: give" in refused(capsys, data, option, tmp_path)
    assert "is a folder: give" in refused(capsys, data, option, "")
    assert "File name too long" in refused(capsys, data, option, tmp_path / ("x" * 300 + name))
    for read in (data, config):
        assert "which is read: give another name" in refused(capsys, data, "--config", config, option, read)
    folder.mkdir()
    assert "is a folder: give" in refused(capsys, data, option, folder)
    assert data.read_bytes() == before and not (tmp_path / "absent").exists()


def test_the_copy_and_the_page_are_two_files_and_a_copy_is_json_lines(capsys, tmp_path, data):
    out = tmp_path / "out.jsonl"
    assert "give two names" in refused(capsys, data, "--fix", out, "--html", out)
    assert "name the file out.jsonl" in refused(capsys, data, "--fix", tmp_path / "out.csv")


WORDS = st.sampled_from(
    ["Hi", "", " ", "<think>x</think>", "<|im_end|>", "caf\u00c3\u00a9", "\ud83d", "a\u200bb"]
)
TEXTS = WORDS | st.text(max_size=12)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "judge", "", 7, None])
CALL = st.dictionaries(st.sampled_from(["id", "function"]), TEXTS)
CALLS = st.none() | st.text(max_size=3) | st.lists(CALL, max_size=2)
TURNS = st.fixed_dictionaries(
    {"role": ROLES, "content": TEXTS | st.none() | st.integers() | st.lists(TEXTS, max_size=2)},
    optional={"tool_calls": CALLS, "thinking": TEXTS | st.integers(), "name": TEXTS, "tool_call_id": TEXTS},
)
CHATS = st.lists(TURNS, max_size=4)
CELLS = TEXTS | CHATS | CHATS.map(json.dumps) | st.none() | st.floats() | st.lists(TEXTS, max_size=2) | TURNS
COLUMNS = st.sampled_from(
    ["messages", "prompt", "completion", "text", "instruction", "input", "output", "conversations", "system"]
    + ["tools", "chat_template_kwargs", "question", "answer", "chosen", "rejected", "Text", "id"]
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.dictionaries(COLUMNS, CELLS, max_size=4), min_size=1, max_size=6), st.booleans())
def test_whatever_the_rows_hold_they_are_judged_or_refused_in_one_line(capsys, tmp_path, rows, as_json):
    path, out = written(tmp_path / "rows.jsonl", rows), tmp_path / "mended.jsonl"
    words = ("--fix", out, "--html", tmp_path / "page.html", *(["--json"] if as_json else []))
    status, said, err = preflight(capsys, path, *words)
    assert status in (0, 1, 2) and err.count("\n") == (status == 2)
    if said and as_json:
        json.loads(said)
