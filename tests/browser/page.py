"""Looks at the live page in a real browser: python3 page.py GATEWAY-BINARY [FOLDER-FOR-SCREENSHOTS]

Everyday traffic, a storm of refusals, an n4n that is gone and a gateway that is gone and comes back.
Exits 0 when all is as it should be.
"""

import http.client
import os
import re
import subprocess
import sys
import tempfile
import threading

from chromium import DEADLINE, Page

BINARY = sys.argv[1]
SHOTS = sys.argv[2] if len(sys.argv) > 2 else None
LOOKS = {
    "light": (1180, 1000, "light"),
    "dark": (1180, 1000, "dark"),
    "phone-light": (390, 844, "light"),
    "phone-dark": (390, 844, "dark"),
}
# The pair that the stand-in knows.
SAMPLE_KEY = "44b5498dbcb481a0d00b404c0169af62"
LIVE = "document.body?.className.includes('live')"


class Process:
    """A process of the gateway's binary; what it says is waited for."""

    def __init__(self, *arguments):
        self.lines = []
        self.said = threading.Condition()
        self.process = subprocess.Popen(
            [BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.said:
                self.lines.append(line)
                self.said.notify_all()

    def wait_for(self, pattern):
        def found():
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self.said:
            if not self.said.wait_for(found, DEADLINE):
                raise AssertionError(f"{pattern} was not said in: {''.join(self.lines)}")
            return found()[1]

    def end(self):
        self.process.kill()
        self.process.wait()


def call(address, method="PATCH", path="/api/customer/unlock", user="ada", body="customer_id=191", key="0" * 32):
    connection = http.client.HTTPConnection(address, timeout=DEADLINE)
    headers = {"api-key": key, "Content-Type": "application/x-www-form-urlencoded"}
    if user:
        headers["api-username"] = user
    connection.request(method, path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def screenshots(page, name, looks=LOOKS):
    for look in looks:
        page.look(*LOOKS[look])
        wide = page.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name}, {look}: {wide} pixels too wide"
        if SHOTS:
            page.screenshot(os.path.join(SHOTS, f"{name}-{look}.png"))
    page.look(*LOOKS["light"])


def check_errors(page, during=()):
    errors = [error for error in page.errors if error[0] not in during]
    assert not errors, errors
    page.errors.clear()


def count(code):
    """The total of a code, as the page shows it."""
    return (
        "Number([...document.querySelectorAll('#codes tbody tr')]"
        f".find((row) => row.cells[0].textContent === '{code}')?.cells[2].textContent.replace(/,/g, '') ?? 0)"
    )


def everyday(page):
    """The demo with its traffic."""
    demo = Process("demo", "--port", "0", "--admin-port", "0", "--traffic")
    try:
        url = demo.wait_for(r"live page +(http://\S+)")
        page.look(*LOOKS["light"])
        page.go(url)
        page.wait("the page is live", LIVE)
        page.wait("calls are forwarded", "document.querySelector('#chart path.forwarded').getAttribute('d')")
        page.wait("unlocks are counted", "Number(document.querySelector('#unlocks td').textContent) > 0")
        page.wait("a user is near the quota", "document.querySelector('#users meter')")
        page.wait("a user's quota is exceeded", f"{count('quota_exceeded')} > 0")
        page.wait("n4n's failures are shown", f"{count('upstream_broken')} > 0")
        times = "document.querySelector('#refusals tbody tr time').dateTime"
        before = page.ask(times)
        page.wait("the refusals go on by themselves", f"{times} > '{before}'")
        page.wait("a minute of traffic", "document.querySelector('#chart path.forwarded').getAttribute('d').split('M').length > 30")
        screenshots(page, "everyday")
        assert page.text("#status") == "Live"
        foreign = [asked for asked in page.requests if not asked.startswith(url) and asked != "about:blank"]
        assert not foreign, foreign
        check_errors(page)
        reachable = set()
        for _ in range(6):
            page.press("Tab")
            reachable.add(page.ask("document.activeElement.className || document.activeElement.textContent"))
        assert {"skip", "scroll", "Metrics", "Readiness"} <= reachable, reachable
        # Left before the demo ends, so that its end is no loss.
        page.go("about:blank")
        page.wait("the page is left", "location.href === 'about:blank'")
        check_errors(page)
    finally:
        demo.end()


def trouble(page, folder):
    """A storm of refusals, then n4n is gone, then the gateway."""
    n4n = Process("stand-in", "--listen", "127.0.0.1:0")
    config = os.path.join(folder, "gateway.toml")

    def start(http_port="0", admin_port="0"):
        with open(config, "w") as file:
            file.write(
                f'listen = {{ http = ["127.0.0.1:{http_port}"], admin = "127.0.0.1:{admin_port}" }}\n'
                f'upstream.peers = ["{peer}"]\n'
                'quota = { requests = 1, per = "1m", burst = 5 }\nlog.access = "off"\n'
                'enumeration = { distinct = 3 }\n'
                '[[users]]\nname = "ada"\nquota = { requests = 1, per = "1s", burst = 40 }\n'
            )
        gateway = Process("run", "--config", config)
        gateway.wait_for("(ready)")
        return gateway, gateway.wait_for(r"http=(\S+)"), gateway.wait_for(r"admin=(\S+)")

    peer = n4n.wait_for(r"http://(\S+)")
    gateway, address, admin = start()
    try:
        page.go(f"http://{admin}/")
        page.wait("the page is live", LIVE)
        assert page.text("#refusals-empty") and page.ask("document.querySelector('#refusals').hidden")

        for _ in range(100):
            assert call(address, path="/api//customer/unlock") == 404
            assert call(address, user=None) == 401
            assert call(address, body="customer_id=1&customer_id=2") == 400
        bad = '<img src=x onerror=alert(1)>'.replace(" ", "/")
        assert 429 in {call(address, user=bad) for _ in range(10)}
        for _ in range(35):
            call(address)
        assert "No one" in page.text("#suspects-empty"), page.text("#suspects-empty")
        for number in range(5):
            assert call(address, user="n4n_admin", key=SAMPLE_KEY, body=f"customer_id={880 + number}") == 200
        for code in ("path_unknown", "credential_missing", "lookup_ambiguous"):
            page.wait(f"{code} is counted", f"{count(code)} === 100")
        page.wait("alike refusals stand together", "document.querySelectorAll('#refusals tbody tr').length === 4")
        page.wait("a user who is not listed is named", f"document.querySelector('#users').textContent.includes('{bad}')")
        page.wait("a listed user is near the quota", "document.querySelector('#users').textContent.includes('of 40')")
        page.wait("a walk is told", "document.querySelector('#suspects').textContent.includes('n4n_admin')")
        page.wait("each of its calls", "document.querySelector('#suspects tbody td.number').textContent > '1'")
        assert page.ask("document.querySelectorAll('main img').length") == 0, "names are text, not markup"
        page.wait("the storm is in the chart", "document.querySelector('#chart path.rejected').getAttribute('d')")
        screenshots(page, "storm", ["light", "dark"])

        n4n.end()
        for _ in range(4):
            assert call(address, user="bob") == 502
        page.wait("the outage is counted", f"{count('upstream_unreachable')} === 4")
        page.wait("the peer is named", f"document.querySelector('#refusals').textContent.includes('{peer}')")
        page.wait("the outage is in the chart", "document.querySelector('#chart path.failed').getAttribute('d')")
        screenshots(page, "outage", ["light"])
        check_errors(page)

        gateway.end()
        page.wait("the loss is said", "document.body.className.includes('lost')")
        assert "Connection to the gateway lost at" in page.text("#status"), page.text("#status")
        assert page.ask("document.title").startswith("Connection lost"), page.ask("document.title")
        screenshots(page, "lost", ["light", "dark"])
        # That nobody answers is the network's to say in the console, and all that may be said there.
        check_errors(page, during=("network",))

        gateway, _, _ = start(*(place.rsplit(":", 1)[1] for place in (address, admin)))
        page.wait("the page is live again", LIVE)
        page.wait("it shows the new process", f"{count('path_unknown')} === 0")
        assert page.ask("document.title") == "n4n-gateway"
        check_errors(page, during=("network",))

        # A gateway that is there and says nothing, as behind a cut network.
        os.kill(gateway.process.pid, 19)
        page.wait("silence is a loss too", "document.body.className.includes('lost')")
        os.kill(gateway.process.pid, 18)
        page.wait("and it ends", LIVE)
        check_errors(page, during=("network",))
    finally:
        gateway.end()
        n4n.end()


def main():
    page = Page()
    try:
        with tempfile.TemporaryDirectory() as folder:
            everyday(page)
            trouble(page, folder)
    finally:
        page.close()
    print("the page is as it should be")


main()
