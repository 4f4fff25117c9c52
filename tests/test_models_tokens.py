"""Who learns the user's token, and through whom requests go."""

from pathlib import Path

import pytest

from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models import fetch, find_model
from magpie_cli.models.means import Means
from tests.model_hub import CONTENT, NAME, TOKEN, ModelHub, refuses
from tests.test_models_download import Case

BEARER = f"Bearer {TOKEN}"


@pytest.fixture
def case(hub: ModelHub, tmp_path: Path) -> Case:
    """A hub that asks for a token, and a user who has one."""
    hub.token = TOKEN
    made = Case(hub, tmp_path / "cache")
    made.environment["HF_TOKEN"] = TOKEN
    return made


async def test_the_token_goes_to_the_hub_alone(case: Case) -> None:
    """Every request to the hub has it, none to the host that the hub redirects to."""
    assert (await case.fetch()).read_bytes() == CONTENT
    sent = {(each.site, each.headers.get("Authorization")) for each in case.hub.asked}
    assert sent == {("hub", BEARER), ("store", None)}


async def test_the_token_is_not_for_ollamas_registry(case: Case) -> None:
    """It belongs to Hugging Face."""
    await case.fetch("small:q4_K")
    assert not [each for each in case.hub.asked if "Authorization" in each.headers]


async def test_a_gated_repository_wants_a_token(case: Case) -> None:
    """Without one, the sentence names the page with the licence, and the variable."""
    del case.environment["HF_TOKEN"]
    said = await case.fails()
    assert f"{case.hub.hub_url}/owner/small-GGUF gives its files only to accounts" in said
    assert "export HF_TOKEN=..." in said


async def test_a_licence_that_was_not_accepted(case: Case) -> None:
    """With a token, 403 means that its account has not said yes."""
    case.hub.hub_faults = iter([refuses(403, X_Error_Code="GatedRepo")])
    said = await case.fails()
    assert "its account has not accepted the licence" in said
    assert "accept it on that page" in said


async def test_a_wrong_token_is_not_repeated(case: Case) -> None:
    """Also where the hub quotes it in its answer."""
    case.environment["HF_TOKEN"] = TOKEN.replace("1234", "9876")
    said = await case.fails()
    assert "does not accept HF_TOKEN" in said
    assert "9876" not in said


async def test_a_repository_that_the_token_may_not_see(case: Case) -> None:
    """The hub does not say whether it exists, and neither do we."""
    case.hub.hub_faults = iter([refuses(401, X_Error_Code="RepoNotFound")])
    assert "that HF_TOKEN may read" in await case.fails(UsageError)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HF_TOKEN", "hf_two\nlines", "HF_TOKEN holds what cannot be sent"),
        ("HF_ENDPOINT", "ftp://hub", "is not an http or https address"),
        ("HF_ENDPOINT", "https://user:hunter2@hub", "with a user or password in it"),
        ("HF_ENDPOINT", "http://hub.example", "is not encrypted, and HF_TOKEN is set"),
    ],
)
async def test_a_variable_that_cannot_be_is_named(
    case: Case, variable: str, value: str, words: str
) -> None:
    """Before anything is asked, and without its secret."""
    case.environment[variable] = value
    said = await case.fails(UsageError)
    assert words in said
    assert "hunter2" not in said
    assert case.hub.asked == []


async def test_a_bad_registry_is_named(case: Case) -> None:
    """OLLAMA_REGISTRY must be an address."""
    case.environment["OLLAMA_REGISTRY"] = "registry"
    assert "OLLAMA_REGISTRY 'registry'" in await case.fails(UsageError, "small:q4_K")


async def test_a_proxy_is_used(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and its kin lead to hosts that are not on this machine."""
    monkeypatch.setenv("http_proxy", case.hub.hub_url)
    case.environment["HF_ENDPOINT"] = "http://hub.example"
    del case.environment["HF_TOKEN"]
    case.hub.token = None
    path = await case.fetch()
    assert path.read_bytes() == CONTENT
    assert case.hub.asked[0].headers["Host"] == "hub.example"


@pytest.mark.parametrize("variable", ["HF_ENDPOINT", "http_proxy"])
async def test_no_network_is_one_sentence(
    case: Case, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Where nobody listens it says so at once, without a proxy's password."""
    nobody = "http://127.0.0.1:1" if variable == "HF_ENDPOINT" else "http://me:hunter2@127.0.0.1:1"
    del case.environment["HF_TOKEN"]
    case.environment["HF_ENDPOINT"] = "http://hub.example"
    if variable == "HF_ENDPOINT":
        case.environment["HF_ENDPOINT"] = nobody
    monkeypatch.setenv("http_proxy", nobody)
    said = await case.fails()
    assert "nothing answers: " in said
    assert "is there a network?" in said
    assert "hunter2" not in said
    assert case.slept == []


async def test_a_proxy_that_refuses_is_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the proxy says is not taken for the hub's word, and its password is not shown."""
    address = case.hub.hub_url.replace("http://", "http://me:hunter2@")
    monkeypatch.setenv("https_proxy", address)
    case.environment["HF_ENDPOINT"] = "https://hub.example"
    said = await case.fails()
    assert "the proxy on the way to hub.example answered 4" in said
    assert "hunter2" not in said
    assert not [each for each in case.hub.asked if "Authorization" in each.headers]


async def test_a_store_that_is_out_of_reach(case: Case) -> None:
    """The hub answers, and the host that it sends us to does not: that is named."""
    case.hub.store_url = "http://127.0.0.1:1"
    with pytest.raises(MagpieError, match=r"nothing answers: 127\.0\.0\.1"):
        await fetch(find_model(NAME, case.environment), lambda *_: None, means=case.means)


async def test_the_environment_is_the_processes_own_by_default(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without means of its own a download reads os.environ."""
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    assert (await fetch(find_model(NAME), lambda *_: None)).read_bytes() == CONTENT
    assert Means().environment["HF_TOKEN"] == TOKEN
