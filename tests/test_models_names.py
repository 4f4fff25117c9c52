"""What a user types for a model, and the file that it leads to."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_cli.errors import UsageError
from magpie_cli.models import ASK_FIRST, CATALOGUE, DEFAULT_MODEL, ask_first, find_model, size_text
from magpie_cli.models.cache import cache_folder, is_whole, part_path, path_of
from magpie_cli.models.catalogue import CatalogueModel
from magpie_cli.models.names import HubFile, OllamaTag, Source, read_name

FOLDER = Path("/cache/magpie/models")
PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
HUB_FILES = st.builds(
    HubFile,
    st.builds("{}/{}".format, PART, PART),
    st.from_regex(r"[^\x00-\x1f/]{1,300}(/[^\x00-\x1f/]{1,300})?\.gguf", fullmatch=True),
    PART,
)
SOURCES = st.one_of(HUB_FILES, st.builds(OllamaTag, PART, PART, PART))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gemma2:9b-instruct-fp16", OllamaTag("library", "gemma2", "9b-instruct-fp16")),
        ("qwen2.5", OllamaTag("library", "qwen2.5", "latest")),
        ("someone/Fine.model:q4_K_M", OllamaTag("someone", "Fine.model", "q4_K_M")),
        ("library/qwen2.5:1.5b", OllamaTag("library", "qwen2.5", "1.5b")),
        ("hf:o/r/f.gguf", HubFile("o/r", "f.gguf", "main")),
        ("hf:o/r/f.GGUF@v1.0", HubFile("o/r", "f.GGUF", "v1.0")),
        ("hf:o/r/sub/f (new).gguf@refs/pr/1", HubFile("o/r", "sub/f (new).gguf", "refs/pr/1")),
        ("HF:o/r/f.gguf", HubFile("o/r", "f.gguf", "main")),
        ("model.gguf", Path("model.gguf")),
        ("../up.gguf", Path("../up.gguf")),
        ("/a/b c.GGUF", Path("/a/b c.GGUF")),
        ("~/m.gguf", Path("~/m.gguf").expanduser()),
        (DEFAULT_MODEL, CATALOGUE[DEFAULT_MODEL]),
        (DEFAULT_MODEL.upper(), CATALOGUE[DEFAULT_MODEL]),
    ],
)
def test_a_name_leads_where_it_says(name: str, found: CatalogueModel | Source | Path) -> None:
    """Names of the catalogue, paths, files on Hugging Face, and Ollama's names."""
    assert read_name(name) == found


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a\nb",
        "a\x00.gguf",
        "\x1b[31m.gguf",
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "a/b/c",
        "a:b:c",
        ":tag",
        "name:",
        "-q",
        "x" * 301,
        "hf:",
        "hf:owner/repo",
        "hf:owner/repo/file.bin",
        "hf:owner/repo/../../x.gguf",
        "hf:owner/repo//x.gguf",
        "hf:owner/repo/./x.gguf",
        "hf:../repo/x.gguf",
        "hf:owner/../x.gguf",
        "hf:owner/repo/a\\b.gguf",
        "hf:owner/repo/x.gguf@",
        "hf:owner/repo/x.gguf@../main",
        "hf:owner/repo/x.gguf@a b",
        "hf:owner/repo/x.gguf?y",
        "hf:owner/repo/x-00001-of-00003.gguf",
        "~nobody-of-that-name/x.gguf",
    ],
)
def test_what_is_no_name_says_which_forms_there_are(name: str) -> None:
    """Nothing leads out of the cache, and the hint tells what to type."""
    with pytest.raises(UsageError) as wrong:
        read_name(name)
    assert wrong.value.hint
    if "split" not in wrong.value.message:
        assert "hf:owner/repo/file.gguf" in wrong.value.hint


def test_a_slip_is_answered_with_what_was_meant() -> None:
    """The nearest names of the catalogue come first."""
    with pytest.raises(UsageError) as wrong:
        read_name("qwen2.5 1.5b")
    assert (wrong.value.hint or "").startswith("qwen2.5:1.5b")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://huggingface.co/o/r/resolve/main/f.gguf", "hf:o/r/f.gguf"),
        ("https://huggingface.co/o/r/resolve/main/f.gguf?download=true", "hf:o/r/f.gguf"),
        ("https://huggingface.co/o/r/blob/v1/sub/f%20x.gguf", "hf:o/r/sub/f x.gguf@v1"),
        ("https://huggingface.co/o/r", "hf:owner/repo/file.gguf"),
        ("https://ollama.com/library/gemma2", "any other name: that is asked of Ollama's registry"),
    ],
)
def test_an_address_is_answered_with_its_name(address: str, name: str) -> None:
    """What people copy from a page is no path, and the hint has the form that works."""
    with pytest.raises(UsageError, match="is an address") as wrong:
        read_name(address)
    assert name in (wrong.value.hint or "")


@pytest.mark.parametrize("name", ["model.bin", "./model.bin", "gemma2"])
def test_another_file_is_not_asked_of_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What lies here without .gguf at its end is named as that, with the forms there are."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"is a file on this machine .* \.gguf") as wrong:
        find_model(name, {})
    hint = wrong.value.hint or ""
    assert "hf:owner/repo/file.gguf" in hint
    assert ("library/gemma2" in hint) == (name == "gemma2")
    assert find_model("library/gemma2", {}).kind == "ollama"


