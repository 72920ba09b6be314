# The server of hnet_amharic on port 8000, for OpenAI clients and a browser:
#
#     docker build -t hnet-amharic .
#     docker run -p 8000:8000 hnet-amharic
#     docker run -p 8000:8000 -v "$PWD/runs/mine/model:/model:ro" hnet-amharic /model
#
# It listens on every interface of the container. Put a proxy with TLS before it, and give it --api-key.
FROM python:3.12-slim AS build
# PyTorch for processors; for a GPU build with --build-arg PIP_EXTRA_INDEX_URL= and run with --gpus all
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY settings.ini setup.py README.md LICENSE ./
COPY hnet_amharic hnet_amharic
RUN python -m venv /venv && /venv/bin/pip install '.[serve]'

FROM python:3.12-slim
COPY --from=build /venv /venv
RUN useradd --create-home --uid 1000 hnet
USER 1000
WORKDIR /srv
ENV PATH=/venv/bin:$PATH PYTHONUTF8=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://localhost:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["hnet_serve", "--host", "0.0.0.0", "--port", "8000"]
