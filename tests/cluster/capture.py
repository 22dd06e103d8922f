"""Captures every packet between three nodes, and shows what somebody on the wire learns. Called by capture.sh, which has made a
network namespace for it.

Writes, reads, listings, a restart, and strangers (random bytes; a client that offers X25519 alone; a node of another cluster)
go over loopback while a raw socket records everything. Then:

- no body, key, bucket, metadata, access key or secret that was used occurs in any packet between nodes, raw, as hex or as
  base64 (the same search finds them all on the S3 port, which speaks plain HTTP here);
- all of it is QUIC version 1 without early data, and its payload does not compress;
- the first packets of every connection, whose keys anybody can compute (RFC 9001, section 5), are opened: every client offers
  TLS 1.3 and X25519MLKEM768 and nothing else, and every server takes them, on every link;
- strangers get no further than the handshake.
"""

import base64
import collections
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HYBRID, X25519, TLS13 = 0x11EC, 0x001D, 0x0304
MESH = {1: 9701, 2: 9702, 3: 9703}
S3 = {1: 9001, 2: 9002, 3: 9003}
FOREIGN_MESH, FOREIGN_S3 = 9709, 9009
ACCESS_KEY, SECRET_KEY = "CAPTUREACCESSKEY", "capture-secret-" + secrets.token_hex(12)
BUCKET = "bucket-" + secrets.token_hex(10)


def check(holds, what):
    if not holds:
        raise SystemExit(f"VIOLATED: {what}")


# --- the wire


