#!/usr/bin/env bash
# Builds container images, and puts them where the dev cluster finds them or into a registry of yours.
#
#   images.sh build-and-push NAME CONTEXT [DOCKERFILE]   build, push to the cluster's registry, print the reference
#   images.sh build          NAME CONTEXT [DOCKERFILE]   build, print the reference in the local store; needs no cluster
#   images.sh store          ARGUMENTS                   buildah on that store
#   images.sh reference      NAME CONTEXT [DOCKERFILE]   print the reference that build-and-push would print
#   images.sh boot-reference NAME                        reference of an image that the cluster needs to start
#   images.sh boot-archive   NAME                        build it as an archive in the cache, print the file's path
#   images.sh publish REFERENCE CONTEXT [DOCKERFILE]     build with docker or buildah, push to any registry
#
# CONTEXT is a directory; DOCKERFILE is CONTEXT/Dockerfile unless named. The tag is a digest of all that goes in, so an
# image that the registry has already costs a tenth of a second. A Dockerfile that begins with `ARG BASE` gets a Debian
# base made on this machine by mmdebstrap, since no registry may be in reach.
#
# For publish: CONTAINER_TOOL (docker or buildah; default: docker where its engine answers), BASE_IMAGE (default: the
# Dockerfile's own for docker, that made by mmdebstrap for buildah), IMAGE_PLAIN_HTTP=true for a registry without TLS (for
# docker, its engine's configuration says so).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${STAGECRAFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stagecraft}
registry_address=10.96.0.50:5000 # as in devcluster/settings.go: this machine reaches it without DNS
registry=registry.registry.svc.cluster.local:5000
storage=$cache/images

say() { printf '%s\n' "$*" >&2; }
fail() { say "images.sh: $*"; exit 1; }

store() { buildah --root "$storage/storage" --runroot "$storage/run" --storage-driver overlay "$@"; }

# Modes belong to what goes in, times do not.
digest_of() { # CONTEXT DOCKERFILE
	{
		(cd "$1" && find . -mindepth 1 \( -type f -o -type l \) -printf '%P\t%#m\t%l\n' | LC_ALL=C sort)
		(cd "$1" && find . -mindepth 1 -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum)
		cat "$2"
		if needs_base "$2"; then base_key; fi
	} | sha256sum | cut -c1-16
}

needs_base() { grep -q '^ARG BASE' "$1"; }

# The npm registry that this machine uses, as a file to mount: it may be nobody else's business, so no image keeps it.
write_npmrc() {
	local registry=${NPM_CONFIG_REGISTRY:-${npm_config_registry:-}}
	[ -n "$registry" ] || registry=$(npm config get registry 2>/dev/null) || registry=
	# npm need not be here to be configured.
	[ -n "$registry" ] || registry=$(sed -n 's/^registry *= *//p' "$HOME/.npmrc" 2>/dev/null | tail -n 1) || registry=
	mkdir -p "$storage"
	(umask 077 && printf '%s' "${registry:+registry=$registry}" >"$storage/npmrc")
}

base_key() { sha256sum <"$here/images/base/packages" | cut -c1-16; }

make_base() {
	local reference packages work
	reference=localhost/stagecraft/base:$(base_key)
	mkdir -p "$storage"
	exec 8>"$storage/base.lock"
	flock 8
	if ! store images --quiet "$reference" >/dev/null 2>&1; then
		say "making the Debian base image with mmdebstrap: about a minute, once"
		packages=$(paste -sd, "$here/images/base/packages")
		work=$(mktemp -d "$storage/base.XXXXXX")
		# Documentation is a third of a small Debian and of no use in a container.
		mmdebstrap --quiet --variant=apt --include="$packages" \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
			bookworm "$work/base.tar" ${STAGECRAFT_DEBIAN_MIRROR:+"$STAGECRAFT_DEBIAN_MIRROR"} >&2 8>&-
		local container
		container=$(store from scratch)
		store add --quiet "$container" "$work/base.tar" / >/dev/null
		store config --cmd sh "$container"
		store commit --quiet --rm "$container" "$reference" >/dev/null
		rm -rf "$work"
	fi
	exec 8>&-
	printf '%s\n' "$reference"
}

build() { # REFERENCE CONTEXT DOCKERFILE
	local arguments=()
	if needs_base "$3"; then
		local base
		base=${BASE_IMAGE:-$(make_base)}
		# Kept layers spare the next build its apt-get; a binary copied onto nothing gains nothing from them.
		arguments+=(--layers --build-arg "BASE=$base")
	fi
	# Where a certificate authority of the workplace's own stands in between, build steps may need this machine's bundle.
	# Mounted, it never becomes part of an image.
	if [ -r /etc/ssl/certs/ca-certificates.crt ] && needs_base "$3"; then
		arguments+=(--volume /etc/ssl/certs/ca-certificates.crt:/run/host-ca.crt:ro)
	fi
	if grep -q /run/host-npmrc "$3"; then
		write_npmrc
		arguments+=(--volume "$storage/npmrc:/run/host-npmrc:ro")
	fi
	say "building $1"
	store bud --quiet --isolation chroot --network host ${arguments[@]+"${arguments[@]}"} --tag "$1" --file "$3" "$2" >&2
}

