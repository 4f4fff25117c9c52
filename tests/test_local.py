"""The local engine on the real llama.cpp: words, seeds, stops, limits, slots, key and cache."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from magpie_cli.engine import ChatModel, EngineRefused, Message, PairRefused, Sampling, Transient
from magpie_cli.engines import ENGINES, local
from magpie_cli.engines.http_errors import CONTEXT_EXCEEDED
from magpie_cli.engines.local import LocalModel
from magpie_cli.engines.local.load import MAX_TOKENS
from magpie_cli.engines.local.process import CHILD, LlamaProcess
from magpie_cli.engines.local.tiny import SENTENCES
from magpie_cli.settings import Settings
from tests.conftest import needs_llama
from tests.local_engine import is_alive, loaded, write_endless_model
from tests.processes import PATIENCE

pytestmark = needs_llama

HELLO: list[Message] = [{"role": "user", "content": "Where do we begin ?"}]
DICE = Sampling(temperature=1.0, seed=7)
WORDS = {word for sentence in SENTENCES for word in sentence.split()}
LONG = 200_000  # tokens: minutes


@pytest.fixture
async def opened(tiny_model: Path) -> AsyncIterator[tuple[LocalModel, LlamaProcess]]:
    """The tiny model, and the process that runs it."""
    async with loaded(tiny_model) as pair:
        yield pair


@pytest.fixture
def model(opened: tuple[LocalModel, LlamaProcess]) -> LocalModel:
    """The tiny model."""
    return opened[0]


@pytest.fixture
def llama(opened: tuple[LocalModel, LlamaProcess]) -> LlamaProcess:
    """Its process."""
    return opened[1]


async def nobody_is_connected(url: str) -> None:
    """Return once no connection to `url` is open: /proc/net/tcp has ports in hex, and 01 for it."""
    end = f":{int(url.rsplit(':', 1)[1]):04X} "
    async with asyncio.timeout(PATIENCE):
        while f"{end}01 " in _connections():  # noqa: ASYNC110 - the system tells nobody
            await asyncio.sleep(0.01)


def _connections() -> str:
    return Path("/proc/self/net/tcp").read_text()


async def asked(
    llama: LlamaProcess, path: str, body: object = None, key: str | None = None
) -> tuple[int, Any]:
    """The status and the JSON that llama.cpp itself answers, to any client."""
    headers = {"Authorization": f"Bearer {key or llama.key}"}
    method = "POST" if body else "GET"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, llama.url + path, json=body) as response,
    ):
        return response.status, await response.json()


async def until_working(llama: LlamaProcess, *, working: bool) -> None:
    """Return once the one slot works, or does not."""
    async with asyncio.timeout(PATIENCE):
        while (await asked(llama, "/slots"))[1][0]["is_processing"] != working:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.01)


def everything_shown() -> bytes:
    """The command lines and environments of all processes."""
    shown = b""
    for path in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
        with suppress(OSError):  # it has just ended
            shown += path.read_bytes()
    return shown


def files_of(pid: int) -> set[Path]:
    """What a process has open on a disk."""
    held = {path.resolve() for path in Path(f"/proc/{pid}/fd").iterdir()}
    return {path for path in held if path.is_file()}


async def test_it_answers_in_words(model: LocalModel) -> None:
    """A chat gets what the model was made of, ended by the model itself, with its tokens counted.

    A word of the tiny model is a token, and so is the end.
    """
    done = await model.complete(HELLO, DICE)
    words = done.text.split()
    assert isinstance(model, ChatModel)
    assert set(words) <= WORDS
    assert done.finish_reason == "stop"
    assert done.usage.completion_tokens == len(words) + 1
    assert (done.usage.prompt_tokens or 0) > len(HELLO[0]["content"].split())


async def test_a_seed_is_kept(model: LocalModel) -> None:
    """One seed gives one text, however often; ten seeds give several."""
    texts = [
        {(await model.complete(HELLO, Sampling(1.0, seed=seed))).text for _ in range(3)}
        for seed in range(10)
    ]
    assert all(len(each) == 1 for each in texts)
    assert len(set.union(*texts)) > 5


async def test_temperature_0_throws_no_dice(model: LocalModel) -> None:
    """Without chance all seeds say the same."""
    texts = {
        (await model.complete(HELLO, Sampling(0.0, seed=seed))).text for seed in (None, 1, 2, 3)
    }
    assert len(texts) == 1


async def test_the_limit_of_an_utterance_is_kept(model: LocalModel) -> None:
    """`max_tokens` cuts a text at so many tokens, and the reason says so."""
    whole = await model.complete(HELLO, DICE)
    cut = await model.complete(HELLO, Sampling(1.0, max_tokens=3, seed=7))
    assert cut.text == " ".join(whole.text.split()[:3]) != whole.text
    assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 3)


async def test_an_utterance_has_a_limit_where_none_is_given(tmp_path: Path) -> None:
    """A model that never stops is stopped all the same."""
    path = tmp_path / "endless.gguf"
    write_endless_model(path, context=4096)
    async with loaded(path) as (model, _):
        done = await model.complete(HELLO, Sampling(1.0))
    assert (done.finish_reason, done.usage.completion_tokens) == ("length", MAX_TOKENS)


async def test_the_raw_side_has_no_template(model: LocalModel) -> None:
    """After the words that open a user's message, the model writes what a user might say."""
    done = await model.write("<|im_start|>user\n", DICE)
    assert set(done.text.split()) <= WORDS
    assert done.finish_reason == "stop"
    prompt = done.usage.prompt_tokens or 0
    assert prompt < ((await model.complete(HELLO, DICE)).usage.prompt_tokens or 0)
    status = await model.write("<|im_start|>user\n", Sampling(1.0, max_tokens=2, seed=7))
    assert status.finish_reason == "length"


