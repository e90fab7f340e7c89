"""enlca's networks in programs that read weights by spandrel: chaiNNer, ComfyUI and others.

    import enlca.integrations.spandrel
    enlca.integrations.spandrel.install()
    spandrel.ModelLoader().load_from_file("best.safetensors")       # of `enlca convert --embed-card`

spandrel drops the metadata of `.safetensors`, so the card has to be embedded as a tensor. The authors' own
files need none. What spandrel knows is read in `checkpoint.community`.
"""

from typing import Any

from torch import Tensor

from enlca.checkpoint.file import EMBEDDED, from_embedded
from enlca.checkpoint.official import network_of
from enlca.errors import require

IDENTIFIER = "ENLCN"


def install(registry: Any = None) -> None:
    """Add ENLCN and its relatives to spandrel's registry, before all others; twice is as good as once.

    Args:
        registry: a `spandrel.ArchRegistry`; None is `spandrel.MAIN_REGISTRY`.

    Raises:
        MissingExtra: spandrel, or what it needs, cannot be imported.
    """
    with require("community", feature="the integration into spandrel"):
        import spandrel

    class ENLCNArchitecture(spandrel.Architecture):
        """How spandrel finds and loads networks of enlca."""

        def load(self, state_dict: dict[str, Tensor]) -> Any:
            """Return the descriptor of a state dict that `is_ours` accepts."""
            network = from_embedded(state_dict)[0] if EMBEDDED in state_dict else network_of(state_dict)
            config = network.config
            return spandrel.ImageModelDescriptor(
                network,
                network.state_dict(),
                architecture=self,
                purpose="SR",
                tags=[f"{config.channels}nf", f"{config.n_blocks}nb"],
                # Programs convert all weights; features of attention need 32 bits.
                supports_half=False,
                supports_bfloat16=False,
                scale=network.scale,
                input_channels=3,
                output_channels=3,
                # A tile sees itself only, and attention is about the whole picture.
                tiling=spandrel.ModelTiling.DISCOURAGED,
            )

    registry = spandrel.MAIN_REGISTRY if registry is None else registry
    architecture = ENLCNArchitecture(id=IDENTIFIER, name="ENLCN (enlca)", detect=is_ours)
    others = tuple(support.architecture.id for support in registry)
    support = spandrel.ArchSupport.from_architecture(architecture, before=others)
    registry.add(support, ignore_duplicates=True)


def is_ours(state_dict: dict[str, Any]) -> bool:
    """Whether a state dict holds an embedded card, or is of the authors' released code."""
    return EMBEDDED in state_dict or "body.0.conv_match1.0.weight" in state_dict