pushed() { # NAME TAG
	curl --silent --fail --head --output /dev/null --noproxy '*' --max-time 5 \
		--header 'Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json' \
		"http://$registry_address/v2/stagecraft/$1/manifests/$2"
}

build_local() { # NAME CONTEXT [DOCKERFILE]
	local context=$2 dockerfile=${3:-$2/Dockerfile} reference
	[ -r "$dockerfile" ] || fail "there is no Dockerfile at $dockerfile"
	reference=localhost/stagecraft/$1:$(digest_of "$context" "$dockerfile")
	store images --quiet "$reference" >/dev/null 2>&1 || build "$reference" "$context" "$dockerfile"
	printf '%s\n' "$reference"
}

build_and_push() { # NAME CONTEXT [DOCKERFILE]
	local name=$1 context=$2 dockerfile=${3:-$2/Dockerfile} tag
	[ -d "$context" ] || fail "the context $context is no directory"
	[ -r "$dockerfile" ] || fail "there is no Dockerfile at $dockerfile"
	tag=$(digest_of "$context" "$dockerfile")
	if ! pushed "$name" "$tag"; then
		curl --silent --fail --output /dev/null --noproxy '*' --max-time 5 "http://$registry_address/v2/" ||
			fail "the cluster's registry at $registry_address does not answer; start the cluster with: make up"
		build "localhost/stagecraft/$name:$tag" "$context" "$dockerfile"
		# Uncompressed: it never leaves this machine, and packing takes longer than writing.
		store push --quiet --disable-compression --tls-verify=false \
			"localhost/stagecraft/$name:$tag" "docker://$registry_address/stagecraft/$name:$tag" >&2
		# The registry has it now. With a new tag for each change of a binary, copies here would fill the disk.
		needs_base "$dockerfile" || store rmi "localhost/stagecraft/$name:$tag" >/dev/null
	fi
	printf '%s\n' "$registry/stagecraft/$name:$tag"
}

container_tool() {
	if [ -n "${CONTAINER_TOOL:-}" ]; then
		printf '%s\n' "$CONTAINER_TOOL"
	elif docker version >/dev/null 2>&1; then
		printf 'docker\n'
	else
		printf 'buildah\n'
	fi
}

publish() { # REFERENCE CONTEXT [DOCKERFILE]
	local reference=$1 context=$2 dockerfile=${3:-$2/Dockerfile} tool arguments=()
	tool=$(container_tool)
	say "building $reference with $tool"
	case $tool in
	docker)
		[ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE=$BASE_IMAGE")
		docker build --quiet --network host ${arguments[@]+"${arguments[@]}"} --tag "$reference" --file "$dockerfile" "$context" >&2
		docker push --quiet "$reference" >&2
		;;
	buildah)
		build "$reference" "$context" "$dockerfile"
		[ "${IMAGE_PLAIN_HTTP:-false}" != true ] || arguments+=(--tls-verify=false)
		store push --quiet ${arguments[@]+"${arguments[@]}"} "$reference" "docker://$reference" >&2
		;;
	*) fail "CONTAINER_TOOL is \"$tool\", but it must be \"docker\" or \"buildah\"" ;;
	esac
}

boot_context() { # NAME: prints the context's directory
	if [ "$1" != pause ]; then
		printf '%s\n' "$here/images/$1"
		return
	fi
	local context=$storage/pause
	mkdir -p "$context"
	cp "$here/images/pause/Dockerfile" "$context/"
	(cd "$here/devcluster" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -buildid=' -o "$context/pause" ./pause)
	printf '%s\n' "$context"
}

# Not from the built binary, so that an up with a warm cache compiles nothing.
boot_reference() {
	local sources=("$here/images/$1")
	[ "$1" != pause ] || sources+=("$here/devcluster/pause")
	local tag
	tag=$(for source in "${sources[@]}"; do digest_of "$source" "$here/images/$1/Dockerfile"; done | sha256sum | cut -c1-16)
	printf '%s\n' "localhost/stagecraft/$1:$tag"
}

boot_archive() {
	local reference file context
	reference=$(boot_reference "$1")
	file=$storage/archives/$1-${reference##*:}.tar
	if [ ! -s "$file" ]; then
		mkdir -p "$storage/archives"
		context=$(boot_context "$1")
		build "$reference" "$context" "$context/Dockerfile"
		store push --quiet "$reference" "docker-archive:$file.part:$reference" >&2
		mv "$file.part" "$file"
	fi
	printf '%s\n' "$file"
}

main() {
	local command=${1:-help}
	[ $# -eq 0 ] || shift
	case $command in
	build) [ $# -ge 2 ] || fail "usage: images.sh build NAME CONTEXT [DOCKERFILE]"; build_local "$@" ;;
	store) store "$@" ;;
	build-and-push) [ $# -ge 2 ] || fail "usage: images.sh build-and-push NAME CONTEXT [DOCKERFILE]"; build_and_push "$@" ;;
	reference) printf '%s\n' "$registry/stagecraft/$1:$(digest_of "$2" "${3:-$2/Dockerfile}")" ;;
	boot-reference) boot_reference "$1" ;;
	boot-archive) boot_archive "$1" ;;
	publish) [ $# -ge 2 ] || fail "usage: images.sh publish REFERENCE CONTEXT [DOCKERFILE]"; publish "$@" ;;
	*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; [ "$command" = help ] || exit 2 ;;
	esac
}

main "$@"
