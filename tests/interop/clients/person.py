"""python person.py URL: somebody with a browser, which a client has open a page of the gateway's.

Approves what a client asks for, and follows the last page to the client. Adds one JSON line to the file INTEROP_SEEN: what the client asked
for, or why it came to nothing.
"""

import json
import os
import sys
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit

from pages import Browser


def main(url: str) -> None:
    seen = dict(parse_qsl(urlsplit(url).query))
    try:
        Browser().visit(url)
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
