#!/usr/bin/env bash
# Builds the orchestrator, which takes a second when it changed and nothing otherwise, and runs it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export DEVCLUSTER_SOURCE=$here/devcluster
cache=${STAGECRAFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stagecraft}
binary=$cache/bin/devcluster
if [ ! -x "$binary" ] || [ -n "$(find "$here/devcluster" -maxdepth 2 \( -name '*.go' -o -name '*.yaml' \) -newer "$binary" -print -quit)" ]; then
	command -v go >/dev/null || {
		echo "devcluster: Go 1.24 or later is needed to build the cluster; install it and put it on the PATH" >&2
		exit 1
	}
	mkdir -p "$cache/bin"
	# The provisioner of a running cluster is this very file: replace it, never write into it.
	(cd "$here/devcluster" && CGO_ENABLED=0 GOWORK=off go build -o "$binary.new" .)
	mv "$binary.new" "$binary"
fi
exec "$binary" "$@"
