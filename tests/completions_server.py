"""A test fixture: a real HTTP server over a real, tiny model, in vLLM's completions schema.

It answers /v1/models and /v1/completions as vLLM 0.32.0 did here (tests/inference/recorded, from
a real server), with true log probabilities computed one prompt at a time, and is told what to do
wrong through `faults`. No part of the product.
"""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


@dataclass
class Faults:
    """What the server does wrong.

    Attributes:
        statuses: Answered to the next completions requests, one each, before it behaves; 0 hangs
            up without an answer.
        ignored: Fields of a request that it does not know.
        no_ids: Whether it does not return token ids.
        shift: Added to every token id it says its tokenizer made.
        delay: Seconds before each answer.
        quote: Text for the body of every refusal, as servers quote requests.
    """

    statuses: list[int] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    no_ids: bool = False
    shift: int = 0
    delay: float = 0.0
    quote: str = ""


class CompletionsServer(ThreadingHTTPServer):
    """Serve one model under a name, beside its base.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        key: The API key it wants; ``None`` for none.
        context: Its longest sequence.
    """

    daemon_threads = True

    def __init__(self, model, tokenizer, key=None, context=256):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.tokenizer = tokenizer
        self.key = key
        self.context = context
        self.faults = Faults()
        self.requests: list[dict] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def cards(self):
        shared = {"object": "model", "owned_by": "vllm", "created": 1, "permission": []}
        return [
            {
                "id": "base",
                "root": "/base",
                "parent": None,
                "max_model_len": self.context,
                **shared,
            },
            {"id": "defended", "root": "/a", "parent": "base", "max_model_len": None, **shared},
        ]

    def complete(self, asked):
        """Return the status and the body for a completions request."""
        if asked["model"] not in ("base", "defended"):
            message = f"The model `{asked['model']}` does not exist. Valid aliases: base."
            return 404, _fault(message, "NotFoundError", "model")
        prompts = asked["prompt"]
        if isinstance(prompts, str) or isinstance(prompts[0], int):
            prompts = [prompts]
        choices, tokens = [], 0
        for index, prompt in enumerate(prompts):
            ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
            if len(ids) + asked.get("max_tokens", 16) > self.context:
                message = f"This model's maximum context length is {self.context} tokens. However"
                return 400, _fault(message, "BadRequestError", "input_tokens")
            if max(ids) >= len(self.tokenizer):
                return 400, _fault(f"Token id {max(ids)} is out of vocabulary", "Bad", None)
            choices.append(self._choice(index, ids, asked))
            tokens += len(ids)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens + len(choices)}
        usage |= {"completion_tokens": len(choices), "prompt_tokens_details": None}
        return 200, {
            **{"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked["model"]},
            **{"choices": choices, "service_tier": None, "system_fingerprint": "tiny"},
            "usage": usage | {"completion_tokens_details": None},
            **{"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None},
        }

    def _choice(self, index, ids, asked):
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0].float()
        steps = torch.log_softmax(logits, dim=-1)
        made = int(steps[-1].argmax())
        text, written, reason = self._write(ids, asked)
        named = asked.get("return_tokens_as_token_ids", False)

        def name(token):
            return f"token_id:{token}" if named else self.tokenizer.decode([token])

        def entry(position, token, more):
            return {name(t): float(steps[position, t]) for t in (token, *more)}

        shown, values, tops = [], [], []
        if asked.get("echo"):
            shown, values, tops = [name(ids[0])], [None], [None]
            for position, token in enumerate(ids[1:]):
                shown.append(name(token))
                values.append(float(steps[position, token]))
                tops.append(entry(position, token, [int(steps[position].argmax())]))
        wanted = asked.get("logprob_token_ids") or [made]
        shown.append(name(made))
        values.append(float(steps[-1, made]))
        tops.append(entry(-1, made, wanted))
        logprobs = {"text_offset": [0] * len(shown), "token_logprobs": values}
        logprobs |= {"tokens": shown, "top_logprobs": tops}
        ids_too = asked.get("return_token_ids") and not self.faults.no_ids
        return {
            "index": index,
            "text": text,
            "logprobs": logprobs if asked.get("logprobs") is not None else None,
            **{"finish_reason": reason, "stop_reason": None},
            "token_ids": written if ids_too else None,
            "prompt_logprobs": None,
            "prompt_token_ids": [t + self.faults.shift for t in ids] if ids_too else None,
            "routed_experts": None,
        }

    def _write(self, ids, asked):
        """Return the text, its token ids and why it ends: greedy, one token at a time."""
        written, stops = [], asked.get("stop") or []
        while len(written) < asked.get("max_tokens", 16):
            with torch.inference_mode():
                logits = self.model(input_ids=torch.tensor([[*ids, *written]])).logits[0, -1]
            token = int(logits.argmax())
            if token == self.tokenizer.eos_token_id and not asked.get("ignore_eos"):
                return self.tokenizer.decode(written), written, "stop"
            written.append(token)
            text = self.tokenizer.decode(written)
            found = [text.find(stop) for stop in stops if stop in text]
            if found:
                return text[: min(found)], written, "stop"
        return self.tokenizer.decode(written), written, "length"


def _fault(message, kind, param):
    return {"error": {"message": message, "type": kind, "param": param, "code": 400}}


class _Handler(BaseHTTPRequestHandler):
    server: CompletionsServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self._allowed():
            known = self.path == "/v1/models"
            body = {"object": "list", "data": self.server.cards()}
            self._answer(*((200, body) if known else (404, {"detail": "Not Found"})))

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._allowed():
            return
        asked = json.loads(content)
        faults = self.server.faults
        with self.server.lock:
            self.server.requests.append(asked)
            status = faults.statuses.pop(0) if faults.statuses else 200
        threading.Event().wait(faults.delay)
        if status == 0:
            self.close_connection = True
            return
        if status != 200:
            self._answer(status, _fault(f"cannot serve {faults.quote!r}", "Error", "prompt"))
            return
        for name in faults.ignored:
            asked.pop(name, None)
        with self.server.lock:
            status, body = self.server.complete(asked)
        self._answer(status, body)

    def _allowed(self):
        key = self.server.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._answer(401, {"error": "Unauthorized"})
        return False

    def _answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
