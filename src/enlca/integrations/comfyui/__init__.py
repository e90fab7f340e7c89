"""Nodes for ComfyUI: load a model, upscale a batch of images.

ComfyUI loads a folder or a file in its `custom_nodes` that holds this line, such as the folder
`integrations/comfyui` of this repository; enlca itself is installed by pip in ComfyUI's Python:

    from enlca.integrations.comfyui import comfy_entrypoint
"""

from typing import Any


async def comfy_entrypoint() -> Any:
    """Return the extension; ComfyUI calls this once. Raises ModuleNotFoundError outside ComfyUI."""
    # Derived from classes of ComfyUI, which is not a package that could be installed.
    from enlca.integrations.comfyui.nodes import EnlcaExtension

    return EnlcaExtension()
