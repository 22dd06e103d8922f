"""Starts nodes, puts load on them, and prints tables. Called by run.sh, which has built the binaries."""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

BINARIES = pathlib.Path(sys.argv[1])
SECONDS = float(os.environ.get("BENCH_SECONDS", "10"))
MEMORY_OBJECTS = int(os.environ.get("MEMORY_OBJECTS", "1000000"))
FOLDER = os.environ.get("BENCH_FOLDER") or None
CLIENTS = [1, 16, 64]
CREDENTIALS = {"ENTANGLE_ACCESS_KEY": "BENCHKEY", "ENTANGLE_SECRET_KEY": "bench-secret-0123456789"}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Node:
    """A node in a folder of its own, with variables of its own."""

    def __init__(self, folder, **variables):
        self.ports = free_ports()
        self.log = open(folder / "node.log", "ab")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTANGLE_")}
        self.process = subprocess.Popen(
            [BINARIES / "entangle", "serve", "--data", folder / "data"]
            + ["--s3", f"127.0.0.1:{self.ports[0]}", "--admin", f"127.0.0.1:{self.ports[1]}"],
            env={**environment, **CREDENTIALS, **variables},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                self.admin("/readyz")
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the node did not become ready:\n{(folder / 'node.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def admin(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[1]}{path}", timeout=10) as answer:
            return answer.read().decode()

    def metric(self, name):
        found = re.search(rf"^{name} ([0-9.e+]+)$", self.admin("/metrics"), re.MULTILINE)
        if not found:
            raise SystemExit(f"/metrics has no {name}")
        return float(found.group(1))

    def memory_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE).group(1)) / 1024

    def load(self, op, size, clients, seconds=SECONDS, **options):
        """Runs the load generator; its report, with the PUTs per flush."""
        arguments = ["--op", op, "--size", size, "--clients", clients, "--seconds", seconds]
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), value]
        flushes, records = self.metric("entangle_journal_flushes_total"), self.metric("entangle_commands_executed_total")
        output = subprocess.run(
            [BINARIES / "bench", "--endpoint", f"http://127.0.0.1:{self.ports[0]}", "--json", *map(str, arguments)],
            env={**os.environ, **CREDENTIALS},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        report = json.loads(output)
        if report["errors"]:
            say(f"  failed requests by status: {report['errors']}")
        flushes = self.metric("entangle_journal_flushes_total") - flushes
        report["per_flush"] = (self.metric("entangle_commands_executed_total") - records) / flushes if flushes else 0
        say(f"  {op} {size}, {clients} clients: {report['per_second']:.0f}/s, p50 {report['p50_us']} us, p99 {report['p99_us']} us")
        return report

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)
        self.log.close()


@contextlib.contextmanager
def node(**variables):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="entangle-bench-", dir=FOLDER))
    started = Node(folder, **variables)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_ports():
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def ms(microseconds):
    return f"{microseconds / 1000:.2f} ms"


def rate(report):
    return f"{report['per_second']:,.0f}/s"


def table(title, head, rows):
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join(["---"] + ["---:"] * (len(head) - 1)) + " |")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    sys.stdout.flush()


def throughput(one):
    rows = []
    for clients in CLIENTS:
        put, get = one.load("put", "1KiB", clients), one.load("get", "1KiB", clients)
        rows.append(
            [clients, rate(put), ms(put["p50_us"]), ms(put["p99_us"]), f"{put['per_flush']:.1f}"]
            + [rate(get), ms(get["p50_us"]), ms(get["p99_us"])]
        )
    return rows


HEAD = ["clients", "PUT", "p50", "p99", "PUTs per flush", "GET", "p50", "p99"]


def small():
    with node() as one:
        table("1 KiB objects, the disk as it is", HEAD, throughput(one))


def flush():
    with node(ENTANGLE_FLUSH_DELAY_MS="5") as one:
        table("1 KiB objects, every flush delayed by 5 ms", HEAD, throughput(one))


def large():
    with node() as one:
        rows = []
        for clients in [1, 4, 16]:
            put = one.load("put", "8MiB", clients)
            get = one.load("get", "8MiB", clients, keys=32)
            rows.append(
                [clients, f"{put['megabytes_per_second']:,.0f} MB/s", ms(put["p50_us"]), ms(put["p99_us"])]
                + [f"{get['megabytes_per_second']:,.0f} MB/s", ms(get["p50_us"]), ms(get["p99_us"])]
            )
        table("8 MiB objects", ["clients", "PUT", "p50", "p99", "GET", "p50", "p99"], rows)


def ledger():
    """On and off in turn, so that what else the machine does falls on both."""
    found = {"on": [], "off": []}
    for _ in range(3):
        for setting in found:
            with node(**({"ENTANGLE_BENCH_LEDGER": "off"} if setting == "off" else {})) as one:
                found[setting].append(one.load("put", "1KiB", 64))
    rows = []
    for setting, reports in found.items():
        median = sorted(reports, key=lambda report: report["per_second"])[len(reports) // 2]
        rows.append([setting, rate(median), ms(median["p50_us"]), ms(median["p99_us"])])
    table("The ledger on and off: 1 KiB PUTs, 64 clients, median of 3", ["ledger", "PUT", "p50", "p99"], rows)


def memory():
    with node() as one:
        rows = [["after the start", "0", f"{one.memory_mib():.0f} MiB"]]
        steps = [MEMORY_OBJECTS // 10, MEMORY_OBJECTS - MEMORY_OBJECTS // 10]
        written = 0
        for step in steps:
            one.load("put", "100B", 64, requests=step, warm_up=0)
            written += step
            rows.append(["written", f"{written:,}", f"{one.memory_mib():.0f} MiB"])
        one.load("get", "100B", 64)
        rows.append(["and read", f"{written:,}", f"{one.memory_mib():.0f} MiB"])
        table("Memory (resident) with objects of 100 bytes", ["", "objects", "memory"], rows)


TABLES = {"small": small, "large": large, "flush": flush, "ledger": ledger, "memory": memory}


def main():
    wanted = sys.argv[2:] or list(TABLES)
    unknown = [name for name in wanted if name not in TABLES]
    if unknown:
        raise SystemExit(f"no such table: {', '.join(unknown)}; there are {', '.join(TABLES)}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    cpu = "unknown CPU"
    with contextlib.suppress(OSError):
        cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    print(f"{datetime.date.today()}, commit {commit or 'unknown'}, {os.cpu_count()} cores ({cpu}), {platform.system()} {platform.release()};")
    print("the load generator runs on the same cores.")
    for name in wanted:
        say(f"-- {name}")
        TABLES[name]()


if __name__ == "__main__":
    main()
