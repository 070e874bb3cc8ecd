#!/usr/bin/env python3
"""Large models in small: a checkpoint of many experts in several shards of e4m3 blocks is packed within little memory,
and a job killed half-way goes on to the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helper"))
from cases import DATA, FETTLE, ROOT, SCRATCH, case, fettle, main  # noqa: E402

MODEL = SCRATCH / "many-experts"
SHAPE = ["--shape", "v3-layers", "--hidden", 1024, "--heads", 8, "--q-lora", 256, "--kv-lora", 128, "--ffn", 2048,
         "--experts", 96, "--expert-ffn", 512, "--vocab", 4096, "--shard-bytes", 40 << 20]
PACK = ["--scheme", "int8", "--no-verify", "--json", "--threads", "2"]


def anonymous_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def digest(out: Path) -> str:
    return json.loads((out / "manifest.json").read_text())["content_digest"]


@case
def the_same_arguments_make_the_same_checkpoint():
    maker = [sys.executable, ROOT / "tests/tools/make_model.py"]
    for name in ("once", "twice"):
        subprocess.run([*maker, SCRATCH / name, "--fp8", "--layers", "2", "--hidden", "256", "--heads", "4", "--ffn",
                        "256", "--experts", "4", "--top", "2", "--vocab", "512"], check=True)
    once, twice = ((SCRATCH / name / "model.safetensors").read_bytes() for name in ("once", "twice"))
    assert once == twice and len(once) > 3 << 20
    subprocess.run([*maker, MODEL, "--fp8", "--tokenizer", DATA / "tiny-distill", *map(str, SHAPE)], check=True)
    assert len(list(MODEL.glob("model-*.safetensors"))) > 3
    inspected = json.loads(fettle("inspect", MODEL, "--json").stdout)
    assert not inspected["warnings"], inspected["warnings"]


@case
def packing_holds_a_few_pieces_not_the_model():
    out = SCRATCH / "whole.fettle"
    fettle("targets", "local")  # the machine is measured once, with buffers of its own
    child = subprocess.Popen([FETTLE, "fit", MODEL, "-o", out, *PACK], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while child.poll() is None:
        peak = max(peak, anonymous_bytes(child.pid))
        time.sleep(0.002)
    assert child.returncode == 0, child.stderr.read().decode()
    size = sum(f.stat().st_size for f in out.glob("weights-*.bin"))
    print(f"peak anonymous memory {peak >> 20} MiB, weights {size >> 20} MiB")
    assert 0 < peak < size / 2, (peak, size)


@case
def killed_half_way_it_goes_on_to_the_same_bytes():
    out, journal = SCRATCH / "killed.fettle", SCRATCH / "killed.fettle.job" / "journal.jsonl"
    command = [FETTLE, "fit", MODEL, "-o", out, *PACK]
    kept = []
    for wanted in (10, 40):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while child.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < wanted):
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not out.exists(), "it was done before it could be killed"
        kept.append(journal.read_bytes())
    assert kept[1].startswith(kept[0][: kept[0].rfind(b"\n")]), "the second run did not go on where the first was"
    fettle("fit", MODEL, "-o", out, *PACK)
    assert digest(out) == digest(SCRATCH / "whole.fettle")
    for entry in json.loads((out / "manifest.json").read_text())["files"]:
        digest_of_file = subprocess.run(["sha256sum", out / entry["name"]], capture_output=True, text=True, check=True)
        assert digest_of_file.stdout.split()[0] == entry["sha256"], entry["name"]


@case
def a_changed_source_is_not_gone_on_with():
    out, journal = SCRATCH / "changed.fettle", SCRATCH / "changed.fettle.job" / "journal.jsonl"
    child = subprocess.Popen([FETTLE, "fit", MODEL, "-o", out, *PACK], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 10):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = journal.read_bytes().splitlines()[0]
    shard = sorted(MODEL.glob("model-*.safetensors"))[-1]
    with open(shard, "r+b") as f:
        f.seek(-1, os.SEEK_END)
        last = f.read(1)
        f.seek(-1, os.SEEK_END)
        f.write(bytes([last[0] ^ 1]))
    child = subprocess.Popen([FETTLE, "fit", MODEL, "-o", out, *PACK], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and journal.read_bytes().splitlines()[:1] in ([before], []):
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert out.exists() or journal.read_bytes().splitlines()[0] != before


if __name__ == "__main__":
    main()
