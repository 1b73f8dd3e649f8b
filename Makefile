# Every target sets up what it needs by itself: all it asks for is Python 3.11 or later (with venv) and make.
#
#   make setup        .venv and the npm packages of the tests
#   make demo         run the demo (PORT=8000)
#   make test         run the tests (ARGS="-k name")
#   make check        ruff, pyright, the types of the browser client, architecture and exports
#   make js           build the browser client from js/ into src/mizzen/static/
#   make bench        measure servers beside their peers (ARGS="--quick"; needs Linux and a C compiler)
#   make test-313     run the tests that need no other language on Python 3.13
#   make test-oldest  run what stands on other packages with the oldest versions of them that pyproject.toml allows
#   make format       format the code and sort the imports
#   make pins         write requirements-dev.txt anew
#   make clean        remove all that was made

PORT ?= 8000
ARGS ?=

PY     := .venv/bin/python
PY313  := .venv313/bin/python
OLDEST := .venv-oldest/bin/python
SETUP  := python=$$(sh tools/find-python) && "$$python" tools/setup.py
NODE   := $(PY) tools/node.py run

# What stands on the packages that Mizzen depends on, and needs no other language.
OLDEST_TESTS := tests/protocol tests/client tests/cli tests/server/test_parsers.py tests/test_lifespan.py tests/test_servers.py \
	tests/test_signatures.py $(addprefix tests/transports/test_,compression.py native.py polling.py upgrade.py websocket.py) \
	--deselect tests/transports/test_native.py::test_the_javascript_client_and_the_server_compress_for_each_other

.PHONY: help setup demo test check js format bench test-313 test-oldest pins clean
.NOTPARALLEL:

help:
	@sed -n 's/^#   //p' Makefile

setup:
	@$(SETUP) tests/interop tools js examples/browser

demo:
	@$(SETUP)
	@exec $(PY) -m mizzen run examples.board.app:io --port $(PORT)

test:
	@$(SETUP) tests/interop tools js examples/browser
	$(PY) -m pytest $(ARGS)

check:
	@$(SETUP) tools js
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(NODE) tools/node_modules/pyright/index.js --pythonpath $(PY)
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(NODE) tools/node_modules/pyright/index.js --verifytypes mizzen --ignoreexternal
	$(NODE) js/node_modules/typescript/bin/tsc --project js --noEmit
	$(PY) -m pytest tests/test_architecture.py tests/test_exports.py

js:
	@$(SETUP) js
	$(NODE) js/build.mjs

format:
	@$(SETUP)
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

bench:
	@for cc in $$CC cc gcc clang; do command -v $$cc >/dev/null && exit 0; done; \
	echo "make bench needs a C compiler for its load generator (no other target does). On Debian and Ubuntu:" >&2; \
	echo "    apt install gcc libc6-dev libssl-dev zlib1g-dev" >&2; exit 2
	@$(SETUP) benchmarks
	$(PY) -m benchmarks $(ARGS)

test-313:
	@python=$$(sh tools/find-python 3.13) || { if [ -n "$$CI" ]; then exit 1; fi; echo "test-313: nothing done"; exit 0; }; \
	"$$python" tools/setup.py --venv .venv313 && \
	echo "$(PY313) -m pytest --ignore=tests/browser --ignore=tests/interop --ignore=tests/js --ignore=tests/typing $(ARGS)" && \
	$(PY313) -m pytest --ignore=tests/browser --ignore=tests/interop --ignore=tests/js --ignore=tests/typing $(ARGS)

test-oldest:
	@$(SETUP) --venv .venv-oldest --lowest
	$(OLDEST) -m pytest $(OLDEST_TESTS) $(ARGS)

pins:
	@$(SETUP)
	$(PY) tools/pins.py

clean:
	rm -rf .venv .venv313 .venv-oldest .cache .pytest_cache .ruff_cache .hypothesis tools/node_modules tests/interop/node_modules \
		examples/browser/node_modules js/node_modules js/dist benchmarks/node_modules benchmarks/results
