# The SDK and the command `jobledger`, without the dev stack. Built from the repository's root.
FROM python:3.11-slim-bookworm
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY requirements.lock ./
RUN sed -n '/^uv==/,/^[^ u]/{/^uv==/p;/^ /p}' requirements.lock > uv.txt \
    && pip install --no-cache-dir --require-hashes --no-deps -r uv.txt
COPY contracts contracts
COPY client client
RUN uv pip install --system --no-cache --no-sources --constraints requirements.lock --build-constraints requirements.lock ./contracts ./client \
    && useradd --system --uid 1550 --create-home jobledger
USER 1550
ENTRYPOINT ["jobledger"]
