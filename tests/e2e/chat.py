#!/usr/bin/env python3
"""fettle chat as a person has it, on a terminal, and as a script has it, through pipes."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helper"))
from cases import DATA, FETTLE, SCRATCH, case, fettle, main  # noqa: E402

MODEL = DATA / "tiny-distill"
GREEDY = ["--temperature", "0"]
# Slow enough that a key pressed during a reply comes before its end.
ENDLESS = ["--ignore-eos", "--isa", "scalar", "--threads", "1", "--max-tokens", "100000"]
CTRL_C, CTRL_D = b"\x03", b"\x04"


class Terminal:
    """fettle chat on a terminal of its own."""

    def __init__(self, *arguments: str):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(FETTLE, [FETTLE, "chat", str(MODEL), *arguments])
        self.seen = ""
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def _read(self, until: float) -> bool:
        if not select.select([self.fd], [], [], max(0.0, until - time.monotonic()))[0]:
            raise AssertionError(f"nothing more came: {self.seen!r}")
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux says so when the other side is closed
            data = b""
        self.seen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, pattern: str, timeout_s: float = 120) -> str:
        """Waits for the pattern; gives what came up to its end, which is then forgotten."""
        until = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.seen)):
            if not self._read(until):
                raise AssertionError(f"ended without {pattern!r}: {self.seen!r}")
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def send(self, keys) -> None:
        os.write(self.fd, keys if isinstance(keys, bytes) else keys.encode())

    def say(self, line: str) -> str:
        """One message and what follows it up to the next prompt, without the message itself."""
        self.send(line + "\n")
        self.expect(re.escape(line) + "\n")
        return self.expect("\n> $")[: -len("\n> ")]

    def end(self) -> int:
        until = time.monotonic() + 60
        while self._read(until):
            pass
        self.ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def answer_to(messages: list) -> str:
    """What the model answers to a conversation that it sees for the first time, without the reasoning."""
    file, prompt = SCRATCH / "messages.json", SCRATCH / "prompt.txt"
    file.write_text(json.dumps(messages))
    prompt.write_text(fettle("template", MODEL, "--messages", file).stdout)
    done = fettle("run", MODEL, "--raw", "--prompt-file", prompt, "--max-tokens", 1000, *GREEDY, "--json")
    return json.loads(done.stdout)["text"].split("</think>")[-1]


def piped(lines, *arguments: str) -> subprocess.CompletedProcess:
    data = lines if isinstance(lines, bytes) else lines.encode()
    return subprocess.run([FETTLE, "chat", MODEL, *arguments], input=data, capture_output=True, timeout=300)


@case
def two_turns_and_ctrl_d():
    with Terminal(*GREEDY) as chat:
        assert "/help" in chat.expect("\n> $")
        first = chat.say("Compute 27 + 48.")
        assert first.strip().endswith("75"), first
        assert chat.say("Compute 20 + 11.").strip()
        chat.send(CTRL_D)
        status = chat.end()
        assert status == 0, (status, chat.seen)


@case
def reasoning_is_hidden_when_asked():
    with Terminal(*GREEDY) as chat:
        chat.expect("\n> $")
        plain = chat.say("Compute 27 + 48.")
    with Terminal(*GREEDY, "--hide-reasoning") as chat:
        chat.expect("\n> $")
        hidden = chat.say("Compute 27 + 48.")
    assert "\x1b[2m" in plain and "\x1b" not in hidden and len(hidden) < len(plain), (plain, hidden)


@case
def ctrl_c_stops_a_reply_and_not_the_program():
    with Terminal(*GREEDY, *ENDLESS) as chat:
        chat.expect("\n> $")
        for _ in range(2):  # a stopped reply leaves the conversation able to go on
            chat.send("Compute 27 + 48.\n")
            chat.expect(r"48\.\n")
            chat.expect(r"\w")
            chat.send(CTRL_C)
            chat.expect(r"\(stopped\)\n\n> $")
        chat.send("/exit\n")
        status = chat.end()
        assert status == 0, (status, chat.seen)


@case
def ctrl_c_at_the_prompt_gives_up_the_line():
    with Terminal(*GREEDY) as chat:
        chat.expect("\n> $")
        chat.send("Compute 1 + ")
        chat.expect(r"1 \+ ")
        chat.send(CTRL_C)
        assert "Ctrl-D" in chat.expect("\n> $")
        answer = chat.say("Compute 27 + 48.")
        assert answer.strip().endswith("75"), answer
        chat.send(CTRL_D)
        assert chat.end() == 0


@case
def commands_are_not_sent_to_the_model():
    with Terminal(*GREEDY) as chat:
        chat.expect("\n> $")
        assert "/clear" in chat.say("/help")
        assert "unknown command" in chat.say("/nonsense")
        assert chat.say("") == ""
        fresh = chat.say("Compute 27 + 48.")
        assert "anew" in chat.say("/clear")
        again = chat.say("Compute 27 + 48.")
        assert again == fresh, (fresh, again)
        chat.send("/exit\n")
        assert chat.end() == 0


@case
def a_conversation_that_outgrows_the_context_can_start_anew():
    with Terminal(*GREEDY, "--context", "64", "--ignore-eos") as chat:
        chat.expect("\n> $")
        assert "cut off" in chat.say("Compute 27 + 48.")
        refused = chat.say("word " * 200)
        assert "context" in refused, refused
        chat.say("/clear")
        assert "cut off" in chat.say("Compute 27 + 48.")
        chat.send(CTRL_D)
        assert chat.end() == 0


@case
def a_script_gets_replies_only():
    done = piped("Compute 27 + 48.\n\r\nCompute 20 + 11.", *GREEDY, "--hide-reasoning")
    assert done.returncode == 0 and done.stderr == b"", done
    conversation = [{"role": "user", "content": "Compute 27 + 48."}]
    first = answer_to(conversation)
    conversation += [{"role": "assistant", "content": first}, {"role": "user", "content": "Compute 20 + 11."}]
    assert "75" in first and done.stdout.decode() == f"{first}\n{answer_to(conversation)}\n", done.stdout


@case
def a_script_without_a_line_gets_nothing():
    for nothing in (b"", b"\n\n"):
        done = piped(nothing)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done


@case
def bytes_that_are_no_text_are_no_trouble():
    done = piped(b"\xff\xfe\x00 \xc3\n/help\n", *GREEDY, "--max-tokens", "5")
    assert done.returncode == 0, done.stderr


@case
def a_script_ends_with_its_first_error():
    done = piped("word " * 2000 + "\nCompute 1 + 1.\n", *GREEDY)
    assert done.returncode == 2 and b"context" in done.stderr and done.stdout == b"", done


@case
def json_is_refused():
    done = piped("", "--json")
    assert done.returncode == 2 and b"fettle run" in done.stderr, done


if __name__ == "__main__":
    main()
