#!/usr/bin/env bash
# cargo, for a target directory outside the checkout.
#
# Several checkouts share one directory for what cargo compiles. Cargo tells by times whether a package of this workspace is
# fresh, and bakes the checkout's path into its tests: after another checkout was compiled there, both would mislead. So
# when the directory was last used by another one, this workspace's own packages are compiled anew; dependencies are kept.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Without one, cargo uses the checkout itself.
[ -n "${CARGO_TARGET_DIR:-}" ] || exec cargo "$@"
marker=$CARGO_TARGET_DIR/checkout

if [ "$(cat "$marker" 2>/dev/null || true)" != "$root" ]; then
	mkdir -p "$CARGO_TARGET_DIR"
	exec 9>"$marker.lock"
	flock 9
	host=$(rustc -vV | sed -n 's/^host: //p')
	for options in "" "--profile proof" "--release --target $host"; do
		# shellcheck disable=SC2086
		cargo clean --quiet --locked --workspace --manifest-path "$root/Cargo.toml" $options
	done
	printf '%s\n' "$root" >"$marker"
	exec 9>&-
fi
exec cargo "$@"
