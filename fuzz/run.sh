#!/usr/bin/env bash
# Fuzzes each target that is named for FUZZ_SECONDS. What is found stands in fuzz/artifacts, what was learnt in fuzz/corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${FUZZ_SECONDS:-300}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || {
	echo "FUZZ_SECONDS is \"$seconds\", but must be a number of seconds from 1" >&2
	exit 2
}
cargo +nightly --version >/dev/null 2>&1 || {
	echo "fuzzing takes a nightly compiler: rustup toolchain install nightly --profile minimal" >&2
	exit 2
}
cargo +nightly fuzz --version >/dev/null 2>&1 || {
	echo "fuzzing takes cargo-fuzz: cargo install --locked cargo-fuzz" >&2
	exit 2
}
# Its flags differ from those of every other build.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/fuzz/target}/fuzz
for target in "$@"; do
	[ -f "fuzz/fuzz_targets/$target.rs" ] || {
		echo "there is no fuzz target \"$target\"; there are:" fuzz/fuzz_targets/*.rs >&2
		exit 2
	}
	mkdir -p "fuzz/corpus/$target"
	cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
		-max_total_time="$seconds" -max_len=65536 -timeout=20 -dict=fuzz/dictionary
done
