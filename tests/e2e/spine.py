#!/usr/bin/env python3
"""The whole way of the data on a small real model: fit, certificate, artifact, run, and what happens when it goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helper"))
from cases import DATA, FETTLE, SCRATCH, Skip, case, fettle, main  # noqa: E402

MODEL = DATA / "tiny-distill"
TEXT = SCRATCH / "text.txt"
TEXT.write_text(
    "The module provides functions for reading and writing files. If the argument is omitted, the default is used. "
    "Returns a list of all names. Changed in version 3.8: the parameter is now optional. " * 12
)


def fit(out: str, *arguments: str, status: int = 0) -> dict:
    done = fettle("fit", MODEL, "-o", SCRATCH / out, "--text", TEXT, "--json", *arguments, status=status)
    return json.loads(done.stdout) if status == 0 else {"error": done.stderr}


def digests(artifact: Path) -> dict:
    manifest = json.loads((artifact / "manifest.json").read_text())
    return {f["name"]: f["sha256"] for f in manifest["files"]}


@case
def int8_passes_and_serves_an_answer():
    result = fit("int8.fettle", "--scheme", "int8", "--budget", "kld=0.02,top1=0.9")
    certificate = result["certificate"]
    assert certificate["passed"] and 0 < certificate["kld"]["mean"] < 0.02, certificate["kld"]
    assert certificate["requantised"] > 0 and certificate["carried"] > 0
    assert "<svg" in (SCRATCH / "int8.fettle/report.html").read_text()
    answer = json.loads(
        fettle("run", SCRATCH / "int8.fettle", "--prompt", "Compute 27 + 48.", "--max-tokens", 200, "--json").stdout
    )
    assert answer["finish_reason"] == "stop" and answer["text"].strip().endswith("75"), answer["text"]


@case
def fit_scores_tasks_of_its_own():
    tasks = SCRATCH / "few.jsonl"
    tasks.write_text("".join(json.dumps({"task": "add", "prompt": f"What is {a} + 20?", "answer": str(a + 20)}) + "\n"
                             for a in range(100, 120)))
    scores = fit("tasks.fettle", "--scheme", "int8", "--budget", "kld=0.02", "--tasks", tasks)["certificate"]["tasks"]
    assert [(t["name"], t["count"]) for t in scores] == [("add", 20)] and scores[0]["adapted"] > 0.8, scores


@case
def int4_costs_more_than_int8_and_is_smaller():
    int4 = fit("int4.fettle", "--scheme", "int4", "--budget", "kld=2")["certificate"]
    int8 = json.loads((SCRATCH / "int8.fettle/certificate.json").read_text())
    assert int4["kld"]["mean"] > 2 * int8["kld"]["mean"], (int4["kld"], int8["kld"])
    assert int4["memory"]["weights_bytes"] < 0.7 * int8["memory"]["weights_bytes"]


@case
def a_budget_between_them_gives_a_mix():
    result = fit("mix.fettle", "--budget", "kld=0.03", "--objective", "memory")
    schemes = {s["scheme"] for s in result["certificate"]["schemes"] if s["scheme"] not in ("f32", "bf16")}
    assert len(schemes) >= 2, schemes
    assert result["certificate"]["kld"]["mean"] <= 0.03
    plan = json.loads((SCRATCH / "mix.fettle/plan.json").read_text())
    assert len(plan["sensitivity"]) > 20 and all(s["kld"] >= 0 for s in plan["sensitivity"])


@case
def a_budget_that_cannot_be_met_is_refused_with_the_best_reached():
    error = fit("never.fettle", "--budget", "kld=0.0000000001", status=1)["error"]
    assert "best reached is kld" in error, error
    assert not (SCRATCH / "never.fettle").exists()


@case
def the_same_plan_gives_the_same_bytes_for_any_number_of_threads():
    plan = SCRATCH / "mix.fettle/plan.json"
    fit("again1.fettle", "--plan", str(plan), "--threads", "1", "--no-verify")
    fit("again5.fettle", "--plan", str(plan), "--threads", "5", "--no-verify")
    first, second = digests(SCRATCH / "again1.fettle"), digests(SCRATCH / "again5.fettle")
    assert first == second, {k for k in first if first[k] != second.get(k)}
    weights = [k for k in first if k.startswith("weights-")]
    assert weights and all(first[k] == digests(SCRATCH / "mix.fettle")[k] for k in weights)


@case
def almost_no_memory_changes_nothing_but_the_time():
    plan = str(SCRATCH / "mix.fettle/plan.json")
    roomy = fit("roomy.fettle", "--plan", plan, "--no-cache")["certificate"]
    narrow = fit("narrow.fettle", "--plan", plan, "--memory-limit", "1M", "--no-cache")["certificate"]
    differing = {k for k in roomy if roomy[k] != narrow[k]}
    assert differing <= {"created", "speed", "model", "content_digest"} and roomy["kld"]["mean"] > 0, differing
    chosen = fit("chosen.fettle", "--budget", "kld=0.03", "--objective", "memory", "--memory-limit", "1M", "--no-verify")
    schemes = json.loads(Path(chosen["path"], "plan.json").read_text())["schemes"]
    assert schemes == json.loads(Path(plan).read_text())["schemes"]
    assert not list(SCRATCH.glob("*.fettle/spill*"))


@case
def killed_half_way_it_leaves_nothing_finished_and_goes_on():
    out = SCRATCH / "killed.fettle"
    command = [FETTLE, "fit", MODEL, "-o", out, "--text", TEXT, "--quiet"]
    for pause in (0.4, 0.9, 1.6, 2.5):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.wait()
        if child.returncode == 0 or out.exists():
            break
        assert not out.exists()
    if not out.exists():
        fettle("fit", MODEL, "-o", out, "--text", TEXT, "--quiet")
    fettle("verify", out, "--against", MODEL, "--text", TEXT, "--json")
    assert not Path(str(out) + ".job").exists()


@case
def what_is_there_is_not_overwritten_unasked():
    done = fettle("fit", MODEL, "-o", SCRATCH / "int8.fettle", status=2)
    assert "--force" in done.stderr


@case
def places_that_cannot_be_written_are_clear_errors():
    done = fettle("fit", MODEL, "-o", "/proc/nowhere/x.fettle", "--scheme", "int8", "--no-verify", status=3)
    assert "/proc/nowhere" in done.stderr, done.stderr


@case
def a_full_disk_is_a_clear_error():
    small = SCRATCH / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode != 0:
        raise Skip("needs the right to mount a small file system")
    try:
        done = fettle("fit", MODEL, "-o", small / "x.fettle", "--scheme", "int8", "--no-verify", status=5)
        assert "No space left" in done.stderr and "free some space" in done.stderr, done.stderr
        assert not (small / "x.fettle").exists()
    finally:
        subprocess.run(["umount", small], check=True)


@case
def a_damaged_artifact_is_refused():
    for name, change in (("plan.json", lambda b: b + b" "), ("graph.fir", lambda b: b.replace(b"eps=", b"eps=1", 1)),
                         ("weights-00001.bin", lambda b: b[:-1]), ("manifest.json", lambda b: b[: len(b) // 2])):
        copy = SCRATCH / "damaged.fettle"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(SCRATCH / "int8.fettle", copy)
        (copy / name).write_bytes(change((copy / name).read_bytes()))
        done = fettle("run", copy, "--prompt", "x", status=3)
        assert name in done.stderr, done.stderr
    copy = SCRATCH / "flipped.fettle"
    shutil.copytree(SCRATCH / "int8.fettle", copy)
    weights = bytearray((copy / "weights-00001.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "weights-00001.bin").write_bytes(weights)
    done = fettle("verify", copy, "--against", MODEL, status=3)
    assert "changed after fit" in done.stderr


@case
def logits_do_not_depend_on_chunks_or_threads():
    ids = json.loads(fettle("tokenize", MODEL, "--text", "What is 12 times 34? Reverse the word savings.", "--json").stdout)
    (SCRATCH / "ids.json").write_text(json.dumps(ids))
    first = None
    for arguments in ((), ("--chunk", "1"), ("--chunk", "5"), ("--threads", "1"), ("--threads", "3", "--chunk", "7")):
        out = SCRATCH / "logits.safetensors"
        fettle("logits", SCRATCH / "int8.fettle", "--ids", SCRATCH / "ids.json", "--out", out, *arguments)
        first = first or out.read_bytes()
        assert out.read_bytes() == first, arguments


@case
def verify_measures_tasks_and_reads_another_text():
    tasks = SCRATCH / "tasks.jsonl"
    tasks.write_text("".join(json.dumps({"task": "add", "prompt": f"Compute {a} + {b}.", "answer": str(a + b)}) + "\n"
                             for a, b in ((27, 48), (5, 9), (120, 33), (7, 70))))
    result = json.loads(
        fettle("verify", SCRATCH / "int8.fettle", "--against", MODEL, "--text", TEXT, "--tasks", tasks, "--json").stdout
    )
    (add,) = result["tasks"]
    assert add["name"] == "add" and add["count"] == 4 and add["source"] >= 0.75, add


@case
def a_source_remembered_changes_nothing():
    cache = Path(os.environ["FETTLE_CACHE"], "source")
    shutil.rmtree(cache, ignore_errors=True)
    arguments = ("verify", SCRATCH / "int8.fettle", "--against", MODEL, "--text", TEXT, "--json")
    kept = [json.loads(fettle(*arguments, *more).stdout) for more in (("--no-cache",), (), ())]
    entries = sorted(cache.iterdir())
    assert entries, "nothing is remembered"
    for entry in entries:  # damage is found, and costs time only
        data = bytearray(entry.read_bytes())
        data[len(data) // 3] ^= 1
        entry.write_bytes(data)
    kept.append(json.loads(fettle(*arguments).stdout))
    for other in kept[1:]:
        differing = {k for k in kept[0] if kept[0][k] != other[k]}
        assert differing <= {"created", "speed"}, differing
    assert len(kept[0]["model"]["digest"]) == 64, kept[0]["model"]


@case
def bad_input_is_named():
    assert "--against" in fettle("verify", SCRATCH / "int8.fettle", status=2).stderr
    assert "no-such" in fettle("run", "no-such", "--prompt", "x", status=3).stderr
    assert "'speed'" in fettle("fit", MODEL, "-o", SCRATCH / "x", "--objective", "speed", status=2).stderr
    assert "scheme" in fettle("fit", MODEL, "-o", SCRATCH / "x", "--scheme", "int3", status=2).stderr
    fettle("fit", MODEL, "-o", SCRATCH / "x", "--budget", "nonsense=1", status=2)
    fettle("frobnicate", status=2)


if __name__ == "__main__":
    main()
