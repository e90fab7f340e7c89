"""enlca's nodes for ComfyUI: this folder goes into `custom_nodes`, enlca into ComfyUI's Python."""

from enlca.integrations.comfyui import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
