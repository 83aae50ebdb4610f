"""Counts the gateway's instructions per call under callgrind and holds them to the most that they may be."""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from contestants import Contestant, Fault, accepts, make_certificate, wait_until

# A line for each path: its name, what was counted last, and the most.
COUNTS = pathlib.Path(__file__).with_suffix(".txt")
CALLS = 1000
# The least share of a function, in per cent, that a profile shows.
SHOWN = 0.2
PATHS = {
    "accepted": [],
    "refused": ["--body", "customer_id=191&orderid=7", "--expect", "400"],
}
# Not held to a count, because how many streams' frames are handled at once is left to chance.
MORE_TO_PROFILE = {"HTTP/2, eight streams": ["--streams", "8"]}


class Counter:
    """The gateway under callgrind, before a stand-in of n4n."""

    def __init__(self, binaries, gateway, folder):
        self.load, self.gateway, self.folder = binaries / "load", gateway, folder
        self.core = min(os.sched_getaffinity(0))
        make_certificate(folder)
        self.upstream = Contestant("stand-in", folder, self.core)
        self.upstream.start([gateway, "stand-in", "--listen", f"127.0.0.1:{self.upstream.http}"])

    def total(self, options, calls):
        """All instructions of a process that served so many calls, and the file that says where."""
        gateway = Contestant(f"gateway {calls}", self.folder, self.core, "gateway.toml", self.upstream.http)
        out = self.folder / "callgrind.out"
        # A copy that the processor makes in one go would count once for each byte.
        os.environ["GLIBC_TUNABLES"] = "glibc.cpu.x86_rep_movsb_threshold=1073741824"
        gateway.start(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}",
                       self.gateway, "run", "--config", gateway.config])
        wait_until("the admin listener", lambda: accepts(gateway.admin))
        target = [f"127.0.0.1:{gateway.http}"]
        if "--streams" in options:
            target = [f"127.0.0.1:{gateway.https}", "--certificate", self.folder / "cert.pem"]
        load = subprocess.run([self.load, "--target", *target, "--connections", "1", "--requests", str(calls), *options],
                              capture_output=True, text=True)
        if load.returncode != 0:
            raise Fault(load.stderr)
        gateway.process.send_signal(signal.SIGINT)
        gateway.process.wait()
        return int(re.search(r"^totals: (\d+)", out.read_text(), re.MULTILINE)[1]), out

    def per_call(self, options):
        once, _ = self.total(options, CALLS)
        twice, _ = self.total(options, 2 * CALLS)
        return round((twice - once) / CALLS)


def profile(out):
    """Prints where instructions were spent, and what of them in the functions of the crate that speaks HTTP/2."""
    report = subprocess.run(["callgrind_annotate", "--threshold=100", out], check=True, capture_output=True, text=True)
    total, http2 = 0, 0
    for line in report.stdout.splitlines():
        cost = re.match(r" *([\d,]+) \( ?([\d.]+)%\)  (.*)", line)
        if not cost:
            continue
        if float(cost[2]) >= SHOWN or "PROGRAM TOTALS" in line:
            print(line)
        count = int(cost[1].replace(",", ""))
        total = max(total, count)
        if re.search(r"[:<&( ]h2::", cost[3]):
            http2 += count
    print(f"in h2's own functions, without what they call: {http2:,} ({http2 / total:.1%})", flush=True)


def written():
    """What is written down of each path: what was counted last, and the most."""
    lines = map(str.split, COUNTS.read_text().splitlines())
    return {path: (int(last), int(most)) for path, last, most in lines}


def compare(counts):
    """Whether no count is above the most that it may be; prints all of them."""
    for path, (last, most) in written().items():
        verdict = f"within {most}" if counts[path] <= most else f"MORE than {most}"
        print(f"{path}: {counts[path]} instructions a call, {counts[path] / last - 1:+.1%} against {last}: {verdict}")
    return all(counts[path] <= most for path, (_, most) in written().items())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="the folder of the built programs")
    parser.add_argument("--gateway", type=pathlib.Path, help="the gateway that is counted, where it is not among them")
    parser.add_argument("--accept", action="store_true", help="write the counts down, and leave the most as it is")
    parser.add_argument("--profile", action="store_true", help="print where they are spent")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="n4n-bench-") as folder:
        try:
            gateway = arguments.gateway or arguments.binaries / "n4n-gateway"
            counter = Counter(arguments.binaries, gateway.resolve(strict=True), pathlib.Path(folder))
            if arguments.profile:
                for path, options in {**PATHS, **MORE_TO_PROFILE}.items():
                    print(f"\n{path}, 10,000 calls and the start:", flush=True)
                    _, out = counter.total(options, 10_000)
                    profile(out)
                return True
            counts = {path: counter.per_call(options) for path, options in PATHS.items()}
        finally:
            Contestant.stop_all()
    if arguments.accept:
        lines = [f"{path} {counts[path]} {most}\n" for path, (_, most) in written().items()]
        COUNTS.write_text("".join(lines))
    return compare(counts)


if __name__ == "__main__":
    try:
        sys.exit(not main())
    except Fault as fault:
        sys.exit(f"instructions: {fault}")
