"""Who is compared: each started with a configuration of its own, pinned to the proxy's core."""

import os
import pathlib
import re
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


def as_it_is(text, _):
    return text


class Contestant:
    """One proxy under test, or the upstream that all of them forward to."""

    started = []
    redis = None

    def __init__(self, name, folder, core, template=None, upstream=None, amend=as_it_is):
        self.name, self.core = name, core
        self.http, self.https, self.admin = free_port(), free_port(), free_port()
        self.keeps_log = template not in (None, "upstream.conf")
        self.log = folder / f"{name.replace(' ', '-')}.log"
        if template:
            text = (HERE / template).read_text()
            values = {"HTTP": self.http, "HTTPS": self.https, "ADMIN": self.admin, "UPSTREAM": upstream,
                      "LOG": self.log, "FOLDER": folder}
            for word, value in values.items():
                text = text.replace(f"@{word}@", str(value))
            self.config = folder / f"{self.log.stem}.{template}"
            self.config.write_text(amend(text, self))

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
        """Seconds of its own and of the kernel's time for it so far."""
        user = system = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            system += int(fields[12])
        return user / TICK, system / TICK

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


def observing(text, _):
    return 'mode = "observe"\n' + text


def passing_on(text, _):
    return text + '\n[policy]\nother_paths = "forward"\n'


def with_trail(text, one):
    return text.replace("[log]\n", f'[log]\naudit = "{one.log.with_suffix(".audit")}"\n')


class Redis(Contestant):
    """What the gateway shares quotas in."""

    def start(self, folder):
        return super().start(["redis-server", "--bind", "127.0.0.1", "--port", self.http, "--dir", folder, "--save", "",
                              "--appendonly", "no"])

    def asked(self):
        """How many questions of the gateway it has answered so far."""
        with socket.create_connection(("127.0.0.1", self.http), timeout=PATIENCE) as connection:
            connection.sendall(b"INFO commandstats\r\n")
            answer = connection.makefile("rb")
            found = re.search(rb"cmdstat_evalsha:calls=(\d+)", answer.read(int(answer.readline()[1:])))
        return int(found[1]) if found else 0

    def shared(self, text, _):
        return text.replace("[quota]\n", f'[quota]\nredis = "redis://127.0.0.1:{self.http}"\n')


class Field:
    """The upstream and the contestants of one case, each a process of its own."""

    def __init__(self, folder, binaries, before, cores, names):
        self.folder, self.binaries, self.before = folder, binaries, before
        self.proxy_core, self.load_core = cores
        make_certificate(folder)
        for script in HERE.glob("*.lua"):
            shutil.copy(script, folder)
        self.upstream = Contestant("upstream", folder, self.load_core, "upstream.conf")
        self.upstream.start(["nginx", "-c", self.upstream.config, "-p", folder])
        self.contestants = {name: self.start(name) for name in names if name != "no proxy"}

    def __getitem__(self, name):
        return self.contestants.get(name, self.upstream)

    def start(self, name):
        peers = {"bare Pingora": self.pass_through, "HAProxy": self.haproxy, "nginx + Lua": self.nginx}
        return peers[name](name) if name in peers else self.gateway(name)

    def proxy(self, name, template=None, amend=as_it_is):
        return Contestant(name, self.folder, self.proxy_core, template, self.upstream.http, amend)

    def gateway(self, name):
        """This build's, or the one before, with what its name says."""
        build, _, variant = name.partition(" ")
        amend = {"": as_it_is, "observing": observing, "passing on": passing_on, "with trail": with_trail}
        redis = None
        if variant == "with Redis":
            redis = Redis(f"Redis of {build}", self.folder, self.load_core).start(self.folder)
            amend[variant] = redis.shared
        one = self.proxy(name, "gateway.toml", amend[variant])
        one.redis = redis
        binary = self.before if build == "before" else self.binaries / "n4n-gateway"
        return one.start([binary, "run", "--config", one.config])

    def pass_through(self, name):
        one = self.proxy(name)
        return one.start([
            self.binaries / "pass-through", "--http", f"127.0.0.1:{one.http}", "--https", f"127.0.0.1:{one.https}",
            "--certificate", self.folder / "cert.pem", "--key", self.folder / "key.pem",
            "--upstream", f"127.0.0.1:{self.upstream.http}"])

    def haproxy(self, name):
        one = self.proxy(name, "haproxy.cfg")
        return one.start(["haproxy", "-db", "-f", one.config], stdout=open(one.log, "ab"))

    def nginx(self, name):
        one = self.proxy(name, "nginx.conf")
        return one.start(["nginx", "-c", one.config, "-p", self.folder])
