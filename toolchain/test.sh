#!/usr/bin/env bash
# Runs the tests of the checks inside the toolchain image as a stage Pod would: read-only root, user 65533, no network, processes of its own.
# Some projects in there kill whatever they can reach.
#
#   test.sh [TEST-NAME-PATTERN]
#
# Builds the image first, which takes two minutes once and seconds after a change of a check. Needs root, buildah and the packages of
# e2e/prerequisites.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${STAGECRAFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stagecraft}
images=$(dirname "$here")/e2e/images.sh

[ "$(id -u)" -eq 0 ] || { echo "test.sh: mounting an image needs root" >&2; exit 1; }

context=$cache/contexts/toolchain
"$here/context.sh" "$context"
reference=$("$images" build toolchain "$context")
container=$("$images" store from "$reference")
trap '"$images" store rm "$container" >/dev/null' EXIT
root=$("$images" store mount "$container")

# shellcheck disable=SC2016 # The inner shell expands them.
unshare --mount --pid --net --ipc --fork --kill-child bash -euc '
	root=$1 toolchain=$2
	shift 2
	ip link set lo up
	mount --bind "$root" "$root"
	mount --bind "$toolchain" "$root/mnt"
	mount --bind -o remount,ro "$root/mnt"
	mount --rbind /dev "$root/dev"
	mount -t proc proc "$root/proc"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
	mount --bind -o remount,ro "$root"
	exec chroot --userspec=65533:65531 --groups=65531 "$root" /usr/bin/env -i HOME=/tmp TMPDIR=/tmp LANG=C.UTF-8 \
		PATH=/opt/stagecraft/bin:/usr/local/bin:/usr/bin:/bin \
		/opt/stagecraft/bin/node --test --test-concurrency=1 --test-reporter=spec "$@" \
		/mnt/checks/checks.test.mjs /mnt/checks/running.test.mjs
' test.sh "$root" "$here" ${1:+"--test-name-pattern=$1"}
