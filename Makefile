# slipway. `make` builds, `make demo` shows the main job on a real project, `make test` passes the tests.
BUILD ?= build
ASAN ?= build-asan
PREFIX ?= /usr/local

.PHONY: all setup demo test test-unit test-e2e bench install deb fuzz format clean lint
all: setup
	@tools/build $(BUILD) -Dprefix=$(PREFIX) --buildtype=release

setup:
	@tools/setup build

demo:
	@tools/demo --about
	@tools/setup build run
	@$(MAKE) --no-print-directory all
	@tools/demo $(BUILD)/slipway

test: all
	@tools/setup run test
	@tools/test

# The two halves of `make test`, for work on the project.
test-unit:
	@tools/test unit
test-e2e: all
	@tools/test e2e

bench: all
	@tools/setup run bench
	@bench/run $(BUILD)/slipway

install: all
	meson install -C $(BUILD) --no-rebuild

deb: setup
	@tools/deb $(BUILD)

fuzz:
	@tools/fuzz

lint:
	@tools/check-includes

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf $(BUILD) $(ASAN) build-fuzz
