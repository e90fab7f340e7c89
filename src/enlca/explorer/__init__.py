"""The web page of `enlca explore`: upscale a picture, click on it, see where the network looks.

`page`, `callbacks` and `wiring` are Gradio's; `server` starts it behind `gate`. `actions` is what a visitor
can do, without Gradio: `maps` computes and draws attention maps, `html` shows them. `models`, `session` and
`uploads` hold networks, visitors and files.
"""
