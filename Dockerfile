# The image of `enlca serve`, for processors: PyTorch without CUDA, no root, nothing written outside /tmp.
#
#   docker build -t enlca .
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -e ENLCA_TOKEN=... enlca
#   docker run --rm -v "$PWD:/work" -w /work --user "$(id -u)" enlca upscale photo.jpg
FROM python:3.11-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/enlca
WORKDIR /src
# What changes seldom comes first.
COPY constraints.txt .
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/enlca/bin/pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src src
# For the workers of `enlca bulk --runner ray`: --build-arg EXTRAS=serve,cloud,ray
ARG EXTRAS=serve
RUN /opt/enlca/bin/pip install --constraint constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim

COPY --from=build /opt/enlca /opt/enlca
ENV PATH=/opt/enlca/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin enlca
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["enlca"]
CMD ["serve", "--host", "0.0.0.0"]
