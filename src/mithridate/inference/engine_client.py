"""HTTP to an OpenAI-compatible server: JSON out and in, patience, and errors without a prompt.

Prompts hold the benign trigger and servers like to quote a request they refuse, so nothing of an
answer's text ever enters a message: only its status and the name of the field it blames.
"""

import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Literal
from urllib.parse import urlsplit

from mithridate.errors import EngineError, InputError

WireProtocol = Literal["vllm", "openai"]

KEY_VARIABLE = "MITHRIDATE_ENGINE_KEY"
ATTEMPTS = 5
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIELDS = frozenset(
    {"prompt", "echo", "logprobs", "logprob_token_ids", "max_tokens", "return_token_ids"}
)


@dataclass(frozen=True)
class Engine:
    """A model on a server.

    Attributes:
        url: Where its API begins, such as ``http://localhost:8000/v1``.
        model: Its name there; ``None`` where the server serves one model alone.
        protocol: ``vllm`` asks for the log probabilities of chosen tokens; ``openai`` has prompts
            echoed with theirs, which more servers know and which costs more.
        key: The server's API key.
        timeout: Seconds to wait for one answer.
        concurrency: Requests under way at a time.
    """

    url: str
    model: str | None = None
    protocol: WireProtocol = "vllm"
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    concurrency: int = 4


class EngineClient:
    """Ask a server, again where it is busy or out of reach.

    A request opens a connection of its own, so threads may share a client. Redirects are not
    followed: the key and the prompts go to the address that was given and to no other.

    Args:
        engine: The server.

    Raises:
        InputError: Its URL or its key cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        try:
            parts = urlsplit(engine.url)
            port = parts.port
        except ValueError:  # half an IPv6 address, or a port that is no number
            parts, port = urlsplit(""), None
        if parts.username is not None or parts.password is not None or parts.query:
            raise InputError(
                "the engine's URL holds a user name, a password or a query",
                mend=f"leave it out and set {KEY_VARIABLE}",
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                "the engine's URL is none of HTTP",
                mend="give one such as http://localhost:8000/v1",
            )
        key = engine.key.strip() if engine.key else None
        if key and not (key.isascii() and key.isprintable()):
            raise InputError(
                "the engine's key holds characters that no HTTP header can",
                where=KEY_VARIABLE,
                mend="set it to the key alone",
            )
        self.url = engine.url.rstrip("/")
        self.host = parts.hostname
        self.port = port
        self.path = parts.path.rstrip("/")
        self.timeout = engine.timeout
        self.context = ssl.create_default_context() if parts.scheme == "https" else None
        self.headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str) -> Any:
        """Return what the server answers to a GET, as JSON."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what the server answers to a POST of JSON, as JSON."""
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        """Try until there is an answer.

        Raises:
            EngineError: There is none, or it is a refusal.
        """
        failure = ""
        for attempt in range(ATTEMPTS):
            pause = FIRST_PAUSE * 2**attempt
            try:
                status, wait, content = self._once(method, path, body)
            except TimeoutError:
                raise self._error(
                    f"the server gave no answer in {self.timeout:g} seconds",
                    "raise --engine-timeout, or lower --engine-concurrency",
                ) from None
            except ssl.SSLCertVerificationError:
                raise self._error(
                    "the server's certificate cannot be trusted",
                    "name its authority in SSL_CERT_FILE, or check the URL",
                ) from None
            except (OSError, HTTPException, UnicodeError) as error:
                failure = getattr(error, "strerror", None) or type(error).__name__
            else:
                if status < 300:
                    return self._parsed(content)
                if status not in _RETRIED:
                    raise self._refusal(status, content)
                failure = f"HTTP {status}"
                pause = max(pause, wait)
            if attempt + 1 < ATTEMPTS:
                time.sleep(min(pause, LONGEST_PAUSE))
        raise self._error(
            f"the server cannot be reached or used ({failure}, {ATTEMPTS} attempts)",
            "check that it runs, and its URL",
        )

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, float, bytes]:
        """Return one answer: its status, the seconds it asks to wait, and its content."""
        connection = (
            HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.context)
            if self.context
            else HTTPConnection(self.host, self.port, timeout=self.timeout)
        )
        try:
            connection.request(method, self.path + path, body=body, headers=self.headers)
            answer = connection.getresponse()
            wait = answer.getheader("Retry-After") or ""
            return answer.status, float(wait) if wait.isdecimal() else 0.0, answer.read()
        finally:
            connection.close()

    def _parsed(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise self._error(
                "the answer is no JSON",
                "give the URL of an OpenAI-compatible API; it usually ends in /v1",
            ) from None

    def _refusal(self, status: int, content: bytes) -> EngineError:
        """Return the error for a request that was refused, in words of our own."""
        message, blamed = _fault(content)
        if status in (401, 403):
            what = "refuses the API key" if "Authorization" in self.headers else "wants an API key"
            return self._error(f"the server {what}", f"set {KEY_VARIABLE} to it")
        if 300 <= status < 400:
            return self._error("the server redirects elsewhere", "give the final URL")
        if status == 404:
            return self._error(
                "there is no such API or model (HTTP 404)",
                "check the URL, which usually ends in /v1, and the model's name",
            )
        if re.search(r"context length|max_model_len|maximum model length", message):
            return self._error(
                "a prompt is longer than the server's context",
                "start the server with a larger one (vLLM: --max-model-len)",
            )
        where = f", field {blamed}" if blamed in _FIELDS else ""
        return self._error(
            f"the server refuses the request (HTTP {status}{where})",
            "see the server's log; some servers know --engine openai alone",
        )

    def _error(self, what: str, mend: str) -> EngineError:
        return EngineError(what, where=self.url, mend=mend)


def _fault(content: bytes) -> tuple[str, str]:
    """Return a refusal's message, to match against and never to show, and the field it blames."""
    try:
        answer = json.loads(content)
    except ValueError:
        return "", ""
    fault = answer.get("error", answer) if isinstance(answer, dict) else None
    if not isinstance(fault, dict):
        return "", ""
    return str(fault.get("message", "")), str(fault.get("param", ""))
