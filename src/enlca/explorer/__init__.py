"""The web page of `enlca explore`: enlarge a picture, click on it, and see where the network looks.

Only `page`, `wiring` and `server` know Gradio. `actions` is what a visitor can do: `looking` and `enlarging`
do it, `maps` and `cards` turn it into something to be seen. `models`, `session` and `uploads` say what may be
opened, by whom, how much of it is kept, and where.
"""
