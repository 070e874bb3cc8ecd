#!/usr/bin/env python3
"""A hub on a loopback port for tests: the listing and download interfaces of both hubs over generated repositories, and plain
files under /files/. Prints its port, serves until its standard input ends. With an argument, a PEM file of key and certificate,
it speaks TLS.

  /control/fault?path=END&kind=KIND&times=N&...   the next N requests whose path ends in END go wrong (N = -1: all)
  /control/clear                                   no faults, empty log
  /control/log                                     the requests since, as JSON
  /control/digest?repo=R&file=F                    SHA-256 of the true content

Faults: drop (after=BYTES), wrong (other bytes, same tag), norange, retag (other bytes and tag from now on), status (code=,
retry_after=, delay=), hang (seconds=), length (add=BYTES to Content-Length), slow (chunk=, pause=), redirect (to=),
nolength, notag, excess (sends more than the listing says, without a length), otherrange, weak (tags W/"...").
"""
import hashlib
import http.server
import json
import random
import ssl
import sys
import threading
import time
import urllib.parse

MEGABYTE = 1 << 20
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def noise(name, size, start=b""):
    return start + random.Random(name).randbytes(size - len(start))


def safetensors(name, size):
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + noise(name, size)


def index_of(*shards):
    return json.dumps({"metadata": {}, "weight_map": {f"t{i}": shard for i, shard in enumerate(shards)}}).encode()


SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
REPOS = {
    "acme/sharded": {
        "config.json": b'{"model_type": "tiny"}', "generation_config.json": b"{}", "tokenizer.json": noise("t", 9000),
        "tokenizer_config.json": b"{}", "chat_template.jinja": b"{{ messages }}", "LICENSE": b"free",
        "README.md": b"# sharded", ".gitattributes": b"*", "modeling_tiny.py": b"print()", "logo.png": noise("p", 500),
        "pytorch_model.bin": noise("b", 50000), "pytorch_model.bin.index.json": b"{}", "onnx/model.onnx": noise("o", 50000),
        "original/consolidated.00.pth": noise("c", 5000), "consolidated.safetensors": safetensors("c", 50000),
        "model.safetensors.index.json": index_of(*SHARDS),
        **{name: safetensors(name, 300000 + 1000 * i) for i, name in enumerate(SHARDS)}},
    "acme/big": {"config.json": b"{}", "model.safetensors": safetensors("big", 4 * MEGABYTE)},
    "acme/small": {"config.json": b"{}", "empty.json": b"", "model.safetensors": safetensors("small", 3000)},
    "acme/one-gguf": {"README.md": b"x", "one.Q4_1.gguf": noise("g", 20000, b"GGUF"), "mmproj-one.gguf": noise("m", 500, b"GGUF")},
    "acme/split-gguf": {f"Q8/split-0000{i}-of-00002.gguf": noise(f"s{i}", 20000, b"GGUF") for i in (1, 2)},
    "acme/many-gguf": {f"many.{q}.gguf": noise(q, 20000, b"GGUF") for q in ("Q4_K_M", "Q8_0", "F16")},
    "acme/pickle": {"config.json": b"{}", "pytorch_model.bin": noise("b", 100)},
    "acme/broken-index": {"config.json": b"{}", "model.safetensors.index.json": index_of("model-00009-of-00009.safetensors"),
                          "model-00001-of-00001.safetensors": safetensors("x", 100)},
    "acme/hostile-index": {"config.json": b"{}", "model.safetensors.index.json": index_of("../../outside.safetensors"),
                           "model.safetensors": safetensors("x", 100)},
    "acme/secret": {"config.json": b"{}", "model.safetensors": safetensors("secret", 3000)},
}
EVIL_NAMES = {
    "dotdot": "../outside.json", "inner": "a/../../outside.json", "absolute": "/tmp/outside.json", "backslash": "a\\b.json",
    "nul": "a\u0000b.json", "empty": "", "slash": "a//b.json", "dot": "./a.json", "own": "fettle-pull.json",
    "part": "model.safetensors.part", "long": "a" * 300 + ".json", "newline": "a\nb.json"}
EVIL_SIZES = {"negative": -1, "huge": 1 << 60, "text": "12", "fraction": 1.5}
TOKEN = "hf_right"
FILES = {"model.gguf": noise("u", 3 * MEGABYTE, b"GGUF"), "page.gguf": b"<!DOCTYPE html><p>log in</p>",
         "model.safetensors": safetensors("u", 5000)}

lock = threading.Lock()
faults, log, retagged = [], [], set()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def take_faults(path):
    taken = []
    with lock:
        for fault in list(faults):
            if path.endswith(fault["path"]) and fault["times"] != 0:
                fault["times"] -= 1
                taken.append(fault)
    return {fault["kind"]: fault for fault in taken}


