"""Ollama's registry: a manifest in the style of Docker's, in which one layer is the GGUF file.

`/v2/{namespace}/{model}/manifests/{tag}` lists layers by media type; each is at
`/v2/{namespace}/{model}/blobs/{digest}`, and the digest is its SHA-256.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from magpie_cli.address import checked_url
from magpie_cli.errors import MagpieError, UsageError
from magpie_cli.models.names import FORMS, OllamaTag
from magpie_cli.models.origin import LICENCE_LENGTH, Facts, checksum
from magpie_cli.models.retry import Interrupted
from magpie_cli.models.web import Web, beginning

if TYPE_CHECKING:
    import aiohttp

REGISTRY = "https://registry.ollama.ai"
REGISTRY_VARIABLE = "OLLAMA_REGISTRY"
LIBRARY = "https://ollama.com/library"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MODEL_LAYER = "application/vnd.ollama.image.model"
LICENCE_LAYER = "application/vnd.ollama.image.license"
LICENCE_BYTES = 4096  # enough for its first line


class Registry:
    """Where one tag of a model comes from. Raises UsageError for a bad OLLAMA_REGISTRY."""

    token = None

    def __init__(self, tag: OllamaTag, environment: Mapping[str, str]) -> None:
        base = environment.get(REGISTRY_VARIABLE, "").strip() or REGISTRY
        base = checked_url(base, REGISTRY_VARIABLE, "https://registry.ollama.ai")
        self.host = urlsplit(base).netloc
        self._tag = tag
        self._url = f"{base}/v2/{tag.namespace}/{tag.model}"

    def url(self, sha256: str | None) -> str:
        """The address of the layer that has this checksum."""
        return f"{self._url}/blobs/sha256:{sha256}"

    async def describe(self, web: Web, licence: str | None) -> Facts:
        """What the manifest says of the model's layer, and the first line of the licence's."""
        url = f"{self._url}/manifests/{self._tag.tag}"
        manifest = await web.json(url, headers={"Accept": MANIFEST}, refusal=self.refusal)
        model = _layer(manifest, MODEL_LAYER)
        sha256, size = _digest(model), model.get("size")
        if sha256 is None or not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise UsageError(
                f"{self._tag} has no GGUF file in {self.host}: it runs elsewhere, or is stored "
                "otherwise",
                f"choose another tag: {LIBRARY}/{self._tag.model}/tags",
            )
        text = _digest(_layer(manifest, LICENCE_LAYER))
        return Facts(size, sha256, licence or (await self._first_line(web, text) if text else None))

    async def _first_line(self, web: Web, sha256: str) -> str | None:
        try:
            async with web.open("GET", self.url(sha256)) as response:
                if response.status != 200:
                    return None
                text = (await beginning(response, LICENCE_BYTES)).decode("utf-8", "replace")
        except (Interrupted, MagpieError):  # the file may come all the same
            return None
        lines = [" ".join(line.split()) for line in text.splitlines()]
        return next((line[:LICENCE_LENGTH] for line in lines if line), None)

    def refusal(self, response: "aiohttp.ClientResponse") -> MagpieError:
        """Not there, or something else."""
        tag, status = self._tag, response.status
        if status in (401, 403, 404):
            return UsageError(
                f"Ollama's registry has no model {str(tag).removeprefix('library/')!r}",
                f"give {FORMS}; each model's page there lists its tags",
            )
        return MagpieError(
            f"{response.url.host} answered {status} for {tag}", f"see {LIBRARY}/{tag.model}"
        )


def _layer(manifest: dict[str, Any], kind: str) -> dict[str, Any]:
    """The first layer of that media type; empty where there is none."""
    layers = manifest.get("layers")
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and layer.get("mediaType") == kind:
            return layer
    return {}


def _digest(layer: dict[str, Any]) -> str | None:
    digest = layer.get("digest")
    return checksum(digest.removeprefix("sha256:")) if isinstance(digest, str) else None
