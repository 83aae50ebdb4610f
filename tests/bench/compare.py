"""Measures the gateway beside what could stand in its place, in turn, and prints medians as a Markdown table."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from contestants import Contestant, Fault, start_all, wait_until

PEERS = ["bare Pingora", "HAProxy", "nginx + Lua"]
ALL = ["gateway", *PEERS]
JUDGES = ["gateway", "HAProxy", "nginx + Lua"]
TWO_KEYS = ["--body", "customer_id=191&orderid=7"]
# Who takes part in each case, and what is sent.
CASES = {
    "accepted": ([*ALL, "gateway with audit"], []),
    "refused by policy": (JUDGES, [*TWO_KEYS, "--expect", "400"]),
    "refused by quota": (JUDGES, ["--user", "spent", "--expect", "429"]),
    "TLS, kept": (ALL, ["--tls"]),
    "TLS, new connection each": (ALL, ["--tls", "--reconnect", "--connections", "16"]),
    "100,000 users": (JUDGES, ["--user", "user-", "--users", "100000"]),
    "slow upstream, 1,000 in flight": (
        ALL, ["--user", "user-", "--users", "100000", "--connections", "1000", "--agent", "slow"]),
    "2,000 requests a second": ([*ALL, "no proxy"], ["--rate", "2000", "--connections", "64"]),
}


class Bench:
    """Everything that is running, and how it is measured."""

    def __init__(self, arguments, folder):
        self.binaries, self.load_core = arguments.binaries, arguments.cores[1]
        self.certificate, self.seconds = folder / "cert.pem", arguments.seconds
        names = {name for case in arguments.case for name in CASES[case][0]}
        self.upstream, self.contestants = start_all(folder, self.binaries, *arguments.cores, names)

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
        contestant = self.contestants.get(name, self.upstream)
        if contestant.log.exists():
            with open(contestant.log, "r+b") as log:
                log.truncate(0)
        before = contestant.cpu()
        load = self.load(contestant, options, "--seconds", self.seconds)
        memory = 0
        while load.poll() is None:
            memory = max(memory, contestant.memory())
            time.sleep(0.2)
        seen = self.finished(contestant, load)
        seen["cpu"] = (contestant.cpu() - before) / seen["requests"] * 1e6
        seen["rate"] = seen["requests"] / seen["seconds"]
        seen["memory"] = memory / 2**20
        if name in JUDGES:
            wait_until(f"{name}'s log of {seen['requests']} calls", lambda: contestant.lines() >= seen["requests"])
        return seen

    def warm_up(self, name, options):
        contestant = self.contestants.get(name, self.upstream)
        if "spent" in options:
            # The one call that this user has; after it every answer is the one expected.
            self.load(contestant, ["--user", "spent", "--requests", "1", "--connections", "1"]).wait()
        # Every user once, so that all are remembered.
        enough = ["--requests", 100_000] if "--users" in options else ["--seconds", 1]
        self.finished(contestant, self.load(contestant, options, *enough))


def spread(values, form):
    return f"{form.format(statistics.median(values))} ({form.format(min(values))}–{form.format(max(values))})"


def report(case, runs, out):
    """A table: medians, lowest and highest in brackets, and how the gateway stands to each, round by round."""
    print(f"\n### {case}\n", file=out)
    print("| | CPU µs/request | gateway's to it | requests/s | p50 µs | p99 µs | p99.9 µs | resident MiB |", file=out)
    print("|---|---|---|---|---|---|---|---|", file=out)
    for name, seen in runs.items():
        column = lambda key, form="{:.0f}": spread([run[key] for run in seen], form)
        ratios = [ours["cpu"] / run["cpu"] for ours, run in zip(runs["gateway"], seen)]
        cells = [name, column("cpu", "{:.1f}"), spread(ratios, "{:.2f}"), column("rate"), column("p50"),
                 column("p99"), column("p99.9"), column("memory", "{:.1f}")]
        if name == "no proxy":
            cells[1] = cells[2] = cells[7] = ""
        print(f"| {' | '.join(cells)} |", file=out, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="the folder of the built programs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each run")
    parser.add_argument("--case", action="append", choices=CASES, help="all of them unless given, perhaps more than once")
    parser.add_argument("--cores", default="0,1", type=lambda text: [int(core) for core in text.split(",")],
                        help="the proxy's, and that of load and upstream")
    arguments = parser.parse_args()
    arguments.case = arguments.case or list(CASES)
    with tempfile.TemporaryDirectory(prefix="n4n-bench-") as folder:
        folder = pathlib.Path(folder)
        try:
            bench = Bench(arguments, folder)
            for case in arguments.case:
                names, options = CASES[case]
                runs = {name: [] for name in names}
                for name in names:
                    bench.warm_up(name, options)
                for number in range(arguments.rounds):
                    turn = number % len(names)
                    for name in names[turn:] + names[:turn]:
                        runs[name].append(bench.measure(name, options))
                report(case, runs, sys.stdout)
        finally:
            Contestant.stop_all()


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"bench: {fault}")
