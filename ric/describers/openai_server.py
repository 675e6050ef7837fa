"""A model behind an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, or a service.

Pictures and prompts go to `--base-url` and nowhere else: redirects are not followed. The key is
read from the environment (OPENAI_API_KEY) and stands in no file and no message.

What a server may do: 429, 5xx and a connection that breaks are waited out by the `openai` package,
0.5 s at first and up to 8 s, for about a minute; of time-outs there may be three. A server that has
answered and then is away, as one that is restarted and loads its model, is waited for longer. What
is no chat completion (a page of HTML, half a JSON) is asked for again twice. Then the sample fails;
where every other one would fail too (nothing listens, the key or the model's name is wrong, twenty
failed in a row), the command ends and can be repeated.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import time
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn

import openai
from openai.types.chat import ChatCompletion

from ric.describers.quality import Answer
from ric.describers.requests import fitted
from ric.describers.sampling import TEMPERATURE, TOP_P
from ric.errors import RicError, SampleError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from PIL.Image import Image

    from ric.config import DescribeConfig
    from ric.describers.describer import Answered
    from ric.describers.requests import Request

KEY = "OPENAI_API_KEY"
RETRIES = 10  # of the package: about a minute
RETRIED_FOR = 60.0  # seconds, those that pass between the retries
TIMEOUTS = 3  # after so many a request is given up
ASKED = 3  # times, if what comes is no chat completion
PAUSE = 0.5  # seconds, doubled each time
POLL = 0.2  # seconds between looks at whether the command is to stop
REACHED_WITHIN = 10.0  # seconds, before anything is sent
RESTARTED_WITHIN = 600.0  # seconds that a server which has answered may be away
AWAY = (502, 503, 504)  # what a proxy says while there is no server behind it
FAILED_IN_A_ROW = 20  # samples, after which the command ends
JPEG_QUALITY = 95


class OpenAiServer:
    """Describe with a server's model.

    Args:
        config: The server's address, its name for the model, and how much is asked at once.
    """

    is_model = True
    reads_prompt = True

    def __init__(self, config: DescribeConfig) -> None:
        """Send nothing yet."""
        self.config = config
        self.key = os.environ.get(KEY, "").strip()
        self._has_answered = False
        self._failed_in_a_row = 0
        self._patience = TIMEOUTS * config.timeout + RETRIED_FOR

    def answer(self, requests: Iterable[Request], between_steps: Callable[[], None]) -> Answered:
        """Send requests, `concurrency` at once, and return answers as they come.

        Raises:
            RicError: the server cannot be reached, refuses the key, or has no such model.
        """
        stream = iter(requests)
        with self._connected() as submit:
            waiting: dict[Future[Answer | SampleError], Request] = {}
            while True:
                while len(waiting) < self.config.concurrency and (one := next(stream, None)):
                    try:
                        waiting[submit(one, self._messages(one))] = one
                    except SampleError as error:
                        yield one, error
                if not waiting:
                    return
                between_steps()
                done, _ = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()

    @contextmanager
    def _connected(self) -> Iterator[Callable[..., Future[Answer | SampleError]]]:
        """Yield a function that sends a request; what is in flight at the end is given up."""
        # in a thread of its own: a notebook's main thread has a loop already
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever, name="ric-openai", daemon=True)
        thread.start()
        client = openai.AsyncOpenAI(
            base_url=self.config.base_url,
            api_key=self.key or "none",
            max_retries=RETRIES,
            timeout=self.config.timeout,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )
        sent: set[Future[Answer | SampleError]] = set()

        def submit(request: Request, messages: list[Any]) -> Future[Answer | SampleError]:
            future = asyncio.run_coroutine_threadsafe(self._ask(client, request, messages), loop)
            sent.add(future)
            future.add_done_callback(sent.discard)
            return future

        try:
            if not self._has_answered:
                asyncio.run_coroutine_threadsafe(self._reach(client), loop).result()
            yield submit
        finally:
            for future in list(sent):
                future.cancel()
            asyncio.run_coroutine_threadsafe(client.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _reach(self, client: openai.AsyncOpenAI) -> None:
        """Ask for the list of models, to tell at once if nothing listens (raises RicError).

        Whatever is answered is good enough: not every server has such a list.
        """
        patience = min(REACHED_WITHIN, self.config.timeout)
        with suppress(openai.APIStatusError, openai.APIResponseValidationError, ValueError):
            try:
                await client.with_options(max_retries=1, timeout=patience).models.list()
            except openai.APIConnectionError as error:
                if type(error.__cause__).__name__ != "ReadTimeout":  # that one is only busy
                    raise self._not_reached(error) from None

    def _not_reached(self, error: openai.APIConnectionError) -> RicError:
        why = self._public(first_line(error.__cause__ or error))
        return RicError(
            f"Cannot reach {self.config.base_url}: {why}.",
            "Start the server, and repeat the command with --run: finished texts are kept.",
        )

    def _messages(self, request: Request) -> list[Any]:
        """Put pictures and prompt into a message (raises SampleError if one cannot be read)."""
        pictures = (fitted(one, self.config.sent_pixels) for one in request.load_pictures())
        content = [{"type": "image_url", "image_url": {"url": as_url(one)}} for one in pictures]
        return [{"role": "user", "content": [*content, {"type": "text", "text": request.prompt}]}]

    async def _ask(
        self, client: openai.AsyncOpenAI, request: Request, messages: list[Any]
    ) -> Answer | SampleError:
        """Send a request; see the module's text for what is done about each kind of failure."""
        seed = request.answer_seed
        drawn: dict[str, Any] = {"temperature": 0.0}
        if seed is not None:
            drawn = {"temperature": TEMPERATURE, "top_p": TOP_P, "seed": seed}
        came, odd, began = "", 0, time.monotonic()
        while odd < ASKED:
            try:
                asked = client.chat.completions.create(
                    model=self.config.model,
                    messages=messages,
                    max_tokens=self.config.max_new_tokens,
                    **drawn,
                )
                # the package tries again after a time-out, too
                completion: Any = await asyncio.wait_for(asked, self._patience)
            except (openai.APIResponseValidationError, ValueError) as error:
                came = f"what is no JSON ({first_line(error)})"
            except (openai.APITimeoutError, TimeoutError):
                reason = f"no answer within {self.config.timeout:g} s (--timeout)"
                return self._without_answer(request, reason)
            except openai.APIError as error:
                waited = time.monotonic() - began
                if not (self._has_answered and is_away(error) and waited < RESTARTED_WITHIN):
                    return self._failed(request, error)
                await asyncio.sleep(PAUSE)
                continue
            else:
                if (answer := answer_of(completion)) is not None:
                    self._has_answered = True
                    self._failed_in_a_row = 0
                    return answer
                came = what_came(completion)
            await asyncio.sleep(PAUSE * 2**odd)
            odd += 1
        if not self._has_answered:
            raise RicError(
                f"{self.config.base_url} answers with {self._public(came)}, not with chat"
                " completions.",
                "Name the address as the server prints it; it often ends in /v1.",
            )
        return self._without_answer(request, f"it answered with {self._public(came)}")

    def _failed(self, request: Request, error: openai.APIError) -> SampleError:
        """Return why one sample fails (raises RicError if all others would, too)."""
        said = self._public(first_line(error))
        if isinstance(error, openai.APIConnectionError):
            raise self._not_reached(error) from None
        if isinstance(error, openai.APIStatusError) and self._is_for_all(error.status_code):
            self._refuse(error.status_code, said)
        return self._without_answer(request, said)

    def _without_answer(self, request: Request, reason: str) -> SampleError:
        """Return a sample's failure (raises RicError if it is the last of many in a row)."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= FAILED_IN_A_ROW:
            raise RicError(
                f"{self.config.base_url} has answered none of the last {FAILED_IN_A_ROW} samples:"
                f" {reason}.",
                "See the server's log, and repeat the command with --run: finished texts are kept.",
            )
        return SampleError(request.sample.id, "server", reason)

    def _is_for_all(self, status: int) -> bool:
        return status in (401, 403, 404, 429) or 300 <= status < 400

    def _refuse(self, status: int, said: str) -> NoReturn:
        hints = {
            404: "Name --base-url as the server prints it, and --model as it calls its model.",
            429: "Lower --concurrency, and repeat the command later with --run.",
        }
        hint = hints.get(status, f"Put its key into the variable {KEY}.")
        if 300 <= status < 400:
            hint = "It redirects, which is not followed: name its new address with --base-url."
        raise RicError(f"{self.config.base_url} refuses requests: {said}", hint)

    def _public(self, text: str) -> str:
        """Take the key out of what a server says."""
        return text.replace(self.key, "…") if self.key else text


def is_away(error: openai.APIError) -> bool:
    """Tell whether a failure is that of a server which is not there, and may come back."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in AWAY
    return isinstance(error, openai.APIConnectionError)


def answer_of(completion: Any) -> Answer | None:
    """Read a chat completion; None if it is none, or holds no message."""
    if not isinstance(completion, ChatCompletion) or not completion.choices:
        return None
    choice = completion.choices[0]
    if choice.message is None:
        return None
    tokens = completion.usage.completion_tokens if completion.usage else 0
    text = choice.message.content or choice.message.refusal or ""
    return Answer(text, tokens or 0, ended=choice.finish_reason != "length")


def what_came(completion: Any) -> str:
    """Say what came in the place of a chat completion."""
    if isinstance(completion, str):
        start = completion.lstrip()[:9].lower()
        return "HTML" if start.startswith(("<!doctype", "<html")) else "a text that is no JSON"
    return "a JSON object without a message"


def as_url(picture: Image) -> str:
    """Encode a picture as the `data:` address of a JPEG."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
