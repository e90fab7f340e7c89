"""Upscaling over HTTP: `enlca serve`. Only this room and the explorer import Starlette and uvicorn.

request --intake: limits--> temporary file --pool: one worker per device--> result file --> response
"""
