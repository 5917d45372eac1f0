# The example consumers as an image: docker build -t kafka-once-example .
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

# For a build without a network: PIP_OPTIONS="--no-index --find-links /wheels", with the wheels in ./wheels.
ARG PIP_OPTIONS=""

WORKDIR /app
ENV PATH=/app/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN python3 -m venv /app/venv
# LICENSE is there so that the pattern may match nothing.
COPY LICENSE wheels* /wheels/
COPY pyproject.toml LICENSE *.md ./
COPY middleware ./middleware
RUN pip install --no-cache-dir ${PIP_OPTIONS} . && rm -rf /wheels
COPY examples ./examples

CMD ["python", "-m", "examples.payments"]
