# What can be done here; `make help` lists it. Nothing but the labs and the installation of Debian
# packages needs root: without it, they ask sudo.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
DUT ?= tapgate
RECIPE ?= multi-mac
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 300
SOAK_SECONDS ?= 600
TARGET = $(or $(CARGO_TARGET_DIR),target)
SUDO := $(shell [[ $$EUID -eq 0 ]] || echo sudo)
LAB = $(SUDO) env SOAK_SECONDS=$(SOAK_SECONDS) $(if $(TAPGATE),TAPGATE=$(TAPGATE)) $(if $(CARGO_TARGET_DIR),CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)) netns-scripts/lab.sh

# Where make is not run by root, the tests that make namespaces are.
RUNNER = $(if $(SUDO),CARGO_TARGET_$(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER=$(CURDIR)/netns-scripts/as-root.sh)

.PHONY: help
help: ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "demo and lab-up take RECIPE=$$(basename -s .sh netns-scripts/recipes/*.sh | paste -sd '|') and DUT=kernel,"
	@echo "which puts the kernel's own commands in tapgate's place"

.PHONY: demo
demo: ## Build, and run examples/RECIPE.toml between a provider and three guests, one a VM
	@netns-scripts/demo.sh RECIPE=$(RECIPE) DUT=$(DUT)

.PHONY: test
test: check build lab-ready ## Everything: formatting, lints, licences, all tests, the labs; some 20 minutes after the builds
	@if command -v cargo-nextest >/dev/null; then \
	  $(RUNNER) cargo nextest run --workspace --run-ignored all --no-fail-fast; \
	else \
	  $(RUNNER) cargo test --workspace --no-fail-fast -- --include-ignored; \
	fi

.PHONY: check
check: packages
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cd netns-scripts && shellcheck -x *.sh recipes/*.sh scenarios/*.sh ../.ci/* ../tests/fuzz/*.sh
	.ci/deny

.PHONY: build
build: ## The release build
	cargo build --release --quiet -p tapgate -p tapgate-dataplane

.PHONY: install uninstall
install: build ## Install tapgate and tapgate-dataplane in PREFIX/bin (/usr/local/bin); make the user tapgate
	$(if $(DESTDIR),,$(SUDO)) install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(TARGET)/release/tapgate $(TARGET)/release/tapgate-dataplane
	@if [[ -z "$(DESTDIR)" ]] && ! id tapgate >/dev/null 2>&1; then \
	  $(SUDO) useradd --system --no-create-home --shell /usr/sbin/nologin tapgate; \
	fi

uninstall: ## Remove the two programs
	$(if $(DESTDIR),,$(SUDO)) rm -f $(DESTDIR)$(PREFIX)/bin/tapgate $(DESTDIR)$(PREFIX)/bin/tapgate-dataplane

.PHONY: bench
bench: packages build ## Side by side with the kernel, in one run: throughput, latency, CPU
	@netns-scripts/bench.sh

.PHONY: bench-answers
bench-answers: packages build ## Side by side with the kernel and ndppd: neighbours answered per second
	@netns-scripts/bench-answers.sh

.PHONY: bench-nat
bench-nat: packages build ## Side by side with the kernel's conntrack and nft: new translated flows per second, by rules
	@netns-scripts/bench-nat.sh

.PHONY: bench-instructions
bench-instructions: packages ## Instructions a frame takes, counted by callgrind
	@netns-scripts/packages.sh bench-instructions
	@netns-scripts/bench-instructions.sh

.PHONY: bench-scale
bench-scale: packages ## 10,000 guests: start, apply, how long apply stops forwarding; 4,000,000 sessions: the longest calls
	@cargo run --release --quiet -p tapgate-benches --bin scale

.PHONY: bench-load
bench-load: packages build ## Side by side with the kernel: until 1,000,000 routes and 10,000 rules are in force
	@netns-scripts/bench-load.sh

.PHONY: fuzz
fuzz: packages ## Coverage-guided fuzzing: four targets, FUZZ_SECONDS=300 each
	@netns-scripts/packages.sh fuzz
	@tests/fuzz/run.sh $(FUZZ_SECONDS)

.PHONY: soak
soak: packages build ## SOAK_SECONDS=600 of honest guests beside one that attacks, and a table of what became of them
	cargo build --quiet -p tapgate-tests --bins
	@$(LAB) run soak DUT=$(DUT)

.PHONY: lab-up
lab-up: packages ## Start the demo's lab and leave it running: see netns-scripts/lab.sh
	@if [[ $(DUT) == tapgate ]]; then $(MAKE) --no-print-directory build; fi
	@netns-scripts/vm-image.sh
	@$(LAB) up RECIPE=$(RECIPE) DUT=$(DUT)

.PHONY: lab-down
lab-down: ## Stop it
	@$(LAB) down

.PHONY: clean
clean: ## Remove all that was built or downloaded: target and .lab
	cargo clean
	rm -rf .lab

.PHONY: packages
packages:
	@netns-scripts/packages.sh

# What the labs need beforehand: a VM, and root without a question in the middle of the tests.
.PHONY: lab-ready
lab-ready: packages
	@netns-scripts/vm-image.sh
	@netns-scripts/ifupdown.sh
	@if [[ -n "$(SUDO)" ]]; then sudo -v || { echo "make test: the labs need root, or sudo" >&2; exit 1; }; fi
