# The image of every process of qethics: worker, pager, gate, load generator. Non-root, and nothing in it but what runs.
FROM python:3.12.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /opt/qethics
COPY requirements-runtime.lock ./
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY detectors detectors
COPY simulators simulators
# Editable: policies and runbooks are found beside the code.
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e . \
 && /opt/venv/bin/python -m compileall -q app detectors simulators \
 && /opt/venv/bin/pip uninstall --yes setuptools pip

FROM python:3.12.11-slim-bookworm
RUN groupadd --gid 10001 qethics \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin qethics \
 && install -d -o 10001 -g 10001 /var/lib/qethics
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/qethics /opt/qethics
WORKDIR /opt/qethics
COPY policies policies
COPY deploy deploy
COPY docs/runbooks docs/runbooks
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 QETHICS_DATA_DIRECTORY=/var/lib/qethics
USER 10001:10001
VOLUME /var/lib/qethics
ENTRYPOINT ["qethics"]
CMD ["worker"]
