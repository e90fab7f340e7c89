"""ENLA's Triton kernels for CUDA (`LinearAttend.kernel = "triton"`); off until measured on a GPU."""
