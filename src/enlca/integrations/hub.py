"""Networks on the Hugging Face hub: a folder in the hub's layout, written, read strictly, and pushed.

    save_pretrained(network, "my-model", license="apache-2.0")
    push("my-model/model.safetensors", "me/my-model")
    from_pretrained("me/my-model", revision="v1")       # or enlca.Upscaler("hf-hub:me/my-model@v1")

The checkpoint's card is what counts. `config.json` repeats it for the hub, and loading refuses a repository
in which card, config and tensors contradict each other. `README.md` shows it to people; it is never read.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from enlca.checkpoint.file import Card, read_card, save
from enlca.checkpoint.repository import CONFIG, FOLDER, HUB, WEIGHTS
from enlca.checkpoint.store import load_with_card
from enlca.errors import NotWritten, require
from enlca.network.sr import SRNetwork
from enlca.runtime.files import write_atomically


def save_pretrained(
    network: SRNetwork,
    folder: str | os.PathLike[str],
    *,
    variant: str = "paper",
    training: dict[str, Any] | None = None,
    scores: dict[str, Any] | None = None,
    license: str | None = None,
) -> None:
    """Write a folder in the hub's layout: `model.safetensors`, `config.json` and a model card, `README.md`.

    Args:
        network: what to store.
        folder: made if it is missing; its name is the title of the model card.
        variant, training, scores: see `Card`.
        license: of the weights, by the hub's name for it, such as "apache-2.0"; None says nothing of it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save(network, folder / WEIGHTS, variant=variant, training=training, scores=scores)
    card = read_card(folder / WEIGHTS)
    write_atomically(folder / CONFIG, (json.dumps(json.loads(card.to_json()), indent=2) + "\n").encode())
    readme = model_card(card, name=folder.resolve().name, license=license)
    write_atomically(folder / "README.md", readme.encode())


def from_pretrained(source: str | os.PathLike[str], *, revision: str | None = None) -> SRNetwork:
    """Return the network of a folder or of a repository of the hub, in float32 and evaluation mode.

    Args:
        source: a folder that exists, or `org/name`.
        revision: a branch, a tag or a commit of the repository; None is its main branch.

    Raises:
        CheckpointError: it cannot be had, or holds anything but what its card says.
        MissingExtra: the hub's client is not installed.
        ValueError: a revision of a folder.
    """
    source = os.fspath(source)
    if Path(source).is_dir():
        if revision is not None:
            raise ValueError(f"{source} is a folder, which has no revisions")
        return load_with_card(f"{FOLDER}{source}")[0]
    return load_with_card(f"{HUB}{source}" + (f"@{revision}" if revision else ""))[0]


def push(
    model: str | os.PathLike[str],
    repository: str,
    *,
    scale: int | None = None,
    license: str | None = None,
    private: bool = False,
) -> str:
    """Upload a network to the hub and return the address of the commit.

    The token is that of `hf auth login`, or of the environment variable HF_TOKEN.

    Args:
        model: a network of enlca's own, by anything that `load_model` takes.
        repository: `org/name`; made if it does not exist.
        scale: which weights of a bundled name.
        license: of the weights, by the hub's name for it.
        private: whether a new repository is hidden from others.

    Raises:
        CheckpointError: there is no such network.
        MissingExtra: the hub's client is not installed.
        NotWritten: the hub refuses the upload, or cannot be reached.
    """
    with require("hub", feature="an upload to the hub"):
        from huggingface_hub import HfApi
    network, card = load_with_card(model, scale)
    with tempfile.TemporaryDirectory(prefix="enlca-") as place:
        folder = Path(place) / repository.rpartition("/")[2]
        facts = {"variant": card.variant, "training": card.training, "scores": card.scores}
        save_pretrained(network, folder, **facts, license=license)
        try:
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"{network.name} x{network.scale}"
            )
        # Of many kinds, which are those of the client's HTTP library, too.
        except Exception as error:
            raise NotWritten(f"{HUB}{repository}: {' '.join(str(error).split())[:300]}") from error
    return done.commit_url


def model_card(card: Card, *, name: str, license: str | None = None) -> str:
    """Return the text of README.md: facts for the hub as YAML, then the same for people."""
    front = [
        "library_name: enlca",
        "pipeline_tag: image-to-image",
        *([f"license: {json.dumps(license)}"] if license else []),
        "tags: [super-resolution, image-restoration, efficient-non-local-attention]",
        # JSON is YAML, too.
        f"model-index: {json.dumps([_index(card, name)], ensure_ascii=False)}",
    ]
    measured = {data: mean for data, mean in card.scores.items() if "psnr_y" in mean}
    rows = [
        f"| {data} | {mean['psnr_y']:.2f} | " + (f"{mean['ssim_y']:.4f} |" if "ssim_y" in mean else "|")
        for data, mean in measured.items()
    ]
    table = ["| data | PSNR-Y (dB) | SSIM-Y |", "|---|---|---|", *rows] if rows else ["Not measured."]
    trained = [f"- {entry}: {_plain(value)}" for entry, value in card.training.items()] or ["Not recorded."]
    settings = [f"- {entry}: {_plain(value)}" for entry, value in card.network.to_dict().items()]
    lines = [
        "---",
        *front,
        "---",
        "",
        f"# {name}",
        "",
        f"Image super-resolution x{card.network.scale} with [enlca](https://github.com/enlca/enlca), "
        f"variant `{card.variant}`.",
        "",
        "```bash",
        "pip install 'enlca[hub]'",
        f"enlca upscale photo.jpg --model hf-hub:OWNER/{name}",
        "```",
        "",
        "## Scores",
        "",
        *table,
        "",
        "## Training",
        "",
        *trained,
        "",
        "## Network",
        "",
        *settings,
    ]
    return "\n".join(lines) + "\n"


def _index(card: Card, name: str) -> dict[str, Any]:
    """Return the entry of `model-index`, the hub's list of scores."""
    names = {"psnr_y": ("psnr", "PSNR-Y"), "ssim_y": ("ssim", "SSIM-Y")}
    results = [
        {
            "task": {"type": "image-to-image", "name": f"Super-resolution x{card.network.scale}"},
            "dataset": {"type": data, "name": data},
            "metrics": [
                {"type": kind, "name": label, "value": mean[key]}
                for key, (kind, label) in names.items()
                if key in mean
            ],
        }
        for data, mean in card.scores.items()
        if "psnr_y" in mean
    ]
    return {"name": name, "results": results}


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else " ".join(str(value).split())
