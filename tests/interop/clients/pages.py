"""The gateway's pages, as somebody with a browser goes through them: signs in, connects, approves.

Signs in as INTEROP_USER with INTEROP_PASSWORD where that is asked, or, without a user, at the identity provider.
"""

import os
import ssl
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPSHandler, Request, build_opener

# Sign-in, the page that leads elsewhere, consent or connection, the page that leads back: more pages than that are a circle.
MOST_PAGES = 6
# Where it ends that somebody connects an account.
ENDS = ("/oauth/success", "/oauth/error")


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
            for yes in ("approve", "connect"):
                if ("answer", yes) in buttons:
                    return action, fields | {"answer": yes}
        raise ValueError("a page on which nothing is to be done")


class Browser:
    """A browser, which keeps its cookies."""

    def __init__(self) -> None:
        trust = ssl.create_default_context(cafile=os.environ.get("INTEROP_CA"))
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()), HTTPSHandler(context=trust))

    def visit(self, url: str) -> str:
        """Goes from page to page until there is nothing more to be done there, and returns where that is."""
        origin = "://".join(urlsplit(url)[:2])
        got = self._opener.open(url, timeout=10)
        for _ in range(MOST_PAGES):
            if not got.url.startswith(f"{origin}/") or urlsplit(got.url).path in ENDS:
                return got.url
            page = Page(got.read().decode())
            if page.leads_to:
                got = self._opener.open(urljoin(got.url, page.leads_to), timeout=10)
            else:
                action, fields = page.answer()
                form = Request(urljoin(got.url, action), urlencode(fields).encode(), {"Origin": origin})
                got = self._opener.open(form, timeout=10)
        raise ValueError(f"still at {got.url.partition('?')[0]} after {MOST_PAGES} pages")