class Capture:
    """Everything that passes on loopback, once."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.2)
        self.packets, self.stop = [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                packet, address = self.socket.recvfrom(1 << 17)
                if address[2] != 4:  # PACKET_OUTGOING: loopback shows every packet again as it comes in
                    self.packets.append(packet)

    def end(self):
        time.sleep(0.5)
        self.stop.set()
        self.thread.join()
        seen, dropped = struct.unpack("II", self.socket.getsockopt(263, 6, 8))  # PACKET_STATISTICS
        check(dropped == 0, f"{dropped} of {seen} packets were not captured")
        return self.packets


def datagrams(packets):
    """(source port, destination port, payload) of UDP, and of TCP."""
    udp, tcp = [], []
    for packet in packets:
        if packet[12:14] != b"\x08\x00":
            continue
        ip = packet[14:]
        header = (ip[0] & 15) * 4
        body = ip[header : struct.unpack("!H", ip[2:4])[0] or len(ip)]
        source, destination = struct.unpack("!HH", body[:4])
        if ip[9] == 17:
            udp.append((source, destination, body[8:]))
        elif ip[9] == 6:
            tcp.append((source, destination, body[(body[12] >> 4) * 4 :]))
    return udp, tcp


# --- QUIC version 1: the packets whose keys everybody can compute


def expand(secret, label, length):
    info = struct.pack("!HB", length, len(label) + 6) + b"tls13 " + label + b"\0"
    return hmac.digest(secret, info + b"\x01", "sha256")[:length]


class Keys:
    """Of one direction, from the connection id that the client chose first."""

    def __init__(self, chosen, label):
        initial = hmac.digest(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), chosen, "sha256")
        secret = expand(initial, label, 32)
        self.aead = AESGCM(expand(secret, b"quic key", 16))
        self.iv = int.from_bytes(expand(secret, b"quic iv", 12))
        self.hide = Cipher(algorithms.AES(expand(secret, b"quic hp", 16)), modes.ECB())  # noqa: S305, as the RFC says

    def mask(self, sample):
        return self.hide.encryptor().update(sample)

    def nonce(self, number):
        return (self.iv ^ number).to_bytes(12)

    def open(self, packet, at):
        """The frames of a packet whose number begins at `at`; `None` if it is under other keys."""
        mask = self.mask(packet[at + 4 : at + 20])
        first = packet[0] ^ (mask[0] & 0x0F)
        length = (first & 3) + 1
        number = bytes(a ^ b for a, b in zip(packet[at : at + length], mask[1:]))
        header = bytes([first]) + packet[1:at] + number
        with contextlib.suppress(InvalidTag):
            return self.aead.decrypt(self.nonce(int.from_bytes(number)), packet[at + length :], header)
        return None

    def seal(self, header, number, frames):
        """A packet; the last four bytes of the header are the number."""
        sealed = self.aead.encrypt(self.nonce(number), frames, header)
        mask = self.mask(sealed[:16])
        hidden = bytes(a ^ b for a, b in zip(header[-4:], mask[1:]))
        return bytes([header[0] ^ (mask[0] & 0x0F)]) + header[1:-4] + hidden + sealed


def varint(data, at):
    length = 1 << (data[at] >> 6)
    return int.from_bytes(data[at : at + length]) & ((1 << (8 * length - 2)) - 1), at + length


def packets_of(datagram):
    """(kind, whole packet, where its number begins, destination's connection id) for each in a datagram."""
    at = 0
    while at < len(datagram):
        rest = datagram[at:]
        if not rest[0] & 0x80:
            yield "short", rest, 0, b""
            return
        version = struct.unpack("!I", rest[1:5])[0]
        chosen = rest[6 : 6 + rest[5]]
        end = 6 + rest[5]
        end += 1 + rest[end]
        kind = ["initial", "early data", "handshake", "retry"][rest[0] >> 4 & 3]
        if version != 1:
            yield ("version negotiation" if version == 0 else f"version {version:#x}"), rest, 0, chosen
            return
        if kind == "retry":
            yield kind, rest, 0, chosen
            return
        if kind == "initial":
            token, end = varint(rest, end)
            end += token
        length, end = varint(rest, end)
        yield kind, rest[: end + length], end, chosen
        at += end + length


def frames_of(data):
    """(offset, bytes) of CRYPTO frames, and codes of CONNECTION_CLOSE."""
    at = 0
    while at < len(data):
        kind, at = varint(data, at)
        if kind in (2, 3):
            _, at = varint(data, at)
            _, at = varint(data, at)
            ranges, at = varint(data, at)
            for _ in range(1 + 2 * ranges + (3 if kind == 3 else 0)):
                _, at = varint(data, at)
        elif kind == 6:
            offset, at = varint(data, at)
            length, at = varint(data, at)
            yield "crypto", (offset, data[at : at + length])
            at += length
        elif kind in (0x1C, 0x1D):
            code, at = varint(data, at)
            yield "close", code
            return
        elif kind > 1:
            raise SystemExit(f"VIOLATED: a frame of kind {kind:#x} in an Initial packet")


class Connection:
    """What was opened of one connection."""

    def __init__(self, chosen, client, server):
        self.client, self.server = client, server
        self.keys = {"client": Keys(chosen, b"client in"), "server": Keys(chosen, b"server in")}
        self.crypto = {"client": {}, "server": {}}
        self.closed = []

    def message(self, side):
        """The first handshake message of a side, once all of it was seen."""
        whole = b""
        for offset, piece in sorted(self.crypto[side].items()):
            if offset > len(whole):
                return None
            whole = whole[:offset] + piece
        if len(whole) < 4 or len(whole) < 4 + int.from_bytes(whole[1:4]):
            return None
        return whole[: 4 + int.from_bytes(whole[1:4])]


def connections(udp):
    """All connections, and how many packets of each kind there were."""
    found, kinds = [], collections.Counter()
    for source, destination, datagram in udp:
        for kind, packet, at, chosen in packets_of(datagram):
            kinds[kind] += 1
            if kind != "initial":
                continue
            opened = None
            for one in reversed(found):
                if {one.client, one.server} != {source, destination}:
                    continue
                side = "client" if one.client == source else "server"
                if (opened := one.keys[side].open(packet, at)) is not None:
                    break
            if opened is None:
                one, side = Connection(chosen, source, destination), "client"
                opened = one.keys["client"].open(packet, at)
                if opened is None:
                    kinds["initial that does not open"] += 1
                    continue
                found.append(one)
            for what, value in frames_of(opened):
                if what == "crypto":
                    one.crypto[side][value[0]] = value[1]
                else:
                    one.closed.append((side, value))
    return found, kinds


# --- TLS 1.3


def extensions(message):
    """Extensions of a ClientHello or a ServerHello by number; the random bytes."""
    at = 4 + 2
    drawn = message[at : at + 32]
    at += 32
    at += 1 + message[at]
    if message[0] == 1:
        at += 2 + struct.unpack("!H", message[at : at + 2])[0]
        at += 1 + message[at]
    else:
        at += 2 + 1
    end = at + 2 + struct.unpack("!H", message[at : at + 2])[0]
    at += 2
    found = {}
    while at < end:
        number, length = struct.unpack("!HH", message[at : at + 4])
        found[number] = message[at + 4 : at + 4 + length]
        at += 4 + length
    return found, drawn


def words(data):
    return list(struct.unpack(f"!{len(data) // 2}H", data))


def offer(message):
    """(versions, groups, groups with a share) of a ClientHello."""
    check(message[0] == 1, "the first message of a client is no ClientHello")
    found, _ = extensions(message)
    check(42 not in found and 41 not in found, "a client resumes, or sends early data")
    shares, at = [], 2
    while at < len(found[51]):
        group, length = struct.unpack("!HH", found[51][at : at + 4])
        shares.append(group)
        at += 4 + length
    return words(found[43][1:]), words(found[10][2:]), shares


def choice(message):
    """(version, group) of a ServerHello."""
    check(message[0] == 2, "the first message of a server is no ServerHello")
    found, drawn = extensions(message)
    retry = hashlib.sha256(b"HelloRetryRequest").digest()
    check(drawn != retry, "a server asks for another key share")
    return words(found[43])[0], words(found[51][:2])[0]


def classical_hello():
    """A ClientHello that offers X25519 alone."""

    def extension(number, data):
        return struct.pack("!HH", number, len(data)) + data

    share = X25519PrivateKey.generate().public_key().public_bytes_raw()
    protocol = b"entangle-mesh"
    found = (
        extension(43, b"\x02" + struct.pack("!H", TLS13))
        + extension(10, struct.pack("!HH", 2, X25519))
        + extension(51, struct.pack("!HHH", 36, X25519, 32) + share)
        + extension(13, struct.pack("!HH", 2, 0x0807))
        + extension(16, struct.pack("!HB", len(protocol) + 1, len(protocol)) + protocol)
        + extension(57, bytes([0x0F, 0]) + bytes([0x04, 4]) + struct.pack("!I", 0x80100000))
    )
    body = struct.pack("!H", 0x0303) + secrets.token_bytes(32) + b"\0" + struct.pack("!HHH", 4, 0x1302, 0x1303) + b"\x01\0"
    body += struct.pack("!H", len(found)) + found
    return b"\x01" + len(body).to_bytes(3) + body


def classical(port):
    """Knocks with X25519 alone; gives the own port."""
    chosen, hello = secrets.token_bytes(8), classical_hello()
    frames = b"\x06\0" + struct.pack("!H", 0x4000 | len(hello)) + hello
    frames += bytes(1162 - len(frames))
    header = b"\xc3" + struct.pack("!I", 1) + b"\x08" + chosen + b"\0" + b"\0"
    header += struct.pack("!H", 0x4000 | 4 + len(frames) + 16) + bytes(4)
    packet = Keys(chosen, b"client in").seal(header, 0, frames)
    check(len(packet) >= 1200, "an Initial packet is shorter than it must be")
    return knock(port, [packet])


def knock(port, packets):
    """Sends datagrams from a new port; gives that, and what was answered within a second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.settimeout(1)
        for packet in packets:
            stranger.sendto(packet, ("127.0.0.1", port))
        answers = []
        with contextlib.suppress(TimeoutError):
            while True:
                answers.append(stranger.recv(1 << 16))
        return stranger.getsockname()[1], answers


# --- the nodes


class Nodes:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.processes = binary, folder, {}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTANGLE_")}
        self.environment |= {"ENTANGLE_ACCESS_KEY": ACCESS_KEY, "ENTANGLE_SECRET_KEY": SECRET_KEY}

    def ask(self, *command, fails=False):
        done = subprocess.run(
            [self.binary, *map(str, command)],
            env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode and not fails:
            raise SystemExit(f"entangle {' '.join(map(str, command))}: {done.stderr}")
        return None if done.returncode else done.stdout.strip()

    def serve(self, name, mesh, s3, *more):
        log = open(self.folder / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(
            [self.binary, "serve", "--data", name, "--name", name, "--admin", "off"]
            + ["--mesh", f"127.0.0.1:{mesh}", "--s3", f"127.0.0.1:{s3}", *more],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    def status(self, s3):
        text = self.ask("status", "--json", "--endpoint", f"http://127.0.0.1:{s3}", fails=True)
        return json.loads(text)["status"] if text else None

    def until_ready(self, s3, links=0):
        def ready():
            status = self.status(s3)
            peers = (status or {}).get("mesh", {}).get("peers", [])
            return status and status["ready"] and sum(peer["up"] for peer in peers) >= links

        until(f"the node at {s3} is ready", ready)

    def found(self):
        self.ask("cluster", "init", "--data", "one", "--name", "one", "--mesh", f"127.0.0.1:{MESH[1]}")
        self.serve("one", MESH[1], S3[1])
        self.until_ready(S3[1])
        for number, name in [(2, "two"), (3, "three")]:
            token = self.ask("cluster", "token", "--data", "one")
            self.serve(name, MESH[number], S3[number], "--join", token)
            add = ["cluster", "add", name, "--endpoint", f"http://127.0.0.1:{S3[1]}"]
            until(f"{name} is a member", lambda add=add: self.ask(*add, fails=True) is not None)
            self.until_ready(S3[number])

    def stop(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        check(process.wait(timeout=60) == 0, f"{name} ended with {process.returncode}")

    def kill(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


def until(what, ask):
    deadline = time.monotonic() + 90
    while not ask():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not come about that {what}")
        time.sleep(0.1)


def request(method, port, path, body=b"", headers=None, query=""):
    """A signed S3 request (Signature Version 4, unsigned payload)."""
    now = datetime.datetime.now(datetime.UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    path = urllib.parse.quote(path)
    signed = {"host": f"127.0.0.1:{port}", "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": stamp, **(headers or {})}
    names = ";".join(sorted(signed))
    canonical = "\n".join([method, path, query, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, "UNSIGNED-PAYLOAD"])
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path + ("?" + query if query else ""), body, signed)
    answer = connection.getresponse()
    data = answer.read()
    check(answer.status < 300, f"{method} {path} at {port} was answered with {answer.status}: {data[:300]}")
    return data


def work(seconds):
    """Writes and reads at every node; the plaintext that was used."""
    marks = {"bucket": BUCKET, "access key": ACCESS_KEY}
    for what in ["body", "large body", "key", "metadata"]:
        marks[what] = f"{what.replace(' ', '-')}-{secrets.token_hex(16)}"
    deadline, count = time.monotonic() + seconds, 0
    large = marks["large body"].encode() * 6_000
    while time.monotonic() < deadline or count < 9:
        port, other = S3[count % 3 + 1], S3[(count + 1) % 3 + 1]
        key = f"/{BUCKET}/{marks['key']}/{count}"
        body = large if count % 9 == 4 else f"{marks['body']} {count}".encode()
        request("PUT", port, key, body, {"x-amz-meta-note": marks["metadata"]})
        check(request("GET", other, key) == body, f"{key} reads otherwise")
        if count % 5 == 0:
            check(marks["key"].encode() in request("GET", other, f"/{BUCKET}", query="list-type=2"), "the listing lacks a key")
            request("DELETE", port, key)
        count += 1
    return marks, count


def foreigner(nodes):
    """A node of another cluster that believes node one to be of its own, dials it, and gives up."""
    nodes.ask("cluster", "init", "--data", "foreign", "--name", "foreign", "--mesh", f"127.0.0.1:{FOREIGN_MESH}")
    known = nodes.folder / "foreign-keys" / "cluster.toml"
    other = f'\n[[node]]\nreplica = 2\nname = "one"\nregion = "x"\nkey = "{"11" * 32}"\nmesh = "127.0.0.1:{MESH[1]}"\nfounder = false\n'
    known.write_text(known.read_text() + other)
    nodes.serve("foreign", FOREIGN_MESH, FOREIGN_S3)
    nodes.until_ready(FOREIGN_S3)
    time.sleep(3)
    [peer] = nodes.status(FOREIGN_S3)["mesh"]["peers"]
    check(not peer["up"] and peer["trouble"], f"a node of another cluster is linked: {peer}")
    ours = nodes.status(S3[1])["mesh"]["peers"]
    check(len(ours) == 2, f"node one counts another cluster's node among its peers: {ours}")
    nodes.stop("foreign")
    return peer["trouble"]


def forms(text):
    """How a text may stand in a packet: as it is, as hex, as base64 at each of the three offsets."""
    raw = text.encode()
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for skip in range(3):
        piece = raw[skip:]
        yield base64.b64encode(piece[: len(piece) // 3 * 3])


def main():
    binary, seconds = pathlib.Path(sys.argv[1]).resolve(), float(os.environ.get("CAPTURE_SECONDS", "10"))
    capture = Capture()
    with tempfile.TemporaryDirectory(prefix="entangle-capture-") as folder:
        nodes = Nodes(binary, pathlib.Path(folder))
        try:
            nodes.found()
            request("PUT", S3[1], f"/{BUCKET}")
            marks, count = work(seconds)
            nodes.stop("two")
            nodes.serve("two", MESH[2], S3[2])
            for port in S3.values():
                nodes.until_ready(port, links=2)
            more, again = work(1)
            exchanges = [peer["key_exchange"] for port in S3.values() for peer in nodes.status(port)["mesh"]["peers"]]
            garbage_port, garbage = knock(MESH[1], [secrets.token_bytes(length) for length in (1, 20, 100, 1200, 1400) * 20])
            classical_port, _ = classical(MESH[1])
            trouble = foreigner(nodes)
            for name in ["one", "two", "three"]:
                nodes.stop(name)
        except BaseException:
            for log in pathlib.Path(folder).glob("*.log"):
                print(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]), file=sys.stderr)
            raise
        finally:
            nodes.kill()
            capture.stop.set()
    packets = capture.end()
    udp, tcp = datagrams(packets)
    strangers = {garbage_port, classical_port}
    mesh = [one for one in udp if not strangers & {one[0], one[1]}]
    total = sum(len(payload) for _, _, payload in mesh)
    check(total > 1_000_000, f"only {total} bytes were captured between nodes")
    print(f"{count + again} objects written and read; {len(mesh)} datagrams ({total / 1e6:.1f} MB) between nodes, none lost to the capture")

    # What was used must be nowhere but on the S3 port, where the same search finds it.
    wanted = {f"{what} {number}": text for number, group in enumerate([marks, more]) for what, text in group.items()}
    plain = b"".join(payload for source, destination, payload in tcp if {source, destination} & set(S3.values()))
    for what, text in wanted.items():
        check(text.encode() in plain, f"the search does not find the {what} on the S3 port")
    for what, text in {**wanted, "secret": SECRET_KEY}.items():
        for form in forms(text):
            check(not any(form in payload for _, _, payload in mesh), f"the {what} stands on the wire as {form!r}")
    print(f"plaintext: none of {len(wanted) + 1} texts is in a packet between nodes (all but the secret are on the S3 port)")

    found, kinds = connections(mesh)
    allowed = {"initial", "handshake", "short", "retry"}
    check(set(kinds) <= allowed, f"what was seen on the mesh ports: {dict(kinds)}")
    sealed = b"".join(payload for _, _, payload in mesh)
    ratio = len(zlib.compress(sealed, 6)) / len(sealed)
    check(ratio > 0.98, f"the payload compresses to {ratio:.3f}")
    print(f"packets: {dict(kinds)}; compresses to {ratio:.4f} of its length")

    linked = set()
    for one in found:
        hello, answer = one.message("client"), one.message("server")
        if hello is None:
            # A dial to a node that was down.
            check(answer is None, "a server answered a hello that was not captured")
            continue
        check(offer(hello) == ([TLS13], [HYBRID], [HYBRID]), f"{one.client} offers {offer(hello)} to {one.server}")
        for text in wanted.values():
            check(text.encode() not in hello, "a ClientHello holds plaintext")
        if answer is not None:
            check(choice(answer) == (TLS13, HYBRID), f"{one.server} chooses {choice(answer)} for {one.client}")
            linked.add(frozenset((one.client, one.server)))
    pairs = [frozenset(pair) for pair in [(MESH[1], MESH[2]), (MESH[1], MESH[3]), (MESH[2], MESH[3])]]
    check(all(pair in linked for pair in pairs), f"the handshake of a link is not there: {linked}")
    check(set(exchanges) == {"X25519MLKEM768"} and len(exchanges) == 6, f"the nodes say {exchanges}")
    print(f"handshakes: {len(found)} begun, every one offers TLS 1.3 with X25519MLKEM768 alone; all links chose it, and say so")

    # Strangers.
    got = sum(len(answer) for answer in garbage)
    check(not connections([one for one in udp if garbage_port in one[:2] and one[0] != garbage_port])[0], "garbage was taken for a hello")
    print(f"garbage: 100 datagrams, {len(garbage)} answers of {got} bytes")
    [old], _ = connections([one for one in udp if classical_port in one[:2]])
    check(old.message("server") is None, "a client that offers X25519 alone gets a ServerHello")
    check(("server", 0x128) in old.closed, f"a client that offers X25519 alone is told {old.closed}, not handshake_failure")
    print("X25519 alone: refused with handshake_failure before the server has said who it is")
    to_foreign = [payload for source, destination, payload in udp if destination == FOREIGN_MESH and source == MESH[1]]
    tries = sum(1 for one in found if one.client == FOREIGN_MESH)
    size = sum(map(len, to_foreign))
    check(tries > 0 and size < 8_000 * tries, f"node one sent {size} bytes to another cluster's node in {tries} tries")
    print(f"another cluster's node: {tries} tries, {size // tries} bytes each from ours (a handshake), never linked: {trouble}")
    print("No violation.")


if __name__ == "__main__":
    main()
