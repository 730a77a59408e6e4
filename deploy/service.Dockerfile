# One recipe for our images; SERVICE says which: jobs, schedulers or provisioner. Built from the repository's root.
# Versions come from requirements.lock, whose hashes uv checks; only what that service declares is installed.
FROM python:3.11-slim-bookworm AS build
ARG SERVICE
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY requirements.lock ./
RUN sed -n '/^uv==/,/^[^ u]/{/^uv==/p;/^ /p}' requirements.lock > uv.txt \
    && pip install --no-cache-dir --require-hashes --no-deps -r uv.txt
COPY contracts contracts
COPY kit kit
COPY services/${SERVICE} services/${SERVICE}
RUN uv venv /opt/jobledger \
    && uv pip install --no-cache --python /opt/jobledger/bin/python --no-sources --constraints requirements.lock --build-constraints requirements.lock \
        ./contracts ./kit "./services/${SERVICE}"

FROM python:3.11-slim-bookworm
ARG SERVICE
RUN useradd --system --uid 1550 --home-dir /var/lib/jobledger --create-home jobledger
COPY --from=build /opt/jobledger /opt/jobledger
ENV PATH=/opt/jobledger/bin:$PATH PYTHONUNBUFFERED=1 JOBLEDGER_SERVICE=jobledger_${SERVICE} JOBLEDGER_HTTP_HOST=0.0.0.0 JOBLEDGER_HTTP_PORT=8000
USER 1550
WORKDIR /var/lib/jobledger
EXPOSE 8000
# `exec`: the service itself gets SIGTERM, and ends well.
ENTRYPOINT ["/bin/sh", "-c", "exec python -m \"$JOBLEDGER_SERVICE\" \"$@\"", "--"]
