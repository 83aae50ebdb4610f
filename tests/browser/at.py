"""Looks at the live page at an address of its own: python3 at.py URL [SCREENSHOT]

Everything that the page asks for and links to is below that URL and there. Exits 0 when all is as it should be.
"""

import sys

from chromium import Page

URL = sys.argv[1]


def main():
    page = Page()
    try:
        page.look(1180, 1000, "light")
        page.go(URL)
        page.wait("the page is live", "document.body?.className.includes('live')")
        # One event could have come out of a buffer that filled.
        first = page.ask("lastEvent")
        page.wait("events go on", f"lastEvent > {first}")
        assert page.ask("getComputedStyle(document.querySelector('main')).display") == "grid", "the style is there"
        links = page.ask("[...document.querySelectorAll('footer a')].map((link) => link.href)")
        assert links == [f"{URL}metrics", f"{URL}readyz"], links
        elsewhere = [asked for asked in page.requests if not asked.startswith(URL) and asked != "about:blank"]
        assert not elsewhere, elsewhere
        assert not page.errors, page.errors
        if len(sys.argv) > 2:
            page.screenshot(sys.argv[2])
        for link, words in zip(links, ["n4n_gateway_build_info", "ready"]):
            page.go(link)
            page.wait(f"{link} is there", f"document.body.innerText.includes('{words}')")
    finally:
        page.close()
    print("the page is as it should be")


main()
