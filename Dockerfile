# One image for the web server, the worker and the one-shot that prepares the database (compose.yaml).
# It holds no secret: all of them come when a container starts, from the environment or from files (<NAME>_FILE).
FROM python:3.11-slim

# A package index of your own, or one with a CPU-only torch, which saves some 2 GB: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=""

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HUB_OFFLINE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    TRANSFORMERS_OFFLINE=1 \
    TOKENIZERS_PARALLELISM=false \
    HOME=/home/cloister \
    HOST=0.0.0.0 \
    PORT=8000 \
    CLOISTER_VAR=/var/lib/cloister \
    KEYS_DIR=/keys \
    MODEL_DIR=/app/model \
    STATIC_ROOT=/app/static-collected

# The file that OpenVINO reads says 0: no usage data. A volume takes over the owner and mode of the directory it covers.
RUN useradd --create-home --uid 10001 --shell /usr/sbin/nologin cloister \
    && mkdir -p /home/cloister/intel \
    && printf 0 > /home/cloister/intel/openvino_telemetry \
    && chown -R cloister:cloister /home/cloister \
    && install -d -o cloister -g cloister -m 0700 /keys /var/lib/cloister

# Words are recognised in pictures and scanned pages with these; more languages: tesseract-ocr-<code>, and OCR_LANGUAGES.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tesseract-ocr tesseract-ocr-deu \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt

COPY . .
# What a build makes, so that a container starts in seconds. The values serve this one command and stay nowhere.
RUN python -m search.embeddings "$MODEL_DIR" \
    && mkdir -p "$STATIC_ROOT" \
    && SECRET_KEY=only-to-collect-the-static-files-at-build-time \
       DATABASE_URL=postgresql://localhost/cloister REDIS_URL=redis://localhost DB_PASSWORD_WORKER=unused \
       python manage.py collectstatic --noinput

USER cloister
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s --retries=3 CMD ["python", "-m", "workspace.alive", "web"]
CMD ["gunicorn", "--config", "python:workspace.gunicorn_config", "workspace.wsgi:application"]
