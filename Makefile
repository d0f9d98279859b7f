# Everything a developer does, one target each. `make help` lists them.
#
# CLUSTER=dev      (default) the cluster that `make up` runs on this machine, see e2e/devcluster
# CLUSTER=current  whatever cluster your kubeconfig points at; `up` and `down` then leave it alone

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CLUSTER ?= dev
ifeq ($(filter $(CLUSTER),dev current),)
$(error CLUSTER is "$(CLUSTER)", but it must be "dev" or "current")
endif

export STAGECRAFT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stagecraft

# What was compiled survives the checkout, so that a fresh clone compiles only what changed.
export CARGO_TARGET_DIR ?= $(STAGECRAFT_CACHE)/target
export CLUSTER

devcluster := e2e/devcluster.sh
cargo := e2e/cargo.sh
debug := $(CARGO_TARGET_DIR)/debug
# What the demo applies.
SAMPLE ?= manifests/samples/calculator.yaml
# Scenarios that kill processes on this machine are left out on a cluster that runs elsewhere.
scenarios := --test-threads=4
ifeq ($(CLUSTER),current)
scenarios += $(addprefix --skip ,a_killed_agent a_killed_launcher a_killed_sidecar a_gateway_that_is_away \
	an_agent_killed_in_each_stage an_image_that_cannot_be_pulled)
endif
kubeconfig_path = $(if $(filter dev,$(CLUSTER)),$(STAGECRAFT_CACHE)/cluster/kubeconfig,$(KUBECONFIG))

##@ Learn

.PHONY: help
help: ## List the targets
	@bold= dim= plain=; if [ -t 1 ]; then bold=$$'\e[1m'; dim=$$'\e[36m'; plain=$$'\e[0m'; fi; \
	awk -v bold="$$bold" -v dim="$$dim" -v plain="$$plain" 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s%s%s\n", bold, substr($$0, 5), plain } \
		/^[a-z0-9-]+:.*## / { printf "  %s%-14s%s %s\n", dim, $$1, plain, $$2 }' $(MAKEFILE_LIST)

##@ Cluster

.PHONY: prerequisites
prerequisites: ## Install the Debian packages that the dev cluster needs (root)
	@e2e/prerequisites.sh

.PHONY: up
ifeq ($(CLUSTER),current)
up: ## Start a Kubernetes cluster on this machine; nothing to do when it runs
	@echo "CLUSTER=current: using the cluster of your kubeconfig, nothing to start"
else
up: prerequisites
	@$(devcluster) up
endif

.PHONY: down
ifeq ($(CLUSTER),current)
down: ## Stop it and remove all that it made; tools and images stay in the cache
	@echo "CLUSTER=current: not ours to stop, nothing done"
else
down:
	@$(devcluster) down
endif

.PHONY: status
status: ## Say what runs and whether it is well
	@$(devcluster) status

.PHONY: kubeconfig
kubeconfig: ## Print the path of the administrator's kubeconfig
	@$(devcluster) kubeconfig

##@ Use

.PHONY: demo
demo: up images install ## Take a sample Workflow through all its stages in a real cluster, and watch it
	@$(cargo) build --quiet --locked -p stagecraft-e2e --bin stagecraft-demo
	@KUBECONFIG="$(kubeconfig_path)" $(debug)/stagecraft-demo --file $(SAMPLE)

.PHONY: artifacts
artifacts: ## Fetch what a Workflow left behind: make artifacts WORKFLOW=NAMESPACE/NAME [DIRECTORY=...]
	@[ -n "$(WORKFLOW)" ] || { echo "say which: make artifacts WORKFLOW=NAMESPACE/NAME" >&2; exit 2; }
	@$(cargo) build --quiet --locked -p stagecraft-e2e --bin stagecraft-artifacts
	@KUBECONFIG="$(kubeconfig_path)" PATH="$(STAGECRAFT_CACHE)/bin:$$PATH" $(debug)/stagecraft-artifacts "$(WORKFLOW)" $(if $(DIRECTORY),--directory "$(DIRECTORY)")

