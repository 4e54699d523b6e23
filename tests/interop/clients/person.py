"""python person.py URL: somebody with a browser, which a client has open a page of the gateway's.

Signs in as INTEROP_USER with INTEROP_PASSWORD where that is asked, or, without a user, at the identity provider; approves what a client asks for, and follows the last
page to the client. Adds one JSON line to the file INTEROP_SEEN: what the client asked for, or why it came to nothing.
"""

import json
import os
import ssl
import sys
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPSHandler, Request, build_opener

# Sign-in, the page that leads to an identity provider, consent, the page that leads back: more pages than that are a circle.
MOST_PAGES = 5


class Page(HTMLParser):
    """The forms of a page, each with its fields and buttons, and where the page leads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str], set[tuple[str, str]]]] = []
        self.leads_to: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        match tag:
            case "form":
                self.forms.append((said["action"], {}, set()))
            case "input" if self.forms:
                self.forms[-1][1][said["name"]] = said.get("value", "")
            case "button" if self.forms and "name" in said:
                self.forms[-1][2].add((said["name"], said["value"]))
            case "meta" if said.get("http-equiv", "").lower() == "refresh":
                self.leads_to = said["content"].partition("url=")[2]

    def answer(self) -> tuple[str, dict[str, str]]:
        """Where to send what, so that it goes on."""
        for action, fields, buttons in self.forms:
            if ("idp", "continue") in buttons and not os.environ["INTEROP_USER"]:
                return action, fields | {"idp": "continue"}
            if "password" in fields and os.environ["INTEROP_USER"]:
                known = {"username": os.environ["INTEROP_USER"], "password": os.environ["INTEROP_PASSWORD"]}
                return action, fields | known
            if ("answer", "approve") in buttons:
                return action, fields | {"answer": "approve"}
        raise ValueError("a page on which nothing is to be done")


def visit(url: str) -> None:
    trust = ssl.create_default_context(cafile=os.environ.get("INTEROP_CA"))
    browser = build_opener(HTTPCookieProcessor(CookieJar()), HTTPSHandler(context=trust))
    origin = "://".join(urlsplit(url)[:2])
    got = browser.open(url, timeout=10)
    for _ in range(MOST_PAGES):
        if not got.url.startswith(f"{origin}/"):
            return
        page = Page(got.read().decode())
        if page.leads_to:
            got = browser.open(urljoin(got.url, page.leads_to), timeout=10)
        else:
            action, fields = page.answer()
            form = Request(urljoin(got.url, action), urlencode(fields).encode(), {"Origin": origin})
            got = browser.open(form, timeout=10)
    raise ValueError(f"still at {got.url.partition('?')[0]} after {MOST_PAGES} pages")


def main(url: str) -> None:
    seen = dict(parse_qsl(urlsplit(url).query))
    try:
        visit(url)
    except HTTPError as error:
        seen["failed"] = f"{error}: {error.read().decode()[-2000:]}"
        raise
    except Exception as error:
        seen["failed"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        with open(os.environ["INTEROP_SEEN"], "a") as file:
            print(json.dumps(seen), file=file)


main(sys.argv[1])