def evil_siblings(kind):
    good = [{"rfilename": name, "size": len(data)} for name, data in REPOS["acme/small"].items()]
    if kind == "twice":
        return good + good
    if kind == "digest":
        return [dict(entry, lfs={"sha256": "../../x"}) for entry in good]
    if kind in EVIL_SIZES:
        return good + [{"rfilename": "extra.json", "size": EVIL_SIZES[kind]}]
    if kind == "disk":  # believable one by one, too much together
        return good[:1] + [{"rfilename": f"w{i}.safetensors", "size": 1 << 45} for i in range(64)]
    return good + [{"rfilename": EVIL_NAMES[kind], "size": 1}]


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body, headers=(), content_type="application/json"):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", content_type), ("Content-Length", len(body)), *headers):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = {key: values[-1] for key, values in urllib.parse.parse_qs(url.query, keep_blank_values=True).items()}
        path = urllib.parse.unquote(url.path)
        if path.startswith("/control/"):
            return self.control(path, query)
        if path.endswith("/repo") and "FilePath" in query:
            path += "/" + query["FilePath"]
        entry = {"path": path, "revision": query.get("Revision", ""), "sent": 0, "at": time.monotonic(),
                 "host": self.headers.get("Host", "")}
        for name in ("Range", "If-Range", "Authorization", "Cookie"):
            entry[name.lower()] = self.headers.get(name, "")
        with lock:
            log.append(entry)
        try:
            self.route(path, query, entry, take_faults(path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def control(self, path, query):
        with lock:
            if path.endswith("/fault"):
                faults.append(dict(query, times=int(query.get("times", 1))))
            elif path.endswith("/clear"):
                faults.clear(), log.clear(), retagged.clear()
            elif path.endswith("/digest"):
                files = REPOS[query["repo"]] if "repo" in query else FILES
                return self.answer(200, {"sha256": sha256(files[query["file"]]), "size": len(files[query["file"]])})
            return self.answer(200, log)

    def route(self, path, query, entry, active):
        if "hang" in active:
            time.sleep(float(active["hang"]["seconds"]))
            self.close_connection = True
            return None
        if "status" in active:
            fault = active["status"]
            time.sleep(float(fault.get("delay", 0)))
            headers = [("Retry-After", fault["retry_after"])] if "retry_after" in fault else []
            return self.answer(int(fault["code"]), {"error": "not \u001b[31mnow"}, headers)
        if "redirect" in active:
            return self.answer(302, b"", [("Location", active["redirect"]["to"])])
        if "/secret" in path and self.headers.get("Authorization") != "Bearer " + TOKEN:
            return self.answer(401, {"error": "Invalid credentials"})
        data = self.find(path, query)
        if data is None:
            return self.answer(404, {"error": "Repository or entry not found"})
        if isinstance(data, (dict, list)):
            return self.answer(200, data)
        return self.send_file(path, data, entry, active)

    def find(self, path, query):
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.hugging_face_listing("/".join(parts[2:4]), parts[5])
        if parts[:3] == ["api", "v1", "models"]:
            repo = REPOS.get("/".join(parts[3:5]))
            if repo is None:
                return {"Code": 10010205001, "Message": "record not found", "Success": False}
            if parts[5:7] == ["repo", "files"]:
                return self.model_scope_listing(repo)
            return repo.get(query["FilePath"])
        if parts[0] == "files":
            return FILES.get(parts[1])
        if len(parts) > 4 and parts[2] == "resolve" and parts[3] == COMMIT:
            return REPOS.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
        return None

    def hugging_face_listing(self, repo, revision):
        if repo.startswith("acme/evil-"):
            return {"sha": COMMIT, "siblings": evil_siblings(repo[len("acme/evil-"):])}
        if repo == "acme/no-commit":
            return {"sha": "../..", "siblings": []}
        if repo not in REPOS or revision not in ("main", "v1.0", "refs%2Fpr%2F1", "refs/pr/1", "refs"):
            return None
        siblings = []
        for name, data in REPOS[repo].items():
            entry = {"rfilename": name, "size": len(data), "blobId": "0"}
            if name.endswith((".safetensors", ".gguf", ".bin")):
                entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        return {"id": repo, "sha": COMMIT, "siblings": siblings}

    def model_scope_listing(self, repo):
        files = [{"Name": name.split("/")[-1], "Path": name, "Size": len(data), "Sha256": sha256(data), "Type": "blob"}
                 for name, data in repo.items()]
        folders = {name.split("/")[0] for name in repo if "/" in name}
        files += [{"Name": name, "Path": name, "Size": 0, "Sha256": "", "Type": "tree"} for name in folders]
        return {"Code": 200, "Success": True, "Message": "", "Data": {"Files": files}}

    def send_file(self, path, data, entry, active):
        if "retag" in active:
            retagged.add(path)
        tag = '"' + sha256(data)[:16] + '"'
        if path in retagged:
            data, tag = data[:100] + bytes(len(data) - 100), '"changed"'
        if "weak" in active:
            tag = "W/" + tag
        if "wrong" in active:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start, wanted = 0, self.headers.get("Range", "")
        if_range = self.headers.get("If-Range", "")
        if wanted.startswith("bytes=") and "norange" not in active and if_range in ("", tag):
            start = int(wanted[6:].split("-")[0])
            if start >= len(data):
                return self.answer(416, b"", [("Content-Range", f"bytes */{len(data)}")])
        shown = start + 1 if "otherrange" in active and start else start
        self.send_response(206 if start else 200)
        if "notag" not in active:
            self.send_header("ETag", tag)
        if start:
            self.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{len(data)}")
        if "excess" in active:
            data += bytes(100000)
        if "nolength" in active or "excess" in active:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(data) - start + int(active.get("length", {}).get("add", 0))))
        self.end_headers()
        self.send_body(data[start:], entry, active)

    def send_body(self, body, entry, active):
        if "drop" in active:
            body = body[:int(active["drop"]["after"])]
        slow = active.get("slow", {"chunk": 1 << 16, "pause": 0})
        chunk, pause = int(slow["chunk"]), float(slow["pause"])
        for at in range(0, len(body), chunk):
            self.wfile.write(body[at:at + chunk])
            entry["sent"] += len(body[at:at + chunk])
            if pause:
                time.sleep(pause)
        if "drop" in active or "length" in active:
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that are killed are part of the tests


def main():
    server = Server(("127.0.0.1", 0), Hub)
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
