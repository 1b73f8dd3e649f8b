"""The answer to a socket request; it reads like the one of httpx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import cast

from mizzen.errors import MizzenError
from mizzen.protocol.javascript import dumps, loads
from mizzen.types import JSON


class StatusError(MizzenError):
    """A socket request was answered with a status that is not 2xx; `Response.raise_for_status` raises it.

    `response` is the answer.
    """

    def __init__(self, message: str, response: Response) -> None:
        super().__init__(message)
        self.response: Response = response


class Headers(Mapping[str, str]):
    """The headers of an answer; names in any case find them."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._headers

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"Headers({self._headers!r})"


class Response:
    """The answer to a socket request.

    `body` is the value that came: of JSON what it means, of text a str, else bytes; None where there was none. `json()`, `text` and
    `content` give it in these forms, as httpx does. `method` and `url` are those of the request.
    """

    __slots__ = ("_empty", "body", "headers", "method", "status_code", "url")

    def __init__(
        self, status_code: int, headers: Mapping[str, str], body: JSON, *, method: str = "GET", url: str = "", empty: bool = False
    ) -> None:
        """Make an answer; `empty` says that it has no body, which is not the JSON value null."""
        self.status_code: int = status_code
        self.headers: Headers = Headers(headers)
        self.body: JSON = body
        self.method: str = method
        self.url: str = url
        self._empty = empty

    @classmethod
    def of(cls, verb: str, url: str, jwr: JSON) -> Response:
        """Make it of the ack's argument: a JWR, or what a server answers that leaves the status and the headers out."""
        if isinstance(jwr, dict) and ("statusCode" in jwr or "body" in jwr):
            told = cast("dict[str, JSON]", jwr)
            status, headers = told.get("statusCode"), told.get("headers")
            return cls(
                status if isinstance(status, int) else 200,
                {name: str(value) for name, value in cast("dict[str, JSON]", headers).items()} if isinstance(headers, dict) else {},
                told.get("body"),
                method=verb.upper(),
                url=url,
                empty="body" not in told,
            )
        return cls(200, {}, jwr, method=verb.upper(), url=url)

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"

    @property
    def reason_phrase(self) -> str:
        """What HTTP calls the status: `Not Found`; empty for a status that HTTP does not know."""
        try:
            return HTTPStatus(self.status_code).phrase
        except ValueError:
            return ""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_redirect(self) -> bool:
        """Whether the status is 3xx; redirects are not followed."""
        return 300 <= self.status_code < 400

    @property
    def is_client_error(self) -> bool:
        """Whether the status is 4xx."""
        return 400 <= self.status_code < 500

    @property
    def is_server_error(self) -> bool:
        """Whether the status is 5xx."""
        return 500 <= self.status_code < 600

    @property
    def is_error(self) -> bool:
        """Whether the status is 4xx or 5xx."""
        return 400 <= self.status_code < 600

    def json(self) -> JSON:
        """Give the value of a JSON body; a body of text is parsed. Raises ValueError for what is not JSON."""
        if isinstance(self.body, bytes) or (isinstance(self.body, str) and not self._was_json):
            try:
                return loads(self.text)
            except Exception as error:
                raise ValueError(f"the body is not JSON: {error}") from error
        return self.body

    @property
    def _was_json(self) -> bool:
        if self._empty:
            return False
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind == "application/json" or kind.endswith("+json")

    @property
    def text(self) -> str:
        """The body as text; a JSON value as it is written."""
        if isinstance(self.body, str) and not self._was_json:
            return self.body
        return self.content.decode("utf-8", "replace")

    @property
    def content(self) -> bytes:
        """The body as bytes; a JSON value as it is written, empty where there is none."""
        if isinstance(self.body, bytes):
            return self.body
        if self.body is None and not self._was_json:
            return b""
        if isinstance(self.body, str) and not self._was_json:
            return self.body.encode("utf-8", "surrogatepass")
        return dumps(self.body)

    def raise_for_status(self) -> Response:
        """Raise StatusError unless the status is 2xx; gives the response itself, so that calls can be chained."""
        if self.is_success:
            return self
        raise StatusError(f"{self.method} {self.url} was answered with {self.status_code} {self.reason_phrase}".rstrip(), self)
