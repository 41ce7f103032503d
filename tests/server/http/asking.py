"""Requests to the HTTP port of a real server."""

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

SECONDS = 60
PNG, HVAE, NPY, JSON = "image/png", "image/x-hvae", "application/x-npy", "application/json"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        assert self.headers["Content-Type"].partition(";")[0] == JSON, self.headers
        return json.loads(self.body)


def ask(server, path, body=None, kind=None, verb=None, context=None, **headers):
    """The answer to a request; a body that is no bytes goes as JSON. Header names have _ for -."""
    if body is not None and not isinstance(body, bytes):
        body, kind = json.dumps(body).encode(), JSON
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if kind is not None:
        named["Content-Type"] = kind
    url = urlsplit(server.http + path)
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(url.netloc, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(url.netloc, timeout=SECONDS)
    target = f"{url.path}?{url.query}" if url.query else url.path
    connection.request(verb or ("GET" if body is None else "POST"), target, body, named)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer
