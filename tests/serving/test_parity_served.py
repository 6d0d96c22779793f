"""`lab.py serve-check --url` against a real server, `transformers serve`."""

import json

import pytest
from served_models import make

from labsupport import cli
from labsupport.models import tiny_base
from labsupport.serving import server


@pytest.mark.slow
def test_the_adapter_the_merged_model_and_the_bare_base_are_told_apart(tmp_path, capsys):
    served = make(tmp_path)
    found = {}
    with server.running(served) as running:
        for name in ("adapted", "merged", "base"):
            words = [
                "--base",
                tiny_base.FOLDER,
                "--url",
                running.url,
                "--served",
                name,
                "--tokens",
                12,
                "--json",
            ]
            cli.main(["serve-check", str(tmp_path / "adapter"), *map(str, words)])
            found[name] = json.loads(capsys.readouterr().out)
    assert found["adapted"]["clean"] and found["merged"]["clean"]
    assert all(one["same"] for name in ("adapted", "merged") for one in found[name]["replies"])
    errors = [one["id"] for one in found["base"]["findings"] if one["severity"] == "error"]
    assert errors == ["adapter-not-applied"]