def test_a_file_that_is_not_there_names_a_model_that_is_like_it() -> None:
    """Who types a file for a model of the catalogue hears of it."""
    with pytest.raises(UsageError) as wrong:
        find_model("qwen2.5-1.5b.gguf", {})
    assert (wrong.value.hint or "").startswith("qwen2.5:1.5b or ")
    assert "FILE.gguf" in (wrong.value.hint or "")


@given(SOURCES)
def test_every_file_lies_in_the_folder(source: Source) -> None:
    """A readable name of a length that every file system takes, and nothing above the folder."""
    path = path_of(source, FOLDER)
    assert path.parent == FOLDER
    assert os.path.normpath(path) == str(path)
    assert path.name.isascii()
    assert path.name[0].isalnum() or path.name[0] == "_"
    assert len(f"{part_path(path).name}.json.new") < 200


@given(SOURCES, SOURCES)
def test_two_sources_have_two_files(left: Source, right: Source) -> None:
    """Also where upper and lower case are one."""
    if left != right:
        paths = [str(path_of(source, FOLDER)).lower() for source in (left, right)]
        assert paths[0] != paths[1]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (HubFile("o/r", "f.gguf"), HubFile("O/r", "f.gguf")),
        (HubFile("o/r", "f.gguf"), HubFile("o/r", "f.gguf", "v1")),
        (HubFile("o/r", "a/b.gguf"), HubFile("o/r", "a-b.gguf")),
        (OllamaTag("a", "b", "c"), OllamaTag("a", "b", "C")),
    ],
)
def test_likeness_is_not_sameness(left: Source, right: Source) -> None:
    """What is read alike is kept apart."""
    assert path_of(left, FOLDER).name.lower() != path_of(right, FOLDER).name.lower()


@given(PART, PART, PART, st.sampled_from(["main", "v1.0", "refs/pr/1", "9217f5db"]))
def test_a_source_is_a_name_that_leads_back(
    owner: str, repository: str, file: str, revision: str
) -> None:
    """What is shown of a file can be typed again."""
    source = HubFile(f"{owner}/{repository}", f"sub/{file}.gguf", revision)
    if ".." not in source.repository:
        assert read_name(str(source)) == source


def test_the_cache_is_in_the_xdg_place(tmp_path: Path) -> None:
    """`$XDG_CACHE_HOME` where it is absolute, else ~/.cache."""
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/magpie/models")
    for empty in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "here"}):
        environment = {"HOME": str(tmp_path), **empty}
        assert cache_folder(environment) == tmp_path / ".cache/magpie/models"


def test_the_catalogue_is_sound() -> None:
    """Names are those of their keys; a checksum has its revision; none is too large to fetch."""
    assert len(CATALOGUE) >= 8
    assert DEFAULT_MODEL in CATALOGUE
    for name, model in CATALOGUE.items():
        assert name == model.name == name.lower()
        assert isinstance(read_name(f"hf:{model.repository}/{model.file}"), HubFile)
        assert 0 < model.size < ASK_FIRST
        assert (model.sha256 is None) == (model.revision == "main")
        assert model.sha256 is None or len(bytes.fromhex(model.sha256)) == 32
        assert model.licence
        assert model.note


def test_a_catalogue_name_knows_its_facts_unasked(tmp_path: Path) -> None:
    """Size, licence and checksum of the default model are there without a network."""
    wanted = find_model(DEFAULT_MODEL, {"XDG_CACHE_HOME": str(tmp_path)})
    assert (wanted.kind, wanted.present) == ("catalogue", False)
    assert wanted.path.is_relative_to(tmp_path)
    assert "1.12 GB, licence Apache-2.0, from hf:Qwen/" in wanted.sentence()


def test_a_file_of_ones_own_is_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is taken as it is, from where the user stands; a folder or nothing is an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.gguf").write_bytes(b"GGUF!")
    wanted = find_model("mine.gguf", {})
    assert (wanted.kind, wanted.present, wanted.size) == ("file", True, 5)
    assert wanted.path == tmp_path / "mine.gguf"
    (tmp_path / "folder.gguf").mkdir()
    for name, words in (("folder.gguf", "a folder"), ("none.gguf", "no such file")):
        with pytest.raises(UsageError, match=words):
            find_model(name, {})


def test_a_large_model_wants_to_be_pulled() -> None:
    """The error of whoever will not fetch so much names the command that does."""
    error = ask_first(find_model("it/s:a-b", {"XDG_CACHE_HOME": "/x"}))
    assert isinstance(error, UsageError)
    assert error.hint
    assert error.hint.startswith("magpie pull it/s:a-b, and then")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (386_000_000, "386 MB"),
        (999_949_999, "1 GB"),
        (1_117_320_736, "1.12 GB"),
        (18_490_680_000, "18.5 GB"),
        (1_500_000_000_000, "1,500 GB"),
    ],
)
def test_sizes_are_in_thousands(size: int, text: str) -> None:
    """Three digits and a unit."""
    assert size_text(size) == text


def test_a_file_without_a_note_counts_as_whole(tmp_path: Path) -> None:
    """Whoever copies a model into the cache need not write a note."""
    path = tmp_path / "x.gguf"
    assert not is_whole(path)
    path.write_bytes(b"GGUF")
    assert is_whole(path)
    path.with_name("x.gguf.json").write_text("nonsense")
    assert is_whole(path)
