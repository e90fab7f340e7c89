"""What a user of the hub does, in a process of its own: importing the client reads HF_ENDPOINT.

Prints one JSON object: for each model its digest or its error, then what pushing and being offline gave.
"""

import json
import os
import sys
import urllib.request
from unittest import mock

from digests import digest
from huggingface_hub import hf_hub_download as download
from huggingface_hub.errors import LocalEntryNotFoundError

import enlca
from enlca.checkpoint import repository
from enlca.checkpoint.store import load_model
from enlca.errors import EnlcaError
from enlca.integrations.hub import from_pretrained, push


def outcome(call):
    """What a call gives: the digest of a network, a text, or the error."""
    try:
        given = call()
    except EnlcaError as error:
        return {"error": str(error), "code": error.exit_code}
    return {"digest": digest(given)} if hasattr(given, "state_dict") else {"text": given}


asked = json.load(sys.stdin)
told = {model: outcome(lambda model=model: load_model(model).model) for model in asked["models"]}
told["from_pretrained"] = outcome(lambda: from_pretrained("org/good", revision="v1"))
told["Upscaler"] = outcome(lambda: enlca.Upscaler("hf-hub:org/good").network)
told["push"] = outcome(lambda: push(asked["file"], "me/mine", license="cc-by-4.0"))
told["pushed"] = outcome(lambda: from_pretrained("me/mine"))
os.environ["HF_TOKEN"] = "wrong"
told["push without a token"] = outcome(lambda: push(asked["file"], "me/mine"))
del os.environ["HF_TOKEN"]


def broken(*names, local_files_only, **settings):
    """A download whose connection breaks."""
    if not local_files_only:
        raise ConnectionResetError(104, "Connection reset by peer")
    return download(*names, local_files_only=True, **settings)


with mock.patch("huggingface_hub.hf_hub_download", broken):
    repository._download.cache_clear()
    told["broken, downloaded before"] = outcome(lambda: load_model("hf-hub:org/good").model)
with mock.patch("huggingface_hub.hf_hub_download", side_effect=ConnectionResetError(104, "reset by peer")):
    repository._download.cache_clear()
    told["broken, never downloaded"] = outcome(lambda: load_model("hf-hub:org/good").model)


def full(*names, local_files_only, **settings):
    """A download that the disk has no space for."""
    raise LocalEntryNotFoundError("none") if local_files_only else OSError(28, "No space left on device")


with mock.patch("huggingface_hub.hf_hub_download", full):
    repository._download.cache_clear()
    told["full disk"] = outcome(lambda: load_model("hf-hub:org/good").model)
urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/stop", data=b"")
repository._download.cache_clear()
told["offline, downloaded before"] = outcome(lambda: load_model("hf-hub:org/good").model)
told["offline, never downloaded"] = outcome(lambda: load_model("hf-hub:org/other").model)
print(json.dumps(told))
