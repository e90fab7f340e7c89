"""Networks for other runtimes: ONNX, OpenVINO. Needs the extra `enlca[export]`."""
