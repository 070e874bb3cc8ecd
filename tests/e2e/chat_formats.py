#!/usr/bin/env python3
"""fettle template on models with a template, and on models that have none but are known."""

import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helper"))
from cases import DATA, SCRATCH, case, fettle, main  # noqa: E402

MODEL = DATA / "tiny-distill"


def model(name: str, **files: object) -> Path:
    folder = SCRATCH / name
    folder.mkdir(exist_ok=True)
    shutil.copy(DATA / "text/deepseek-v3.tokenizer.json", folder / "tokenizer.json")
    for file, content in files.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    return folder


def messages(content: object) -> Path:
    path = SCRATCH / "messages.json"
    path.write_text(json.dumps(content) if not isinstance(content, str) else content)
    return path


def render(folder: Path, request: object, *arguments: str) -> str:
    done = fettle("template", folder, "--messages", messages(request), "--json", *arguments)
    return json.loads(done.stdout)["prompt"]


@case
def a_model_without_template_is_rendered_by_its_type():
    for kind, name in (("deepseek_v4", "v4"), ("deepseek_v32", "v3.2")):
        folder = model(kind, config={"model_type": kind})
        for case_name, test in json.loads((DATA / f"chat/{name}.json").read_text()).items():
            assert render(folder, test) == test["prompt"], (name, case_name)


@case
def the_tokenizer_alone_suffices():
    folder = model("bare", tokenizer_config={"chat_template": "{{ messages[0].content }}!"})
    assert render(folder, [{"role": "user", "content": "hi"}]) == "hi!"
    assert json.loads(fettle("tokenize", folder, "--text", "a b", "--json").stdout)["ids"]


@case
def a_format_file_wins():
    folder = model("named", config={"model_type": "llama"}, tokenizer_config={"chat_template": "x"})
    (folder / "chat_format").write_text("v4\n")
    assert render(folder, [{"role": "user", "content": "hi"}]).endswith("<｜User｜>hi<｜Assistant｜><think>")


@case
def no_format_is_said_with_a_way_out():
    folder = model("none", config={"model_type": "llama"})
    done = fettle("template", folder, "--messages", messages([]), status=4)
    assert "no chat template; use --raw" in done.stderr, done.stderr


@case
def wrong_messages_are_named():
    for request, said in (
        ([{"role": "user"}], "messages[0].content is missing"),
        ([{"role": "user", "content": "q"}, {"content": "a"}], "messages[1].role is missing"),
        ({"messages": 3}, "messages is number"),
        ({"tools": []}, "expected a list of messages or an object"),
        ("[" * 100_000, "messages.json"),
    ):
        done = fettle("template", MODEL, "--messages", messages(request), status=3)
        assert said in done.stderr, (request, done.stderr)


@case
def a_template_that_takes_all_memory_is_refused():
    source = "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    folder = model("hostile", tokenizer_config={"chat_template": source})
    done = fettle("template", folder, "--messages", messages([]), status=5)
    assert "512 MiB" in done.stderr, done.stderr


@case
def a_reply_comes_with_its_parts():
    done = fettle("run", MODEL, "--prompt", "Compute 27 + 48.", "--max-tokens", 200, "--temperature", 0, "--json")
    answer = json.loads(done.stdout)
    message = answer["message"]
    assert message["content"].strip() == "75" and message["reasoning_content"], message
    assert answer["text"] == message["reasoning_content"] + "</think>" + message["content"]
    raw = json.loads(fettle("run", MODEL, "--prompt", "1", "--raw", "--max-tokens", 2, "--json").stdout)
    assert "message" not in raw


main()
