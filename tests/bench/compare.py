"""Measures the gateway beside what could stand in its place, in turn, and prints medians as a Markdown table."""

import argparse
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from contestants import Contestant, Fault, Field, wait_until

PEERS = ["bare Pingora", "HAProxy", "nginx + Lua"]
ALL = ["gateway", *PEERS]
JUDGES = ["gateway", "HAProxy", "nginx + Lua"]
TWO_KEYS = ["--body", "customer_id=191&orderid=7"]
MANY_USERS = ["--user", "user-", "--users", "100000"]
# Who takes part in each case, and what is sent.
CASES = {
    "accepted": (ALL, []),
    "refused by policy": (JUDGES, [*TWO_KEYS, "--expect", "400"]),
    "refused by quota": (JUDGES, ["--user", "spent", "--expect", "429"]),
    "TLS, kept": (ALL, ["--tls"]),
    "TLS, new connection each": (ALL, ["--tls", "--reconnect", "--connections", "16"]),
    # As many calls at a time as without streams.
    "HTTP/2, one stream": (ALL, ["--tls", "--streams", "1"]),
    "HTTP/2, eight streams": (ALL, ["--tls", "--streams", "8", "--connections", "4"]),
    "HTTP/2, eight streams, refused": (
        JUDGES, ["--tls", "--streams", "8", "--connections", "4", *TWO_KEYS, "--expect", "400"]),
    "trail and shared quota": (["gateway", "gateway with trail", "gateway with Redis"], []),
    "observe mode lets pass": (["gateway observing", "bare Pingora"], TWO_KEYS),
    "other paths forwarded": (["gateway passing on", "bare Pingora"], ["--path", "/api/customer/list"]),
    "100,000 users": (JUDGES, MANY_USERS),
    # A hundred calls on each connection, all at once; then the memory of connections at rest.
    "100,000 users, 1,000 connections at rest": (
        ALL, [*MANY_USERS, "--connections", "1000", "--requests", "100000", "--linger", "2"]),
    "slow upstream, 1,000 in flight": (ALL, [*MANY_USERS, "--connections", "1000", "--agent", "slow"]),
    "2,000 requests a second": ([*ALL, "no proxy"], ["--rate", "2000", "--connections", "64"]),
}


def contestants(case, before):
    """Who takes part in a case; the build before, where there is one, comes behind this one."""
    names = []
    for name in CASES[case][0]:
        names.append(name)
        if before and name.startswith("gateway"):
            names.append(name.replace("gateway", "before"))
    return names


class Bench:
    """The processes of one case, and how they are measured."""

    def __init__(self, arguments, folder, names):
        self.binaries, self.load_core = arguments.binaries, arguments.cores[1]
        self.certificate, self.seconds = folder / "cert.pem", arguments.seconds
        self.field = Field(folder, self.binaries, arguments.before, arguments.cores, names)

    def load(self, contestant, options, *more):
        options = list(options)
        port = contestant.http
        if "--tls" in options:
            port = contestant.https
            options.remove("--tls")
            options += ["--certificate", self.certificate]
        command = ["taskset", "-c", self.load_core, self.binaries / "load", "--target", f"127.0.0.1:{port}",
                   *options, *more]
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finished(self, contestant, load):
        output, errors = load.communicate()
        if load.returncode != 0:
            raise Fault(f"{contestant.name}: {errors}")
        return json.loads(output)

    def measure(self, name, options):
        """One run: what the load generator saw, and what it cost."""
        contestant = self.field[name]
        if contestant.log.exists():
            with open(contestant.log, "r+b") as log:
                log.truncate(0)
        asked = contestant.redis.asked() if contestant.redis else 0
        before = contestant.cpu()
        load = self.load(contestant, options, "--seconds", self.seconds)
        memory = [contestant.memory()]
        while load.poll() is None:
            memory.append(contestant.memory())
            time.sleep(0.2)
        seen = self.finished(contestant, load)
        user, system = (now - then for now, then in zip(contestant.cpu(), before))
        seen["cpu"] = (user + system) / seen["requests"] * 1e6
        seen["kernel"] = system / seen["requests"] * 1e6
        seen["rate"] = seen["requests"] / seen["seconds"]
        seen["memory"] = (memory[-1] if "--linger" in options else max(memory)) / 2**20
        if contestant.redis:
            # What it did not answer in time the gateway counted by itself.
            seen["shared"] = (contestant.redis.asked() - asked) / seen["requests"]
            if seen["shared"] < 0.5:
                raise Fault(f"{name}: Redis answered for {seen['shared']:.0%} of the calls")
        if contestant.keeps_log:
            wait_until(f"{name}'s log of {seen['requests']} calls", lambda: contestant.lines() >= seen["requests"])
        return seen

    def warm_up(self, name, options):
        contestant = self.field[name]
        if "spent" in options:
            # The one call that this user has; after it every answer is the one expected.
            self.load(contestant, ["--user", "spent", "--requests", "1", "--connections", "1"]).wait()
        if "--users" in options:
            # Every user once, so that all are remembered.
            self.finished(contestant, self.load(contestant, MANY_USERS, "--requests", 100_000))
        if "--requests" not in options:
            self.finished(contestant, self.load(contestant, options, "--seconds", 1))


