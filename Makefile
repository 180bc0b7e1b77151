# The daily commands. Everything runs in .venv, which the first command makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/*.proto)

FUZZ_SECONDS ?= 60
# Tests wait for daemons more than they work.
WORKERS ?= $(shell expr 3 \* $$(getconf _NPROCESSORS_ONLN))

.PHONY: demo test test-quick faults attacks conformance hardware fuzz mutation soak coverage check audit lock sbom wheel image image-test screenshots chart chart-files docs release-notes format sections protos bench bench-scheduler bench-pythons clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	command -v cc >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check ziglang
	touch $@

demo: $(VENV)/.installed
	$(BIN)/deviceplugin demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# What needs no daemon and no other process: two to three minutes on two cores.
test-quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

# The suite for any device plugin, here against our own on a simulated node.
conformance: $(VENV)/.installed
	$(BIN)/python -m tests.conformance

# On a machine with GPUs: beside nvidia-smi, amd-smi and xpu-smi, and a capture for the tests.
# Status 77 is a machine without one, which is no failure.
hardware: $(VENV)/.installed
	$(BIN)/python -m deviceplugin.testing.hardware --captures tests/captures $(HARDWARE_FLAGS) || test $$? -eq 77

# Only the faults, every point of them, and the time to recover from each.
faults: $(VENV)/.installed
	FAULTS_ALL=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/faults

# What strangers, broken agents and hostile files can do to it: a table, and 1 where a target is
# missed. ATTACKS_FLAGS='--seconds 3 scrapes "ping flood"' for some of them.
attacks: $(VENV)/.installed
	$(BIN)/python -m tests.attacks $(ATTACKS_FLAGS)

# Branches too, and what the daemons do that tests start (pyproject.toml, tool.coverage). Whether
# tests pass is for `make test` to say: measured processes are slower, and miss limits of time.
coverage: $(VENV)/.installed
	rm -f .coverage .coverage.*
	-$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover --fail-under=90
	for part in 'resources/*' 'placement/*' 'model/*' 'kubelet/*'; do \
	  printf 'deviceplugin/%s, at least 95 %%: ' "$$part"; \
	  $(BIN)/coverage report --format=total --include="deviceplugin/$$part" --fail-under=95 || exit; \
	done

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell *.md docs deploy deviceplugin examples bench .github
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) protos
	git diff --exit-code -- deviceplugin/pb

# The tools of the supply chain, apart from those of development.
$(VENV)-supply/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-supply
	$(VENV)-supply/bin/python -m pip install --quiet --disable-pip-version-check \
	  $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["supply"])')
	touch $@

# The chart beside what kubectl builds of deploy/, with real helm and kubectl, and its archive in dist/.
$(VENV)-chart/.installed: tests/chart/tools.py
	$(PYTHON) -m tests.chart.tools $(VENV)-chart
	touch $@

chart: $(VENV)/.installed $(VENV)-chart/.installed
	PATH="$(CURDIR)/$(VENV)-chart:$$PATH" $(BIN)/python -m pytest -q -n $(WORKERS) tests/chart tests/deploy/test_components.py
	$(VENV)-chart/helm package --destination dist deploy/charts/deviceplugin

# The documents as a site, build/site; what MkDocs warns of is an error.
$(VENV)-docs/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check \
	  $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	touch $@

docs: $(VENV)-docs/.installed
	$(PYTHON) -m tests.docs.site
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --quiet --strict

# The picture of a fleet's page in the documents, by a headless Chromium.
screenshots: $(VENV)/.installed
	$(BIN)/python -m tests.page.shots

# dist/notes.md: what CHANGELOG.md says of VERSION.
release-notes:
	$(PYTHON) -m tests.docs.site --notes '$(VERSION)'

# The chart's copy of the manifests.
chart-files: $(VENV)/.installed
	$(BIN)/python -m tests.chart.files

# Known vulnerabilities of what the image gets, and patterns in our code that are often one. Where the
# databases cannot be asked, it says so and goes on.
audit: $(VENV)/.installed $(VENV)-supply/.installed
	$(BIN)/python -m tests.audit --tools $(VENV)-supply/bin

# Which versions the image gets, with the hash of every file of them, and which an installation with
# all extras gets. LOCK_FLAGS=--upgrade looks for newer ones.
lock: $(VENV)-supply/.installed
	$(VENV)-supply/bin/uv pip compile pyproject.toml --extra processes $(LOCKING) \
	  --output-file requirements.lock
	$(VENV)-supply/bin/uv pip compile pyproject.toml --extra all --constraint requirements.lock \
	  $(LOCKING) --output-file requirements-all.lock
	echo 'setuptools>=77' | $(VENV)-supply/bin/uv pip compile - $(LOCKING) --output-file requirements-build.lock

LOCKING := --quiet --universal --python-version 3.11 --generate-hashes --no-config \
  --custom-compile-command 'make lock' $(LOCK_FLAGS)

# What is in the image, as CycloneDX.
sbom: $(VENV)-supply/.installed
	$(VENV)-supply/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
	  --output-reproducible --of JSON --output-file sbom.cdx.json

# The same bytes for the same commit, wherever it is built.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
wheel: $(VENV)/.installed
	rm -rf build/wheel && mkdir -p build/wheel
	git archive HEAD pyproject.toml README.md deviceplugin | tar -x -C build/wheel
	cd build/wheel && umask 022 && chmod -R u=rwX,go=rX . && \
	  SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(CURDIR)/$(BIN)/python -m pip wheel --quiet --no-index \
	    --no-deps --no-build-isolation --disable-pip-version-check --wheel-dir $(CURDIR)/dist .