async def test_the_raw_side_stops_at_a_word(model: LocalModel) -> None:
    """The text ends before the first of the stop strings."""
    whole = await model.write("<|im_start|>user\n", DICE)
    words = whole.text.split()
    stop = f" {words[2]}"
    cut = await model.write("<|im_start|>user\n", DICE, ["never said", stop])
    assert cut.text == whole.text.partition(stop)[0] != whole.text
    assert cut.finish_reason == "stop"


async def test_the_template_is_the_models_own(model: LocalModel) -> None:
    """Rendered, messages are what the model is asked with; written after it, they are a chat."""
    messages: list[Message] = [{"role": "system", "content": "Be brief ."}, *HELLO]
    prompt = await model.template(messages)
    assert prompt == (
        "<|im_start|>system\nBe brief .<|im_end|>\n"
        "<|im_start|>user\nWhere do we begin ?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert await model.write(prompt, DICE) == await model.complete(messages, DICE)


async def test_many_at_once_do_not_mix(model: LocalModel) -> None:
    """Sixty-four completions at once on four slots are those of one after another."""
    samplings = [Sampling(1.0, seed=seed) for seed in range(64)]
    together = await asyncio.gather(*(model.complete(HELLO, each) for each in samplings))
    alone = [await model.complete(HELLO, each) for each in samplings]
    assert together == alone
    assert len({done.text for done in together}) > 20


async def test_more_than_the_context_is_the_pairs_own_fault(model: LocalModel) -> None:
    """Too many tokens refuse the pair, with a way out, and the model goes on."""
    with pytest.raises(PairRefused, match=r"outgrows its 4,096 tokens of context; .*a file") as no:
        await model.complete([{"role": "user", "content": "no " * 5000}], DICE)
    assert no.value.kind == CONTEXT_EXCEEDED
    assert (await model.complete(HELLO, DICE)).text


async def test_a_request_that_is_given_up_frees_its_slot(tmp_path: Path) -> None:
    """Cancelled, an answer that has minutes to go does not hold back the next on the one slot."""
    path = tmp_path / "endless.gguf"
    write_endless_model(path, context=LONG * 2)
    async with loaded(path, slots=1, context=LONG * 2) as (model, llama):
        request = model.complete(HELLO, Sampling(1.0, max_tokens=LONG))
        task = asyncio.create_task(request)
        await until_working(llama, working=True)
        task.cancel()
        await until_working(llama, working=False)
        done = await model.complete(HELLO, Sampling(1.0, max_tokens=5))
    assert task.cancelled()
    assert done.usage.completion_tokens == 5


async def test_a_stranger_is_refused(model: LocalModel, llama: LlamaProcess) -> None:
    """Whoever on this machine has not the key gets 401, for each way to ask."""
    chat = {"messages": HELLO, "max_tokens": 1}
    for path, body in (
        ("/v1/chat/completions", chat),
        ("/v1/completions", {"prompt": "x", "max_tokens": 1}),
        ("/apply-template", {"messages": HELLO}),
        ("/slots", None),
    ):
        assert (await asked(llama, path, body, key="wrong"))[0] == 401
    assert (await asked(llama, "/v1/chat/completions", chat))[0] == 200
    assert (await model.complete(HELLO, DICE)).text


async def test_nobody_can_read_the_key(tiny_model: Path, llama: LlamaProcess) -> None:
    """It is random, no process has it in its command line or its environment, and no file has it.

    llama.cpp has no file open that it could write.
    """
    shown = everything_shown()
    assert str(CHILD).encode() in shown
    assert len(llama.key) == 32
    assert llama.key.encode() not in shown
    assert files_of(llama._process.pid) <= {tiny_model}


async def test_both_speakers_keep_their_prefix(model: LocalModel, llama: LlamaProcess) -> None:
    """With a slot for each view of a dialogue, what was said before is not read again."""
    views: list[list[Message]] = [
        [{"role": "system", "content": f"You are {word * 40}."}, *HELLO]
        for word in ("one ", "two ")
    ]
    for _ in range(3):
        for view in views:
            done = await model.complete(view, DICE)
            view += [{"role": "assistant", "content": done.text}, *HELLO]
    for view in views:
        body = {"messages": view, "max_tokens": 1, "cache_prompt": True}
        _, answer = await asked(llama, "/v1/chat/completions", body)
        usage = answer["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0.8 * usage["prompt_tokens"]


async def test_a_cut_answer_is_tried_again(tiny_model: Path) -> None:
    """An answer that breaks off in the middle, or never begins, is transient; the next is whole."""
    async with loaded(tiny_model, faults=[0, 30, 900]) as (model, _):
        for _ in range(3):
            with pytest.raises(Transient):
                await model.complete(HELLO, DICE)
        assert (await model.complete(HELLO, DICE)).finish_reason == "stop"


async def test_a_dead_llama_refuses_everything(model: LocalModel, llama: LlamaProcess) -> None:
    """Once it has ended, no request of any kind is worth another try."""
    llama._process.kill()
    for ask in (model.complete(HELLO, DICE), model.write("x", DICE), model.template(HELLO)):
        with pytest.raises(EngineRefused, match=r"llama\.cpp was killed") as caught:
            await ask
        assert "a smaller --model" in (caught.value.hint or "")


async def test_the_process_ends_with_its_block(tiny_model: Path) -> None:
    """Also where the block ends in an error, while a request is open."""
    begun: list[LlamaProcess] = []

    async def fails() -> None:
        async with loaded(tiny_model) as (model, llama), asyncio.TaskGroup() as tasks:
            begun.append(llama)
            tasks.create_task(model.complete(HELLO, DICE))
            await asyncio.sleep(0)
            raise KeyError

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await fails()
    assert not is_alive(begun[0]._process.pid)


async def test_each_request_has_a_connection_of_its_own(tiny_model: Path) -> None:
    """llama.cpp closes one after an answer: none is left open for the next to break on."""
    settings = Settings("-", model=str(tiny_model))
    async with local.connect(ENGINES["local"], settings) as model:
        for _ in range(3):
            await model.template(HELLO)
            await nobody_is_connected(model._llama.url)
