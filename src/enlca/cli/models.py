"""Commands about networks: `info`, `models`, `convert`, `export`, `explore`."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from enlca.cli.common import Json, JsonFile, Scale, bundled_names
from enlca.cli.output import printable, progress, publish

EXPORTED = (".onnx", ".xml")
NamedScale = Annotated[Scale | None, typer.Option(help="Which of the weights of a bundled name.")]


def info(
    model: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME",
            autocompletion=bundled_names,
            help="Weights of any known kind, or a bundled name.",
        ),
    ],
    scale: NamedScale = None,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> None:
    """Say what a file is: kind, network, scale, and what its card says of variant, training and scores."""
    from enlca.checkpoint.store import load_model

    loaded = load_model(model, scale)
    card, path = loaded.card, loaded.path
    facts = {
        "file": None if path is None else str(path),
        "kind": loaded.kind,
        "scale": loaded.model.scale,
        "bytes": 0 if path is None else path.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
    }
    if card is not None:
        facts |= {"variant": card.variant, "network": card.network.to_dict()}
        facts |= {"training": card.training, "scores": card.scores}
    publish(json.dumps(facts) + "\n", as_json=as_json, json_file=json_file)
    if as_json:
        return
    symbols = {"amplification": "k", "n_features": "m", "embed_channels": "c"}
    sizes = f"x{loaded.model.scale}, {facts['parameters']:,} parameters, {facts['bytes']:,} bytes"
    print(printable(str(path or model)))
    print(printable(loaded.kind))
    print(sizes + (f", variant {printable(card.variant)}" if card else ""))
    if card is None:
        return
    for title in ("network", "training"):
        print(f"\n{title}")
        for name, value in facts[title].items():
            label = f"{name} ({symbols[name]})" if name in symbols else name
            # A list of sentences: one on each line.
            lines = value if isinstance(value, list) and all(isinstance(v, str) for v in value) else [value]
            for line in lines:
                print(printable(f"  {label:24} {_plain(line)}"))
                label = ""
    print("\nscores")
    for name, mean in card.scores.items():
        print(printable(f"  {name:24} {_plain(mean)}"))


def models(as_json: Json = False, json_file: JsonFile = None) -> None:
    """List the weights that come with the package, with their measured scores."""
    from enlca.checkpoint.store import bundled
    from enlca.network.sr import SRConfig, SRNetwork

    found = []
    for item in bundled():
        card = item.card
        assert isinstance(card.network, SRConfig)
        count = sum(parameter.numel() for parameter in SRNetwork(card.network).parameters())
        facts = {"name": item.name, "scale": item.scale, "parameters": count}
        facts |= {"bytes": item.path.stat().st_size, "file": str(item.path)}
        found.append(facts | {"variant": card.variant, "scores": card.scores})
    publish(json.dumps({"models": found}) + "\n", as_json=as_json, json_file=json_file)
    if as_json:
        return
    print(f"{'name':16} {'scale':5} {'parameters':>10} {'size':>8}  PSNR-Y / SSIM-Y")
    for one in found:
        scores = ", ".join(
            f"{name} {mean['psnr_y']:.2f}" + (f" / {mean['ssim_y']:.4f}" if "ssim_y" in mean else "")
            for name, mean in one["scores"].items()
        )
        sizes = f"x{one['scale']:<4} {one['parameters']:>10,} {one['bytes'] / 1e6:>5.2f} MB"
        print(f"{one['name']:16} {sizes}  {scores or 'not measured'}")


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The authors' .pt or our .safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The other format.")],
    embed_card: Annotated[
        bool, typer.Option("--embed-card", help="Store the card as a tensor, too: spandrel drops metadata.")
    ] = False,
) -> None:
    """Convert the authors' checkpoint of ENLCN or EDSR (.pt) to ours (.safetensors) or back, by suffix.

    A .pt holds weights only: the training summary and the scores are lost. --embed-card writes .safetensors
    of either, for programs that read by spandrel; see enlca.integrations.spandrel.
    """
    suffixes = (source.suffix.lower(), target.suffix.lower())
    if embed_card and target.suffix.lower() != ".safetensors":
        raise typer.BadParameter(f"--embed-card writes .safetensors; got {target.name}")
    allowed = ((".pt", ".safetensors"), (".safetensors", ".pt"), *[(".safetensors",) * 2] * embed_card)
    if suffixes not in allowed:
        raise typer.BadParameter(f"converts .pt to .safetensors or back; got {source.name} and {target.name}")
    if source.exists() and target.exists() and source.samefile(target):
        raise typer.BadParameter(f"{source} and {target} are the same file")
    from enlca.checkpoint.file import save
    from enlca.checkpoint.official import save_official
    from enlca.checkpoint.store import load_with_card
    from enlca.errors import CheckpointError

    to_ours = target.suffix.lower() == ".safetensors"
    # By its path, as a bundled name may be a file's, too.
    network, card = load_with_card(source if source.is_absolute() else f"./{source}")
    try:
        if to_ours:
            facts = {"variant": card.variant, "training": card.training, "scores": card.scores}
            save(network, target, **facts, embed_card=embed_card)
        else:
            save_official(network, target)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror or error}") from error
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"{source} -> {target} (x{card.network.scale}, {count:,} parameters, variant {card.variant})")


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", autocompletion=bundled_names, help="A bundled name or a checkpoint file."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A name that ends in .onnx or .xml (OpenVINO).")],
    scale: NamedScale = None,
) -> None:
    """Write a network for ONNX or OpenVINO, after checking that it computes the same there."""
    if out.suffix.lower() not in EXPORTED:
        raise typer.BadParameter(f"exports to .onnx or .xml (OpenVINO); got {out.name}")
    if out.is_dir():
        raise typer.BadParameter(f"{out} is a folder")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"{out}: there is no folder {out.parent}")
    from enlca.checkpoint.store import load_with_card
    from enlca.export.verify import export_file

    network, card = load_with_card(model, scale)
    with progress("exporting") as show:
        show(out.name, 0, 1)
        difference = export_file(network, card, out)
    count = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{model} -> {out} (x{card.network.scale}, {count:,} parameters, "
        f"differs from PyTorch by at most {difference:.0e})"
    )


def explore(
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A checkpoint to offer beside the bundled ones; may be repeated."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines open the page.")
    ] = "127.0.0.1",
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Refuse larger pictures.")] = 2.5,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    shortcut: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Put a file there, such as on the desktop, whose double-click opens the page; and exit.",
        ),
    ] = None,
) -> None:
    """Look into networks in the browser: upscale a picture, click on it, see where attention looks."""
    if shortcut is not None:
        from enlca.explorer.shortcut import write_shortcut

        print(printable(f"{write_shortcut(shortcut)}: double-click it"))
        return
    if not math.isfinite(max_megapixels):
        raise typer.BadParameter(f"--max-megapixels must be finite; got {max_megapixels}")
    from enlca.explorer.server import serve_until_interrupted

    def ready(url: str) -> None:
        print(f"{url}  (Ctrl-C stops it and deletes all uploads and results)", flush=True)
        if open_browser:
            import webbrowser

            webbrowser.open(url)

    serve_until_interrupted(
        ready,
        host=host,
        port=port,
        models=model or [],
        max_megapixels=max_megapixels,
    )


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return f"{value:.4f}" if isinstance(value, float) and abs(value) > 1 else str(value)