.PHONY: install
install: ## Install or upgrade the chart in the cluster
	@e2e/release.sh install

.PHONY: uninstall
uninstall: ## Uninstall it; the CRDs and Workflows stay
	@e2e/release.sh uninstall

##@ Build

.PHONY: tools
tools: ## Build Kubernetes, CoreDNS and Helm into the cache (minutes, once)
	@$(devcluster) tools

.PHONY: images
images: ## Build the images and push them to the dev cluster's registry
	@e2e/release.sh images

.PHONY: publish
publish: ## Build the images with docker or buildah and push them: make publish IMAGE_REPOSITORY=... [IMAGE_TAG=...]
	@e2e/release.sh publish

.PHONY: generate
generate: ## Write the CRDs and the rendered chart anew
	@$(cargo) run --quiet --locked -p stagecraft-api --bin generate-crds
	@manifests/render.sh

##@ Check

.PHONY: lint
lint: ## Check formatting, lints, documentation and generated files
	@$(cargo) fmt --all --check
	@$(cargo) clippy --quiet --locked --workspace --all-targets -- -D warnings
	@$(cargo) clippy --quiet --locked -p stagecraft-core -p stagecraft-simulation --test model --test simulation -- -D warnings
	@$(cargo) check --quiet --locked --manifest-path fuzz/Cargo.toml
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(cargo) doc --quiet --locked --workspace --no-deps --document-private-items

.PHONY: unit
unit: prerequisites ## Run the tests that need no cluster
	@$(cargo) test --locked --workspace --exclude stagecraft-e2e
	@$(cargo) test --locked -p stagecraft-e2e --lib --bins

.PHONY: toolchain-test
toolchain-test: prerequisites ## Run the tests of the checks inside the toolchain image
	@toolchain/test.sh

.PHONY: e2e
e2e: up images install ## Run the scenarios on the cluster
	@KUBECONFIG="$(kubeconfig_path)" PATH="$(STAGECRAFT_CACHE)/bin:$$PATH" $(cargo) test --locked -p stagecraft-e2e --test cluster -- $(scenarios)

.PHONY: proofs
proofs: prerequisites ## Search the planner (DEEP=1: for hours), play the operator in 10,000 schedules (SCHEDULES=n, FIRST_SEED=n, SEED=n)
	@$(cargo) test --locked --profile proof -p stagecraft-core -p stagecraft-simulation $(if $(SEED),,--test model) --test simulation -- --nocapture

.PHONY: fuzz
fuzz: ## Fuzz what reads from outside, each target for FUZZ_SECONDS=300: make fuzz [FUZZ="everything readers"] (takes nightly and cargo-fuzz)
	@fuzz/run.sh $(or $(FUZZ),everything readers)

# The scenarios wait most of their time: the proofs use it, with the lowest priority. A nice value counts among processes of one session
# only where the kernel groups them by session: so they have one of their own, and it is the session that gives way.
.PHONY: test
test: unit toolchain-test ## Run every test, unit to whole cluster
	@log=$$(mktemp); setsid nice -n 19 sh -c 'echo 19 2>/dev/null >/proc/self/autogroup; exec $(MAKE) proofs' >"$$log" 2>&1 & proofs=$$!; \
	trap 'kill -- -$$proofs; exit 130' INT TERM; \
	failed=0; $(MAKE) e2e || failed=$$?; \
	echo "waiting for the proofs"; wait $$proofs || failed=$$?; \
	cat "$$log"; rm -f "$$log"; exit $$failed

.PHONY: bench
bench: up images install ## Measure, on the cluster: make bench [BENCH="--only calculators"]
	@$(cargo) build --quiet --locked -p stagecraft-e2e --bin stagecraft-bench
	@KUBECONFIG="$(kubeconfig_path)" PATH="$(STAGECRAFT_CACHE)/bin:$$PATH" $(debug)/stagecraft-bench $(BENCH)
