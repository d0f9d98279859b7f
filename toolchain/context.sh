#!/usr/bin/env bash
# Puts together what the toolchain image is built from.
#
#   context.sh DIRECTORY
#
# Afterwards any builder makes the image: `docker build DIRECTORY`. The lock file whose packages the image holds for installations without
# a network is that of the scaffolded project, or the one that STAGECRAFT_PROJECT_LOCK names. Where there is none, it is that of the tools.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lock=${STAGECRAFT_PROJECT_LOCK:-$(dirname "$here")/agent-runner/templates/calculator/package-lock.json}

fail() { printf 'context.sh: %s\n' "$*" >&2; exit 1; }

[ $# -eq 1 ] || fail "usage: context.sh DIRECTORY"
if [ ! -r "$lock" ]; then
	[ -z "${STAGECRAFT_PROJECT_LOCK:-}" ] || fail "STAGECRAFT_PROJECT_LOCK names $lock, but there is no such file"
	printf 'context.sh: there is no %s: taking the packages of the tools themselves\n' "$lock" >&2
	lock=$here/package-lock.json
fi
rm -rf "$1"
mkdir -p "$1/project" "$1/checks" "$1/config"
install -m 0644 "$here/Dockerfile" "$here/package.json" "$here/package-lock.json" "$1/"
install -m 0644 "$lock" "$1/project/package-lock.json"
for file in "$here"/checks/*.mjs; do
	case $file in *.test.mjs) ;; *) install -m 0644 "$file" "$1/checks/" ;; esac
done
install -m 0644 "$here"/config/*.mjs "$1/config/"
