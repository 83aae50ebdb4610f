"""A headless Chromium, driven over the pipe of its DevTools protocol: nothing but Python's own library."""

import base64
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --no-proxy-server --hide-scrollbars
    --remote-debugging-pipe""".split()

# How long anything may take before the check gives up on it.
DEADLINE = 60


class Page:
    """One page; what it logs, throws and asks for is kept."""

    def __init__(self, program="chromium"):
        self.profile = tempfile.mkdtemp()
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()

        def pipes():
            # The protocol's pipes are descriptors 3 and 4; high copies first, so that neither is in the way.
            high = [os.dup2(from_us, 100), os.dup2(to_us, 101)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=pipes,
        )
        os.close(from_us)
        os.close(to_us)
        self.pipe = os.fdopen(to_browser, "wb", buffering=0)
        self.answers = queue.Queue()
        self.errors = []
        self.requests = []
        self.number = 0
        self.session = None
        threading.Thread(target=self._read, args=(os.fdopen(from_browser, "rb"),), daemon=True).start()
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _read(self, pipe):
        rest = b""
        while chunk := pipe.read1(65536):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self.answers.put(message)
                else:
                    self._note(message["method"], message["params"])

    def _note(self, method, told):
        if method == "Runtime.exceptionThrown":
            self.errors.append(("exception", json.dumps(told["exceptionDetails"])))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(("console", json.dumps(told["args"])))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append((told["entry"]["source"], told["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def send(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.pipe.write(json.dumps(message).encode() + b"\0")
        while (answer := self.answers.get(timeout=DEADLINE))["id"] != self.number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def go(self, url):
        self.send("Page.navigate", url=url)

    def ask(self, expression):
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector):
        return self.ask(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")

    def wait(self, what, expression):
        """Waits until the expression holds."""
        end = time.monotonic() + DEADLINE
        while not self.ask(f"!!({expression})"):
            if time.monotonic() > end:
                raise AssertionError(f"not within {DEADLINE} s: {what}\n{self.ask('document.body.innerText')}")
            time.sleep(0.1)

    def look(self, width, height, scheme):
        phone = width < 600
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=9)

    def screenshot(self, file):
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        with open(file, "wb") as out:
            out.write(base64.b64decode(shot["data"]))

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)
