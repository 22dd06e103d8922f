"""Measures a cluster over an emulated wide-area network, one region after the other and all at once, and writes tables.

Called by wan.sh, which has built the binaries. Every system is a class with `start`, `members` and `stop` (see
`Entangle`): others can be measured in the same network under the same load.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import ctypes
import datetime
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
CREDENTIALS = {"ENTANGLE_ACCESS_KEY": "BENCHKEY", "ENTANGLE_SECRET_KEY": "bench-secret-0123456789"}
BUCKET = "wan"
S3_PORT, ADMIN_PORT, MESH_PORT, LONE_PORT = 9000, 9600, 9700, 9001

# Round trips in milliseconds. GCP: rtt_gcp.csv, which `entangle demo` carries. AWS: rtt_aws.csv of the same origin.
SETS = {
    "gcp3": ("rtt_gcp.csv", ["us-east4", "europe-west2", "asia-northeast1"]),
    "aws5": ("rtt_aws.csv", ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-northeast-1"]),
    "sample": ("rtt_sample.csv", ["us-east", "us-central", "us-west", "eu-west", "ap-northeast"]),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Unmet(Exception):
    """What this needs and the machine has not."""


def needs(tool):
    """Says all that is missing, and how to get it."""
    missing = []
    if not tool:
        missing.append("the emulator: give the path of the program `wan` with --wan or ENTANGLE_WAN")
    elif not (shutil.which(tool) and os.access(shutil.which(tool), os.X_OK)):
        missing.append(f"the emulator: {tool} is no program; build it with `cargo build --release` in its folder")
    if os.geteuid() != 0:
        missing.append("root, to make network namespaces")
    if not pathlib.Path("/dev/net/tun").exists():
        missing.append("TUN devices: there is no /dev/net/tun (modprobe tun)")
    if not shutil.which("ip"):
        missing.append("the program `ip` (iproute2)")
    if missing:
        raise Unmet("cannot emulate a wide-area network here; missing:\n  - " + "\n  - ".join(missing))


class Wan:
    """The emulated network: a namespace for each region."""

    def __init__(self, tool, matrix, regions, folder):
        self.tool, self.regions = shutil.which(tool), regions
        self.name = f"ew{os.getpid() % 100_000}"
        self.state = folder / "wan"
        self.state.mkdir()
        self.matrix = {a: {b: matrix[a][b] for b in regions} for a in regions}
        self.file = folder / "matrix.csv"
        with open(self.file, "w", newline="") as out:
            rows = csv.writer(out)
            rows.writerow(["region", *regions])
            rows.writerows([a, *(self.matrix[a][b] for b in regions)] for a in regions)

    def call(self, *arguments, **options):
        command = [self.tool, "--name", self.name, "--state-dir", str(self.state), *map(str, arguments)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout

    def __enter__(self):
        self.call("up", "--matrix", self.file, "--regions", ",".join(self.regions), "--daemon")
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.call("down")

    def command(self, region, command):
        return [self.tool, "--name", self.name, "--state-dir", str(self.state), "exec", region, "--", *map(str, command)]

    def address(self, region):
        return f"10.77.{self.regions.index(region) + 1}.1"

    def check(self):
        """Medians of the round trips as they are measured, by pair."""
        rows = csv.DictReader(self.call("check", "--count", 50, "--interval-ms", 20).splitlines())
        return {(row["from"], row["to"]): float(row["p50_ms"]) for row in rows}

    def lateness(self):
        """How late packets were handed over, in microseconds: the mean over links, and the worst."""
        links = json.loads(self.call("show", "--json"))
        links = links.get("links", links) if isinstance(links, dict) else links
        stats = [link["stats"] for link in links]
        packets = max(1, sum(one["packets"] for one in stats))
        return sum(one["late_sum_ns"] for one in stats) / packets / 1000, max(one["late_max_ns"] for one in stats) / 1000

    def inside(self, region, act):
        """Does something in a thread that is in the namespace of a region."""
        found = concurrent.futures.Future()

        def enter():
            try:
                with open(f"/run/netns/{self.name}-{region}") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0x40000000) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                found.set_result(act())
            except BaseException as error:
                found.set_exception(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return found.result()

    def get(self, region, port, path):
        def act():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        return self.inside(region, act)


def until(what, seconds, ask):
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := ask():
                return found
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not come about within {seconds} s that {what}")
        time.sleep(0.05)


class Entangle:
    """A cluster with a node in each region."""

    def __init__(self, wan, binaries, folder, options):
        self.wan, self.folder, self.options = wan, folder, options
        self.binary = binaries / "entangle"
        self.processes = {}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTANGLE_")}
        self.environment |= CREDENTIALS
        if options.flush_ms:
            self.environment["ENTANGLE_FLUSH_DELAY_MS"] = str(options.flush_ms)

    def ask(self, region, *command):
        """Runs a command of the program to its end beside a node."""
        done = subprocess.run(
            self.wan.command(region, [self.binary, *command]),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"entangle {' '.join(map(str, command))} in {region}: {done.stderr}")
        return done.stdout.strip()

    def serve(self, name, region, *arguments):
        log = open(self.folder / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(
            self.wan.command(region, [self.binary, "serve", "--data", self.folder / name, "--region", region, *arguments]),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def start(self):
        first = self.wan.regions[0]
        for region in self.wan.regions:
            mesh = f"{self.wan.address(region)}:{MESH_PORT}"
            where = ["--mesh", mesh, "--s3", f"127.0.0.1:{S3_PORT}", "--admin", f"127.0.0.1:{ADMIN_PORT}"]
            if region == first:
                self.ask(first, "cluster", "init", "--data", first, "--name", first, "--region", first, "--mesh", mesh)
                self.serve(region, region, *where)
                self.until_ready(region)
                continue
            token = self.ask(first, "cluster", "token", "--data", first)
            self.serve(region, region, "--name", region, "--join", token, *where)
            until(f"{region} has joined", 60, lambda region=region: self.wan.get(region, ADMIN_PORT, "/healthz"))
            # How a node is reached takes a moment to get about.
            until(f"{region} is a member", 90, lambda region=region: self.add(first, region))
            self.until_ready(region)
        if self.options.faults:
            self.ask(first, "cluster", "faults", self.options.faults)
        if self.options.leases:
            bench(self, first, "put", keys=1, requests=1, warm_up=0)
            self.ask(first, "cluster", "zone", f"s3://{BUCKET}", "--leases", self.options.leases)

    def add(self, first, region):
        try:
            self.ask(first, "cluster", "add", region)
        except SystemExit as refused:
            say(f"  again: {refused}".rstrip())
            time.sleep(0.5)
            return False
        return True

    def until_ready(self, region):
        until(f"{region} is ready", 90, lambda: self.wan.get(region, ADMIN_PORT, "/readyz")[0] == 200)

    def lone(self, region):
        """A lone node on the loopback of a region, to compare with."""
        self.serve(f"lone-{region}", region, "--s3", f"127.0.0.1:{LONE_PORT}", "--admin", "off")
        until(f"the lone node in {region} answers", 60, lambda: self.wan.get(region, LONE_PORT, "/")[0])

    def faults(self):
        return json.loads(self.ask(self.wan.regions[0], "status", "--json"))["status"]["faults"]

    def metrics(self, region):
        text = self.wan.get(region, ADMIN_PORT, "/metrics")[1]
        return {name: float(value) for name, value in re.findall(r"^([a-z_]+) ([0-9.e+]+)$", text, re.MULTILINE)}

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                say(f"{name} does not end on SIGTERM and is killed")
                process.kill()
                process.wait()


def bench(system, region, op, port=S3_PORT, log=None, **options):
    """Starts the load generator beside a node; a handle that gives its report."""
    arguments = ["--endpoint", f"http://127.0.0.1:{port}", "--bucket", BUCKET, "--op", op, "--json"]
    for name, value in options.items():
        arguments += ["--" + name.replace("_", "-"), value]
    if log:
        arguments += ["--log", log]
    process = subprocess.Popen(
        system.wan.command(region, [system.binary.with_name("bench"), *arguments]),
        env={**os.environ, **CREDENTIALS},
        stdout=subprocess.PIPE,
        text=True,
    )

    def finish():
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the load in {region} failed")
        return json.loads(output)

    return finish


def everywhere(system, op, log=None, **options):
    """The same load in every region at once; the reports by region."""
    running = {
        region: bench(system, region, op, log=log and system.options.out / f"{log}-{region}.csv", **options)
        for region in system.wan.regions
    }
    return {region: finish() for region, finish in running.items()}


def nearest(trips, region, regions, size):
    """The round trip to the nearest others that make a quorum of this size with a region."""
    return sorted(trips(region, other) for other in regions if other != region)[size - 2]


def limits(wan, measured, faults, leases):
    n = len(wan.regions)
    majority, fast = n // 2 + 1, max(n // 2 + 1, n // 2 + faults)
    size = n if leases else fast
    by_matrix = lambda a, b: (wan.matrix[a][b] + wan.matrix[b][a]) / 2
    found = {}
    for region in wan.regions:
        found[region] = {
            "majority_ms": nearest(by_matrix, region, wan.regions, majority),
            "limit_ms": nearest(by_matrix, region, wan.regions, size),
            "limit_measured_ms": nearest(lambda a, b: measured[a, b], region, wan.regions, size),
        }
    return found


def table(out, head, rows):
    print("| " + " | ".join(head) + " |", file=out)
    print("| " + " | ".join(["---"] + ["---:"] * (len(head) - 1)) + " |", file=out)
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", file=out)
    print(file=out)


def ms(us):
    return f"{us / 1000:.1f}"


def measure(system, name):
    wan, options = system.wan, system.options
    faults = system.faults()
    reach = limits(wan, wan.check(), faults, options.leases)
    low = {"clients": 8, "rate": options.rate, "size": "1KiB", "warm_up": 3, "seconds": options.seconds}
    before = {region: system.metrics(region) for region in wan.regions}
    writes = everywhere(system, "put", log=f"{name}-put", **low)
    after = {region: system.metrics(region) for region in wan.regions}
    reads = everywhere(system, "get", log=f"{name}-get", keys=20, **{**low, "warm_up": 1})
    lone = {}
    for region in wan.regions:
        if options.leases or region == wan.regions[0]:
            system.lone(region)
            lone[region] = bench(system, region, "get", port=LONE_PORT, keys=20, **{**low, "warm_up": 1})()
    regions = {}
    for region in wan.regions:
        put, get, limit = writes[region], reads[region], reach[region]
        bound = limit["limit_ms"] * 1.05 + 5
        rose = lambda name: after[region][f"entangle_journal_{name}_total"] - before[region][f"entangle_journal_{name}_total"]
        flushes = rose("flushes")
        one = {**limit, "bound_ms": bound, "put": put, "get": get, "passes": put["p50_us"] / 1000 <= bound}
        one["flushes_per_second"] = flushes / (put["seconds"] + low["warm_up"])
        one["flush_mean_ms"] = rose("flush_microseconds") / max(1, flushes) / 1000
        one["loopback_get"] = lone.get(region) or lone[wan.regions[0]]
        if options.leases:
            one["get_passes"] = get["p50_us"] - one["loopback_get"]["p50_us"] <= 1000
        regions[region] = one
    return {"set": name, "faults": faults, "leases": options.leases, "flush_ms": options.flush_ms, "rate": options.rate,
            "late_us": wan.lateness(), "regions": regions}


def show(out, result):
    what = f"leases {result['leases']}" if result["leases"] else "leases off"
    flush = f", every flush + {result['flush_ms']} ms" if result["flush_ms"] else ""
    count = len(result["regions"])
    print(f"### {result['set']}: {count} regions, f = {result['faults']}, {what}{flush}\n", file=out)
    print(f"Every region at once, {result['rate']} requests a second each, 1 KiB, distinct keys; milliseconds.", file=out)
    print("Limit: round trip to the " + ("farthest holder" if result["leases"] else "nearest fast quorum"), end="", file=out)
    print(" (as measured by `wan check` in brackets); bound: limit + 5 % + 5 ms.\n", file=out)
    rows = []
    for region, one in result["regions"].items():
        put, get = one["put"], one["get"]
        failed = sum(put["errors"].values()) + sum(get["errors"].values())
        rows.append(
            [region, f"{one['majority_ms']:.1f}", f"{one['limit_ms']:.1f} ({one['limit_measured_ms']:.1f})"]
            + [ms(put["p50_us"]), ms(put["p90_us"]), ms(put["p99_us"]), f"{one['bound_ms']:.1f}"]
            + ["pass" if one["passes"] else "FAIL", f"{put['p50_us'] / 1000 - one['limit_measured_ms']:+.1f}"]
            + [f"{get['p50_us'] / 1000:.2f}", f"{get['p99_us'] / 1000:.2f}", f"{one['loopback_get']['p50_us'] / 1000:.2f}"]
            + ([] if "get_passes" not in one else ["pass" if one["get_passes"] else "FAIL"])
            + [failed, f"{one['flushes_per_second']:.0f}", f"{one['flush_mean_ms']:.1f}"]
        )
    head = ["region", "majority", "limit", "PUT p50", "p90", "p99", "bound", "", "over limit", "GET p50", "p99", "loopback GET"]
    head += ["GET"] if result["leases"] else []
    table(out, [*head, "failed", "flushes/s", "mean flush"], rows)
    if result["late_us"]:
        mean, worst = result["late_us"]
        print(f"The emulator handed packets over {mean:.0f} µs late on average, {worst:.0f} at worst.\n", file=out)


def matrix(name):
    places = [HERE / name, HERE.parent / "crates/entangle/src/commands/demo" / name]
    path = next((place for place in places if place.exists()), None)
    if not path:
        raise SystemExit(f"{name} is not there")
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {row.pop("region"): {to: float(trip) for to, trip in row.items()} for row in csv.DictReader(lines)}


def machine():
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()
    cpu = "unknown CPU"
    with contextlib.suppress(OSError, AttributeError):
        cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    return {
        "date": str(datetime.date.today()),
        "commit": commit or "unknown",
        "cores": os.cpu_count(),
        "cpu": cpu,
        "system": f"{platform.system()} {platform.release()}",
        "load": [round(load, 1) for load in os.getloadavg()],
        "command": "bench/wan.sh " + " ".join(sys.argv[2:]),
    }


def arguments():
    parser = argparse.ArgumentParser(prog="bench/wan.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), choices=[*SETS, []], help=f"which networks: {', '.join(SETS)}")
    parser.add_argument("--wan", default=os.environ.get("ENTANGLE_WAN"), metavar="PROGRAM", help="the emulator")
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement")
    parser.add_argument("--rate", type=float, default=3, help="requests a second of every region")
    parser.add_argument("--faults", type=int, help="members that may fail, where it is not to be as many as can")
    parser.add_argument("--leases", metavar="WHO", help="leases of the bucket: as `entangle cluster zone --leases` takes it")
    parser.add_argument("--flush-ms", type=int, default=0, help="delay every flush by so much")
    parser.add_argument("--folder", type=pathlib.Path, metavar="DIR", help="where the nodes keep their data: on the disk that is to be measured")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="keep tables, JSON and the latency of every request here")
    return parser.parse_args(sys.argv[2:])


def main():
    # Namespaces and processes are to go when this is told to end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    binaries = pathlib.Path(sys.argv[1]).resolve()
    try:
        needs(options.wan)
    except Unmet as unmet:
        raise SystemExit(f"wan: {unmet}") from None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="entangle-wan-", dir=options.folder))
    options.out = (options.out or folder / "out").resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    report = {**machine(), "results": []}
    try:
        for name in options.sets:
            say(f"-- {name}")
            file, regions = SETS[name]
            place = folder / name
            place.mkdir()
            with Wan(options.wan, matrix(file), regions, place) as wan:
                system = Entangle(wan, binaries, place, options)
                try:
                    system.start()
                    report["results"].append(measure(system, name))
                except BaseException:
                    for log in place.glob("*.log"):
                        say(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-10:]))
                    raise
                finally:
                    system.stop()
        with open(options.out / "wan.md", "w") as out:
            print(f"{report['date']}, commit {report['commit']}, {report['cores']} cores ({report['cpu']}),", file=out)
            print(f"{report['system']}, load average {report['load'][0]} at the start; all nodes, the load and the emulator", file=out)
            print(f"share them: compare with the limits, not with other machines. `{report['command']}`\n", file=out)
            for result in report["results"]:
                show(out, result)
        (options.out / "wan.json").write_text(json.dumps(report, indent=1))
        print((options.out / "wan.md").read_text(), end="")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    passed = [one["passes"] and one.get("get_passes", True) for result in report["results"] for one in result["regions"].values()]
    sys.exit(0 if all(passed) else 3)


if __name__ == "__main__":
    main()
