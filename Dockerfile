# Builds rsgi from this checkout. docs/guides/docker.md says what to make of it.
#
#   docker build --tag rsgi-example .               examples/fastapi_app.py, ready to run
#   docker build --target runtime --tag rsgi .      Python and rsgi, to begin the image of your application FROM
#
# Works with BuildKit and with the classic builder; base images can be replaced by build arguments. The two have to
# be of the same release of Debian, or Rust's of the older one.
ARG RUST_IMAGE=rust:1-slim-bookworm
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${RUST_IMAGE} AS rust

# The wheel, made with the interpreter that is going to run it.
FROM ${PYTHON_IMAGE} AS wheel
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir "maturin>=1.13,<2"
WORKDIR /source
# Dependencies first: with empty crates in place of ours, this layer is built again only when the lock file changes.
COPY Cargo.toml Cargo.lock ./
COPY crates/bridge/Cargo.toml crates/bridge/
COPY crates/config/Cargo.toml crates/config/
COPY crates/protocol/Cargo.toml crates/protocol/
COPY crates/server/Cargo.toml crates/server/
COPY crates/supervisor/Cargo.toml crates/supervisor/
ARG CARGO_PROFILE=release
RUN for crate in crates/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
 && mkdir crates/supervisor/fixture && echo 'fn main() {}' >crates/supervisor/fixture/main.rs \
 && PYO3_PYTHON=$(command -v python3) cargo build --locked --profile "$CARGO_PROFILE" --package rsgi-bridge
COPY . .
# Files keep the time they have outside: newer than the empty crates is what cargo compiles again.
RUN find crates -name '*.rs' -exec touch {} + \
 && maturin build --locked --profile "$CARGO_PROFILE" --interpreter python3 --out /wheels

# What runs.
FROM ${PYTHON_IMAGE} AS runtime
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -rf /wheels \
 && groupadd --system --gid 10001 app && useradd --system --uid 10001 --gid app --home-dir /app --no-create-home app
WORKDIR /app
# PORT means all addresses, and gives way to whatever else says where to listen. Probes and metrics are inside the
# container only; a platform that probes from outside sets RSGI_ADMIN_BIND=0.0.0.0:9000.
ENV PORT=8000 RSGI_ADMIN_BIND=127.0.0.1:9000
EXPOSE 8000
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["rsgi", "health"]

FROM runtime AS example
COPY examples/requirements.txt .
USER root
RUN pip install --no-cache-dir --requirement requirements.txt
COPY examples examples
RUN python -m compileall -q examples
USER 10001:10001
# `docker stop` kills after 10 s: the grace and what comes behind it stay below that.
CMD ["rsgi", "--workers", "auto", "--timeout-graceful-shutdown", "5", "examples.fastapi_app:app"]