# The image of a release: from a base that cannot change, so BASE_IMAGE must have its digest.
# IMAGE_FLAGS: for both architectures '--platform linux/amd64,linux/arm64', another form of it
# '--target nonroot' or '--target slim'. What is in it is in sbom.cdx.json.
DOCKER ?= docker
VERSION_HERE := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
image: sbom
	case '$(BASE_IMAGE)' in *@sha256:*) ;; *) echo 'BASE_IMAGE=NAME:TAG@sha256:... is needed' >&2; exit 2;; esac
	$(DOCKER) build --build-arg BASE_IMAGE=$(BASE_IMAGE) \
	  --build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(IMAGE_FLAGS) \
	  --tag deviceplugin:$(VERSION_HERE) .

# Builds each form of the image with buildah, where it is installed, and looks at what it is and does.
image-test: $(VENV)/.installed
	$(BIN)/python -m tests.image $(if $(BASE_IMAGE),--base $(BASE_IMAGE)) $(IMAGE_FLAGS)

# The JSON Schemas, the table of docs/documents.md and those of docs/configuration.md, from the
# sections and the status document.
sections: $(VENV)/.installed
	$(BIN)/python -m tests.docs.generated

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Generated code imports by bare file name; the package-absolute form keeps one copy per process.
protos: $(VENV)/.installed
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=deviceplugin/pb \
	  --pyi_out=deviceplugin/pb --grpc_python_out=deviceplugin/pb $(notdir $(PROTOS))
	sed -i -E 's/^import (\w+_pb2) as /from deviceplugin.pb import \1 as /' deviceplugin/pb/*_pb2_grpc.py

# Everything at once, at random: SOAK_FLAGS='--seed 7' repeats one, '--kills' kills the daemon too.
SOAK_SECONDS ?= 600
soak: $(VENV)/.installed
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS) $(SOAK_FLAGS)

# Measured as it is shipped: without the tools of development, of which one (rich) changes what
# structlog loads.
$(VENV)-bench/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check . psutil
	touch $@

# Coverage guides the inputs where atheris has a wheel for this Python, and hypothesis goes on where
# it has none.
$(VENV)/.fuzz: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  --editable '.[fuzz]' || echo "atheris cannot be installed for this Python"
	touch $@

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_SURFACES)

# Whether tests would notice: small faults in the code, one at a time, a sample of each module.
# MUTATION_FLAGS='--seed 7 --count 0 resources/ledger.py' tries other ones, or all, of one module.
mutation: $(VENV)/.installed
	$(BIN)/python -m tests.mutation $(MUTATION_FLAGS)

# BENCH_FLAGS='--tree before=../old --peer nvidia=/path/to/its/plugin' measures others in turns.
bench: $(VENV)-bench/.installed
	$(VENV)-bench/bin/python -m bench
	$(VENV)-bench/bin/python -m bench.beside $(BENCH_FLAGS)
	$(VENV)-bench/bin/python -m bench.rest $(BENCH_FLAGS)
	$(VENV)-bench/bin/python -m bench.telemetry
	$(VENV)-bench/bin/python -m bench.scale --json scale.json
	$(VENV)-bench/bin/python -m bench.limits

# Which node, each figure beside what was meant: the published packing experiment, 170 replays, of
# which those that the results have are not repeated; departures; parts of GPUs; time; and, where
# JOBS is, lengths. TRACE is the folder data/csv of hkust-adsl/kubernetes-scheduler-simulator, JOBS
# pollux/pollux_simulator/traces/philly.csv of pkusys/ElasticFlow.
TRACE ?= openb
JOBS ?= philly.csv
bench-scheduler: $(VENV)/.installed
	$(BIN)/python -m bench.scheduler $(TRACE) scheduler.jsonl $(BENCH_FLAGS)
	$(BIN)/python -m bench.departures $(TRACE)
	$(BIN)/python -m bench.mig_packing
	$(BIN)/python -m bench.mig_packing --load 120 --orders 5
	$(BIN)/python -m bench.scheduler_http $(TRACE) default 42 2500
	$(BIN)/python -m bench.scheduler_http $(TRACE) default 42 1000 5000
	if [ -f $(JOBS) ]; then $(BIN)/python -m bench.prediction $(JOBS); else echo "$(JOBS): not there"; fi

# The same calls and the same rest on each of these Pythons that is installed.
BENCH_PYTHONS ?= python3.11 python3.12 python3.13 python3.14
bench-pythons:
	for python in $(BENCH_PYTHONS); do \
	  $$python -c 'import sys' 2>/dev/null || { echo "$$python is not installed"; continue; }; \
	  venv=.venv-$$(basename $$python) && \
	  $(MAKE) PYTHON=$$python VENV=$$venv $$venv-bench/.installed && \
	  $$venv-bench/bin/python -m bench.beside --nodes 8 3x8 three $(BENCH_FLAGS) && \
	  $$venv-bench/bin/python -m bench.rest --nodes three $(BENCH_FLAGS) || exit; \
	done

clean:
	rm -rf $(VENV) $(VENV)-bench $(VENV)-supply $(VENV)-chart $(VENV)-docs .venv-*-bench .fuzz build dist sbom.cdx.json