def spread(values, form):
    return f"{form.format(statistics.median(values))} ({form.format(min(values))}–{form.format(max(values))})"


def report(case, runs, out):
    """A table: medians, lowest and highest in brackets, and the ratios of CPU time, round by round."""
    first = next(iter(runs))
    print(f"\n### {case}\n", file=out)
    print(f"| | CPU µs/request | of it the kernel's | {first}'s to it | requests/s | p50 µs | p99 µs | p99.9 µs | resident MiB |", file=out)
    print("|---|---|---|---|---|---|---|---|---|", file=out)
    for name, seen in runs.items():
        column = lambda key, form="{:.0f}": spread([run[key] for run in seen], form)
        cells = [name, column("cpu", "{:.1f}"), column("kernel", "{:.1f}"), ratios(runs[first], seen), column("rate"),
                 column("p50"), column("p99"), column("p99.9"), column("memory", "{:.1f}")]
        if name == "no proxy":
            cells[1] = cells[2] = cells[3] = cells[8] = ""
        print(f"| {' | '.join(cells)} |", file=out)
    for name, seen in runs.items():
        plain = name.partition(" ")[0]
        if name != plain and plain in runs:
            shares = [run["shared"] for run in seen if "shared" in run]
            asked = f"; answered by Redis: {spread(shares, '{:.1%}')} of its calls" if shares else ""
            print(f"\n{name}: {ratios(seen, runs[plain])} of {plain}{asked}", file=out)
    out.flush()


def ratios(some, others):
    return spread([one["cpu"] / other["cpu"] for one, other in zip(some, others)], "{:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="the folder of the built programs")
    parser.add_argument("--before", type=lambda text: pathlib.Path(text).resolve(strict=True),
                        help="another build of the gateway, which takes part wherever this one does")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run")
    parser.add_argument("--case", action="append", choices=CASES, help="all of them unless given, perhaps more than once")
    parser.add_argument("--cores", default="0,1", type=lambda text: [int(core) for core in text.split(",")],
                        help="the proxy's, and that of load and upstream")
    arguments = parser.parse_args()
    arguments.case = arguments.case or list(CASES)
    # Told to end, it ends what it started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: told to end"))
    for case in arguments.case:
        with tempfile.TemporaryDirectory(prefix="n4n-bench-") as folder:
            try:
                run(case, arguments, pathlib.Path(folder))
            finally:
                Contestant.stop_all()


def run(case, arguments, folder):
    """Processes of a case's own, so that its memory is not that of the case before."""
    names = contestants(case, arguments.before)
    bench, options = Bench(arguments, folder, names), CASES[case][1]
    runs = {name: [] for name in names}
    for name in names:
        bench.warm_up(name, options)
    for number in range(arguments.rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            runs[name].append(bench.measure(name, options))
    report(case, runs, sys.stdout)


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"bench: {fault}")
