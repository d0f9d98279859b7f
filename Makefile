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

devcluster := e2e/devcluster.sh

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

##@ Build

.PHONY: tools
tools: ## Build Kubernetes, CoreDNS and Helm into the cache (minutes, once)
	@$(devcluster) tools

.PHONY: images
images: ## Build the images of e2e/images and push them to the dev cluster's registry
	@e2e/images.sh all
