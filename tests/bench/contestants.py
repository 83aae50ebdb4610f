"""Who is compared: each started with a configuration of its own, pinned to the proxy's core."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).parent / "contestants"
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 20  # seconds; nothing takes longer unless something is wrong


class Fault(Exception):
    """The run proves nothing; what is printed says why."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise Fault(f"{what} did not come about within {PATIENCE} s")
        time.sleep(0.01)


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def make_certificate(folder):
    """A certificate of the proxies' own that the load generator believes."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())


class Contestant:
    """One proxy under test, or the upstream that all of them forward to."""

    started = []

    def __init__(self, name, folder, core, template=None, upstream=None, amend=lambda text: text):
        self.name, self.core = name, core
        self.http, self.https, self.admin = free_port(), free_port(), free_port()
        self.log = folder / f"{name.replace(' ', '-')}.log"
        if template:
            text = (HERE / template).read_text()
            values = {"HTTP": self.http, "HTTPS": self.https, "ADMIN": self.admin, "UPSTREAM": upstream,
                      "LOG": self.log, "FOLDER": folder}
            for word, value in values.items():
                text = text.replace(f"@{word}@", str(value))
            self.config = folder / f"{self.log.stem}.{template}"
            self.config.write_text(amend(text))

    def start(self, command, **options):
        errors = open(self.log.with_suffix(".errors"), "wb")
        options = {"stdout": errors, **options}
        command = ["taskset", "-c", str(self.core), *map(str, command)]
        self.process = subprocess.Popen(command, stderr=errors, start_new_session=True, **options)
        self.started.append(self)
        wait_until(f"{self.name}'s listener", lambda: self.is_alive() and accepts(self.http))
        return self

    def is_alive(self):
        if self.process.poll() is not None:
            raise Fault(f"{self.name} ended: {self.log.with_suffix('.errors').read_text()[-2000:]}")
        return True

    def pids(self):
        """The process and all below it."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
        return found

    def cpu(self):
        """Seconds of user and system time so far."""
        ticks = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory(self):
        """Resident bytes; pages that processes share count once for each."""
        return sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids()) * PAGE

    def lines(self):
        with open(self.log, "rb") as log:
            return sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b""))

    @classmethod
    def stop_all(cls):
        while cls.started:
            process = cls.started.pop().process
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def start_all(folder, binaries, proxy_core, load_core, names):
    """The upstream, and the contestants by name, the gateway first."""
    make_certificate(folder)
    for script in HERE.glob("*.lua"):
        shutil.copy(script, folder)
    upstream = Contestant("upstream", folder, load_core, "upstream.conf")
    upstream.start(["nginx", "-c", upstream.config, "-p", folder])

    def gateway(name, amend=lambda text: text):
        one = Contestant(name, folder, proxy_core, "gateway.toml", upstream.http, amend)
        return one.start([binaries / "n4n-gateway", "run", "--config", one.config])

    def audited(name):
        return gateway(name, lambda text: text + f'audit = "{folder}/audit.jsonl"\n')

    def pass_through(name):
        one = Contestant(name, folder, proxy_core)
        return one.start([
            binaries / "pass-through", "--http", f"127.0.0.1:{one.http}", "--https", f"127.0.0.1:{one.https}",
            "--certificate", folder / "cert.pem", "--key", folder / "key.pem", "--upstream", f"127.0.0.1:{upstream.http}"])

    def haproxy(name):
        one = Contestant(name, folder, proxy_core, "haproxy.cfg", upstream.http)
        return one.start(["haproxy", "-db", "-f", one.config], stdout=open(one.log, "ab"))

    def nginx(name):
        one = Contestant(name, folder, proxy_core, "nginx.conf", upstream.http)
        return one.start(["nginx", "-c", one.config, "-p", folder])

    starters = {"gateway": gateway, "bare Pingora": pass_through, "HAProxy": haproxy, "nginx + Lua": nginx,
                "gateway with audit": audited}
    contestants = {name: starters[name](name) for name in starters if name in names}
    return upstream, contestants
