#!/usr/bin/env python3
"""Speculative decoding as a user meets it: planned by fit, changed by a flag, measured by bench; the same words always."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helper"))
from cases import DATA, FETTLE, SCRATCH, case, fettle, main  # noqa: E402

REASONER, DISTILL = DATA / "tiny-reasoner", DATA / "tiny-distill"
ARTIFACT = SCRATCH / "reasoner.fettle"
QUESTIONS = ("What is 347 + 285?", "Reverse the word savings.", "Sort 5 2 9 1.")


def run(model, question: str, *arguments: str) -> dict:
    return json.loads(fettle("run", model, "--prompt", question, "--max-tokens", 120, "--json", *arguments).stdout)


@case
def fit_packs_the_draft_measures_it_and_decides():
    text = SCRATCH / "text.txt"
    text.write_text("The module provides functions for reading and writing files. " * 12)
    fettle("fit", REASONER, "-o", ARTIFACT, "--scheme", "int8", "--budget", "kld=1", "--text", text, "--json")
    manifest = json.loads((ARTIFACT / "manifest.json").read_text())
    assert "draft.fir" in {f["name"] for f in manifest["files"]} and manifest["draft_parameters"] > 1e6
    names = [w["name"] for w in manifest["weights"]]
    assert len(names) == len(set(names)) and {"embed", "head", "layers.4.join"} <= set(names)
    plan = json.loads((ARTIFACT / "plan.json").read_text())
    measured = plan["speculation"]["measured"]
    assert [m["speculation"] for m in measured if m["batch"] == 1] == ["mtp:1", "mtp:2", "mtp:3"]
    assert any(m["batch"] > 1 for m in measured)
    assert all(0 < m["acceptance"] < 1 and m["gain"] > 0 and m["plain_tok_s"] > 0 for m in measured)
    best = max((m for m in measured if m["batch"] == 1), key=lambda m: m["gain"])
    assert plan["speculation"]["use"] == (best["speculation"] if best["gain"] >= 1.03 else "none")
    assert plan["schemes"]["layers.4.o"] == "i8c"


@case
def a_plan_is_followed_and_one_without_speculation_is_read():
    plan = json.loads((ARTIFACT / "plan.json").read_text())
    plan["speculation"]["use"] = "mtp:2"
    (SCRATCH / "plan.json").write_text(json.dumps(plan))
    fettle("fit", REASONER, "-o", SCRATCH / "planned.fettle", "--plan", SCRATCH / "plan.json", "--no-verify")
    assert run(SCRATCH / "planned.fettle", QUESTIONS[0])["speculation"]["use"] == "mtp:2"
    del plan["speculation"]
    (SCRATCH / "plan.json").write_text(json.dumps(plan))
    fettle("fit", REASONER, "-o", SCRATCH / "older.fettle", "--plan", SCRATCH / "plan.json", "--no-verify")
    older = json.loads((SCRATCH / "older.fettle/plan.json").read_text())["speculation"]
    assert older == {"use": "none", "measured": []}, older  # nothing is tried out where nothing is verified


@case
def replies_do_not_depend_on_it():
    for model, ways in ((ARTIFACT, ("mtp:1", "mtp:4", "ngram:4")), (REASONER, ("mtp:2",)), (DISTILL, ("ngram",))):
        for question in QUESTIONS:
            for sampling in ((), ("--temperature", "0.9", "--seed", "5", "--top-p", "0.9")):
                plain = run(model, question, "--speculate", "none", *sampling)
                assert plain["speculation"]["drafted"] == 0
                for way in ways:
                    other = run(model, question, "--speculate", way, *sampling)
                    assert other["tokens"] == plain["tokens"], (question, way)
    assert run(ARTIFACT, QUESTIONS[0], "--speculate", "mtp:1")["speculation"]["accepted"] > 10


@case
def conversations_do_not_depend_on_it():
    def talk(*arguments):
        return subprocess.run([FETTLE, "chat", ARTIFACT, "--max-tokens", "80", *arguments], input="\n".join(QUESTIONS),
                              capture_output=True, text=True, check=True, timeout=300).stdout

    plain = talk("--speculate", "none")
    assert "632" in plain
    assert talk("--speculate", "mtp:2") == plain and talk("--speculate", "ngram:3") == plain


@case
def bench_reports_acceptance_and_gain():
    questions = SCRATCH / "questions.jsonl"
    questions.write_text("".join(json.dumps({"prompt": q}) + "\n" for q in QUESTIONS))
    base = ("bench", ARTIFACT, "--prompt", "32", "--gen", "32", "--repeat", "1", "--json")
    for arguments in (("--speculate", "mtp:2", "--questions", questions), ("--speculate", "mtp", "--batch", "3"),
                      ("--speculate", "ngram:3")):
        measured = json.loads(fettle(*base, *arguments).stdout)["speculation"]
        assert 0 <= measured["acceptance"] <= 1 and measured["gain"] > 0 and measured["speculative_tok_s"] > 0
    assert "speculation" not in json.loads(fettle(*base).stdout)


@case
def the_draft_is_shown_and_counted():
    shown = fettle("show", "graph", "--draft", REASONER).stdout
    assert "state() cols=256 layer=4" in shown and "weight @layers.4.join" in shown
    assert "join(" in fettle("show", "adapted", "--draft", REASONER, "--scheme", "int8").stdout
    assert fettle("show", "graph", "--draft", ARTIFACT).stdout == (ARTIFACT / "draft.fir").read_text()
    parameters = json.loads(fettle("inspect", REASONER, "--json").stdout)["parameters"]
    assert 1e6 < parameters["draft"] < parameters["total"]
    assert json.loads(fettle("inspect", DISTILL, "--json").stdout)["parameters"]["draft"] == 0


@case
def what_cannot_be_is_refused():
    assert "no layer that drafts" in fettle("run", DISTILL, "--prompt", "x", "--speculate", "mtp", status=2).stderr
    assert "no layer that drafts" in fettle("show", "graph", "--draft", DISTILL, status=2).stderr
    for wrong in ("mtp:0", "mtp:17", "guess"):
        fettle("run", DISTILL, "--prompt", "x", "--speculate", wrong, status=2)


def forge(name: str, change) -> Path:
    """An artifact with another draft.fir, its digests put right."""
    copy = SCRATCH / name
    shutil.copytree(ARTIFACT, copy)
    draft = copy / "draft.fir"
    draft.write_text(change(draft.read_text()))
    manifest = json.loads((copy / "manifest.json").read_text())
    lines = ""
    for file in manifest["files"]:
        if file["name"] == "draft.fir":
            file["size"] = draft.stat().st_size
            file["sha256"] = hashlib.sha256(draft.read_bytes()).hexdigest()
        lines += f"{file['name']} {file['size']} {file['sha256']}\n"
    manifest["content_digest"] = hashlib.sha256(lines.encode()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


@case
def a_forged_draft_is_refused():
    fettle("show", "artifact", forge("same.fettle", lambda text: text))
    for name, change, expected in (
        ("cache", lambda t: t.replace("cache 4 ", "cache 3 ").replace("layer=4", "layer=3"), "one of the graph's"),
        ("context", lambda t: t.replace("context=1024", "context=512"), "context"),
        ("shared", lambda t: t.replace("lm_head.weight", "model.head.weight"), "@head"),
        ("weight", lambda t: t.replace("@layers.4.o ", "@layers.4.other ").replace("@layers.4.o]", "@layers.4.other]"),
         "layers.4.o"),
    ):
        done = fettle("show", "artifact", forge(f"{name}.fettle", change), status=3)
        assert expected in done.stderr, done.stderr
    copy = SCRATCH / "changed.fettle"
    shutil.copytree(ARTIFACT, copy)
    (copy / "draft.fir").write_text((copy / "draft.fir").read_text() + "\n")
    assert "draft.fir" in fettle("show", "artifact", copy, status=3).stderr


if __name__ == "__main__":
    main()
